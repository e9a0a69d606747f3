"""Randomness from an explicit seed and the id of what is drawn for, so that reordering or adding questions
changes no other draw."""

import hashlib
import json

import numpy as np


def digest(*parts: object) -> str:
    """SHA-256 (hex) of the parts as canonical JSON; equal on all machines and Python versions."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def stable_seed(*parts: object) -> int:
    """A seed in [0, 2**31) that depends only on the parts."""
    return int(digest(*parts)[:8], 16) & 0x7FFFFFFF


def generator(*parts: object) -> np.random.Generator:
    """A private random generator that depends only on the parts."""
    return np.random.default_rng(stable_seed(*parts))

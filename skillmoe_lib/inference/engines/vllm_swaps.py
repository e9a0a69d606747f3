"""Whether weights swapped in place write what a fresh load writes: seen once for each kind of model.

A greedy text of the swapped weights is compared with that of a new process with the same model. The answer is
kept in the cache folder for the versions that gave it (docs/decisions/0003-swapping-weights.md).
"""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts.model_files import cache_root
from skillmoe_lib.files import replace_file
from skillmoe_lib.seeding import digest

N_TOKENS = 24


def probe(vocabulary: int) -> dict[str, Any]:
    """A job for the engine's process: a prompt of 16 tokens spread over the vocabulary, answered greedily."""
    ids = [vocabulary * i // 17 for i in range(1, 17)]
    return {
        "id": "probe", "ids": ids, "temperature": 0.0, "top_p": 1.0, "min_tokens": N_TOKENS,
        "max_tokens": N_TOKENS, "stop": [], "seed": 0, "rendered": "",
    }  # fmt: skip


def known(kind: str, about: Mapping[str, Any]) -> bool | None:
    """Whether models of this kind can be swapped with these versions on this device; None: not seen yet."""
    return _kept().get(_key(kind, about))


def keep(kind: str, about: Mapping[str, Any], *, same: bool) -> None:
    """Remember what was seen. Without a cache folder it is seen again in the next run."""
    with contextlib.suppress(SkillmoeError):
        found = {**_kept(), _key(kind, about): same}
        replace_file(cache_root() / "swaps.json", json.dumps(found, indent=0).encode())


def _key(kind: str, about: Mapping[str, Any]) -> str:
    return digest(kind, dict(about))[:32]


def _kept() -> dict[str, bool]:
    try:
        return dict(json.loads((cache_root() / "swaps.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}

"""Is a model folder whole? Found out by reading headers, before any engine loads anything.

safetensors files open with eight bytes (the header's length) and a JSON header that says where each
tensor ends, so a cut or overwritten file shows without reading the weights.
"""

import json
import struct
from pathlib import Path
from typing import Any

from skillmoe_lib.errors import SkillmoeError

_MAX_HEADER = 100_000_000


def check_model_folder(path: Path) -> None:
    """Check config, weights and tokenizer of a Hugging Face folder against one another.

    Raises
    ------
    SkillmoeError
        A missing or corrupt file, or a tokenizer that does not fit the model; names the file.
    """
    if not path.is_dir():
        raise SkillmoeError(
            f"no model folder at {path}: it must hold config.json, weights and tokenizer.json"
        )
    config = _read_json(path / "config.json")
    shapes: dict[str, list[int]] = {}
    for weights in _weight_files(path):
        shapes |= _tensor_shapes(weights)
    tokenizer = path / "tokenizer.json"
    n_tokens = _highest_id(tokenizer, _read_json(tokenizer)) + 1
    n_rows = config.get("vocab_size")
    if not isinstance(n_rows, int):
        raise SkillmoeError(f"{path / 'config.json'} has no whole-number vocab_size, got {n_rows!r}")
    if n_tokens > n_rows:
        raise SkillmoeError(
            f"{tokenizer} does not fit its model: it has {n_tokens} tokens, the model takes at most {n_rows}"
        )
    for name, shape in shapes.items():
        if name.endswith("embed_tokens.weight") and shape[0] != n_rows:
            raise SkillmoeError(
                f"{path}: the weights have {shape[0]} token rows, config.json says vocab_size {n_rows}"
            )


def _weight_files(path: Path) -> list[Path]:
    index = path / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(_read_json(index).get("weight_map", {}).values()))
        return [path / str(name) for name in names]
    return sorted(path.glob("*.safetensors")) or [path / "model.safetensors"]


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SkillmoeError(f"model file {file} is missing") from error
    except (OSError, ValueError) as error:
        raise SkillmoeError(f"model file {file} is corrupt: it is not readable as JSON") from error
    if not isinstance(found, dict):
        raise SkillmoeError(
            f"model file {file} is corrupt: it must hold an object, got {type(found).__name__}"
        )
    return found


def _tensor_shapes(file: Path) -> dict[str, list[int]]:
    try:
        size = file.stat().st_size
        with file.open("rb") as source:
            head = source.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else _MAX_HEADER
            header = json.loads(source.read(length)) if length < min(size, _MAX_HEADER) else {}
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        needed = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        shapes = {name: list(entry["shape"]) for name, entry in tensors.items()}
    except FileNotFoundError as error:
        raise SkillmoeError(f"weights file {file} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SkillmoeError(f"weights file {file} is corrupt: its header cannot be read") from error
    if not shapes:
        raise SkillmoeError(f"weights file {file} is corrupt: its header names no tensor")
    if size != needed:
        raise SkillmoeError(f"weights file {file} is corrupt: it has {size} bytes, its header says {needed}")
    return shapes


def _highest_id(file: Path, tokenizer: dict[str, Any]) -> int:
    """The highest token id: added tokens count too."""
    try:
        vocabulary = tokenizer["model"]["vocab"]
        ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
        return int(max([*ids, *(entry["id"] for entry in tokenizer.get("added_tokens") or [])]))
    except (KeyError, TypeError, ValueError) as error:
        raise SkillmoeError(f"tokenizer file {file} is corrupt: it has no vocabulary") from error

"""Check that a model folder is complete, by reading file headers before an engine loads it.

`safetensors` itself reads the headers of the weights and compares them with the file's size, so a cut or
overwritten file is found without reading its weights.
"""

import json
from pathlib import Path
from typing import Any

from skillmoe_lib.errors import SkillmoeError


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
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise SkillmoeError("models need the package safetensors: pip install 'skillmoe[models]'") from error
    try:
        with safe_open(file, framework="np") as tensors:
            shapes = {name: list(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise SkillmoeError(f"weights file {file} is missing") from error
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise SkillmoeError(f"weights file {file} is corrupt: {reason}") from error
    if not shapes:
        raise SkillmoeError(f"weights file {file} is corrupt: its header names no tensor")
    return shapes


def _highest_id(file: Path, tokenizer: dict[str, Any]) -> int:
    """The highest token id: added tokens count too."""
    try:
        vocabulary = tokenizer["model"]["vocab"]
        ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
        return int(max([*ids, *(entry["id"] for entry in tokenizer.get("added_tokens") or [])]))
    except (KeyError, TypeError, ValueError) as error:
        raise SkillmoeError(f"tokenizer file {file} is corrupt: it has no vocabulary") from error

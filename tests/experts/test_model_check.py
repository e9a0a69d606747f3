"""A broken model folder is reported before anything heavy is loaded."""

import json
import struct
from pathlib import Path

import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts.model_check import check_model_folder


def _folder(path: Path, *, n_tokens: int = 4, n_rows: int = 4) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"vocab_size": n_rows}))
    vocabulary = {f"t{i}": i for i in range(n_tokens)}
    (path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": []}))
    header = json.dumps(
        {"model.embed_tokens.weight": {"dtype": "BF16", "shape": [4, 2], "data_offsets": [0, 16]}}
    ).encode()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    return path


def test_a_whole_folder_passes(tmp_path: Path) -> None:
    check_model_folder(_folder(tmp_path / "model"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SkillmoeError, match=r"no model folder at .*nowhere"):
        check_model_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = _folder(tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(SkillmoeError, match=f"{name} is missing"):
        check_model_folder(folder)


def _cut(data: bytes) -> bytes:
    return data[:-3]


def _grown(data: bytes) -> bytes:
    return data + b"\0"


def _empty(data: bytes) -> bytes:
    return b""


def _garbled(data: bytes) -> bytes:
    return data[:8] + b"\xff" * (len(data) - 8)


def _huge_header(data: bytes) -> bytes:
    return struct.pack("<Q", 2**60) + data[8:]


@pytest.mark.parametrize("spoil", [_cut, _grown, _empty, _garbled, _huge_header])
def test_spoilt_weights_are_named(tmp_path: Path, spoil: object) -> None:
    folder = _folder(tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(spoil(weights.read_bytes()))  # type: ignore[operator]
    with pytest.raises(SkillmoeError, match=r"weights file .*model\.safetensors is corrupt"):
        check_model_folder(folder)


def test_a_tokenizer_with_more_tokens_than_the_model_is_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "model", n_tokens=5)
    with pytest.raises(SkillmoeError, match=r"tokenizer\.json does not fit its model: it has 5 tokens.* 4"):
        check_model_folder(folder)


def test_added_tokens_count(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "model", n_tokens=3)
    tokenizer = {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 7}]}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(SkillmoeError, match="it has 8 tokens"):
        check_model_folder(folder)


def test_weights_that_contradict_the_config_are_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "model", n_rows=6)
    with pytest.raises(SkillmoeError, match=r"4 token rows, config\.json says vocab_size 6"):
        check_model_folder(folder)


def test_json_that_is_not_json_is_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "model")
    (folder / "config.json").write_text("{")
    with pytest.raises(SkillmoeError, match=r"config\.json is corrupt"):
        check_model_folder(folder)

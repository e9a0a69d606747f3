"""Files of others are read within limits, and whatever is wrong with them is one line."""

import json
import zipfile
from pathlib import Path

import pytest
from archives import zipped, zipped_by_zstandard

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.recorded import opening


def every(name: str) -> bool:
    return True


@pytest.mark.parametrize("write", [zipped, zipped_by_zstandard])
def test_members_are_read_however_they_are_packed(tmp_path: Path, write) -> None:
    content = {"a.json": '{"a": 1}', "folder/b.json": "é" * 5000, "empty.json": ""}
    path = write(tmp_path / "x.zip", content)
    assert {name: data.decode() for name, data in opening.members(path, every)} == content
    assert opening.names_in(path) == list(content)
    assert [name for name, _ in opening.members(path, lambda name: "/" in name)] == ["folder/b.json"]


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"../../outside.json": "{}", "/abs.json": "{}"})
    assert len(list(opening.members(path, every))) == 2
    assert [found.name for found in tmp_path.rglob("*")] == ["x.zip"]


@pytest.mark.parametrize("write", [zipped, zipped_by_zstandard])
def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path: Path, write) -> None:
    path = write(tmp_path / "x.zip", {"bomb.json": bytes(opening.MAX_FREE + 1)})
    with pytest.raises(SkillmoeError, match=r"x\.zip: it unpacks to 16,777,217 bytes, more than 200 times"):
        list(opening.members(path, every))


@pytest.mark.parametrize("write", [zipped, zipped_by_zstandard])
def test_a_member_that_lies_about_its_size_is_refused(tmp_path: Path, write) -> None:
    path = write(tmp_path / "x.zip", {"a.json": b"0" * 300_000})
    data = path.read_bytes().replace((300_000).to_bytes(4, "little"), (30).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises(SkillmoeError, match=r"cannot read x\.zip: .*(CRC|checksum)"):
        list(opening.members(path, every))


@pytest.mark.parametrize("write", [zipped, zipped_by_zstandard])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_torn_archive_is_one_line(tmp_path: Path, write, damage: str) -> None:
    path = write(tmp_path / "x.zip", {"a.json": json.dumps([str(n) for n in range(3000)])})
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 3 : len(data) // 3 + 8] = bytes(8)
    path.write_bytes(data)
    with pytest.raises(SkillmoeError, match=r"cannot read x\.zip: ") as caught:
        list(opening.members(path, every))
    assert "\n" not in str(caught.value)


def test_a_locked_archive_is_one_line(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a.json": "{}"})
    with zipfile.ZipFile(path) as archive:
        place = archive.start_dir
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[place + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(SkillmoeError, match="locked by a password"):
        list(opening.members(path, every))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": [1, 2', "it is not JSON: .* at character .*; the file is torn"),
        (b'{"a": 1} x', "it is not JSON: Extra data"),
        (b'{"a": "\xff"}', "it is not UTF-8 text; save it as UTF-8"),
        ('{"a": "é"}'.encode("utf-16"), "it is not UTF-8 text"),
        (b"[" * 100_000, "recursion|nesting|not JSON"),
        (b"9" * 5000, "digits"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer"),
    ],
)
def test_json_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(SkillmoeError, match=rf"cannot read x\.json: .*(?:{reason})") as caught:
        opening.read_json(path)
    assert "\n" not in str(caught.value)


def test_lines_are_read_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": "\xe2\x80\xa8"}\n')
    assert list(opening.json_lines(path)) == [(1, {"a": 1}), (3, {"a": "\u2028"})]


@pytest.mark.parametrize(
    ("last", "reason"),
    [('{"a": 1, "b', "line 2: it is not JSON: .*the file is torn"), ("[1]", "line 2 must be an object")],
)
def test_a_torn_line_is_named(tmp_path: Path, last: str, reason: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n' + last)
    with pytest.raises(SkillmoeError, match=reason):
        list(opening.json_lines(path))

"""YAML files: read strictly; every mistake gives one line with the place, the allowed and the given."""

from pathlib import Path
from typing import Literal

import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.settings import Count, Flag, Settings, Text, as_json, checked, find_beside, read_yaml


class Entry(Settings):
    name: Text
    kind: Literal["one", "two", "three"] = "one"
    size: Count | None = None
    on: Flag = False


class Whole(Settings):
    entries: list[Entry]
    extra: dict[str, int] = {}  # noqa: RUF012


def one_line(error: pytest.ExceptionInfo[SkillmoeError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: 2\na: 3", "the key 'a' occurs twice (line 3)"),
        ("x:\n  - {b: 1, b: 2}", "the key 'b' occurs twice (line 2)"),
        ("a:\n\tb: 1", "a tab where YAML allows only spaces (line 2)"),
        ("a: [", "(line 1)"),
        ("a: 1\n---\na: 2", "expected a single document"),
        ("a: 2020-13-45", "month must be in 1..12"),
        ("? [a]\n: 1", "unhashable key"),
        ("a: *b", "undefined alias 'b'"),
        ("[" * 3000, "recursion"),
        (b"a: caf\xe9", "it is not UTF-8 text"),
    ],
)
def test_yaml_that_is_refused(tmp_path: Path, text: str | bytes, reason: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SkillmoeError, match=r"^a\.yaml is not readable as YAML: ") as error:
        read_yaml(path)
    assert reason in one_line(error)


def test_yaml_that_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("\ufeffa: {b: 1}\nc: {b: 2}\nd: {<<: {b: 3}, b: 4}", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"b": 1}, "c": {"b": 2}, "d": {"b": 4}}
    with pytest.raises(SkillmoeError, match="No such file"):
        read_yaml(tmp_path / "b.yaml")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"entries": [{"name": "a"}, {"nmae": "b"}]},
            "f: entries[2]: unknown key 'nmae': it must be one of kind, ",
        ),
        ({"entries": [{"name": "a"}, {}]}, "f: entries[2]: the key 'name' is missing"),
        ({}, "f: the key 'entries' is missing"),
        ([], "f: it must be a mapping with the keys entries, extra; got []"),
        ({"entries": {}}, "f: entries: it must be a list; got {}"),
        ({"entries": [], "extra": 3}, "f: extra: it must be a mapping; got 3"),
        (
            {"entries": [{"name": "a", "kind": ["one"]}]},
            "kind: it must be one of one, two, three; got ['one']",
        ),
        ({"entries": [{"name": " "}]}, "f: entries[1]: name: it must be text; got ' '"),
        ({"entries": [{"name": True}]}, "name: it must be text (put it in quotes: "),
        (
            {"entries": [{"name": "a", "size": True}]},
            "size: it must be a whole number of at least 1; got True",
        ),
        (
            {"entries": [{"name": "a", "size": "4,096"}]},
            "of at least 1, not text (to YAML 1e-3 and 4,096 are text",
        ),
        ({"entries": [{"name": "a", "on": "no"}]}, "on: it must be true or false; got 'no'"),
        ({"entries": [{"name": "a", "size": "x" * 999}]}, "..."),
    ],
)
def test_a_slip_is_told_in_one_line(given: object, message: str) -> None:
    with pytest.raises(SkillmoeError) as error:
        checked(Whole, given, "f")
    assert message in one_line(error)
    assert len(one_line(error)) < 250


def test_what_is_right_comes_back() -> None:
    whole = checked(Whole, {"entries": [{"name": "a", "size": 3}, {"name": "b", "size": None}]}, "f")
    assert [(entry.name, entry.kind, entry.size) for entry in whole.entries] == [
        ("a", "one", 3),
        ("b", "one", None),
    ]
    assert checked(list[Entry], [], "f") == []


def test_a_path_counts_from_the_yaml_and_then_from_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path / "project"))
    for folder in ("project", "mine"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "both").touch()
    (tmp_path / "project" / "one").touch()
    file = tmp_path / "mine" / "pool.yaml"
    assert find_beside(file, "both") == tmp_path / "mine" / "both"
    assert find_beside(file, "one") == tmp_path / "project" / "one"
    assert find_beside(file, str(tmp_path / "mine" / "both")) == tmp_path / "mine" / "both"
    assert find_beside(file, "none") is None
    assert find_beside(file, "") is None


def test_a_date_among_free_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("start: 2020-01-01")
    assert as_json({"n": [1, None]}, "f") == '{"n": [1, null]}'
    with pytest.raises(SkillmoeError, match=r"^f: numbers, texts, lists and mappings are allowed; .*date"):
        as_json(read_yaml(tmp_path / "a.yaml"), "f")

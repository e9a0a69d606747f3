"""Files as people share them: read exactly as written, or refused in one line."""

from pathlib import Path

import pandas as pd
import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.questions.files import read_file

CSV = 'id,q,a\n007,Which?,NA\n8,"What, then?",None\n'
ROWS = [{"id": "007", "q": "Which?", "a": "NA"}, {"id": "8", "q": "What, then?", "a": "None"}]


def read(tmp_path: Path, name: str, content: str | bytes) -> list[dict]:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_file(tmp_path / name)


@pytest.mark.parametrize(
    "text",
    [
        CSV,
        "\ufeff" + CSV,
        "\ufeff" + CSV.replace("id,", '"id",', 1),
        CSV.replace("\n", "\r\n"),
        CSV.replace("\n", "\r"),
        CSV.replace("\n", "\r\n", 1),
        CSV.replace("NA\n", "NA\n\n") + "\n \n",
        "\n" + CSV,
        CSV.replace("NA\n", "NA,\n").replace("None\n", "None,\n"),
        CSV.replace("id,q,a", "id, q ,a"),
    ],
    ids=[
        "plain",
        "BOM",
        "BOM quoted",
        "CRLF",
        "CR",
        "mixed",
        "blank",
        "blank first",
        "comma at end",
        "blanks",
    ],
)
def test_csv_reads_as_it_stands(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, "rows.csv", text) == ROWS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CSV.replace(",", ";"), "its header is separated by semicolons"),
        (CSV.replace(",", "\t"), "its header is separated by tabs"),
        ("sep=,\n" + CSV, "it opens with a `sep=` line"),
        ("id,q,a\n1,Which?\n", "the row on line 2 has 2 cells, the header 3"),
        ("id,q,a\n1,Which?,B,C\n", "the row on line 2 has 4 cells, the header 3"),
        ('id,q,a\n1,"Who said \\"eureka\\", and why?",B\n', "line 2: ',' expected after '\"'"),
        ('id,q,a\n1, "Which?",B\n', "on line 2 there is a blank before a quote"),
        ('id,q,a\n1, "Which, then?",B\n', "the row on line 2 has 4 cells, the header 3"),
        ('id,q,a\n1,"Which?,B\n', "unexpected end of data"),
        ("id,a,a\n1,2,3\n", "two columns of its header are named 'a'"),
        ("id,q,a\n", "it has no rows"),
        ("", "it has no rows"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
        (CSV.encode("utf-16"), "it is not UTF-8 text"),
        ("id,q,a\n1,caf\xe9,B\n".encode("latin-1"), "it is not UTF-8 text"),
    ],
)
def test_csv_that_is_refused(tmp_path: Path, text: str | bytes, reason: str) -> None:
    with pytest.raises(SkillmoeError, match=r"^cannot read rows\.csv: ") as caught:
        read(tmp_path, "rows.csv", text)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_very_long_cell_is_read(tmp_path: Path) -> None:
    (row,) = read(tmp_path, "rows.csv", f"q\n{'long ' * 60_000}\n")
    assert len(row["q"]) == 300_000


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.jsonl", '{"q": "a\u2028b", "n": 1}\n\n{"q": "c\\u0000", "n": 2}\r\n'),
        ("rows.jsonl", '\ufeff{"q": "a\u2028b", "n": 1}\n{"q": "c\\u0000", "n": 2}'),
        ("rows.json", '[{"q": "a\u2028b", "n": 1}, {"q": "c\\u0000", "n": 2}]'),
        ("rows.json", '{"q": "a\u2028b", "n": 1}\n{"q": "c\\u0000", "n": 2}\n'),
    ],
)
def test_json_reads_as_it_stands(tmp_path: Path, name: str, text: str) -> None:
    assert read(tmp_path, name, text) == [{"q": "a\u2028b", "n": 1}, {"q": "c\0", "n": 2}]


def test_decimals_of_json_are_not_taken_through_binary(tmp_path: Path) -> None:
    (row,) = read(tmp_path, "rows.jsonl", '{"n": [0.00001, 6.022e23, 0.50, 3.0, 100.0, 1e-07, NaN, -0.10]}')
    assert row["n"] == ["0.00001", "6.022e23", "0.5", "3", "100", "1e-07", None, "-0.1"]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("rows.jsonl", '{"q": 1}\n{"q": 2}\n{"q":', "line 3 is not JSON: Expecting value at column 6"),
        ("rows.jsonl", '{"q": 1}\n["q"]', 'line 2 must be an object, got ["q"]'),
        (
            "rows.json",
            '{"version": 1, "data": [{"q": 1}]}',
            "a list of objects; its own are under 'version', 'data'",
        ),
        ("rows.json", '{"q": {"0": "a"}}', "it must hold a list of objects"),
        ("rows.json", '["a", "b"]', "it must hold a list of objects"),
        ("rows.json", "[]", "it has no rows"),
        ("rows.json", "[" * 100_000, "recursion"),
        ("rows.jsonl", "version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        ("rows.parquet", "version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        ("rows.parquet", "nothing", "Parquet"),
    ],
)
def test_json_and_parquet_that_are_refused(tmp_path: Path, name: str, text: str, reason: str) -> None:
    with pytest.raises(SkillmoeError, match=f"^cannot read {name}: ") as caught:
        read(tmp_path, name, text)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["rows.tsv", "rows.CSV", "rows.jsonl.gz", "rows.xlsx", "rows"])
def test_another_kind_of_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SkillmoeError, match=r"unknown kind of file .*one of .csv, .json, .jsonl, .parquet$"):
        read(tmp_path, name, CSV)


def test_parquet_keeps_types_nulls_and_a_named_index(tmp_path: Path) -> None:
    rows = {
        "q": pd.Categorical(["x", "y"]),
        "n": pd.array([1, None], dtype="Int64"),
        "options": [{"A": "iron", "B": None}, {"A": None, "B": "tin"}],
        "list": [["a", None], ["b"]],
    }
    pd.DataFrame(rows, index=pd.Index(["r1", "r2"], name="id")).to_parquet(tmp_path / "rows.parquet")
    assert read_file(tmp_path / "rows.parquet") == [
        {"q": "x", "n": 1, "options": {"A": "iron", "B": None}, "list": ["a", None], "id": "r1"},
        {"q": "y", "n": None, "options": {"A": None, "B": "tin"}, "list": ["b"], "id": "r2"},
    ]

"""Rows of files as questions: the text for comparison, inlined choices, and whole small files."""

import json
import warnings
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from skillmoe_lib import questions
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.questions.choices import split_inlined
from skillmoe_lib.questions.rows import normalised


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Which is  TRUE?", "which is true"),
        ("All hold, except:", "All hold; except -"),
        ("a non- competitive inhibitor", "a non competitive inhibitor"),
        ("stage-I disease is:-", "stage I disease is"),
        ("the ﬁrst “word”", 'the first "word"'),
        ("fractured 10-months ago", "fractured 10 months ago"),
        ("Solve −x = 4", "Solve -x = 4"),
        ("Find x² for x=3", "Find x^2 for x=3"),
        ("Take 5 Tablets", "take 5 tablets"),
    ],
)
def test_same_question_written_otherwise(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Calculate 4 - 1.", "Calculate 4 + 1."),
        ("Calculate 4 - 1.", "Calculate 4 1."),
        ("Add -8 and 3", "Add 8 and 3"),
        ("Half of 3.5", "Half of 35"),
        ("f'(0) of", "f(0) of"),
        ("5! is", "5 is"),
        ("odds of 3:4", "odds of 34"),
        ("What is 6 / 2?", "What is 6 * 2?"),
        ("Find x² for x=3", "Find x2 for x=3"),
        ("the value of 10⁻³", "the value of 10-3"),
        ("Solve -x = 4", "Solve x = 4"),
        ("Solve (-y) = 4", "Solve (y) = 4"),
        ("Plot 2-x", "Plot 2x"),
        ("Find 3-sin x", "Find 3 sin x"),
        ("Is 5 MW more than 3 kW?", "Is 5 mW more than 3 kW?"),
        ("a file of 5 Mb", "a file of 5 MB"),
    ],
)
def test_other_question_stays_another(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


def test_split_inlined() -> None:
    text = "Pick (B) or not? The options are: (A) P(B) = 1 (B) see (A) (C) none"
    assert split_inlined(text, "The options are:") == (
        "Pick (B) or not?",
        ["P(B) = 1", "see (A)", "none"],
    )


@given(
    st.lists(st.text("abcxyz =.,'", min_size=1).map(str.strip).filter(bool), min_size=2, max_size=10),
    st.text("abcxyz ?", min_size=1).map(str.strip).filter(bool),
)
def test_split_inlined_undoes_joining(choices: list[str], stem: str) -> None:
    joined = " ".join(f"({letter}) {choice}" for letter, choice in zip("ABCDEFGHIJ", choices, strict=False))
    assert split_inlined(f"{stem} Options: {joined}", "Options:") == (stem, choices)


@pytest.mark.parametrize(
    "options",
    [
        "A. noon B. night",
        "(A) noon (B) night (D) dawn",
        "noon",
        "(A) noon",
        "choose one (A) noon (B) night",
        "",
    ],
)
def test_inlined_choices_that_would_be_cut_wrongly(options: str) -> None:
    with pytest.raises(SkillmoeError, match=r"choices must be labelled|has a choice \(D\), but none \(C\)"):
        split_inlined(f"Which holds? Options: {options}", "Options:")


def test_inlined_choices_may_name_roman_numbers() -> None:
    options = ["alpha", "beta (I) and (V)", "see (M)"]
    joined = " ".join(f"({letter}) {text}" for letter, text in zip("ABC", options, strict=True))
    assert split_inlined(f"Which? Options: {joined}", "Options:") == ("Which?", options)


def test_inlined_marker_missing() -> None:
    with pytest.raises(SkillmoeError, match="no 'Options:' in the question 'Where"):
        split_inlined("Where are they?", "Options:")


# --- whole files --------------------------------------------------------------------------------------


def load(tmp_path: Path, rows: list[dict], **settings: object) -> list[list]:
    """Test rows (id, text, choices, gold, subject) of a JSONL file, its columns named q, c and g."""
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns = {"text": "q", "gold": "g", **({"choices": "c"} if "c" in rows[0] else {})}
    whole = {
        "source": "file",
        "columns": columns,
        "validation": "rows.jsonl",
        "test": "rows.jsonl",
        **settings,
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(whole))
    frame = questions.load(str(tmp_path / "mine.yaml"))
    frame = frame[frame["split"] == "test"].assign(choices=frame["choices"].map(json.loads))
    return frame[["text", "choices", "gold"]].to_numpy().tolist()


METAL = {"q": "Which is liquid?", "c": ["iron", "mercury"]}


@pytest.mark.parametrize(
    ("golds", "gold_is", "expected"),
    [
        (["A", "(B)"], "letter", ["A", "B"]),
        ([["A"], ["B", "B"]], "letter", ["A", "B"]),
        ([0, 1.0], "index", ["A", "B"]),
        (["mercury", "iron"], "text", ["B", "A"]),
    ],
)
def test_golds_of_a_file(tmp_path: Path, golds: list, gold_is: str, expected: list[str]) -> None:
    loaded = load(tmp_path, [{**METAL, "g": gold} for gold in golds], gold_is=gold_is)
    assert [gold for *_, gold in loaded] == expected


@pytest.mark.parametrize(
    ("row", "settings", "message"),
    [
        (
            {"q": [{"role": "user", "content": "Hi"}], "g": "a"},
            {"kind": "text"},
            "test row 1: column 'q': a text or a",
        ),
        (
            {"q": ["Hi", "there"], "g": "a"},
            {"kind": "text"},
            "column 'q': a text or a number is needed, not ['Hi',",
        ),
        (
            {"q": "Hi?", "g": ["a", "b"]},
            {"kind": "text"},
            "column 'g' holds 2 golds: one is needed; got ['a', 'b']",
        ),
        (
            {"q": "Hi?", "g": {"text": "a"}},
            {"kind": "text"},
            "column 'g': a text or a number is needed, not {'text'",
        ),
        (
            {"q": "Hi \ud835?", "g": "a"},
            {"kind": "text"},
            "column 'q': an unpaired surrogate (half a character)",
        ),
        ({"q": "Hi?", "g": "4. Then stop it."}, {"kind": "math"}, "its gold is a worked solution"),
        ({"q": " ", "g": "a"}, {"kind": "text"}, "test row 1: it has no text"),
        (
            {"q": "Hi?", "g": None},
            {"kind": "text"},
            "1 of 1 test rows have no gold answer (first: test row 1)",
        ),
        ({**METAL, "g": -1}, {"gold_is": "index"}, "1 of 1 test rows have no gold answer"),
        (
            {**METAL, "g": 1},
            {"gold_is": "index"},
            "no gold number is 0, so they may count from 0 or from 1: say",
        ),
        (
            {**METAL, "g": 3},
            {"gold_is": "index", "index_from": 1},
            "the gold index '3' is not among its choices (1 to 2)",
        ),
        ({**METAL, "g": "C"}, {}, "the gold letter 'C' is not among its choices (A, B)"),
    ],
)
def test_rows_that_are_refused(tmp_path: Path, row: dict, settings: dict, message: str) -> None:
    with pytest.raises(SkillmoeError) as caught:
        load(tmp_path, [row], **settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_gold_numbers_from_1_are_read_where_that_is_said(tmp_path: Path) -> None:
    rows = [{**METAL, "g": "1"}, {**METAL, "g": 2.0}]
    loaded = load(tmp_path, rows, gold_is="index", index_from=1)
    assert [gold for *_, gold in loaded] == ["A", "B"]


def test_gold_numbers_are_labels_where_the_choices_have_numbers(tmp_path: Path) -> None:
    rows = [{"q": "Which?", "c": {"1": "iron", "2": "mercury"}, "g": gold} for gold in ("1", "2")]
    assert [gold for *_, gold in load(tmp_path, rows, gold_is="index")] == ["A", "B"]


def test_an_empty_row_is_dropped_with_those_without_gold(tmp_path: Path) -> None:
    rows = [{**METAL, "g": "B"}, {"q": None, "c": None, "g": " "}]
    with pytest.warns(UserWarning, match="left out 2 rows without gold"):
        assert load(tmp_path, rows, missing_gold="drop") == [["Which is liquid?", ["iron", "mercury"], "B"]]


def test_flaws_of_choices_are_counted(tmp_path: Path) -> None:
    rows = [
        {"q": "Which?", "c": ["iron", None, "tin"], "g": "C"},
        {"q": "What?", "c": ["tin", "tin"], "g": "A"},
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(tmp_path, rows)
    assert {str(warning.message) for warning in caught} == {
        f"benchmark 'mine': 1 {split} questions have {what}"
        for split in ("test", "validation")
        for what in ("an empty choice", "the right choice twice")
    }


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ({"year": 2020}, ["a"]),
        ({"year": [2020, 2021]}, ["a", "b"]),
        ({"part": "test"}, ["b", "c"]),
        ({"open": True}, ["a", "c"]),
        ({"share": 0.5}, ["c"]),
        ({"part": "test", "year": 2021}, ["b"]),
    ],
)
def test_where_takes_a_value_or_a_list(tmp_path: Path, where: dict, kept: list[str]) -> None:
    rows = [
        {"q": "a", "g": "1", "year": 2020, "part": "dev", "open": True, "share": 0.1},
        {"q": "b", "g": "1", "year": 2021, "part": "test", "open": False, "share": 0.2},
        {"q": "c", "g": "1", "year": "2022", "part": "test", "open": "true", "share": 0.50},
    ]
    loaded = load(tmp_path, rows, kind="text", test={"path": "rows.jsonl", "where": where})
    assert [text for text, *_ in loaded] == kept


def test_a_file_counts_from_the_yaml_and_then_from_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path / "project"))
    (tmp_path / "project" / "data").mkdir(parents=True)
    (tmp_path / "project" / "data" / "more.jsonl").write_text('{"q": "Far?", "g": "1"}')
    loaded = load(tmp_path, [{"q": "Near?", "g": "1"}], kind="text", test="data/more.jsonl")
    assert loaded == [["Far?", [], "1"]]


def test_without_a_seed_nothing_is_shuffled(tmp_path: Path) -> None:
    assert load(tmp_path, [{**METAL, "g": "B"}], shuffle_choices=None) == [[*METAL.values(), "B"]]

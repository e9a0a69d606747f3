import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.questions import rows
from skillmoe_lib.questions.rows import normalised, split_inlined


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Which is  TRUE?", "which is true"),
        ("All hold, except:", "All hold; except -"),
        ("a non- competitive inhibitor", "a non competitive inhibitor"),
        ("stage-I disease is:-", "stage I disease is"),
        ("the ﬁrst “word”", 'the first "word"'),
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


def test_inlined_marker_missing() -> None:
    with pytest.raises(SkillmoeError, match="no 'Options:' in the question 'Where"):
        split_inlined("Where are they?", "Options:")


@pytest.mark.parametrize(
    ("cells", "given", "expected"),
    [
        ({"options": ["x", "y"]}, "options", ["x", "y"]),
        ({"options": json.dumps(["x", 2])}, "options", ["x", "2"]),
        ({"a": "x", "b": 3.0, "c": None}, ["a", "b", "c"], ["x", "3"]),
        ({"a": "x", "b": None, "c": "z"}, ["a", "b", "c"], ["x", "", "z"]),
        ({"options": None}, "options", []),
    ],
)
def test_choices(cells: dict, given: str | list[str], expected: list[str]) -> None:
    assert rows._choices(cells, given) == expected


def test_choices_column_that_is_not_json() -> None:
    with pytest.raises(SkillmoeError, match="column 'options' must hold JSON lists"):
        rows._choices({"options": "x, y"}, "options")


@pytest.mark.parametrize(
    ("gold", "gold_is", "position"),
    [("B", "letter", 1), ("b", "letter", 1), ("0", "index", 0), ("green", "text", 2)],
)
def test_gold_position(gold: str, gold_is: str, position: int) -> None:
    assert rows._gold_position(gold, ["red", "blue", "green"], gold_is, "q") == position


@pytest.mark.parametrize(
    ("gold", "gold_is", "allowed"),
    [
        ("D", "letter", "ABC"),
        ("AB", "letter", "ABC"),
        ("3", "index", "0 to 2"),
        ("-1", "index", "0 to 2"),
        ("Red", "text", "red"),
    ],
)
def test_gold_not_among_choices(gold: str, gold_is: str, allowed: str) -> None:
    with pytest.raises(SkillmoeError, match=f"question 'q': .*{gold!r} is not among its choices.*{allowed}"):
        rows._gold_position(gold, ["red", "blue", "green"], gold_is, "q")

import pytest
from hypothesis import given
from hypothesis import strategies as st

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

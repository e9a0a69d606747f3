"""Choices and gold answers in the formats that files use: read correctly or refused, never changed."""

import pytest

from skillmoe_lib.questions.choices import Choices, final_answer, gold_position, plain, read_choices

TEXTS = ["iron", "mercury", "tin"]


@pytest.mark.parametrize(
    "cell",
    [
        TEXTS,
        '["iron", "mercury", "tin"]',
        [*TEXTS, None],
        [*TEXTS, float("nan"), " "],
        {"A": "iron", "B": "mercury", "C": "tin"},
        {"C": "tin", "A": "iron", "B": "mercury"},
        {"A": "iron", "B": "mercury", "C": "tin", "D": None, "E": None},
        '{"A": "iron", "B": "mercury", "C": "tin"}',
        {"0": "iron", "1": "mercury", "2": "tin"},
        {"1": "iron", "2": "mercury", "3": "tin"},
        {"opa": "iron", "opb": "mercury", "opc": "tin"},
        {"label": ["A", "B", "C"], "text": TEXTS},
        {"text": TEXTS, "label": ["1", "2", "3"]},
        {"text": TEXTS},
        [{"label": "A", "text": "iron"}, {"label": "B", "text": "mercury"}, {"label": "C", "text": "tin"}],
        [{"key": "a", "value": "iron"}, {"key": "b", "value": "mercury"}, {"key": "c", "value": "tin"}],
        [{"id": i, "content": text, "is_right": i == 1} for i, text in enumerate(TEXTS)],
        [{"text": text} for text in TEXTS],
        [{"id": f"q1-{i}", "text": text, "image": None} for i, text in enumerate(TEXTS)],
        [{"A": "iron"}, {"B": "mercury"}, {"C": "tin"}],
        [["A", "iron"], ["B", "mercury"], ["C", "tin"]],
        [("A", "iron"), ("B", "mercury"), ("C", "tin")],
        ["A)iron", "B)mercury", "C)tin"],
        ["(A) iron", "(B) mercury", "(C) tin"],
        ["a. iron", "b. mercury", "c. tin"],
        ["A: iron", "B: mercury", "C: tin"],
    ],
)
def test_one_cell_with_all_choices(cell: object) -> None:
    assert read_choices({"options": cell}, "options").texts == TEXTS


def test_several_columns_keep_their_letters() -> None:
    row = {"a": "x", "b": None, "c": 3.0, "d": "", "e": None}
    assert read_choices(row, ["a", "b", "c", "d", "e"]).texts == ["x", "", "3"]
    assert read_choices({"a": None}, "a").texts == []


@pytest.mark.parametrize(
    ("cell", "kept"),
    [
        (["A. Smith", "B. Jones", "D. Brown"], ["A. Smith", "B. Jones", "D. Brown"]),  # no A, B, C
        (["1.5", "2.5", "3.5"], ["1.5", "2.5", "3.5"]),
        (["N/A", "None", "NA"], ["N/A", "None", "NA"]),
        ([2.5, 3, True], ["2.5", "3", "True"]),
        (["A", "B", "C"], ["A", "B", "C"]),
    ],
)
def test_what_is_no_label_stays(cell: list, kept: list[str]) -> None:
    assert read_choices({"options": cell}, "options").texts == kept


@pytest.mark.parametrize(
    "cell",
    [
        "A. iron\nB. mercury",
        "['iron', 'mercury']",
        '"iron"',
        12,
        "12",
        True,
        [["iron", "shiny"], ["tin", "dull"]],
        [["A", "iron", "x"]],
        [{"name": "iron", "colour": "grey"}, {"name": "gold", "colour": "yellow"}],
        {"label": ["A", "B"], "text": ["iron"]},
        [{"label": "A", "text": {"en": "iron"}}, {"label": "B", "text": {"en": "tin"}}],
        ["iron", ["mercury"]],
        ["a \ud835", "b"],
    ],
)
def test_shapes_that_are_refused(cell: object) -> None:
    with pytest.raises(ValueError, match="column 'options' must hold a list of choices") as caught:
        read_choices({"options": cell}, "options")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("gold", "gold_is", "labels", "position"),
    [
        ("B", "letter", [], 1),
        ("b", "letter", [], 1),
        ("(B)", "letter", [], 1),
        ("B.", "letter", [], 1),
        ("B)", "letter", [], 1),
        ("[c]", "letter", [], 2),
        ("B: mercury", "letter", [], 1),
        ("(C) tin", "letter", [], 2),
        ("2", "letter", ["1", "2", "3"], 1),
        ("C", "letter", ["A", "B", "C"], 2),
        ("D", "letter", ["A", "B", "D"], 2),
        ("opb", "letter", ["opa", "opb", "opc"], 1),
        ("0", "index", [], 0),
        ("2.0", "index", [], 2),
        ("2", "index", ["1", "2", "3"], 1),
        ("tin", "text", [], 2),
        ("C) tin", "text", ["A", "B", "C"], 2),
    ],
)
def test_gold_position(gold: str, gold_is: str, labels: list[str], position: int) -> None:
    assert gold_position(gold, Choices(TEXTS, labels), gold_is) == position


def test_gold_numbers_may_count_from_1() -> None:
    assert [gold_position(str(i), Choices(TEXTS), "index", 1) for i in (1, 2, 3)] == [0, 1, 2]
    with pytest.raises(ValueError, match=r"the gold index '0' is not among its choices \(1 to 3\)"):
        gold_position("0", Choices(TEXTS), "index", 1)


@pytest.mark.parametrize(
    ("gold", "gold_is", "labels", "allowed"),
    [
        ("D", "letter", [], "A, B, C"),
        ("AB", "letter", [], "A, B, C"),
        ("2", "letter", [], "A, B, C"),
        ("A", "letter", ["1", "2", "3"], "1, 2, 3"),
        ("B: tin", "letter", [], "A, B, C"),
        ("mercury", "letter", [], "A, B, C"),
        ("3", "index", [], "0 to 2"),
        ("-2", "index", [], "0 to 2"),
        ("1.5", "index", [], "0 to 2"),
        ("0", "index", ["1", "2", "3"], "0 to 2"),
        ("Tin", "text", [], r"iron \| mercury \| tin"),
    ],
)
def test_gold_not_among_choices(gold: str, gold_is: str, labels: list[str], allowed: str) -> None:
    with pytest.raises(ValueError, match=rf"the gold {gold_is} .* is not among its choices \({allowed}\)"):
        gold_position(gold, Choices(TEXTS, labels), gold_is)


def test_gold_that_is_two_choices_or_none() -> None:
    with pytest.raises(ValueError, match="'tin' occurs 2 times"):
        gold_position("tin", Choices(["tin", "iron", "tin"]), "text")
    with pytest.raises(ValueError, match="its right choice, B, is empty"):
        gold_position("B", Choices(["tin", "", "iron"]), "letter")
    with pytest.raises(ValueError, match="it has no choices"):
        gold_position("A", Choices([]), "letter")
    many = [f"n{i}" for i in range(30)]
    for gold, gold_is in (("n28", "text"), ("28", "index"), ("A", "letter")):
        with pytest.raises(ValueError, match="it has 30 choices: there are letters for at most 26"):
            gold_position(gold, Choices(many), gold_is)


@pytest.mark.parametrize(
    ("gold", "kind", "answer"),
    [
        (r"First $2*3=6$, then $2+6=\boxed{8}$.", "math", "8"),
        (r"It is \boxed{\frac{1}{2}}.", "math", r"\frac{1}{2}"),
        (r"\boxed{3}, no: \fbox{4}", "math", "4"),
        (r"so it is $\boxed 8$.", "math", "8"),
        (r"so it is \fbox {8}.", "math", "8"),
        ("She has 3 + 4 = 7.\n#### 7", "math", "7"),
        (r"\left( 3, \frac{\pi}{2} \right)", "math", r"\left( 3, \frac{\pi}{2} \right)"),
        ("x = 2 and y = -1", "math", "x = 2 and y = -1"),
        (r"\boxed{Paris}", "text", "Paris"),
        ("The answer is in the box. Open it.", "text", "The answer is in the box. Open it."),
    ],
)
def test_a_gold_without_its_working(gold: str, kind: str, answer: str) -> None:
    assert final_answer(gold, kind) == answer


@pytest.mark.parametrize(
    "gold",
    ["2*3 = 6. The answer is 8.", "First add them. Then halve it: 4", r"so \boxed{8", r"so \boxed{ }"],
)
def test_a_worked_solution_is_refused(gold: str) -> None:
    with pytest.raises(ValueError, match=r"worked solution|does not close|box in its gold is empty"):
        final_answer(gold, "math")


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (7.0, "7"),
        (0.00001, "0.00001"),
        (1.5e-7, "0.00000015"),
        (6.022e23, "6.022e23"),
        (0.5, "0.5"),
        (123456789012345680000, "123456789012345680000"),
        (-2.0, "-2"),
        (" a ", "a"),
    ],
)
def test_numbers_as_text(cell: object, text: str) -> None:
    assert plain(cell) == text

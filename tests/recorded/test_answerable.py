"""What a recording can answer exactly, counted by hand on small ones."""

import pandas as pd

from skillmoe_lib.recorded import Recorded, Row, build


def recording(answers: dict[str, str], **known) -> Recorded:
    """Answers of ann, bob and eve as a word: "AB-" is A, B and none; a blank is not run."""
    rows = [
        Row(
            question_id, expert, "bench", gold="A", kind="choice", answer=None if letter == "-" else letter,
            **known,
        )
        for question_id, word in answers.items()
        for expert, letter in zip(("ann", "bob", "eve"), word, strict=True)
        if letter != " "
    ]  # fmt: skip
    return build(rows)


def row_of(table: pd.DataFrame, what: str) -> tuple:
    found = table.set_index("what").loc[what, ["exact", "n_questions", "new_calls"]]
    return tuple(None if pd.isna(cell) else cell for cell in found)


def test_an_aggregator_is_called_where_recruits_disagree() -> None:
    found = recording({"q1": "AAA", "q2": "AAB", "q3": "---", "q4": "AA-", "q5": "BBB"})
    table = found.can_answer()
    assert row_of(table, "single experts") == (True, 5, 0)
    assert row_of(table, "votes of experts") == (True, 5, 0)
    assert row_of(table, "sequential recruiting") == (True, 5, 0)
    # q2, q3 (nobody answered) and q4 (one did not)
    assert row_of(table, "all experts and an aggregator") == (False, 2, 3)
    assert row_of(table, "routing by skill") == (False, 0, 25)
    assert row_of(table, "routing by subject") == (False, 0, None)
    assert row_of(table, "votes of repeats of one expert") == (False, 0, 5)
    note = table.set_index("what").loc["all experts and an aggregator", "note"]
    assert note == "one for each question whose recruits disagree; 5 if the aggregator is asked always"


def test_calls_are_counted_for_the_recruits_of_each_method_and_seed() -> None:
    found = recording({"q1": "AAB", "q2": "ABB"})
    routes = pd.DataFrame({
        "method": ["m"] * 4 + ["m"] * 4,
        "seed": [0] * 4 + [1] * 4,
        "question_id": ["q1", "q1", "q2", "q2"] * 2,
        "expert": ["ann", "bob", "ann", "bob", "bob", "eve", "bob", "eve"],
    })  # fmt: skip
    # seed 0: q1 agrees, q2 does not; seed 1: q1 does not, q2 agrees
    assert row_of(found.can_answer(routes), "2 experts and an aggregator") == (False, 2, 2)
    only = routes.drop(columns=["method", "seed"]).head(4)
    assert row_of(found.can_answer(only), "2 experts and an aggregator") == (False, 1, 1)


def test_answers_that_were_not_run_need_calls() -> None:
    table = recording({"q1": "AA ", "q2": "AAB"}, subject="s").can_answer()
    assert row_of(table, "single experts") == (False, 1, 1)
    assert row_of(table, "votes of experts") == (False, 1, 1)
    assert row_of(table, "routing by subject") == (False, 1, 1)


def test_without_answers_nothing_can_be_voted_on() -> None:
    rows = [
        Row("q1", expert, "b", correct=1.0, answer_known=False, subject="s", split="validation")
        for expert in "ab"
    ]
    table = build(rows).can_answer()
    assert row_of(table, "single experts") == (True, 1, 0)
    assert row_of(table, "routing by subject") == (True, 1, 0)
    assert row_of(table, "votes of experts") == (False, 0, None)
    assert row_of(table, "sequential recruiting") == (False, 0, None)
    assert row_of(table, "all experts and an aggregator") == (False, 0, 1)


def test_repeats_can_be_voted_on() -> None:
    rows = [Row("q1", "ann", "b", gold="7", kind="math", answer="7", sample=s) for s in range(3)]
    table = build(rows).can_answer()
    assert row_of(table, "votes of repeats of one expert") == (True, 1, 0)
    assert table.set_index("what").loc["votes of repeats of one expert", "note"] == "up to 3 a question"


def test_equal_mathematics_agrees() -> None:
    rows = [
        Row("q1", name, "b", gold="0.5", kind="math", answer=said)
        for name, said in (("a", "1/2"), ("b", ".5"))
    ]
    assert row_of(build(rows).can_answer(), "all experts and an aggregator") == (False, 1, 0)

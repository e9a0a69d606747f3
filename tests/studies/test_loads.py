"""Loads of a small run that can be counted by hand, its bound, and what policies make of it."""

import pandas as pd
import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import diagrams
from skillmoe_lib.inference.policies import most_waiting, naive
from skillmoe_lib.studies import loads

SECONDS = {"A": 10.0, "B": 20.0, "C": 30.0}


def rows(*asked):
    """Rows of `asked`: program, round, request and its model; a second for each."""
    frame = pd.DataFrame(asked, columns=["program", "round", "request_id", "source"])
    about = {"revision": "1", "max_model_len": 50, "dtype": "auto", "batch_id": "b", "generate_s": 1.0}
    return frame.assign(question_id=frame["program"], **about)


#: Two questions that A and B answer; A aggregates. The panel's A and C answer the second one too.
TWO = rows(
    ("one", 0, "a1", "A"), ("one", 0, "b1", "B"), ("one", 1, "agg1", "A"),
    ("two", 0, "b2", "B"), ("two", 1, "agg2", "A"),
    ("panel A two", 0, "a2", "A"), ("panel C two", 0, "c2", "C"),
)  # fmt: skip


def test_the_bound_counts_what_a_program_needs_and_models_that_others_ask():
    assert loads.bound(TWO) == 3
    again = rows(*[("one", i, f"{i}{name}", name) for i in range(3) for name in "AB"], ("two", 0, "c", "C"))
    assert loads.bound(again) == 5
    shared = pd.concat([again, rows(*[("other", 0, f"{i}A", "A") for i in range(3)])], ignore_index=True)
    assert loads.bound(shared) < 5, "what another program asks too may have been there before"


def test_policies_load_what_can_be_counted():
    ran = loads.compared(TWO, "naive, most_waiting,look_ahead", SECONDS, aggregator="A")
    assert {name: "".join(found.batches["model"]) for name, found in ran.items()} == {
        "naive": "ABABAAC",
        "most_waiting": "ABCA",
        loads.AGGREGATOR_LAST: "BCA",
        "look_ahead": "BCA",
    }
    table = loads.table(ran, loads.bound(TWO)).set_index("policy")
    assert table["loads"].to_dict() == {
        "naive": 7, "most_waiting": 4, loads.AGGREGATOR_LAST: 3, "look_ahead": 3,
    }  # fmt: skip
    assert table["load_s"].tolist() == [110, 70, 60, 60]
    assert set(table["generate_s"]) == {7}
    assert (table["total_s"] == table["load_s"] + table["generate_s"]).all()
    shown = loads.lanes(ran)
    (axis,) = diagrams.schedule(shown).axes
    assert {label.get_text() for label in axis.get_yticklabels()} == set(ran)


def test_programs_end_when_their_last_answer_is_there():
    ran = loads.simulated(TWO, naive, SECONDS)
    assert ran.ended_s["one"] == 10 + 1 + 20 + 1 + 10 + 1
    assert ran.ended_s.max() == 117
    assert loads.simulated(TWO, most_waiting, SECONDS).ended_s["panel A two"] < ran.ended_s["panel A two"]


def test_the_same_questions_are_drawn_again_and_an_empty_report_is_refused():
    assert loads.some(TWO, 0) is TWO
    few = loads.some(TWO, 2)
    assert few["question_id"].nunique() == 2
    assert few.equals(loads.some(TWO.sample(frac=1, random_state=1), 2).sort_index())
    with pytest.raises(SkillmoeError, match="the store has no requests of this report"):
        loads.compared(TWO[:0], "naive", SECONDS, aggregator="A")
    with pytest.raises(SkillmoeError, match="unknown policy 'greedy'"):
        loads.compared(TWO, "greedy", SECONDS, aggregator="A")


def test_the_real_run_against_its_bound():
    batches = pd.DataFrame({"model": [*"ABA"], "load_s": 1.0, "generate_s": 2.0})
    (row,) = loads.real_run(batches, 2).to_dict("records")
    assert row == {"loads": 3, "bound": 2, "load_s": 3, "generate_s": 6, "total_s": 9, "within": True}
    assert not loads.real_run(batches, 1)["within"][0]
    assert loads.repeated(batches).to_numpy().tolist() == [["A", 2], ["B", 1]]

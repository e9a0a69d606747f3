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
    about = {
        "revision": "1",
        "max_model_len": 50,
        "dtype": "auto",
        "quantization": "",
        "adapter": "",
        "options": "",
        "batch_id": "b",
        "generate_s": 1.0,
    }
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
        "most_waiting": "ABAC",
        loads.AGGREGATOR_LAST: "BCA",
        "look_ahead": "BAC",
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


def test_each_real_run_against_its_own_bound():
    """The second run makes what the first had not: for that one load is enough, and it took two."""
    made = TWO.assign(batch_id=["1", "2", "3", "2", "3", "4", "5"])
    times = [f"2026-01-02T03:0{minute}:00+00:00" for minute in (0, 1, 2)]
    times += ["2026-01-02T05:00:00+00:00", "2026-01-02T05:01:00+00:00"]
    batches = pd.DataFrame({"batch_id": [*"12345"], "model": [*"ABAAC"], "started_at": times})
    found = loads.real_runs(made, batches.assign(load_s=1.0, generate_s=2.0))
    assert found.drop(columns="started_at").to_dict("records") == [
        {"loads": 3, "bound": 2, "load_s": 3, "generate_s": 6, "total_s": 9, "within": True},
        {"loads": 2, "bound": 2, "load_s": 2, "generate_s": 4, "total_s": 6, "within": True},
    ]
    assert found["started_at"].tolist() == [times[0], times[3]]
    assert loads.repeated(batches).to_numpy().tolist() == [["A", 3], ["B", 1], ["C", 1]]


def test_a_policy_far_longer_than_the_others_is_not_drawn():
    ran = loads.compared(TWO, "naive,look_ahead", {"A": 1000.0, "B": 1.0, "C": 1.0}, aggregator="A")
    assert set(loads.lanes(ran)["model"]) == {"naive", "look_ahead"}
    slow = ran["naive"]._replace(batches=ran["naive"].batches.assign(load_s=10_000.0))
    assert set(loads.lanes({**ran, "naive": slow})["model"]) == {"look_ahead"}

"""Tables behind figures, on worlds small enough to work out by hand."""

import math

import pandas as pd
import pytest
import scenes

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import comparisons


def results(**right: str) -> pd.DataFrame:
    """Results of methods from strings of 1 (right), 0 (wrong) and - (not run), one character a question."""
    rows = [
        {"method": method, "benchmark": "b", "seed": 0, "question_id": f"q{i:02d}", "correct": mark == "1",
         "status": "not_run" if mark == "-" else "answered", "answer": mark, "calls": 1,
         "prompt_tokens": 1 + len(method),
         "output_tokens": 1, "device_seconds": 1.0}
        for method, marks in right.items()
        for i, mark in enumerate(marks)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_front_has_what_nothing_cheaper_or_equal_beats() -> None:
    table = pd.DataFrame(
        {"device_seconds": [1, 2, 2, 3, None, 4], "accuracy": [0.5, 0.6, 0.6, 0.55, 0.9, None]}
    )
    assert comparisons.front(table) == [True, True, True, False, False, False]


def test_at_equal_cost_the_rival_is_the_best_baseline_within_the_budget() -> None:
    found = results(symbolic_moe="11110000", self_consistency="11000000", debate="11100000", moa="11111111")
    table = pd.DataFrame(
        {"method": ["symbolic_moe", "self_consistency", "debate", "moa", "random_k"],
         "accuracy": [0.5, 0.25, 0.375, 1.0, 1.0], "device_seconds": [5, 4, 5, 9, 1]}
    )  # fmt: skip
    row = comparisons.at_equal_cost(table, found).iloc[0]
    assert (row["method"], row["rival"]) == ("symbolic_moe", "debate")  # controls are no rivals
    assert row["difference"] == pytest.approx(1 / 8)
    assert (row["cost_of_method"], row["cost_of_rival"], row["n_questions"]) == (5, 5, 8)
    assert row["low"] <= row["difference"] <= row["high"]
    cheap = table.assign(device_seconds=[1, 4, 5, 9, 1])
    assert comparisons.at_equal_cost(cheap, found).empty


def test_the_gap_runs_from_random_experts_to_the_oracle() -> None:
    found = results(
        random_k="1000000000", instance_oracle="1111100000", symbolic_moe="1110000000", moa="0000000000"
    )
    table = comparisons.gap_closed(found).set_index("method")
    assert set(table.index) == {"symbolic_moe", "moa"}
    assert table["gap_closed"].to_dict() == pytest.approx({"symbolic_moe": 0.5, "moa": -0.25})
    assert (table["low"] <= table["gap_closed"]).all() and (table["gap_closed"] <= table["high"]).all()
    assert (
        comparisons.gap_closed(found[::-1]).set_index("method").loc["moa", "low"] == table.loc["moa", "low"]
    )
    # A question that one method did not run is left out for all: the oracle is then right on 4 of 9.
    some = results(random_k="1000000000", instance_oracle="1111100000", symbolic_moe="111-000000")
    assert comparisons.gap_closed(some)["n_questions"].item() == 9
    assert comparisons.gap_closed(some)["gap_closed"].item() == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (results(symbolic_moe="10"), "'random_k' was not run"),
        (results(random_k="10", instance_oracle="10", moa="11"), "no gap to close"),
    ],
)
def test_without_a_gap_it_is_one_line(found: pd.DataFrame, said: str) -> None:
    with pytest.raises(SkillmoeError, match=said):
        comparisons.gap_closed(found)


def scores(**answers: str) -> pd.DataFrame:
    """Single answers from strings of letters (- for none); B is right."""
    rows = [
        {"request_id": f"{expert}{i}", "question_id": f"q{i}", "expert": expert, "sample": 0,
         "answer": None if letter == "-" else letter, "status": "unparsed" if letter == "-" else "answered",
         "correct": letter == "B", "truncated": False}
        for expert, letters in answers.items()
        for i, letter in enumerate(letters)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_agreement_counts_what_both_answered() -> None:
    questions = [scenes.question(f"q{i}", "B") for i in range(5)]
    table = comparisons.agreement(scores(ann="BBAA-", bob="BAACB", cid="-----"), questions)
    cell = table.set_index(["expert_a", "expert_b"])
    assert cell.loc[("ann", "bob"), "agreement"] == pytest.approx(2 / 4)
    assert cell.loc[("ann", "bob"), "n"] == 4
    # Both wrong on q2 (A, A) and q3 (A, C): alike once.
    assert cell.loc[("bob", "ann"), "wrong_alike"] == pytest.approx(1 / 2)
    assert cell.loc[("ann", "ann"), "agreement"] == 1
    assert math.isnan(cell.loc[("ann", "cid"), "agreement"]) and cell.loc[("ann", "cid"), "n"] == 0
    assert len(table) == 9


def test_calibration_sets_expected_beside_observed() -> None:
    rows = [
        {"method": "sequential", "seed": 0, "question_id": f"q{i}", "slot": slot, "expert": expert,
         "suitability": expected, "probability": None}
        for i in range(4)
        for slot, (expert, expected) in enumerate([("ann", 0.8), ("bob", 0.3)])
    ]  # fmt: skip
    routes = pd.DataFrame([*rows, {**rows[0], "method": "symbolic_moe", "suitability": 7.0}])
    table = comparisons.calibration(routes, scores(ann="BBBA", bob="AAAB"), n_bins=2)
    assert table["predicted"].tolist() == pytest.approx([0.3, 0.8])
    assert table["accuracy"].tolist() == [0.25, 0.75]
    assert table[["n_slots", "n_questions"]].to_numpy().tolist() == [[4, 4], [4, 4]]
    assert table["low"].ge(0).all() and table["high"].le(1).all() and (table["low"] < table["high"]).all()


def test_the_flow_divides_a_slot_among_its_questions_skills() -> None:
    routes = pd.DataFrame(
        {"method": "symbolic_moe", "question_id": ["a", "a", "b"], "expert": ["ann", "bob", "ann"]}
    )
    skills = pd.DataFrame({"question_id": ["a", "a", "a"], "skill": ["sums", "logic", "sums"]})
    table = comparisons.skill_flow(pd.concat([routes, routes.assign(method="other")]), skills)
    assert {(r.skill, r.expert): r.slots for r in table.itertuples()} == {
        ("(no skill)", "ann"): 1.0, ("logic", "ann"): 0.5, ("logic", "bob"): 0.5,
        ("sums", "ann"): 0.5, ("sums", "bob"): 0.5,
    }  # fmt: skip

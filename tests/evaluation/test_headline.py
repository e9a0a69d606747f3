"""The sentence that opens a report, for each verdict, by hand."""

import pandas as pd

from skillmoe_lib.evaluation.headline import headlines


def differences(**changes: object) -> pd.DataFrame:
    """Self-Consistency and the vote against Symbolic-MoE, as 08_report compares them."""
    rows = {
        "method": ["self_consistency", "majority_vote", "random_k"], "benchmark": "pocket",
        "baseline": "symbolic_moe", "difference": [-0.1547, 0.0641, -0.3], "low": [-0.1919, 0.04, -0.35],
        "high": [-0.119, 0.09, -0.25], "n_questions": 640, "n_seeds": 1,
        "verdict": ["worse", "better", "worse"],
    }  # fmt: skip
    return pd.DataFrame({**rows, **changes})


def summary(**changes: object) -> pd.DataFrame:
    rows = {
        "method": ["symbolic_moe", "self_consistency", "majority_vote", "random_k"], "benchmark": "pocket",
        "accuracy": [0.6375, 0.4828, 0.7016, 0.3], "device_seconds": [80.0, 100.0, 70.0, 60.0],
        "keyword_device_seconds": [10.0, 0.0, 10.0, 0.0],
    }  # fmt: skip
    return pd.DataFrame({**rows, **changes})


def test_a_certain_gain() -> None:
    (found,) = headlines(differences(), summary())
    assert found.sentence == (
        "Routing by skill gains 15.5 points [11.9, 19.2] over Self-Consistency (5) at 0.9 times its cost; "
        "n = 640"
    )
    assert found.methods == ("symbolic_moe", "self_consistency")
    # The strongest baseline is said too, though it is against us.
    assert (
        "Majority vote of the recruited, 70.2%: Symbolic-MoE is certainly worse (-6.4 points [-9.0, -4.0])"
        in (found.context)
    )
    assert "Other draws (keywords, samples) are not in the interval." in found.context


def test_a_certain_loss_and_no_certainty() -> None:
    worse = differences(difference=0.031, low=0.005, high=0.057, verdict="better")
    (found,) = headlines(worse, summary())
    assert found.sentence.startswith(
        "Routing by skill loses 3.1 points [0.5, 5.7] against Self-Consistency (5)"
    )
    unsure = differences(difference=-0.012, low=-0.044, high=0.02, verdict="cannot tell")
    (found,) = headlines(unsure, summary())
    assert found.sentence.startswith(
        "These questions cannot tell routing by skill from Self-Consistency (5): a difference of +1.2 points "
        "[-2.0, 4.4] at"
    )


def test_without_self_consistency_the_strongest_baseline_is_taken() -> None:
    (found,) = headlines(differences()[1:], summary())
    assert found.sentence.startswith(
        "Routing by skill loses 6.4 points [4.0, 9.0] against Majority vote of the recruited at 1.1 times "
    )
    assert "No baseline of this run is more accurate" in found.context


def test_the_table_may_be_turned_the_other_way() -> None:
    """The paper's main table compares every method with one answer of the best expert."""
    row = {
        "method": ["symbolic_moe"],
        "baseline": "cot_task_best",
        "difference": 0.1,
        "low": 0.05,
        "high": 0.15,
    }
    turned = pd.DataFrame(
        {**row, "benchmark": "pocket", "n_questions": 40, "n_seeds": 3, "verdict": "better"}
    )
    (found,) = headlines(turned, summary())
    assert found.sentence == (
        "Routing by skill gains 10.0 points [5.0, 15.0] over Chain of thought (Task-Best); n = 40"
    )


def test_unknown_costs_are_said_or_left_out() -> None:
    (found,) = headlines(differences(), summary(keyword_device_seconds=None))
    assert "at 0.8 times its cost, keyword calls not counted; n" in found.sentence
    (found,) = headlines(differences(), summary(device_seconds=None))
    assert "cost" not in found.sentence


def test_no_headline_without_symbolic_moe() -> None:
    ablation = differences(method=["k = 1", "k = 5", "k = 7"], baseline="k = 3")
    assert headlines(ablation, summary(method=["k = 3", "k = 1", "k = 5", "k = 7"])) == []

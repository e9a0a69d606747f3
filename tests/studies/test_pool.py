"""Games whose values are known, Shapley values against shapiq, and every game against the method it plays."""

from itertools import combinations, permutations
from math import factorial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_pool import made_up

from skillmoe_lib import recorded
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.intervals import paired_bootstrap
from skillmoe_lib.studies import pool as study
from skillmoe_lib.studies import routers, six_questions
from skillmoe_lib.studies.accuracy_calls import plurality
from skillmoe_lib.studies.outcomes import from_mmlu_pro, from_recorded, opened
from skillmoe_lib.studies.what_if import what_if

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT.parent / "shared" / "data" / "recorded_mmlu_pro"
POOL = made_up(80, 6, n_validation=40)
NAMES = list(POOL.experts)


def values_of(worth, n):
    """The worth of every sub-pool, from a function of its members."""
    return np.array([worth([i for i in range(n) if at >> i & 1]) for at in range(2**n)], float)


# -- Shapley values -------------------------------------------------------------------------------------


def test_in_an_additive_game_everyone_gets_their_own():
    own = np.array([0.1, 0.2, 0.4])
    assert study.shapley_of(values_of(lambda who: own[who].sum(), 3)) == pytest.approx(own)


def test_gloves():
    """One left glove, two right ones, a pair is worth 1: 2/3 and 1/6 each (Shapley 1953)."""
    worth = values_of(lambda who: 0 in who and len(who) > 1, 3)
    assert study.shapley_of(worth) == pytest.approx([2 / 3, 1 / 6, 1 / 6])


def test_a_weighted_majority():
    """Weights 2, 1, 1 and quota 3: the large one is pivotal in 4 of 6 orders, each small one in 1."""
    weight = np.array([2, 1, 1])
    assert study.shapley_of(values_of(lambda who: weight[who].sum() >= 3, 3)) == pytest.approx(
        [2 / 3, 1 / 6, 1 / 6]
    )


def test_a_useless_player_gets_nothing_and_equal_ones_the_same():
    worth = values_of(lambda who: len(set(who) & {0, 1}) == 2, 3)
    assert study.shapley_of(worth) == pytest.approx([0.5, 0.5, 0])


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_any_game_agrees_with_the_definition_and_adds_up(n, seed):
    worth = np.random.default_rng(seed).normal(size=2**n)
    found = study.shapley_of(worth)
    assert found.sum() == pytest.approx(worth[-1] - worth[0], abs=1e-9)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        total = 0.0
        for size in range(n):
            for who in combinations(others, size):
                at = sum(1 << j for j in who)
                weight = factorial(size) * factorial(n - size - 1) / factorial(n)
                total += weight * (worth[at | 1 << i] - worth[at])
        assert found[i] == pytest.approx(total, abs=1e-9)


def test_agrees_with_the_exact_computer_of_shapiq():
    shapiq = pytest.importorskip("shapiq", exc_type=ImportError)
    played = study.game(POOL, "vote")
    n = len(played.experts)
    accuracy = played.play(np.arange(2**n)).mean(axis=1)
    computer = shapiq.ExactComputer(lambda pools: accuracy[pools @ (1 << np.arange(n))], n_players=n)
    theirs = computer("SV", 1)
    found = study.shapley(played).set_index("expert")["value"]
    for i, name in enumerate(played.experts):
        assert found[name] == pytest.approx(theirs[(i,)], abs=1e-9)


@pytest.mark.parametrize("method", study.EXACT_UP_TO)
def test_values_add_up_to_the_whole_pools_accuracy(method):
    played = study.game(POOL, method)
    whole = played.play(np.array([played.whole])).mean()
    for n_permutations in (0, 7):
        found = study.shapley(played, n_permutations=n_permutations)
        assert found["value"].sum() == pytest.approx(whole, abs=1e-9)
        assert (found["low"] < found["value"]).all()
        assert (found["value"] < found["high"]).all()


def test_sampled_values_are_near_the_exact_ones():
    played = study.game(POOL, "vote")
    exact, sampled = (study.shapley(played, n_permutations=n).set_index("expert") for n in (0, 400))
    # Within four standard errors of 400 orders, which are computed from the gains in all 720.
    worth = played.play(np.arange(2 ** len(NAMES))).mean(axis=1)
    gains = []
    for order in permutations(range(len(NAMES))):
        before = np.cumsum([0, *(1 << i for i in order)])
        gains.append(np.diff(worth[before])[np.argsort(order)])
    assert np.mean(gains, axis=0) == pytest.approx(exact.loc[list(played.experts), "value"].to_numpy())
    error = np.std(gains, axis=0) / np.sqrt(400)
    off = (exact["value"] - sampled["value"]).loc[list(played.experts)].abs()
    assert (off.to_numpy() < 4 * error).all()
    few = study.shapley(played, n_permutations=10).set_index("expert")
    assert (few["high"] - few["low"]).mean() > (sampled["high"] - sampled["low"]).mean()


def test_shapley_refuses_what_is_no_game():
    with pytest.raises(SkillmoeError, match=r"all 2\*\*n sub-pools, given 3"):
        study.shapley_of(np.zeros(3))
    with pytest.raises(SkillmoeError, match="unknown method 'debate'"):
        study.game(POOL, "debate")


# -- games against methods ------------------------------------------------------------------------------


def number_of(played, members):
    return sum(1 << played.experts.index(name) for name in members)


@pytest.mark.parametrize("members", [NAMES, NAMES[:3], NAMES[1::2], NAMES[4:5]])
def test_the_vote_of_a_sub_pool(members):
    """Counted one question after the other, the most accurate on validation first."""
    played = study.game(POOL, "vote")
    order = [name for name in played.experts if name in members]
    at = [NAMES.index(name) for name in order]
    expected = []
    for row in POOL.rows("test"):
        given = [None if POOL.answer[row, i] < 0 else POOL.answer[row, i] for i in at]
        won = plurality(given)
        expected.append(any(POOL.correct[row, i] and POOL.answer[row, i] == won for i in at))
    assert played.play(np.array([number_of(played, members)]))[0].tolist() == expected


@pytest.mark.parametrize("members", [NAMES, NAMES[:4], NAMES[1::2]])
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("top_k", {"k": 3}),
        ("majority_vote", {"k": 3, "seed": 2}),
        ("majority_vote", {"k": 2, "temperature": 0.1, "prior": 3.0}),
        ("sequential", {"threshold": 0.8}),
        ("sequential_without_skills", {"threshold": 0.6}),
    ],
)
def test_a_sub_pool_plays_as_if_it_were_the_pool(method, settings, members):
    played = study.game(POOL, method, **settings)
    more = {"trim": 0.0} if method == "majority_vote" else {}
    alone = what_if(POOL, experts=members, method=method, **settings, **more)
    assert played.play(np.array([number_of(played, members)]))[0].tolist() == alone.correct.tolist()


def test_the_empty_pool_answers_nothing():
    for method in study.EXACT_UP_TO:
        assert not study.game(POOL, method).play(np.array([0])).any()


def test_two_right_answers_that_differ_are_both_right():
    """A benchmark's own checker may accept several; the vote counts them apart."""
    asked = pd.DataFrame({"question_id": ["v", "t"], "split": ["validation", "test"], "gold": "1"})
    rows = [
        (q, e, a, c) for q in "vt" for e, a, c in (("x", "1", True), ("y", "one", True), ("z", "2", False))
    ]
    pool = from_recorded(asked, pd.DataFrame(rows, columns=["question_id", "expert", "answer", "correct"]))
    played = study.game(pool, "vote")
    assert played.play(np.array([number_of(played, "yz"), number_of(played, "z")])).tolist() == [
        [True],
        [False],
    ]


# -- leave one out, gains, redundancy -------------------------------------------------------------------


def test_leave_one_out_learns_again_without_the_expert():
    found = study.leave_one_out(POOL, method="sequential", k=2).set_index("expert")
    whole = what_if(POOL, method="sequential", k=2)
    without = what_if(POOL, experts=NAMES[1:], method="sequential", k=2)
    row = found.loc[NAMES[0]]
    assert row["value"] == pytest.approx(whole.accuracy.estimate - without.accuracy.estimate)
    assert row["without"] == without.accuracy.estimate
    assert np.isnan(row["per_device_second"])  # no seconds are known
    with pytest.raises(SkillmoeError, match="a pool of at least 2 experts, given 1"):
        study.leave_one_out(POOL.subset(NAMES[:1]))


def test_leaving_one_out_of_a_vote_is_playing_without_it():
    found = study.leave_one_out(POOL).set_index("expert")["value"]
    played = study.game(POOL, "vote")
    for i, name in enumerate(played.experts):
        whole, without = played.play(np.array([played.whole, played.whole - (1 << i)])).mean(axis=1)
        assert found[name] == pytest.approx(whole - without)


def test_accuracy_per_device_second():
    costly = made_up(80, 6, n_validation=40)
    object.__setattr__(costly, "device_seconds", np.full(costly.answer.shape, 2.0))
    found = study.leave_one_out(costly, method="top_k", k=5).set_index("expert")
    assert found["device_seconds"].eq(0).all()  # five are asked with or without it
    assert found["per_device_second"].isna().all()
    found = study.leave_one_out(costly, method="sequential", threshold=0.999999)
    saved = found[found["device_seconds"] > 0]
    assert len(saved)
    for rate, value in (("", "value"), ("_low", "low"), ("_high", "high")):
        spent = saved[f"per_device_second{rate}"] * saved["device_seconds"]
        assert spent.tolist() == pytest.approx(saved[value].tolist())


def test_gains_by_size_add_up_to_shapley():
    """The Shapley value is the mean over sizes of the mean gain at that size."""
    played = study.game(POOL, "vote")
    gains = study.gains_by_size(played)
    value = study.shapley(played).set_index("expert")["value"]
    assert gains.groupby("type")["gain"].mean().to_dict() == pytest.approx(value.to_dict())
    last = gains[gains["size"] == len(NAMES) - 1].set_index("type")["gain"]
    whole, without = played.play(np.array([played.whole, played.whole - 1])).mean(axis=1)
    assert last[played.experts[0]] == pytest.approx(whole - without)


def test_types_share_their_experts_gains():
    kinds = study.best_subjects(POOL)
    assert set(kinds.values()) == {"law", "optics"}
    gains = study.gains_by_size(study.game(POOL, "vote"), kinds)
    assert len(gains) == 2 * len(NAMES)
    large = made_up(30, 9, n_validation=20)
    with pytest.raises(SkillmoeError, match="need at most 8 experts, given 9"):
        study.gains_by_size(study.game(large, "sequential", threshold=0.5))


def test_redundancy_of_twins_and_of_strangers():
    """Errors of a and its copy b agree fully; d is wrong exactly where a is right."""
    random = np.random.default_rng(1)
    right = random.random(100) < 0.5
    other = random.permutation(right)
    rows = []
    for i in range(100):
        for name, hit in (("a", right[i]), ("b", right[i]), ("c", other[i]), ("d", not right[i])):
            rows.append((f"q{i}", name, "A" if hit else "B", bool(hit)))
    asked = pd.DataFrame({"question_id": [f"q{i}" for i in range(100)], "split": ["validation", "test"] * 50})
    pool = from_recorded(asked, pd.DataFrame(rows, columns=["question_id", "expert", "answer", "correct"]))
    found = study.redundancy(pool).set_index(["expert", "other"])
    assert found.loc[("a", "b"), ["agreement", "error_correlation", "same_wrong"]].tolist() == pytest.approx(
        [1, 1, 1]
    )
    assert found.loc[("a", "d"), ["agreement", "error_correlation"]].tolist() == pytest.approx([0, -1])
    assert np.isnan(found.loc[("a", "d"), "same_wrong"])  # never wrong together
    apart = found.loc[("a", "c")]
    assert apart["low"] < apart["error_correlation"] < apart["high"]
    assert apart["error_correlation"] == pytest.approx(np.corrcoef(right[1::2], other[1::2])[0, 1])


# -- how much is enough ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["vote", "top_k"])
def test_the_smallest_pool_is_chosen_on_validation(method):
    found = study.smallest_pool(POOL, method, within=0.05)
    fitting = study.game(POOL, method, split="validation")
    accuracy = fitting.play(np.arange(2 ** len(NAMES))).mean(axis=1)
    assert accuracy[number_of(fitting, found.experts)] == found.validation >= accuracy[-1] - 0.05
    smaller = [a for at, a in enumerate(accuracy) if 0 < at.bit_count() < len(found.experts)]
    assert all(a < accuracy[-1] - 0.05 for a in smaller)
    judged = study.game(POOL, method)
    assert found.accuracy.estimate == judged.play(np.array([number_of(judged, found.experts)])).mean()
    assert found.difference.estimate == pytest.approx(found.accuracy.estimate - found.whole.estimate)


def test_a_large_pool_is_thinned_out():
    large = made_up(40, 18, n_validation=20)
    found = study.smallest_pool(large, "vote")
    assert found.n_tried == 18
    assert len(found.experts) < 18


def test_by_k_leaves_out_what_has_no_slots():
    found = study.by_k(POOL, ks=(1, 2.5, 9), methods=("top_k", "majority_vote", "sequential"), seeds=(0, 1))
    assert [(row.method, row.k) for row in found.itertuples()] == [
        ("top_k", 1), ("majority_vote", 1), ("sequential", 1), ("sequential", 2.5), ("sequential", 9),
    ]  # fmt: skip
    assert found[["change", "change_low", "change_high"]].isna().all(axis=None)
    drawn = found[found["method"] == "majority_vote"].iloc[0]
    done = [what_if(POOL, method="majority_vote", k=1, seed=seed).accuracy.estimate for seed in (0, 1)]
    assert drawn["accuracy"] == pytest.approx(np.mean(done))


def test_by_k_says_what_another_k_changes():
    """Paired by question, draws of a question together; nothing at the reference itself."""
    found = study.by_k(POOL, ks=(1, 3), methods=("top_k", "majority_vote"), seeds=(0, 1), reference=1)
    found = found.set_index(["method", "k"])
    assert np.isnan(found.loc[("top_k", 1), "change"])
    for method, seeds in (("top_k", (0,)), ("majority_vote", (0, 1))):
        one, three = (
            np.mean([what_if(POOL, method=method, k=k, seed=seed).correct for seed in seeds], axis=0)
            for k in (1, 3)
        )
        row = found.loc[(method, 3)]
        expected = paired_bootstrap(three, one)
        assert row[["change", "change_low", "change_high"]].tolist() == pytest.approx(list(expected[:3]))


def test_the_learning_curve_and_what_is_enough():
    curve = study.learning_curve(POOL, sizes=(5, 20), methods=("top_k",), n_draws=3)
    assert curve["n_validation"].tolist() == [5, 20, 40]
    draws = [what_if(POOL, method="top_k", n_validation=5, seed=i).accuracy.estimate for i in range(3)]
    first = curve.iloc[0]
    assert first["accuracy"] == pytest.approx(np.mean(draws))
    assert first["spread"] == pytest.approx(np.std(draws, ddof=1))
    assert first["difference"] == pytest.approx(first["accuracy"] - curve.iloc[2]["accuracy"])
    with pytest.raises(SkillmoeError, match="from 1 to 39 validation questions, given 40"):
        study.learning_curve(POOL, sizes=(40,))
    rows = [("m", 10, -0.03, -0.05), ("m", 50, -0.001, -0.02), ("m", 100, 0.0, -0.004), ("m", 200, 0, 0)]
    made = pd.DataFrame(rows, columns=["method", "n_validation", "difference", "difference_low"])
    made = made.assign(difference_high=0.01, n_questions=9)
    assert study.enough_validation(made)["n_validation"].tolist() == [100]
    assert study.enough_validation(made.assign(difference_low=[0, -0.1, 0, 0]))["n_validation"].tolist() == [
        100
    ]


def recorded_answers(n=60, n_experts=4):
    """A recording of a made-up pool: no validation split, no texts, tokens known."""
    pool = made_up(n, n_experts, n_validation=n // 2)
    rows = [
        recorded.Row(
            name, expert, "made up", subject=pool.questions["subject"].iloc[i], gold="A", kind="choice",
            choices=tuple("vwxyz"), answer=pool.said[i, j], correct=pool.correct[i, j], output_tokens=9,
        )
        for i, name in enumerate(pool.questions.index)
        for j, expert in enumerate(pool.experts)
    ]  # fmt: skip
    return recorded.build(rows)


def test_a_learning_curve_of_a_recording(tmp_path, monkeypatch):
    """The questions are split anew; the curve is that of the same answers as tables."""
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    made = recorded_answers()
    recorded.write(made, "made", {})
    pool = opened(recording="made", n_validation=40, experts="mid_strength")
    assert pool.questions["split"].value_counts().to_dict() == {"validation": 40, "test": 20}
    curve = study.learning_curve(pool, sizes=(10,), methods=("majority_vote",), n_draws=2)
    same = from_recorded(made.questions, made.answers, n_validation=40)
    pd.testing.assert_frame_equal(
        curve, study.learning_curve(same, sizes=(10,), methods=("majority_vote",), n_draws=2)
    )
    assert curve["n_validation"].tolist() == [10, 40]
    assert (curve["low"] <= curve["accuracy"]).all()
    assert (curve["accuracy"] <= curve["high"]).all()
    assert curve["low"].iloc[0] < curve["high"].iloc[0]
    assert opened(recording="made", n_validation=40, experts="e01,e03").experts == ("e01", "e03")
    with pytest.raises(SkillmoeError, match=r"need validation and test questions.*give n_validation"):
        opened(recording="made")
    with pytest.raises(SkillmoeError, match="unknown recording 'other': it must be one of made"):
        opened(recording="other")


def test_the_six_questions_repeat_their_tables():
    """Each answer is a row of the table that it names."""
    by_k = study.by_k(POOL, ks=(3, 5), methods=("majority_vote",), reference=3)
    missed = study.leave_one_out(POOL)
    small = study.smallest_pool(POOL, within=0.05)
    curve = study.learning_curve(POOL, sizes=(5,), methods=("majority_vote",), n_draws=2)
    enough = study.enough_validation(curve)
    spent = study.by_k(POOL, ks=(3,), methods=("top_k", "sequential"))
    found = six_questions.answers(by_k, missed, small, enough, spent)
    assert len(found) == 6
    value = found["value"].tolist()
    assert value[1] == by_k.set_index("k").loc[5, "change"]
    assert value[2] == missed["value"].max()
    assert value[3] == enough.loc[0, "difference"]
    assert value[4] == small.difference.estimate
    assert value[5] == spent.set_index("method").loc["sequential", "difference"]
    assert (found["low"] <= found["value"]).all()
    assert (found["value"] <= found["high"]).all()
    assert found["n_questions"].eq(40).all()
    assert "costs are not known" in found["answer"][0] or "none for certain" in found["answer"][0]
    few = six_questions.answers(by_k, missed, small, enough, spent, k=9)
    assert few.loc[1, "answer"] == "the pool is too small for it"
    assert few.loc[1, ["value", "low", "high"]].isna().all()


def test_the_model_that_is_worth_its_cost_is_certainly_missed():
    """b gives less than a, in a quarter of the time; c gives most for its time, but not for certain."""
    columns = ["expert", "value", "low", "high", "n_questions", "per_device_second"]
    rows = [
        ("a", 0.04, 0.02, 0.06, 9, 0.1),
        ("b", 0.02, 0.01, 0.03, 9, 0.2),
        ("c", 0.01, -0.01, 0.03, 9, 0.9),
    ]
    missed = pd.DataFrame(rows, columns=columns).assign(per_device_second_low=0.1, per_device_second_high=0.3)
    said, *values = six_questions._worth(missed)
    assert said == "b: +20.0 points a device second [+10.0, +30.0]; 2 of 3 are certainly missed"
    assert values == [0.02, 0.01, 0.03, 9]
    unsure = missed.assign(low=-0.1)
    assert six_questions._worth(unsure)[0] == "none for certain; a is missed most"


def test_the_notebook_runs_on_recordings(tmp_path, monkeypatch):
    """On a made-up recording, whose questions are split for it."""
    papermill = pytest.importorskip("papermill")
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    recorded.write(recorded_answers(), "made", {})
    papermill.execute_notebook(
        ROOT / "notebooks" / "studies" / "study_pool.ipynb",
        tmp_path / "out.ipynb",
        {"recording": "made", "n_validation": 30, "n_draws": 2},
        cwd=ROOT,
        progress_bar=False,
    )
    tables = tmp_path / "reports" / "pool" / "tables"
    value = pd.read_csv(tables / "shapley.csv")["value"].sum()
    left_out = pd.read_csv(tables / "leave_one_out.csv")
    whole = left_out["value"] + left_out["without"]
    assert whole.tolist() == pytest.approx([value] * 4)
    assert len(pd.read_csv(tables / "six_questions.csv")) == 6
    for name in ("routers_by_k", "redundancy", "one_more", "learning_curve", "budget"):
        assert len(pd.read_csv(tables / f"{name}.csv")), name
    assert (tmp_path / "reports" / "pool" / "figures" / "shapley.png").stat().st_size > 10_000


def test_twelve_recorded_models_in_time():
    """2,089 questions x 12 models: every sub-pool is played, and the values add up."""
    if not RECORDED.is_dir():
        pytest.skip("../shared is absent: no recorded answers")
    pool = from_mmlu_pro(RECORDED, experts=routers.MID_STRENGTH)
    found = study.shapley(study.game(pool, "vote"))
    assert found["value"].sum() == pytest.approx(0.6070, abs=5e-5)
    assert found["n_permutations"].eq(0).all()

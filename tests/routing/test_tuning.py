"""Choosing temperature and prior on validation."""

import numpy as np
import pandas as pd
import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.routing import SkillRouter, tuning


def world(n_questions, right_of):
    """Scores of experts a to d and one skill a question; `right_of` (expert, skill, i) says who is right."""
    rows, skills = [], []
    for i in range(n_questions):
        skill = "law" if i % 2 else "sums"
        skills.append((f"q{i:03d}", skill))
        for expert in "abcd":
            right = bool(right_of(expert, skill, i))
            rows.append((f"q{i:03d}", expert, "A" if right else f"wrong {expert}", right, "answered"))
    scores = pd.DataFrame(rows, columns=["question_id", "expert", "answer", "correct", "status"])
    return pd.DataFrame(skills, columns=["question_id", "skill"]), scores


def specialist(expert, skill, i):
    return {"a": skill == "law", "b": skill == "sums"}.get(expert, False)


def test_one_specialist_a_skill_wants_a_low_temperature():
    skills, scores = world(60, specialist)
    tuned = tuning.choose_settings(SkillRouter(3), skills, scores)
    best = tuned.trials[tuned.trials["chosen"]].iloc[0]
    assert best["accuracy"] > 0.99
    hot = tuned.trials[tuned.trials["temperature"] == 4.0]
    assert (hot["accuracy"] < best["accuracy"]).all()
    assert (hot["n_distinct"] > best["n_distinct"]).all()
    assert tuned.settings["temperature"] < 4.0


def test_where_nothing_can_be_told_apart_slots_are_spread():
    skills, scores = world(60, lambda expert, skill, i: i % 3 == 0)
    tuned = tuning.choose_settings(SkillRouter(3), skills, scores)
    assert tuned.settings["temperature"] == max(tuning.GRID["temperature"])
    assert np.ptp(tuned.trials["accuracy"]) < 1e-9


def test_several_of_middling_strength_want_a_mixture():
    """Each of three is right on two of three questions, never all wrong: a vote of three is always right."""
    skills, scores = world(90, lambda expert, skill, i: expert != "d" and i % 3 != "abc".index(expert))
    tuned = tuning.choose_settings(SkillRouter(3, replace=False), skills, scores)
    chosen = tuned.trials[tuned.trials["chosen"]].iloc[0]
    assert chosen["accuracy"] > 0.9
    assert chosen["n_distinct"] == 3


def test_it_is_the_same_every_time_and_for_any_order_of_rows():
    skills, scores = world(40, specialist)
    first = tuning.choose_settings(SkillRouter(3), skills, scores)
    again = tuning.choose_settings(SkillRouter(3), skills.sample(frac=1, random_state=1), scores[::-1])
    pd.testing.assert_frame_equal(first.trials, again.trials)


def test_a_held_out_question_teaches_nothing_about_itself():
    """An expert is right on one question of a skill of its own: nothing else can have told of it."""
    skills, scores = world(30, lambda expert, skill, i: expert == "d" if i == 4 else expert in "abc")
    skills.loc[4, "skill"] = "alone"
    votes, _ = tuning._held_out(
        SkillRouter(3), [{"temperature": 0.03, "prior": 10.0}], skills, scores, n_folds=5, seed=0
    )
    names = [name for i in range(5) for name in _fold_order(scores)[i::5]]
    assert votes[0][names.index("q004")] < 0.05


def _fold_order(scores):
    from skillmoe_lib.seeding import stable_seed

    return sorted(scores["question_id"].unique(), key=lambda name: stable_seed("fold", 0, name))


def test_a_vote_by_hand():
    codes = np.array([[0, 0, 1, -1], [-1, -1, -1, -1]])
    right = np.array([[0.0, 0, 1, 0], [0, 0, 0, 0]])
    drawn = np.array([[[0, 1, 2], [2, 0, 3], [3, 3, 2]], [[0, 1, 2]] * 3])
    # Two against one: wrong. One each: the first given, right. Only one answers: right. Nobody: wrong.
    assert tuning._vote(drawn, codes, right).tolist() == pytest.approx([2 / 3, 0])
    assert tuning._n_distinct(drawn).tolist() == pytest.approx([(3 + 3 + 2) / 3, 3])


def test_draws_follow_the_probabilities():
    chances = np.array([[0.7, 0.2, 0.1]])
    uniform = np.random.default_rng(0).random((1, 20_000, 1))
    drawn = tuning._drawn(chances, uniform, replace=True)
    assert np.bincount(drawn.ravel()) / drawn.size == pytest.approx([0.7, 0.2, 0.1], abs=0.01)
    distinct = tuning._drawn(np.array([[0.7, 0.3, 0.0]]), np.zeros((1, 500, 2)), replace=False)
    assert (np.sort(distinct, axis=2) == [0, 1]).all()


def test_one_question_is_too_few():
    skills, scores = world(1, specialist)
    with pytest.raises(SkillmoeError, match="at least 2 questions, given 1"):
        tuning.choose_settings(SkillRouter(3), skills, scores)


def few_right_of_one_family(expert, skill, i):
    """a is right on law and b on sums; c alone is right on every tenth question, which only the id tells."""
    if i % 10 == 0:
        return expert == "c"
    return specialist(expert, skill, i)


def test_an_expert_that_is_worth_its_few_slots_is_kept():
    """c has a tenth of the questions: dropping it at 20% costs what no standard error covers."""
    skills, scores = world(120, few_right_of_one_family)
    skills.loc[skills["question_id"].str.endswith("0"), "skill"] = "rare"
    router = SkillRouter(3, temperature=0.03, prior=3.0)
    tuned = tuning.choose_trim(router, skills, scores, trims=(0.2, 0.05, 0.0))
    rows = tuned.trials.set_index("trim")
    assert tuned.settings == {"trim": 0.05}
    assert rows.loc[0.05, "n_experts"] == 3
    assert rows.loc[0.2, "n_experts"] == 2
    assert rows.loc[0.2, "below_best"] == pytest.approx(0.1, abs=0.01)
    assert rows["chosen"].sum() == 1
    assert list(tuned.trials.columns) == list(tuning.TRIM_COLUMNS)


def test_of_shares_that_validation_cannot_tell_apart_the_largest_wins():
    skills, scores = world(60, lambda expert, skill, i: i % 3 == 0)
    tuned = tuning.choose_trim(SkillRouter(3, temperature=4.0), skills, scores)
    assert tuned.settings == {"trim": max(tuning.TRIMS)}


def test_a_share_that_nobody_reaches_drops_nobody():
    skills, scores = world(60, specialist)
    tuned = tuning.choose_trim(SkillRouter(3, temperature=4.0), skills, scores, trims=(0.9, 0.0))
    assert tuned.trials["n_experts"].tolist() == [4, 4]


def test_with_one_slot_there_is_nothing_to_spread():
    skills, scores = world(60, lambda expert, skill, i: i % 3 == 0)
    one, three = (tuning.choose_settings(SkillRouter(k), skills, scores).settings for k in (1, 3))
    assert three["temperature"] == max(tuning.GRID["temperature"])
    assert one["temperature"] == min(tuning.GRID["temperature"])

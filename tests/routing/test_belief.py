"""Sequential recruiting: beliefs computed by hand, and the reference figures on recorded answers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.profiling.profiles import profile
from skillmoe_lib.routing import belief
from skillmoe_lib.routing.belief import Belief, BestBySkill, ask_in_turn

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "data" / "recorded_mmlu_pro"


def scores_of(rows):
    frame = pd.DataFrame(rows, columns=["question_id", "expert", "answer", "correct"])
    return frame.assign(status=np.where(frame["answer"].isna(), "unparsed", "answered"))


def skills_of(named):
    return pd.DataFrame(
        [(q, s) for q, found in named.items() for s in found], columns=["question_id", "skill"]
    )


# -- belief -------------------------------------------------------------------------------------------


def test_one_answer_is_believed_as_much_as_its_expert_is_accurate():
    """With m = 5 and a = .6 the likelihood ratio is .6 / .1 = 6: 6 of 6 + 4 others."""
    told = Belief(5)
    told.update("B", 0.6)
    assert told.answer == "B"
    assert told.probability == pytest.approx(0.6)


def test_two_that_agree_are_more_than_either():
    """Ratios 6 and 2 (a = 1/3 of m = 5 is .3333 / .16667): 12 of 12 + 4."""
    told = Belief(5)
    told.update("B", 0.6)
    told.update("B", 1 / 3)
    assert told.probability == pytest.approx(12 / 16)


def test_two_that_differ_share_what_is_left():
    """6 for B, 2 for C, 1 for each of three others: 6 of 11."""
    told = Belief(5)
    told.update("C", 1 / 3)
    told.update("B", 0.6)
    assert told.answer == "B"
    assert told.probability == pytest.approx(6 / 11)


def test_no_answer_says_nothing():
    told = Belief(4)
    told.update(None, 0.9)
    assert told.answer is None
    assert told.probability == 0
    told.update("A", 0.5)
    told.update(None, 0.9)
    assert told.probability == pytest.approx(0.5)


@pytest.mark.parametrize(("accuracy", "kept"), [(0.0, 0.05), (1.0, 0.95), (0.5, 0.5)])
def test_accuracies_are_kept_within_bounds(accuracy, kept):
    told = Belief(2)
    told.update("A", accuracy)
    assert told.probability == pytest.approx(kept)


def test_an_expert_worse_than_chance_speaks_against_its_answer():
    told = Belief(4)
    told.update("A", 0.5)
    told.update("B", 0.1)
    assert told.answer == "A"
    # Ratios 3 and .1 / .3; two answers that nobody gave.
    assert told.probability == pytest.approx(3 / (3 + 1 / 3 + 2))


def test_of_equals_the_first_is_the_answer():
    told = Belief(4)
    for answer in ("C", "A"):
        told.update(answer, 0.5)
    assert told.answer == "C"


def test_one_possible_answer_is_refused():
    with pytest.raises(SkillmoeError, match="n_answers must be above 1, given 1"):
        Belief(1)


@given(
    st.lists(st.tuples(st.sampled_from("ABCD"), st.floats(0, 1)), max_size=12),
    st.floats(0, 1),
    st.permutations(range(12)),
)
def test_the_order_of_answers_changes_no_belief(told, threshold, order):
    one, other = Belief(6), Belief(6)
    for answer, accuracy in told:
        one.update(answer, accuracy)
    for i in (i for i in order if i < len(told)):
        other.update(*told[i])
    assert one.probability == pytest.approx(other.probability)
    assert 0 <= one.probability <= 1


def test_asking_stops_as_soon_as_it_is_sure_enough():
    answers, accuracies = ["B", None, "B", "C"], [0.6, 0.5, 0.6, 0.6]
    assert ask_in_turn(answers, accuracies, n_answers=5, threshold=0.6) == ("B", 1)
    assert ask_in_turn(answers, accuracies, n_answers=5, threshold=0.7) == ("B", 3)  # 36 of 40
    assert ask_in_turn(answers, accuracies, n_answers=5, threshold=0.95) == ("B", 4)
    assert ask_in_turn([None, None], [0.6, 0.6], n_answers=5, threshold=0.1) == (None, 2)
    assert ask_in_turn([], [], n_answers=5, threshold=0.1) == (None, 0)


@given(
    st.lists(st.tuples(st.sampled_from(["A", "B", "C", None]), st.floats(0.1, 0.9)), min_size=1, max_size=9)
)
def test_a_higher_threshold_never_asks_fewer(told):
    answers, accuracies = zip(*told, strict=True)
    calls = [ask_in_turn(answers, accuracies, n_answers=4, threshold=t / 10).calls for t in range(1, 11)]
    assert calls == sorted(calls)


# -- whom to ask --------------------------------------------------------------------------------------


def test_accuracy_on_skills_by_hand():
    """ann: law 2 of 2, sums 0 of 1, so a = (2 + 1) / (3 + 2) = .6; kappa = 2 pulls each toward that."""
    scores = scores_of([
        ("v1", "ann", "A", True), ("v2", "ann", "A", True), ("v3", "ann", "B", False),
        ("v1", "bob", "B", False), ("v2", "bob", None, False), ("v3", "bob", "A", True),
    ])  # fmt: skip
    skills = skills_of(
        {"v1": ["law"], "v2": ["law"], "v3": ["sums"], "t1": ["law"], "t2": ["sums", "law"], "t3": []}
    )
    router = BestBySkill(kappa=2).fit(skills[skills["question_id"].str.startswith("v")], scores)
    found = router.estimates(skills, question_ids=["t1", "t2", "t3"])
    assert found["ann"].tolist() == pytest.approx([(2 + 1.2) / 4, (2 + 1.2) / 5, 0.6])
    assert found["bob"].tolist() == pytest.approx([0.8 / 4, (1 + 0.8) / 5, 0.4])
    routes = router.route(skills, question_ids=["t1"], method="sequential")
    assert routes["expert"].tolist() == ["ann", "bob"]
    assert routes["suitability"].tolist() == pytest.approx([0.8, 0.2])
    plain = BestBySkill(use_skills=False).fit(skills, scores)
    assert plain.estimates(skills, question_ids=["t1", "t3"])["bob"].tolist() == pytest.approx([0.4, 0.4])


def test_answers_are_counted_as_in_a_profile():
    """With a skill named twice, repeated answers, some not run, and skills of questions without answers."""
    random = np.random.default_rng(2)
    named = {f"q{i}": random.choice(list("xyz"), 2).tolist() for i in range(12)}
    rows = [(f"q{i}", e, "A", bool(random.random() < 0.5)) for i in range(10) for e in "abb"]
    scores = scores_of(rows)
    scores.loc[3, "status"] = "not_run"
    right, n = belief.by_skill(skills_of(named), scores, ["a", "b", "c"])
    counted = profile(skills_of(named), scores).set_index(["expert", "skill"])
    assert {pair: (2 * right - n).loc[pair] for pair in counted.index} == counted["score"].to_dict()
    assert {pair: n.loc[pair] for pair in counted.index} == counted["n"].to_dict()
    assert n.loc["c"].eq(0).all()
    with pytest.raises(SkillmoeError, match="no profile: none of 10 scored questions is among the 1"):
        belief.by_skill(skills_of({"other": ["x"]}), scores, ["a", "b"])


def test_wrong_settings_are_told():
    scores = scores_of([("v1", "ann", "A", True), ("v1", "bob", "B", False)])
    with pytest.raises(SkillmoeError, match="k must be from 1 to 2"):
        BestBySkill(3).fit(skills_of({"v1": ["law"]}), scores)
    with pytest.raises(SkillmoeError, match="kappa must be above 0, given 0"):
        BestBySkill(kappa=0).fit(skills_of({"v1": ["law"]}), scores)


def test_open_answers_from_how_often_wrong_ones_agree():
    """v1: three wrong, two of them alike: 1 of 3 pairs. v2: two wrong, not alike. So 1 of 4 pairs."""
    scores = scores_of([
        ("v1", "a", "7", False), ("v1", "b", "7", False), ("v1", "c", "8", False), ("v1", "d", "9", True),
        ("v2", "a", "1", False), ("v2", "b", "2", False), ("v2", "c", None, False), ("v2", "d", "3", True),
    ])  # fmt: skip
    assert belief.open_answers(scores) == pytest.approx(1 + 4)
    assert belief.open_answers(scores[scores["question_id"] == "v2"]) == 1001


# -- how sure is sure enough --------------------------------------------------------------------------


def test_the_threshold_is_the_surest_within_the_budget():
    turns = {"v1": (["A", "A"], [0.6, 0.6]), "v2": (["B", "C"], [0.6, 0.5])}
    right = {"v1": {"A"}, "v2": {"C"}}
    tried = belief.try_thresholds(turns, right, {"v1": 5, "v2": 5}, thresholds=(0.5, 0.6, 0.7))
    assert tried["calls"].tolist() == [1, 1, 2]
    assert tried["accuracy"].tolist() == [0.5, 0.5, 0.5]
    assert belief.choose_threshold(tried, budget=1.5).threshold == 0.6
    assert belief.choose_threshold(tried, budget=2).threshold == 0.7
    kept = belief.choose_threshold(tried, budget=0.5)
    assert (kept.threshold, kept.calls) == (0.5, 1)  # the budget cannot be kept: the lowest, and its calls


def test_held_out_turns_know_nothing_of_their_own_question():
    """Whoever is right on exactly one question owes nothing to that question when it is held out."""
    names = [f"v{i}" for i in range(10)]
    scores = scores_of([(q, e, "A", (e == "ann") == (q == "v3")) for q in names for e in ("ann", "bob")])
    turns = belief.held_out_turns(BestBySkill(), skills_of({q: [q] for q in names}), scores)
    assert set(turns) == set(names)
    _, accuracies = turns["v3"]
    assert accuracies[0] > accuracies[1]  # bob first: ann's one right answer is not known
    assert accuracies[1] == pytest.approx(1 / 10, abs=0.02)


# -- recorded answers ---------------------------------------------------------------------------------


def test_reference_figures_on_recorded_answers():
    """docs/method.md 5: accuracy and calls at given thresholds, skill = category, twelve experts."""
    if not RECORDED.is_dir():
        pytest.skip("../shared is absent: no recorded answers")
    from skillmoe_lib.studies import routers

    recorded = routers.load(RECORDED, experts=routers.MID_STRENGTH)
    questions = recorded.questions
    skills = questions["category"].rename("skill").rename_axis("question_id").reset_index()
    test = questions.index[questions["split"] == "test"]
    known = recorded.scores[~recorded.scores["question_id"].isin(test)]
    n_answers = questions["nopt"].to_dict()
    right = {name: {gold} for name, gold in questions["gold"].items()}
    found = {}
    for use_skills in (False, True):
        router = BestBySkill(use_skills=use_skills).fit(skills, known)
        turns = belief.recorded_turns(router.route(skills, question_ids=test), recorded.scores)
        tried = belief.try_thresholds(turns, right, n_answers, thresholds=(0.6, 0.7, 0.9))
        found[use_skills] = list(
            zip((100 * tried["accuracy"]).round(2), tried["calls"].round(2), strict=True)
        )
    assert found[False][:2] == [(60.56, 2.86), (60.56, 2.96)]
    assert found[True] == [(59.65, 2.42), (60.70, 3.13), (62.04, 4.52)]

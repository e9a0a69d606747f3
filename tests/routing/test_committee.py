import numpy as np
import pandas as pd
import pytest
import scenes

from skillmoe_lib.aggregation import vote
from skillmoe_lib.answers import Answer
from skillmoe_lib.profiling.profiles import outcomes
from skillmoe_lib.routing.committee import CommitteeRouter, committee_outcomes
from skillmoe_lib.studies.routers import recorded_vote


def frame(rows):
    """Scores from question -> {expert: answer}; the answer "g" is right, None is none found."""
    flat = [
        (question_id, expert, answer, answer == "g", "unparsed" if answer is None else "answered")
        for question_id, answers in rows.items()
        for expert, answer in answers.items()
    ]
    return pd.DataFrame(flat, columns=["question_id", "expert", "answer", "correct", "status"])


def test_outcomes_are_plurality_votes():
    scores = frame(
        {
            "all wrong alike": {"A": "g", "B": "x", "C": "x"},
            "wrong apart": {"A": "g", "B": "x", "C": "y"},
            "tie to the first": {"A": "x", "B": "g", "C": "y"},
            "none found": {"A": None, "B": "g", "C": None},
            "nobody": {"A": None, "B": None, "C": None},
        }
    )
    grid = outcomes(scores)
    votes = pd.DataFrame(
        committee_outcomes(scores, grid, np.array([[0, 1, 2], [1, 0, 2], [0, 0, 0]])), index=grid.index
    )
    assert votes.loc["all wrong alike"].tolist() == [0, 0, 1]
    assert votes.loc["wrong apart"].tolist() == [1, 0, 1]
    assert votes.loc["tie to the first"].tolist() == [0, 1, 0]
    assert votes.loc["none found"].tolist() == [1, 1, 0]
    assert votes.loc["nobody"].tolist() == [0, 0, 0]
    blind = committee_outcomes(scores.drop(columns="answer"), grid, np.array([[0, 1, 2]]))[:, 0]
    assert blind[list(grid.index).index("wrong apart")] == 0  # without answers wrong ones agree


@pytest.mark.parametrize(
    ("said", "gold", "members"),
    [
        ("ABC-", "A", [0, 1]),
        ("ABC-", "A", [1, 0]),
        ("ABC-", "B", [1, 0, 3]),
        ("ABBA", "B", [3, 1, 2, 0]),
        ("ABBA", "A", [3, 1, 2, 0]),
        ("ABCA", "B", [3, 1, 1, 0]),
        ("ABC-", "C", [3, 2, 0, 1]),
        ("A---", "A", [1, 2, 0]),
        ("----", "A", [0, 1]),
    ],
)
def test_every_count_of_votes_breaks_ties_alike(said, gold, members):
    """Live ballots, recorded ones, and committees on validation: the answer that was given first wins."""
    said = [None if letter == "-" else letter for letter in said]
    question = scenes.question("q", gold)
    ballots = [Answer(said[i], "answered" if said[i] else "unparsed") for i in members]
    live = vote(question, ballots).value
    names = "abcd"
    rows = [("q", names[i], said[i], said[i] == gold, "answered") for i in range(4)]
    scores = pd.DataFrame(rows, columns=["question_id", "expert", "answer", "correct", "status"])
    drawn = [("m", 0, "q", slot, names[i], None, 1 / (9 - slot)) for slot, i in enumerate(members)]
    columns = ["method", "seed", "question_id", "slot", "expert", "suitability", "probability"]
    recorded = recorded_vote(pd.DataFrame(drawn, columns=columns).sample(frac=1, random_state=0), scores)
    assert recorded["correct"].item() == (live == gold)
    assert (recorded["answer"].item() == live) if live else recorded["answer"].isna().item()
    won = committee_outcomes(scores, outcomes(scores), np.array([members]))
    assert won.item() == (live == gold)


def test_right_answers_agree_however_written():
    scores = frame({"q": {"A": "1/2", "B": "0.5", "C": "x", "D": "x"}})
    scores["correct"] = [True, True, False, False]
    assert committee_outcomes(scores, outcomes(scores), np.array([[0, 2, 1]]))[0, 0] == 1


def test_a_missing_member_is_missing_not_wrong():
    scores = frame({"q1": {"A": "g", "B": "g"}, "q2": {"A": "g", "B": "g"}})
    scores.loc[3, "status"] = "not_run"
    assert committee_outcomes(scores, outcomes(scores), np.array([[0, 1]]))[:, 0].tolist() == [1, 1]


def pool(n=60, *, star=0.8):
    """Star is right often; Twin1 and Twin2 err together; Odd is as good as a twin but errs elsewhere."""
    rows = {}
    for i in range(n):
        twins = "g" if i % 5 < 3 else "x"  # 60%, wrong on 3 and 4
        odd = "g" if i % 5 in (1, 3, 4) else "y"  # 60%, wrong on 0 and 2
        best = "g" if (i % 10) < star * 10 else "x"
        rows[f"q{i:02}"] = {"Star": best, "Twin1": twins, "Twin2": twins, "Odd": odd}
    X = pd.DataFrame(0.0, index=pd.Index(rows, name="question_id"), columns=["d0", "d1"])
    X["d0"] = 1.0
    return X, frame(rows)


def test_one_far_above_the_rest_is_not_outvoted():
    X, scores = pool(star=1.0)
    routes = CommitteeRouter(3).fit(X, scores).route(X[:1])
    assert "Star" in set(routes["expert"])
    # Star with both twins loses where the twins agree on x; a committee that keeps Star right is taken.
    grid = outcomes(scores)
    at = [list(grid.columns).index(name) for name in routes["expert"]]
    assert committee_outcomes(scores, grid, np.array([at])).mean() == 1


def test_experts_that_err_apart_are_preferred():
    rows = {}
    for i in range(60):
        third = i % 3
        rows[f"q{i:02}"] = {
            "A1": "x" if third == 0 else "g",
            "A2": "x" if third == 0 else "g",
            "A3": "x" if third == 0 else "g",
            "B": "y" if third == 1 else "g",
            "C": "z" if third == 2 else "g",
        }
    X = pd.DataFrame({"d0": 1.0}, index=pd.Index(rows, name="question_id"))
    routes = CommitteeRouter(3).fit(X, frame(rows)).route(X[:1])
    chosen = routes["expert"].tolist()
    assert {"B", "C"} <= set(chosen)  # one of the three alike, and the two that differ: always a majority
    assert len(set(chosen)) == 3


def noise(seed, n=100):
    """Four experts of equal accuracy whose outcomes have nothing to do with the embedding."""
    random = np.random.default_rng(seed)
    ids = [f"q{i}" for i in range(n)]
    X = pd.DataFrame(random.normal(size=(n, 8)), index=pd.Index(ids, name="question_id"))
    rows = {q: {e: "g" if random.random() < 0.6 else "x" for e in "ABCD"} for q in ids}
    return X, frame(rows)


def test_guard_falls_back_to_the_top_k_on_noise():
    guarded = [CommitteeRouter(1).fit(*noise(seed)) for seed in range(10)]
    assert sum(router.guarded_ for router in guarded) >= 7
    router = next(router for router in guarded if router.guarded_)
    X, _ = noise(0)
    assert router.route(X)["expert"].unique().tolist() == [router.accuracy_.idxmax()]
    assert not CommitteeRouter(1, guard=None).fit(*noise(0)).guarded_


def test_guard_lets_a_real_gain_through():
    X, scores = noise(1)
    side = X[0] > 0
    scores["correct"] = [
        side[q] == (e in "AB") for q, e in zip(scores["question_id"], scores["expert"], strict=True)
    ]
    scores["answer"] = np.where(scores["correct"], "g", "x")
    router = CommitteeRouter(1).fit(X, scores)
    assert not router.guarded_
    routes = router.route(X).set_index("question_id")["expert"]
    assert (routes.isin(["A", "B"]) == side).mean() > 0.9


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_k_slots_a_question(k):
    X, scores = pool()
    routes = CommitteeRouter(k, n_candidates=1).fit(X, scores).route(X)
    assert routes.groupby("question_id")["slot"].apply(list).tolist() == [list(range(k))] * len(X)

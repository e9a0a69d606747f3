"""What if the pool, k, the router or the validation split were another? Answered from recorded outcomes.

The same routers as in the pipeline are fitted on validation, and their recruits vote with their recorded
answers to the test questions; nothing is generated. An expert in two slots repeats its one answer, which is
all that recorded answers allow. Methods have the names of the line-up: "majority_vote" is the vote of
Symbolic-MoE's recruits (its aggregator needs texts), "top_k" the fixed best experts, "committee" our router,
"sequential" asks one expert after the other until the answer is sure (docs/method.md 5).
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import clone

from skillmoe_lib import seeding
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.evaluation.intervals import Interval, paired_bootstrap, wilson
from skillmoe_lib.pipeline import preset_router
from skillmoe_lib.routing import belief, tuning
from skillmoe_lib.routing.committee import CommitteeRouter
from skillmoe_lib.routing.controls import GlobalTopK, RandomRouter
from skillmoe_lib.studies.outcomes import COSTS, Bools, Floats, Ints, Outcomes

METHODS = ("majority_vote", "top_k", "random_k", "committee", "sequential", "sequential_without_skills")
SEQUENTIAL = ("sequential", "sequential_without_skills")


@dataclass(frozen=True, eq=False)
class WhatIf:
    """A method's answers to the test questions; arrays are in the order of `question_ids`.

    Parameters
    ----------
    accuracy
        With Wilson's interval.
    calls
        Mean number of experts asked (slots) per question.
    cost
        Mean of each cost in `COSTS` per question; an expert asked twice is charged twice. NaN if unknown.
    chosen
        Positions in `outcomes.experts` of the experts asked, in order, shape (n, slots); -1 where sequential
        recruiting had stopped.
    relevance
        What they were chosen by: the probability of a draw, or the expected accuracy. Shape (n, slots).
    answer, correct
        The number of the answer (`Outcomes.answer`; -1: none) and whether it is right.
    votes
        How many of those asked gave that answer.
    threshold
        Of sequential recruiting; NaN for the others.
    """

    method: str
    outcomes: Outcomes
    question_ids: pd.Index
    accuracy: Interval
    calls: float
    cost: dict[str, float]
    chosen: Ints
    relevance: Floats
    answer: Ints
    correct: Bools
    votes: Ints
    threshold: float = float("nan")

    def explain(self, question_id: str) -> pd.DataFrame:
        """Who was asked and said what: slot, expert, relevance, answer, status, correct, won."""
        if question_id not in self.question_ids:
            raise SkillmoeError(f"unknown test question {question_id!r}: it is not among {len(self.answer)}")
        at = self.question_ids.get_loc(question_id)
        row = self.outcomes.questions.index.get_loc(question_id)
        asked = [int(expert) for expert in self.chosen[at] if expert >= 0]
        pool = self.outcomes
        return pd.DataFrame(
            {
                "slot": range(len(asked)),
                "expert": [pool.experts[i] for i in asked],
                "relevance": self.relevance[at][: len(asked)],
                "answer": pool.said[row, asked],
                "status": pool.status[row, asked],
                "correct": pool.correct[row, asked],
                "won": (pool.answer[row, asked] == self.answer[at]) & (self.answer[at] >= 0),
            }
        )


def what_if(
    outcomes: Outcomes,
    *,
    experts: Collection[str] | None = None,
    method: str = "majority_vote",
    k: int = 3,
    preset: str = "skillmoe",
    temperature: float | None = None,
    prior: float | None = None,
    threshold: float | None = None,
    n_validation: int | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> WhatIf:
    """A method's answers, accuracy and cost on the test questions, learnt on validation only.

    Parameters
    ----------
    experts
        The pool; None: all of `outcomes`.
    method
        One of `METHODS`.
    k
        Slots. For sequential recruiting the average calls per question that its threshold is chosen for.
    preset, temperature, prior
        Of the skill router ("majority_vote"). None: the preset's, or the router's default where the preset
        would choose them on validation, which takes seconds: `tuned_settings` does it.
    threshold
        Of sequential recruiting, 0 to 1; None: chosen on held-out validation questions.
    n_validation
        How many validation questions to learn from, drawn by `seed`; None: all.
    seed
        Of the draw.
    level
        Of the interval.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    pool = outcomes if experts is None else outcomes.subset(experts)
    known = pool if n_validation is None else pool.limited(n_validation, seed=seed)
    if method in SEQUENTIAL:
        route = _asked_in_turn(known, method, budget=k, threshold=threshold)
    else:
        route = _recruited(known, method, _router(method, k, preset, temperature, prior), seed=seed)
    rows = known.rows("test")
    given = np.where(route.chosen >= 0, known.answer[rows[:, None], np.maximum(route.chosen, 0)], -1)
    answer = plurality(given) if route.answer is None else route.answer
    agreeing = (given == answer[:, None]) & (answer >= 0)[:, None]
    hit = known.correct[rows[:, None], np.maximum(route.chosen, 0)]
    correct = (agreeing & hit).any(axis=1)
    costs = {
        name: float(
            np.where(route.chosen >= 0, getattr(known, name)[rows[:, None], np.maximum(route.chosen, 0)], 0.0)
            .sum(axis=1)
            .mean()
        )
        for name in COSTS
    }
    return WhatIf(
        method,
        known,
        known.ids("test"),
        wilson(int(correct.sum()), len(correct), level),
        float((route.chosen >= 0).sum(axis=1).mean()),
        costs,
        route.chosen,
        route.relevance,
        answer,
        correct,
        agreeing.sum(axis=1),
        route.threshold,
    )


def difference(a: WhatIf, b: WhatIf, *, level: float = 0.95, seed: int = 0) -> Interval:
    """Accuracy of `a` minus that of `b`, paired by question."""
    if not a.question_ids.equals(b.question_ids):
        raise SkillmoeError("two what-ifs can be compared on the same test questions only")
    return paired_bootstrap(a.correct, b.correct, level=level, seed=seed)


def tuned_settings(
    outcomes: Outcomes, *, k: int = 3, preset: str = "skillmoe", seed: int = 0
) -> dict[str, float]:
    """Temperature and prior that the preset chooses on validation (`routing.tuning`); seconds of work."""
    router = preset_router(preset, k=k)
    skills = _skills(outcomes, "validation")
    return tuning.choose_settings(router, skills, outcomes.validation_scores, seed=seed).settings


def plurality(given: Ints) -> Ints:
    """The answer given most often in each row of numbers (-1: none), shape (n,).

    A tie goes to the answer given first, the rule of `aggregation.vote`.
    """
    order = np.arange(given.shape[1])
    same = (given[:, :, None] == given[:, None, :]).sum(axis=2) * (given.shape[1] + 1) - order
    same = np.where(given >= 0, same, -given.shape[1] - 1)
    return np.asarray(np.take_along_axis(given, same.argmax(axis=1)[:, None], axis=1)[:, 0])


class _Route(NamedTuple):
    chosen: Ints
    relevance: Floats
    answer: Ints | None = None
    threshold: float = float("nan")


def _router(method: str, k: int, preset: str, temperature: float | None, prior: float | None) -> Any:
    if method == "top_k":
        return GlobalTopK(k)
    if method == "random_k":
        return RandomRouter(k)
    if method == "committee":
        return CommitteeRouter(k)
    router = preset_router(preset, k=k, temperature=-1.0 if temperature is None else temperature)
    return router if prior is None else router.set_params(prior=prior)


def _skills(pool: Outcomes, split: str) -> pd.DataFrame:
    return pool.skills[pool.skills["question_id"].isin(pool.ids(split))]


def _recruited(pool: Outcomes, method: str, router: Any, *, seed: int) -> _Route:
    """The slots of every test question, shape (n, k)."""
    ids = pool.ids("test")
    if method == "committee":
        vectors = pool.skill_matrix if pool.embeddings is None else pool.embeddings
        fit, asked = vectors.loc[pool.ids("validation")], vectors.loc[ids]
    else:
        fit, asked = _skills(pool, "validation"), _skills(pool, "test")
    fitted = router.fit(fit, pool.validation_scores)
    routes = fitted.route(asked, seed=seed, question_ids=ids, method=method)
    shown = "suitability" if routes["probability"].isna().all() else "probability"
    at = pd.Index(pool.experts).get_indexer(routes["expert"])
    relevance = routes[shown].to_numpy(float, na_value=np.nan)
    return _Route(at.reshape(len(ids), -1), relevance.reshape(len(ids), -1))


def _asked_in_turn(pool: Outcomes, method: str, *, budget: float, threshold: float | None) -> _Route:
    """Sequential recruiting, its threshold chosen on held-out validation questions if none is given."""
    open_answers = belief.open_answers(pool.validation_scores)
    router = belief.BestBySkill(use_skills=method == "sequential")
    if threshold is None:
        threshold = _chosen_threshold(pool, router, open_answers, budget=budget)
    elif not 0 <= threshold <= 1:
        raise SkillmoeError(f"threshold must be a probability from 0 to 1, given {threshold}")
    order, accuracy = _order(pool, clone(router), pool.validation_scores, pool.ids("test"))
    rows = pool.rows("test")
    path = believed(pool.answer[rows[:, None], order], accuracy, _n_answers(pool, rows, open_answers))
    stop = path.stop(threshold)
    asked = np.arange(order.shape[1]) <= stop[:, None]
    answer = path.answer[np.arange(len(rows)), stop]
    return _Route(np.where(asked, order, -1), np.where(asked, accuracy, np.nan), answer, threshold)


def _order(pool: Outcomes, router: Any, scores: pd.DataFrame, ids: pd.Index) -> tuple[Ints, Floats]:
    """Experts by their expected accuracy on each question, best first, and these accuracies."""
    fitted = router.fit(_skills(pool, "validation"), scores)
    named = pool.skills[pool.skills["question_id"].isin(ids)]
    expected = fitted.estimates(named, question_ids=ids)[list(pool.experts)].to_numpy()
    by_name = np.argsort(np.argsort(pool.experts))  # a tie goes to the alphabetically first
    order = np.lexsort((np.broadcast_to(by_name, expected.shape), -expected), axis=1)
    return order, np.take_along_axis(expected, order, axis=1)


def _n_answers(pool: Outcomes, rows: Ints, open_answers: float) -> Floats:
    n = pool.questions["n_choices"].to_numpy(float)[rows]
    return np.asarray(np.where(n > 0, n, open_answers))


def _chosen_threshold(
    pool: Outcomes, router: Any, open_answers: float, *, budget: float, seed: int = 0
) -> float:
    """The threshold that `belief.held_out_turns` and `belief.choose_threshold` choose, from whole paths."""
    rows, scores = pool.rows("validation"), pool.validation_scores
    if len(rows) < 2:
        raise SkillmoeError(f"choosing a threshold takes at least 2 validation questions, given {len(rows)}")
    fold = np.array([seeding.stable_seed("fold", seed, str(name)) % 5 for name in pool.ids("validation")])
    calls, hits = [], []
    for part in np.unique(fold):
        held = rows[fold == part]
        ids = pool.questions.index[held]
        rest = scores[~scores["question_id"].isin(ids)]
        order, accuracy = _order(pool, clone(router), rest, ids)
        given = pool.answer[held[:, None], order]
        path = believed(given, accuracy, _n_answers(pool, held, open_answers))
        right = np.where(pool.correct[held[:, None], order], given, -2)
        for threshold in belief.THRESHOLDS:
            stop = path.stop(threshold)
            calls.append(stop + 1)
            answer = path.answer[np.arange(len(held)), stop]
            hits.append((right == answer[:, None]).any(axis=1))
    folds = len(np.unique(fold))
    n_t = len(belief.THRESHOLDS)
    rows_of = [range(t, folds * n_t, n_t) for t in range(n_t)]
    tried = pd.DataFrame(
        [
            belief.Threshold(
                t,
                float(np.concatenate([calls[i] for i in at]).mean()),
                float(np.concatenate([hits[i] for i in at]).mean()),
                len(rows),
            )
            for t, at in zip(belief.THRESHOLDS, rows_of, strict=True)
        ],
        columns=list(belief.Threshold._fields),
    )
    return belief.choose_threshold(tried, budget=budget).threshold


class Path(NamedTuple):
    """What is believed after each answer: the answer (-1: none) and its probability, shape (n, turns)."""

    answer: Ints
    probability: Floats

    def stop(self, threshold: float) -> Ints:
        """The turn after which each question stops: the first to reach the threshold, or the last."""
        reached = self.probability >= threshold - 1e-9
        reached[:, -1] = True
        return np.asarray(reached.argmax(axis=1))


def believed(given: Ints, accuracy: Floats, n_answers: Floats) -> Path:
    """`belief.Belief` of every question at once, after each of the answers given in turn.

    Parameters
    ----------
    given, accuracy
        Numbers of the answers (-1: none) and the accuracies of their authors, shape (n, turns).
    n_answers
        m of each question, shape (n,).
    """
    n, turns = given.shape
    width = int(given.max(initial=0)) + 1
    score, first = np.zeros((n, width)), np.full((n, width), turns)
    a = np.clip(accuracy, belief.LEAST, belief.MOST)
    weight = np.log(a) - np.log((1 - a) / (n_answers - 1)[:, None])
    answer, probability = np.full((n, turns), -1), np.zeros((n, turns))
    for turn in range(turns):
        at = np.flatnonzero(given[:, turn] >= 0)
        number = given[at, turn]
        score[at, number] += weight[at, turn]
        first[at, number] = np.minimum(first[at, number], turn)
        named = first < turns
        top = np.where(named, score, -np.inf).max(axis=1)
        some = np.flatnonzero(named.any(axis=1))
        s, seen, peak = score[some], named[some], top[some, None]
        best = np.where(seen & (s == peak), first[some], turns)
        answer[some, turn] = best.argmin(axis=1)
        total = np.where(seen, np.exp(s - peak), 0.0).sum(axis=1)
        others = np.maximum(0.0, n_answers[some] - seen.sum(axis=1)) * np.exp(-peak[:, 0])
        probability[some, turn] = 1 / (total + others)
    return Path(answer, probability)

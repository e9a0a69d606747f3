"""What if the pool, k, the router or the validation split were another? Answered from recorded outcomes.

The same routers as in the pipeline are fitted on validation, and their recruits vote with their recorded
answers to the test questions; nothing is generated. An expert in two slots repeats its one answer, which is
all that recorded answers allow. Methods have the names of the line-up: "majority_vote" is the vote of
Symbolic-MoE's recruits (its aggregator needs texts), "top_k" the fixed best experts, "committee" our router,
"sequential" asks one expert after the other until the answer is sure (docs/method.md 5).
"""

import math
from collections.abc import Collection
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from skillmoe_lib import seeding
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.evaluation.intervals import Interval, paired_bootstrap, wilson
from skillmoe_lib.pipeline import preset_router
from skillmoe_lib.routing import belief, tuning
from skillmoe_lib.routing.committee import CommitteeRouter
from skillmoe_lib.routing.controls import GlobalTopK, RandomRouter
from skillmoe_lib.routing.skill_router import SkillRouter
from skillmoe_lib.studies.outcomes import COSTS, Bools, Floats, Ints, Outcomes

METHODS = ("majority_vote", "top_k", "random_k", "committee", "sequential", "sequential_without_skills")
SEQUENTIAL = ("sequential", "sequential_without_skills")
#: Methods whose answers depend on the seed.
DRAWN = ("majority_vote", "random_k")


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
    k: float = 3,
    preset: str = "skillmoe",
    temperature: float | None = None,
    prior: float | None = None,
    trim: float | None = None,
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
    preset, temperature, prior, trim
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
    members = tuple(outcomes.experts if experts is None else experts)
    known = _known(outcomes, members, n_validation, 0 if n_validation is None else seed)
    if method in SEQUENTIAL:
        route = _asked_in_turn(known, method, budget=k, threshold=threshold)
    elif k != int(k):
        raise SkillmoeError(f"k must be a whole number of slots for {method!r}, given {k}")
    else:
        router = router_of(method, int(k), preset, temperature, prior, trim)
        route = _recruited(known, method, router, seed=seed)
    asked, at = route.chosen >= 0, (known.rows("test")[:, None], np.maximum(route.chosen, 0))
    given = np.where(asked, known.answer[at], -1)
    answer = plurality(given) if route.answer is None else route.answer
    agreeing = (given == answer[:, None]) & (given >= 0)
    correct = (agreeing & known.correct[at]).any(axis=1)
    costs = {n: float(np.where(asked, getattr(known, n)[at], 0.0).sum(axis=1).mean()) for n in COSTS}
    return WhatIf(
        method,
        known,
        known.ids("test"),
        wilson(int(correct.sum()), len(correct), level),
        float(asked.sum(axis=1).mean()),
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
    skills = skills_of(outcomes, "validation")
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
    """Positions of the experts asked about each test question, and by what they were chosen."""

    chosen: Ints
    relevance: Floats
    answer: Ints | None = None
    threshold: float = float("nan")


def router_of(
    method: str, k: int, preset: str, temperature: float | None, prior: float | None, trim: float | None
) -> Any:
    """The unfitted router of a method that recruits k experts at once; arguments as of `what_if`."""
    if method == "top_k":
        return GlobalTopK(k)
    if method == "random_k":
        return RandomRouter(k)
    if method == "committee":
        return CommitteeRouter(k)
    given = {"temperature": temperature, "prior": prior, "trim": trim}
    settings = {name: value for name, value in given.items() if value is not None}
    return preset_router(preset, k=k).set_params(**settings)


@lru_cache(maxsize=1)  # while a control is moved, most settings stay, and so does what is learnt from them
def _known(outcomes: Outcomes, experts: tuple[str, ...], n_validation: int | None, seed: int) -> Outcomes:
    pool = outcomes.subset(experts)
    return pool if n_validation is None else pool.limited(n_validation, seed=seed)


@lru_cache(maxsize=4)
def skills_of(pool: Outcomes, split: str) -> pd.DataFrame:
    """The Skills frame of one split."""
    return pool.skills[pool.skills["question_id"].isin(pool.ids(split))]


def _recruited(pool: Outcomes, method: str, router: Any, *, seed: int) -> _Route:
    """The slots of every test question, shape (n, k)."""
    ids = pool.ids("test")
    if method == "committee":
        vectors = pool.skill_matrix if pool.embeddings is None else pool.embeddings
        fit, asked = vectors.loc[pool.ids("validation")], vectors.loc[ids]
    else:
        fit, asked = skills_of(pool, "validation"), skills_of(pool, "test")
    if method == "majority_vote":
        fitted = copy(_profiled(pool, router.expert_order)).set_params(**router.get_params())
    else:
        fitted = router.fit(fit, pool.validation_scores)
    routes = fitted.route(asked, seed=seed, question_ids=ids, method=method)
    shown = "suitability" if routes["probability"].isna().all() else "probability"
    at = pd.Index(pool.experts).get_indexer(routes["expert"])
    relevance = routes[shown].to_numpy(float, na_value=np.nan)
    return _Route(at.reshape(len(ids), -1), relevance.reshape(len(ids), -1))


@lru_cache(maxsize=1)
def _profiled(pool: Outcomes, expert_order: Literal["name", "as_given"]) -> SkillRouter:
    """A fitted router: what it learns depends on no other setting."""
    return SkillRouter(expert_order=expert_order).fit(skills_of(pool, "validation"), pool.validation_scores)


# -- sequential recruiting, all questions at once -------------------------------------------------------


class Turns(NamedTuple):
    """Experts in the order in which they would be asked, shape (n, n_experts), with their expected accuracy,
    the number of their answer and whether it is right; and m, the number of possible answers, shape (n,)."""

    order: Ints
    accuracy: Floats
    given: Ints
    correct: Bools
    n_answers: Floats


@lru_cache(maxsize=4)  # the same for every threshold and budget
def turns_of(pool: Outcomes, method: str, split: str) -> Turns:
    """Whom sequential recruiting would ask about the questions of a split, learning from validation."""
    return _turns(pool, method, pool.rows(split), pool.validation_scores)


def _turns(pool: Outcomes, method: str, rows: Ints, scores: pd.DataFrame) -> Turns:
    ids = pool.questions.index[rows]
    router = belief.BestBySkill(use_skills=method == "sequential").fit(skills_of(pool, "validation"), scores)
    named = pool.skills[pool.skills["question_id"].isin(ids)]
    expected = router.estimates(named, question_ids=ids)[list(pool.experts)].to_numpy()
    by_name = np.broadcast_to(np.argsort(np.argsort(pool.experts)), expected.shape)
    order = np.lexsort((by_name, -expected), axis=1)  # a tie goes to the alphabetically first
    n = pool.questions["n_choices"].to_numpy(float)[rows]
    at = rows[:, None], order
    return Turns(
        order,
        np.take_along_axis(expected, order, axis=1),
        pool.answer[at],
        pool.correct[at],
        np.where(n > 0, n, _open_answers(pool)),
    )


@lru_cache(maxsize=4)
def _open_answers(pool: Outcomes) -> float:
    return belief.open_answers(pool.validation_scores)


def _asked_in_turn(pool: Outcomes, method: str, *, budget: float, threshold: float | None) -> _Route:
    if threshold is None:
        threshold = chosen_threshold(pool, method, budget=budget)
    elif not 0 <= threshold <= 1:
        raise SkillmoeError(f"threshold must be a probability from 0 to 1, given {threshold}")
    turns = turns_of(pool, method, "test")
    path = believed(turns.given, turns.accuracy, turns.n_answers, until=threshold)
    asked = np.arange(turns.order.shape[1]) <= path.stop(threshold)[:, None]
    chosen, relevance = np.where(asked, turns.order, -1), np.where(asked, turns.accuracy, np.nan)
    return _Route(chosen, relevance, path.answer[:, -1], threshold)


def chosen_threshold(pool: Outcomes, method: str, *, budget: float, seed: int = 0) -> float:
    """What `belief.held_out_turns`, `try_thresholds` and `choose_threshold` choose, from whole paths."""
    return belief.choose_threshold(_tried(pool, method, seed), budget=budget).threshold


@lru_cache(maxsize=4)
def _tried(pool: Outcomes, method: str, seed: int) -> pd.DataFrame:
    """What each threshold gives on held-out validation questions, as `belief.try_thresholds`."""
    rows, scores = pool.rows("validation"), pool.validation_scores
    ids = pool.questions.index[rows]
    fold = np.array([seeding.stable_seed("fold", seed, str(name)) % 5 for name in ids])
    if len(set(fold)) < 2:
        raise SkillmoeError(f"choosing a threshold takes at least 2 validation questions, given {len(rows)}")
    answer, probability, right = [], [], []
    for held in (fold == part for part in np.unique(fold)):
        turns = _turns(pool, method, rows[held], scores[~scores["question_id"].isin(ids[held])])
        path = believed(turns.given, turns.accuracy, turns.n_answers)
        hits = [((turns.given == end[:, None]) & turns.correct).any(axis=1) for end in path.answer.T]
        answer.append(path.answer)
        probability.append(path.probability)
        right.append(np.stack(hits, axis=1))
    whole, right_at = Path(np.concatenate(answer), np.concatenate(probability)), np.concatenate(right)
    tried = []
    for threshold in belief.THRESHOLDS:
        stop = whole.stop(threshold)
        hits_at = right_at[np.arange(len(stop)), stop]
        tried.append(belief.Threshold(threshold, float(stop.mean() + 1), float(hits_at.mean()), len(rows)))
    return pd.DataFrame(tried, columns=list(belief.Threshold._fields))


class Path(NamedTuple):
    """What is believed after each answer: the answer (-1: none) and its probability, shape (n, turns)."""

    answer: Ints
    probability: Floats

    def stop(self, threshold: float) -> Ints:
        """The turn after which each question stops: the first to reach the threshold, or the last."""
        reached = self.probability >= threshold - 1e-9
        reached[:, -1] = True
        return np.asarray(reached.argmax(axis=1))


def believed(given: Ints, accuracy: Floats, n_answers: Floats, *, until: float = math.inf) -> Path:
    """`belief.Belief` of every question at once, after each of the answers given in turn.

    Parameters
    ----------
    given, accuracy
        Numbers of the answers (-1: none) and the accuracies of their authors, shape (n, turns).
    n_answers
        m of each question, shape (n,).
    until
        Questions whose belief reaches this stay as they are.
    """
    n, turns = given.shape
    width = int(given.max(initial=0)) + 1
    score, first = np.zeros((n, width)), np.full((n, width), turns)
    a = np.clip(accuracy, belief.LEAST, belief.MOST)
    weight = np.log(a) - np.log((1 - a) / (n_answers - 1)[:, None])
    answer, probability = np.full((n, turns), -1), np.zeros((n, turns))
    going = np.arange(n)
    for turn in range(turns):
        at = going[given[going, turn] >= 0]
        number = given[at, turn]
        score[at, number] += weight[at, turn]
        first[at, number] = np.minimum(first[at, number], turn)
        named, s = first[at] < turns, score[at]
        peak = np.where(named, s, -np.inf).max(axis=1, keepdims=True)
        earliest = np.where(named & (s == peak), first[at], turns).argmin(axis=1)
        total = np.where(named, np.exp(s - peak), 0.0).sum(axis=1)
        others = np.maximum(0.0, n_answers[at] - named.sum(axis=1)) * np.exp(-peak[:, 0])
        answer[at, turn:] = earliest[:, None]
        probability[at, turn:] = (1 / (total + others))[:, None]
        going = going[probability[going, turn] < until - 1e-9]
    return Path(answer, probability)

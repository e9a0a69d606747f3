"""Sequential recruiting: how probable each answer is after the answers so far, and which expert to ask next.

docs/method.md 5; ours. Related: Wald's sequential test (1945), which stops when the evidence suffices; Dawid
and Skene (1979), who weight answers by the accuracy of their authors; cascades such as FrugalGPT (2023).

`BestBySkill` estimates how accurate each expert is on a question's skills, which gives the order in which
experts are asked. `Belief` adds up their answers. `choose_threshold` chooses, on validation, the probability
at which to stop, for an average number of calls.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import clone

from skillmoe_lib import seeding
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.profiling.profiles import answers_run, profile
from skillmoe_lib.routing import slots
from skillmoe_lib.routing.entry import RouterEntry
from skillmoe_lib.routing.ranked import Array, Ranked

#: Accuracies are kept within these bounds, so that no single answer settles a question.
LEAST, MOST = 0.05, 0.95
#: Thresholds tried on validation.
THRESHOLDS = tuple(round(0.30 + 0.01 * i, 2) for i in range(70))


class Belief:
    """How probable each answer is, given the experts' answers so far.

    An expert of accuracy a that answers y adds log a - log((1 - a) / (m - 1)) to the score of y: the log of
    how much likelier this answer is if y is right than if y is one of m - 1 equally likely wrong answers. The
    belief is the softmax of the scores over all m answers; answers that no expert gave have score 0.

    Parameters
    ----------
    n_answers
        m, the number of choices. For open answers (`open_answers`) it need not be whole.
    """

    def __init__(self, n_answers: float) -> None:
        if not n_answers > 1:
            raise SkillmoeError(f"n_answers must be above 1, given {n_answers}")
        self.n_answers = n_answers
        self.scores: dict[str, float] = {}

    def update(self, answer: str | None, accuracy: float) -> None:
        """Take an answer into account; None (no answer found) changes nothing."""
        if answer is not None:
            a = min(max(accuracy, LEAST), MOST)
            weight = math.log(a) - math.log((1 - a) / (self.n_answers - 1))
            self.scores[answer] = self.scores.get(answer, 0.0) + weight

    @property
    def answer(self) -> str | None:
        """The most probable of the answers given; ties go to the one given first."""
        return max(self.scores, key=self.scores.__getitem__) if self.scores else None

    @property
    def probability(self) -> float:
        """How probable `answer` is; 0 if there is none."""
        if not self.scores:
            return 0.0
        top = max(self.scores.values())
        given = sum(math.exp(score - top) for score in self.scores.values())
        return 1 / (given + max(0.0, self.n_answers - len(self.scores)) * math.exp(-top))

    def reaches(self, threshold: float) -> bool:
        """Whether `answer` is at least that probable, up to rounding."""
        return self.probability >= threshold - 1e-9


class BestBySkill(Ranked):
    """Experts by their accuracy on a question's skills, best first.

    a_e(q) = (r + kappa a_e) / (n + kappa): of n validation answers of the expert on q's skills r were right,
    and a_e = (r_all + 1) / (n_all + 2) is its accuracy on all of validation. So kappa imagined answers of
    its overall accuracy are added to the real ones. An answer counts once for each skill that its
    question shares with q.

    Parameters
    ----------
    k
        The largest number of experts asked about a question; None: all.
    kappa
        Weight of the overall accuracy, in answers.
    use_skills
        If false: a_e alone, the same order for every question (a control).
    """

    def __init__(self, k: int | None = None, *, kappa: float = 40.0, use_skills: bool = True) -> None:
        self.k = k  # type: ignore[assignment]
        self.kappa = kappa
        self.use_skills = use_skills

    def fit(self, X: pd.DataFrame, scores: pd.DataFrame) -> "BestBySkill":
        """Learn from a Skills frame and a Scores frame of the validation questions."""
        if not self.kappa > 0:
            raise SkillmoeError(f"kappa must be above 0, given {self.kappa}")
        self.experts_ = sorted(answers_run(scores)["expert"].unique())
        if self.k is not None:
            slots.check_k(self.k, len(self.experts_), replace=False)
        _, right, n = _by_question(scores, self.experts_)
        with np.errstate(invalid="ignore"):  # several samples of a question are averaged
            share = np.nansum(right.toarray() / n.toarray(), axis=1)
        asked = (n.toarray() > 0).sum(axis=1)
        self.accuracy_ = pd.Series((share + 1) / (asked + 2), index=self.experts_)
        self.right_ = self.n_ = pd.DataFrame(index=self.experts_, dtype=float)
        if self.use_skills:
            self.right_, self.n_ = by_skill(X, scores, self.experts_)
        return self

    def _estimate(self, X: pd.DataFrame, ids: pd.Index) -> Array:
        overall = self.accuracy_.to_numpy()
        if not self.use_skills:
            return np.tile(overall, (len(ids), 1))
        counts = _counts(ids, X["question_id"], self.right_.columns, X["skill"])
        right, n = counts @ self.right_.to_numpy().T, counts @ self.n_.to_numpy().T
        return np.asarray((right + self.kappa * overall) / (n + self.kappa))


def by_skill(skills: pd.DataFrame, scores: pd.DataFrame, experts: Sequence[str]) -> tuple[Any, Any]:
    """How many answers of each expert are right and how many there are, expert x skill, as in a profile."""
    asked, right, n = _by_question(scores, experts)
    known = skills[skills["question_id"].isin(asked)]
    if known.empty:
        profile(skills, scores)  # says what is wrong
    vocabulary = pd.Index(sorted(known["skill"].unique()), name="skill")
    counts = _counts(asked, known["question_id"], vocabulary, known["skill"])
    tables = ((part @ counts).toarray() for part in (right, n))
    one, other = (pd.DataFrame(table, index=list(experts), columns=vocabulary) for table in tables)
    return one, other


def _by_question(scores: pd.DataFrame, experts: Sequence[str]) -> tuple[pd.Index, Any, Any]:
    """The questions, and how many answers are right and how many there are, sparse, expert x question."""
    ran = scores[scores["status"] != "not_run"]
    asked, names = pd.Index(ran["question_id"].unique()), pd.Index(experts)
    right = _counts(names, ran["expert"], asked, ran["question_id"], ran["correct"].to_numpy(float))
    return asked, right, _counts(names, ran["expert"], asked, ran["question_id"])


def _counts(
    rows: pd.Index, row: pd.Series, columns: pd.Index, column: pd.Series, weights: Array | None = None
) -> Any:
    """A sparse table of how often each pair occurs (or the sum of its weights); others are not counted."""
    at, to = rows.get_indexer(pd.Index(row)), columns.get_indexer(pd.Index(column))
    here = (at >= 0) & (to >= 0)
    value = np.ones(len(at)) if weights is None else weights
    return sparse.csr_array((value[here], (at[here], to[here])), shape=(len(rows), len(columns)))


#: How the line-up makes the routers of sequential recruiting.
BY_SKILL = RouterEntry("skills", lambda _: BestBySkill())
OVERALL = RouterEntry("ids", lambda _: BestBySkill(use_skills=False))


class Asked(NamedTuple):
    """The result of asking experts one after the other: the answer (None if there is none) and the calls."""

    answer: str | None
    calls: int


def ask_in_turn(
    answers: Iterable[str | None], accuracies: Iterable[float], *, n_answers: float, threshold: float
) -> Asked:
    """Take answers in order until the belief in one reaches the threshold, or there are no more."""
    belief, calls = Belief(n_answers), 0
    for calls, (answer, accuracy) in enumerate(zip(answers, accuracies, strict=True), start=1):  # noqa: B007
        belief.update(answer, accuracy)
        if belief.reaches(threshold):
            break
    return Asked(belief.answer, calls)


def open_answers(scores: pd.DataFrame) -> float:
    """m for open answers: one more than the reciprocal of the chance that two wrong answers agree.

    Counted over pairs of experts that both answered a validation question wrongly; at most 1,000, also
    if no two agree.
    """
    wrong = scores[~scores["correct"].astype(bool) & scores["answer"].notna()]
    n_wrong = wrong.groupby("question_id").size()
    alike = wrong.groupby(["question_id", "answer"]).size()
    n_pairs, n_alike = (n_wrong * (n_wrong - 1)).sum(), (alike * (alike - 1)).sum()
    return 1 + (min(1000.0, float(n_pairs / n_alike)) if n_alike else 1000.0)


def recorded_turns(
    routes: pd.DataFrame, scores: pd.DataFrame
) -> dict[str, tuple[list[str | None], list[float]]]:
    """Question id -> the recorded answers of the experts in its route, in order, and their accuracies."""
    first = scores.drop_duplicates(["question_id", "expert"])[["question_id", "expert", "answer"]]
    asked = routes.merge(first, on=["question_id", "expert"], how="left").sort_values(["question_id", "slot"])
    answers = asked["answer"].astype(object).where(asked["answer"].notna(), None)
    asked = asked.assign(answer=answers)
    return {
        str(question_id): (part["answer"].tolist(), part["suitability"].astype(float).tolist())
        for question_id, part in asked.groupby("question_id", sort=False)
    }


def held_out_turns(
    router: BestBySkill, skills: pd.DataFrame, scores: pd.DataFrame, *, n_folds: int = 5, seed: int = 0
) -> dict[str, tuple[list[str | None], list[float]]]:
    """`recorded_turns` of validation questions, each routed by a router fitted on the other folds."""
    ids = sorted(scores["question_id"].unique())
    fold = pd.Series([seeding.stable_seed("fold", seed, name) % n_folds for name in ids], index=ids)
    turns: dict[str, tuple[list[str | None], list[float]]] = {}
    for part in sorted(fold.unique()):
        held = fold.index[fold == part]
        rest = scores[~scores["question_id"].isin(held)]
        if rest.empty:
            raise SkillmoeError(
                f"choosing a threshold takes at least 2 validation questions, given {len(ids)}"
            )
        fitted = clone(router).fit(skills, rest)
        turns |= recorded_turns(fitted.route(skills, question_ids=held), scores)
    return turns


class Threshold(NamedTuple):
    """A threshold and what it gave on held-out validation questions: mean calls, accuracy, and n."""

    threshold: float
    calls: float
    accuracy: float
    n: int


def try_thresholds(
    turns: Mapping[str, tuple[Sequence[str | None], Sequence[float]]],
    right: Mapping[Any, set[str]],
    n_answers: Mapping[Any, float],
    *,
    thresholds: Sequence[float] = THRESHOLDS,
) -> pd.DataFrame:
    """Mean calls and accuracy of each threshold on recorded turns: threshold, calls, accuracy, n.

    `right` holds the answers to each question that were graded right.
    """
    rows = []
    for threshold in thresholds:
        ends = {
            name: ask_in_turn(answers, accuracies, n_answers=n_answers[name], threshold=threshold)
            for name, (answers, accuracies) in turns.items()
        }
        hits = [end.answer in right.get(name, set()) for name, end in ends.items()]
        calls = [end.calls for end in ends.values()]
        rows.append(Threshold(threshold, float(np.mean(calls)), float(np.mean(hits)), len(ends)))
    return pd.DataFrame(rows, columns=list(Threshold._fields))


def choose_threshold(tried: pd.DataFrame, *, budget: float) -> Threshold:
    """The highest threshold whose mean calls are within the budget: as sure as the budget allows.

    Where none is (experts that give no answer make everyone be asked), the lowest; its calls then say that
    the budget is not kept.
    """
    within = tried[tried["calls"] <= budget + 1e-9].sort_values("threshold")
    best = within.iloc[-1] if len(within) else tried.sort_values("threshold").iloc[0]
    return Threshold(float(best["threshold"]), float(best["calls"]), float(best["accuracy"]), int(best["n"]))

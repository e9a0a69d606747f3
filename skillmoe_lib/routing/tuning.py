"""Choosing the skill router's temperature, prior and trim inside validation.

A router is fitted on four fifths of the validation questions; on the last fifth the experts that it would
draw vote with their stored validation answers. Nothing is generated. A vote is not the aggregator, but
validation answers allow no more without new calls; and an expert drawn twice repeats its one stored answer,
so drawing it twice cannot gain here, although a fresh sample might.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid

from skillmoe_lib import seeding
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.routing.skill_router import SkillRouter

Array = NDArray[np.float64]
#: The settings tried for formula "fixed". The paper's temperature is 0.5.
GRID: Mapping[str, Sequence[float]] = {
    "temperature": (0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0),
    "prior": (3.0, 10.0, 30.0),
}
#: Shares of all slots below which an expert is dropped; the paper's is the first.
TRIMS = (0.05, 0.02, 0.01, 0.0)
N_DRAWS = 200
COLUMNS = ("prior", "temperature", "accuracy", "below_best", "standard_error", "n_distinct", "chosen")
TRIM_COLUMNS = ("trim", "n_experts", "n_distinct", "accuracy", "below_best", "standard_error", "chosen")


class Tuned(NamedTuple):
    """The settings chosen, and one row for each trial: the settings, accuracy (of the held-out vote),
    below_best, standard_error (of that difference, paired by question), n_distinct (experts per question),
    chosen."""

    settings: dict[str, Any]
    trials: pd.DataFrame


def choose_settings(
    router: SkillRouter,
    skills: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    grid: Mapping[str, Sequence[float]] = GRID,
    n_folds: int = 5,
    seed: int = 0,
) -> Tuned:
    """The settings of `grid` whose recruits vote best on held-out validation questions.

    Of all settings within one standard error of the best, the highest temperature is taken (the
    one-standard-error rule of Breiman et al. 1984, with paired errors): if validation cannot tell them
    apart, slots are spread over more experts. Among those of that temperature the best vote wins. With one
    slot there is nothing to spread, and the best vote wins.

    Parameters
    ----------
    router
        Its other settings are used unchanged; trimming is left out, since it looks at all questions.
    skills, scores
        A Skills and a Scores frame of the validation questions.
    """
    trials = [dict(settings) for settings in ParameterGrid({name: list(v) for name, v in grid.items()})]
    votes, distinct = _held_out(router, trials, skills, scores, n_folds=n_folds, seed=seed)
    means = votes.mean(axis=1)
    gaps, errors = _behind_the_best(votes)
    near = np.flatnonzero(gaps <= errors + 1e-12)
    spread = router.k > 1
    at = max(near, key=lambda i: (spread * trials[i].get("temperature", 0.0), means[i]))
    table = pd.DataFrame(trials).assign(
        accuracy=means, below_best=gaps, standard_error=errors, n_distinct=distinct
    )
    return Tuned(trials[at], table.assign(chosen=table.index == at))


def choose_trim(
    router: SkillRouter,
    skills: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    trims: Sequence[float] = TRIMS,
    n_folds: int = 5,
    seed: int = 0,
) -> Tuned:
    """The largest share of `trims` whose loss of held-out votes is within one standard error.

    Trimming saves loads (docs/method.md 1.5), so of shares that validation cannot tell apart the largest
    wins. An expert's share is the mean of its probabilities over the held-out questions; what a dropped
    expert would have got is divided among the kept in proportion to their shares. The router's temperature
    and prior are those already chosen. Columns of `trials`: `TRIM_COLUMNS`; n_experts are kept.
    """
    folds = list(_folds(router, skills, scores, n_folds=n_folds, seed=seed))
    chances = np.concatenate([fold.router.probabilities(skills, question_ids=fold.held) for fold in folds])
    codes = np.concatenate([fold.codes for fold in folds])
    right = np.concatenate([fold.right for fold in folds])
    uniform = np.concatenate([fold.uniform for fold in folds])
    shares, votes, rows = chances.mean(axis=0), [], []
    for trim in trims:
        kept = shares >= trim if (shares >= trim).any() else shares >= 0
        freed = chances[:, ~kept].sum(axis=1, keepdims=True)
        left = np.where(kept, chances + freed * shares / shares[kept].sum(), 0.0)
        drawn = _drawn(left, uniform, replace=router.replace)
        votes.append(_vote(drawn, codes, right))
        rows.append({"trim": trim, "n_experts": int(kept.sum()), "n_distinct": _n_distinct(drawn).mean()})
    gaps, errors = _behind_the_best(np.array(votes))
    at = max(np.flatnonzero(gaps <= errors + 1e-12), key=lambda i: trims[i])
    table = pd.DataFrame(rows).assign(
        accuracy=np.mean(votes, axis=1),
        below_best=gaps,
        standard_error=errors,
        chosen=np.arange(len(rows)) == at,
    )
    return Tuned({"trim": trims[at]}, table)


def _held_out(
    router: SkillRouter,
    trials: Sequence[Mapping[str, float]],
    skills: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    n_folds: int,
    seed: int,
) -> tuple[Array, Array]:
    """Vote accuracy of each trial on each question, and its mean number of distinct experts per question."""
    votes, distinct = [], []
    for fold in _folds(router, skills, scores, n_folds=n_folds, seed=seed):
        for_trials = []
        for settings in trials:
            fitted = fold.router.set_params(**settings)
            chances = fitted.probabilities(skills, question_ids=fold.held).to_numpy()
            drawn = _drawn(chances, fold.uniform, replace=fitted.replace)
            for_trials.append((_vote(drawn, fold.codes, fold.right), _n_distinct(drawn)))
        votes.append(np.array([vote for vote, _ in for_trials]))
        distinct.append(np.array([n for _, n in for_trials]))
    return np.concatenate(votes, axis=1), np.concatenate(distinct, axis=1).mean(axis=1)


class _Fold(NamedTuple):
    """Held-out questions, a router fitted on all others, the answers held out (question x expert: codes, and
    whether right), and the random numbers that every trial shares (question x draw x slot)."""

    held: list[str]
    router: SkillRouter
    codes: NDArray[np.int64]
    right: Array
    uniform: Array


def _folds(
    router: SkillRouter, skills: pd.DataFrame, scores: pd.DataFrame, *, n_folds: int, seed: int
) -> Iterator[_Fold]:
    names = sorted(scores["question_id"].unique(), key=lambda name: seeding.stable_seed("fold", seed, name))
    if len(names) < 2:
        raise SkillmoeError(f"choosing on validation takes at least 2 questions, given {len(names)}")
    for held in filter(len, (names[i::n_folds] for i in range(n_folds))):
        fitted = clone(router).fit(skills, scores[~scores["question_id"].isin(held)])
        codes, right = _answers(scores, held, fitted.experts_)
        uniform = seeding.generator("tuning", seed, *held).random((len(held), N_DRAWS, fitted.k))
        yield _Fold(held, fitted, codes, right, uniform)


def _behind_the_best(votes: Array) -> tuple[Array, Array]:
    """By how much each trial's votes (trial x question) are below the best, and the paired standard error."""
    gaps = votes[votes.mean(axis=1).argmax()] - votes
    n = votes.shape[1]
    errors = gaps.std(axis=1, ddof=1) / np.sqrt(n) if n > 1 else np.zeros(len(votes))
    return gaps.mean(axis=1), errors


def _answers(scores: pd.DataFrame, held: Sequence[str], experts: Sequence[str]) -> tuple[Any, Any]:
    """Answers as numbers (-1: none) and whether each is right, question x expert."""
    first = scores[scores["question_id"].isin(held)].drop_duplicates(["question_id", "expert"])
    codes = pd.factorize(first["question_id"].astype(str) + "\0" + first["answer"].astype("string"))[0]
    first = first.assign(
        code=np.where(first["answer"].isna(), -1, codes), right=first["correct"].astype(float)
    )
    wide = first.pivot_table(index="question_id", columns="expert", values=["code", "right"])
    wide = wide.reindex(list(held))
    both = [
        pd.DataFrame(wide[part]).reindex(columns=list(experts)).fillna(gap)
        for part, gap in (("code", -1), ("right", 0))
    ]
    return both[0].to_numpy(int), both[1].to_numpy(float)


def _drawn(chances: Array, uniform: Array, *, replace: bool) -> NDArray[np.int64]:
    """Experts drawn, shape (questions, draws, k). The same `uniform` numbers serve every trial."""
    if not replace:  # the k experts whose exponential clocks ring first (see `slots`)
        n = chances.shape[1]
        clocks = seeding.generator("clocks", n).exponential(size=(*uniform.shape[:2], n))
        with np.errstate(over="ignore"):  # the clock of a nearly impossible expert never rings
            rings = np.divide(
                clocks, chances[:, None], out=np.full_like(clocks, np.inf), where=chances[:, None] > 0
            )
        return np.asarray(rings.argsort(axis=2)[:, :, : uniform.shape[2]])
    reached = chances.cumsum(axis=1)[:, None, None, :] < uniform[..., None]
    return np.asarray(np.minimum(reached.sum(axis=3), chances.shape[1] - 1))


def _vote(drawn: NDArray[np.int64], codes: Any, right: Any) -> Array:
    """For each question the share of draws whose plurality is right; a tie goes to the answer given first."""
    rows = np.arange(len(drawn))[:, None, None]
    given, hits = codes[rows, drawn], right[rows, drawn]
    support = (given[..., None] == given[..., None, :]).sum(axis=3) - 1e-3 * np.arange(drawn.shape[2])
    winner = np.where(given >= 0, support, -1.0).argmax(axis=2)
    won = np.take_along_axis(hits, winner[..., None], axis=2)[..., 0]
    return np.asarray(np.where((given >= 0).any(axis=2), won, 0.0).mean(axis=1))


def _n_distinct(drawn: NDArray[np.int64]) -> Array:
    """Mean number of different experts in the slots of each question."""
    ordered = np.sort(drawn, axis=2)
    return np.asarray(((np.diff(ordered, axis=2) > 0).sum(axis=2) + 1).mean(axis=1))

"""Choosing the skill router's temperature and prior inside validation.

A router is fitted on four fifths of the validation questions; on the last fifth the experts that it would
draw vote with their stored validation answers. Nothing is generated. A vote is not the aggregator, but
validation answers allow no more without new calls; and an expert drawn twice repeats its one stored answer,
so drawing it twice cannot gain here, although a fresh sample might.
"""

from collections.abc import Mapping, Sequence
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
N_DRAWS = 200
COLUMNS = ("prior", "temperature", "accuracy", "below_best", "standard_error", "n_distinct", "chosen")


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
    apart, slots are spread over more experts. Among those of that temperature the best vote wins.

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
    gaps = votes[means.argmax()] - votes
    errors = gaps.std(axis=1, ddof=1) / np.sqrt(votes.shape[1]) if votes.shape[1] > 1 else 0 * means
    near = np.flatnonzero(means.max() - means <= errors + 1e-12)
    at = max(near, key=lambda i: (trials[i].get("temperature", 0.0), means[i]))
    table = pd.DataFrame(trials).assign(
        accuracy=means, below_best=means.max() - means, standard_error=errors, n_distinct=distinct
    )
    return Tuned(trials[at], table.assign(chosen=table.index == at))


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
    names = sorted(scores["question_id"].unique(), key=lambda name: seeding.stable_seed("fold", seed, name))
    if len(names) < 2:
        raise SkillmoeError(f"choosing on validation takes at least 2 questions, given {len(names)}")
    votes, distinct = [], []
    for held in filter(len, (names[i::n_folds] for i in range(n_folds))):
        fitted = clone(router).fit(skills, scores[~scores["question_id"].isin(held)])
        codes, right = _answers(scores, held, fitted.experts_)
        random = seeding.generator("tuning", seed, *held)
        uniform = random.random((len(held), N_DRAWS, fitted.k))
        for_trials = []
        for settings in trials:
            chances = fitted.set_params(**settings).probabilities(skills, question_ids=held).to_numpy()
            drawn = _drawn(chances, uniform, replace=fitted.replace)
            for_trials.append((_vote(drawn, codes, right), _n_distinct(drawn)))
        votes.append(np.array([vote for vote, _ in for_trials]))
        distinct.append(np.array([n for _, n in for_trials]))
    return np.concatenate(votes, axis=1), np.concatenate(distinct, axis=1).mean(axis=1)


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

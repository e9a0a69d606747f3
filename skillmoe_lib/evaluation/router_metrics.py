"""Router metrics of the field, each by its published formula, with the intervals that none of them has.

- AIQ: Hu et al. 2024, "RouterBench" (arXiv 2403.12031), average improvement in quality.
- Gain@Random, Gain@BestSingle, Gap@Oracle, PerfGain, CostSave: Li et al. 2026, "LLMRouterBench" (arXiv
  2601.07206), section on metrics.
- Arena score and robustness: Lu et al. 2025, "RouterArena" (arXiv 2510.00202).

Formulas were compared with the released code of RouterBench and RouterArena. LLMRouterBench ships none for
its own: ours follow its README and two independent implementations, one of which names the paper's section
6 as its source. There PerfGain is AvgAcc / AvgAcc of the best single model - 1, CostSave 1 - cost / its cost,
and AvgAcc the mean of the benchmarks' accuracies. The paper's equations themselves were not at hand.

Every metric is computed from one row for each question, and its interval resamples whole questions. With the
same seed two metrics see the same resamples, so their difference (`minus`) is paired.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.intervals import Interval, wilson
from skillmoe_lib.seeding import generator

Array = NDArray[np.float64]
#: RouterArena's constants: weight of accuracy, and the dollars for 1,000 questions that count as 0 and 1.
BETA, C_MAX, C_MIN = 0.1, 200.0, 0.0044


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric and its percentile interval over resampled questions.

    `low` and `high` are null if resampling shows no spread. `undefined` is the share of resamples on which
    the metric is not defined (left out of the interval). `draws` are the resampled values.
    """

    name: str
    value: float
    low: float
    high: float
    n_questions: int
    undefined: float
    draws: Array = field(repr=False)

    def minus(self, other: "Metric", *, level: float = 0.95) -> Interval:
        """This metric minus another on the same questions and seed: a paired interval."""
        if self.n_questions != other.n_questions or self.draws.shape != other.draws.shape:
            raise SkillmoeError(
                f"metrics can be compared on the same questions and draws only, given {self.n_questions} "
                f"and {other.n_questions} questions"
            )
        low, high = _span(self.draws - other.draws, level)
        return Interval(self.value - other.value, low, high, self.n_questions)


def aiq(
    quality: ArrayLike,
    cost: ArrayLike,
    *,
    between: tuple[float, float] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Metric:
    """Average improvement in quality: the area under the router's non-decreasing convex hull of quality over
    cost, divided by the range of costs.

    Parameters
    ----------
    quality, cost
        Shape (n_settings, n_questions): what each setting of the router (a threshold, a willingness to pay)
        scored and cost on each question.
    between
        Range of mean costs; None: from the cheapest setting to the dearest. Routers are compared on one
        range; beyond its dearest setting a router keeps its best quality.
    """
    q, c = _settings(quality, cost)
    low, high = between or (float(c.mean(axis=1).min()), float(c.mean(axis=1).max()))
    if not low < high:
        raise SkillmoeError(f"AIQ needs a range of costs, given {low} to {high}")

    def area(mean: Array) -> float:
        costs, best = hull(mean[len(q) :], mean[: len(q)])
        inside = costs[(costs > low) & (costs < high)]
        grid = np.concatenate([[low], inside, [high]])
        return float(np.trapezoid(np.interp(grid, costs, best), grid) / (high - low))

    return _metric("AIQ", area, np.vstack([q, c]), n_boot=n_boot, seed=seed, level=level)


def hull(cost: ArrayLike, quality: ArrayLike) -> tuple[Array, Array]:
    """Corners of the non-decreasing convex hull, from the cheapest setting to the best one.

    Between two settings a router can toss a coin, so every point under the line between them can be had.
    """
    points = sorted(zip(np.asarray(cost, float), -np.asarray(quality, float), strict=True))
    corners: list[tuple[float, float]] = []
    for c, negative in points:
        q = -negative
        if corners and q <= corners[-1][1]:
            continue  # costs more and is no better
        while len(corners) > 1 and _slope(corners[-2], corners[-1]) <= _slope(corners[-1], (c, q)):
            corners.pop()
        corners.append((c, q))
    costs, best = zip(*corners, strict=True)
    return np.array(costs), np.array(best)


def _slope(one: tuple[float, float], other: tuple[float, float]) -> float:
    return (other[1] - one[1]) / (other[0] - one[0]) if other[0] > one[0] else math.inf


def relative_gain(
    correct: ArrayLike, reference: ArrayLike, *, name: str = "Gain@BestSingle", **options: Any
) -> Metric:
    """Accuracy over a reference's, minus 1: the mean over benchmarks of Acc / Acc_ref - 1 (LLMRouterBench).

    The reference is the best single model (Gain@BestSingle) or the mean of all (Gain@Random: each question's
    share of models that are right). `options`: `benchmarks` (shape (n_questions,), None: one), n_boot, seed,
    level.
    """
    return _ratio(name, correct, reference, lambda ratio: ratio - 1, **options)


def gap_at_oracle(correct: ArrayLike, any_right: ArrayLike, **options: Any) -> Metric:
    """Gap@Oracle: the mean over benchmarks of 1 - Acc / Acc_oracle; the oracle is right if any model is.

    `options` as of `relative_gain`.
    """
    return _ratio("Gap@Oracle", correct, any_right, lambda ratio: 1 - ratio, **options)


def perf_gain(
    correct: ArrayLike, single: ArrayLike, *, benchmarks: ArrayLike | None = None, **options: Any
) -> Metric:
    """PerfGain: the best accuracy of any setting over the best single model's, minus 1.

    `correct` has shape (n_settings, n_questions). The maximum is taken on the very questions that are judged,
    so it flatters a router with many settings; each resample takes its own. `benchmarks` as of
    `relative_gain`: accuracies are means over them. `options`: n_boot, seed, level.
    """
    right, one = _rows(correct, np.atleast_2d(single))

    def gain(mean: Array) -> float:
        return float(mean[:-1].max() / mean[-1] - 1) if mean[-1] > 0 else math.nan

    rows = _weighed(np.vstack([right, one[:1]]), benchmarks)
    return _metric("PerfGain", gain, rows, benchmarks=benchmarks, **options)


def cost_save(
    correct: ArrayLike,
    cost: ArrayLike,
    single: ArrayLike,
    single_cost: ArrayLike,
    *,
    benchmarks: ArrayLike | None = None,
    **options: Any,
) -> Metric:
    """CostSave: 1 - the least cost of any setting that is at least as accurate as the best single model, over
    that model's cost. Null if no setting is.

    `correct` and `cost` have shape (n_settings, n_questions). `benchmarks` as of `relative_gain`: accuracies
    are means over them, costs over questions. `options`: n_boot, seed, level.
    """
    right, paid = _settings(correct, cost)
    one, one_paid = _rows(np.atleast_2d(single), np.atleast_2d(single_cost))
    n = len(right)

    def saved(mean: Array) -> float:
        reached = mean[:n] >= mean[2 * n] - 1e-12
        if not reached.any() or mean[2 * n + 1] <= 0:
            return math.nan
        return float(1 - mean[n : 2 * n][reached].min() / mean[2 * n + 1])

    right, one = _weighed(right, benchmarks), _weighed(one, benchmarks)
    rows = np.vstack([right, paid, one, one_paid])
    return _metric("CostSave", saved, rows, benchmarks=benchmarks, **options)


def arena_score(correct: ArrayLike, money: ArrayLike, *, beta: float = BETA, **options: Any) -> Metric:
    """RouterArena's score S = (1 + beta) A C / (beta A + C).

    A is the accuracy, and C = (log2 c_max - log2 c) / (log2 c_max - log2 c_min) the cost on a scale from 0
    (c_max = 200) to 1 (c_min = 0.0044); c are dollars for 1,000 questions. Costs beyond these bounds are
    not clipped, as in its code. `money`: dollars for each question. `options`: n_boot, seed, level.
    """
    right, paid = _rows(np.atleast_2d(correct), np.atleast_2d(money))

    def score(mean: Array) -> float:
        if mean[1] <= 0:
            return math.nan
        c = (math.log2(C_MAX) - math.log2(1000 * mean[1])) / (math.log2(C_MAX) - math.log2(C_MIN))
        below = beta * mean[0] + c
        return float((1 + beta) * mean[0] * c / below) if below else math.nan

    return _metric("Arena score", score, np.vstack([right, paid]), **options)


def robustness(choices: Sequence[Any], reworded: Sequence[Any], *, level: float = 0.95) -> Interval:
    """RouterArena's robustness: 1 - the share of questions whose choice flips when they are reworded.

    Choices in the same order: the expert, or for k experts a tuple of them. Wilson's interval.
    """
    if len(choices) != len(reworded) or not choices:
        raise SkillmoeError(
            f"robustness needs one choice before and after for each question, given {len(choices)} and "
            f"{len(reworded)}"
        )
    kept = sum(one == other for one, other in zip(choices, reworded, strict=True))
    return wilson(kept, len(choices), level)


def _ratio(
    name: str,
    correct: ArrayLike,
    reference: ArrayLike,
    of: Callable[[Array], Array],
    *,
    benchmarks: ArrayLike | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Metric:
    """Mean over benchmarks of a function of Acc / Acc_reference; resampled within benchmarks."""
    rows = np.vstack(_rows(np.atleast_2d(correct), np.atleast_2d(reference)))
    groups, sizes = _groups(benchmarks, rows.shape[1])
    values, draws = [], []
    for group in range(len(sizes)):
        part = rows[:, groups == group]
        means = np.vstack([part.mean(axis=1), _resampled(part, n_boot, (seed, group))])
        with np.errstate(divide="ignore", invalid="ignore"):
            found = of(np.where(means[:, 1] > 0, means[:, 0] / means[:, 1], np.nan))
        values.append(found[0])
        draws.append(found[1:])
    return _summed(name, float(np.mean(values)), np.mean(draws, axis=0), rows.shape[1], level)


def _metric(
    name: str,
    of: Callable[[Array], float],
    rows: Array,
    *,
    benchmarks: ArrayLike | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Metric:
    """A function of the means of some rows, shape (m, n_questions); resampled within benchmarks."""
    groups, sizes = _groups(benchmarks, rows.shape[1])
    means = np.zeros((n_boot, len(rows)))
    for group, size in enumerate(sizes):
        part = _resampled(rows[:, groups == group], n_boot, (seed, group))
        means += part * (size / rows.shape[1])
    return _summed(name, of(rows.mean(axis=1)), np.array([of(mean) for mean in means]), rows.shape[1], level)


def _groups(benchmarks: ArrayLike | None, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of each question's benchmark, and the number of questions of each benchmark."""
    names = np.zeros(n) if benchmarks is None else np.asarray(benchmarks)
    groups = np.unique(names, return_inverse=True)[1]
    return groups, np.bincount(groups)


def _weighed(rows: Array, benchmarks: ArrayLike | None) -> Array:
    """Rows whose mean over all questions is the mean over benchmarks of the given rows' means."""
    groups, sizes = _groups(benchmarks, rows.shape[1])
    return np.asarray(rows * (rows.shape[1] / (len(sizes) * sizes[groups])))


def _summed(name: str, value: float, draws: Array, n: int, level: float) -> Metric:
    low, high = _span(draws, level)
    return Metric(name, value, low, high, n, float(np.isnan(draws).mean()), draws)


def _span(draws: Array, level: float) -> tuple[float, float]:
    known = draws[~np.isnan(draws)]
    if known.size == 0 or np.ptp(known) < 1e-12:
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled(rows: Array, n_boot: int, seed: tuple[int, int]) -> Array:
    """Means of the rows over resampled questions, shape (n_boot, m); the same resamples for every metric."""
    n = rows.shape[1]
    weights = generator("router metrics", *seed).multinomial(n, np.full(n, 1 / n), size=n_boot)
    return np.asarray(weights @ rows.T / n)


def _settings(quality: ArrayLike, cost: ArrayLike) -> list[Array]:
    """Rows of the same settings and questions."""
    q, c = _rows(quality, cost)
    if q.shape != c.shape:
        raise SkillmoeError(f"quality and cost need the same settings, given shapes {q.shape} and {c.shape}")
    return [q, c]


def _rows(*arrays: ArrayLike) -> list[Array]:
    found = [np.atleast_2d(np.asarray(values, dtype=float)) for values in arrays]
    if len({values.shape[1] for values in found}) > 1:
        given = " and ".join(str(values.shape) for values in found)
        raise SkillmoeError(f"a metric needs rows of the same questions, given {given}")
    for values in found:
        if values.shape[1] == 0 or np.isnan(values).any():
            raise SkillmoeError("a metric needs questions, and no nulls: leave out what is not known")
    return found

"""Intervals, paired tests and verdicts: how certain a difference between methods is at this n.

The unit sampled is the question. Seeds of one question are repeats, not new evidence: they are clustered
by question everywhere. A difference is always paired, except against published figures, for which there are
no answers for single questions. Accuracies, differences and margins are fractions, not percentages. Rows not
run are missing: counted and shown, never scored as wrong; a prompt that does not fit its model is wrong.
No interval has zero width: if all samples agree, resampling would claim certainty, so an exact bound is used
(see `paired_bootstrap`).
"""

import math
from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from skillmoe_lib import tables
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.seeding import generator

Rows = ArrayLike  # shape (rows,)
Groups = ArrayLike | None
Array = NDArray[Any]
_USED = ["method", "benchmark", "seed", "question_id", "status", "correct"]


class Interval(NamedTuple):
    """An estimate with its interval; `n` counts questions, not rows. `Interval()`: nothing was run."""

    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0


class Flips(NamedTuple):
    """The paired two-by-two table of right and wrong, over `n` pairs."""

    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    n: int


class Detectable(NamedTuple):
    """The smallest paired difference that a comparison of this size can detect, and its assumptions.

    `alpha` is the level of one test after correction for `n_tests`; `discordance` the share of pairs that
    exactly one of the two methods has right. `difference` is null if no difference could be detected.
    """

    difference: float
    n_questions: int
    discordance: float
    alpha: float
    n_tests: int
    power: float

    def __str__(self) -> str:
        """One sentence for a report."""
        if not self.n_tests:
            return "Nothing was tested."
        about = (
            f"{self.n_questions} questions, of which {100 * self.discordance:.0f} of 100 are right by only "
            f"one of two methods (the median of {self.n_tests} tests), each test at {100 * self.alpha:.2g}%"
        )
        if math.isnan(self.difference):
            return f"{about}: no difference is found with a power of {100 * self.power:.0f}%."
        return f"{about}: a power of {100 * self.power:.0f}% takes {100 * self.difference:.1f} points."


class Verdict(NamedTuple):
    """A difference, its interval, and the verdict they allow."""

    difference: float
    low: float
    high: float
    verdict: Literal["agrees", "differs", "cannot tell"]


def wilson(n_correct: float, n: int, level: float = 0.95) -> Interval:
    """Score interval of a proportion (Wilson 1927); never of zero width, even at 0 and at n."""
    if n < 1 or not 0 <= n_correct <= n or not 0 < level < 1:
        given = f"given {n_correct}, {n} and {level}"
        raise SkillmoeError(f"need 0 <= n_correct <= n, n of at least 1 and 0 < level < 1, {given}")
    low, high = proportion_confint(n_correct, n, alpha=1 - level, method="wilson")
    estimate = float(n_correct / n)  # rounding may put a bound just past the estimate
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate), n)


def paired_bootstrap(
    a: Rows, b: Rows, *, groups: Groups = None, n_boot: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Percentile bootstrap of mean(a) - mean(b) over questions.

    `a` and `b` are outcomes in [0, 1], aligned: row i of both is the same question and seed. `groups`
    names each row's question (without it each row is its own): whole questions are resampled, so seeds
    stay together, and the order of rows does not matter.

    If every question shows the same difference c, resampling can show no other. Questions that
    differ from c in one direction then have a rate of at most u = 1 - (alpha / 2)^(1/n), the
    Clopper-Pearson bound for 0 of n (about 3.7 / n), and at worst lie at the end of [-1, 1]: so
    low = c - u (1 + c) and high = c + u (1 - c); for c = 0 that is -u to u. (BCa would be NaN.)
    """
    x, y = _aligned(a, b)
    return _with_width(_bootstrap(x - y, groups, n_boot, level, seed), level)


def bootstraps(
    differences: ArrayLike, *, n_boot: int = 2000, level: float = 0.95, seed: int = 0
) -> list[Interval]:
    """`paired_bootstrap` of many differences on the same questions, shape (m, n_questions), in one pass.

    All rows see the same resamples, and each gets the interval that it would get by itself.
    """
    values = np.asarray(differences, dtype=float)
    if not (np.abs(values) <= 1).all():
        raise SkillmoeError("differences must lie from -1 to 1, without nulls: leave out what was not run")
    if not values.size:
        return []
    n, random = values.shape[1], generator("bootstrap", seed)
    draws = np.array([np.bincount(random.integers(n, size=n), minlength=n) for _ in range(n_boot)])
    ends = np.quantile(draws @ values.T / n, [(1 - level) / 2, (1 + level) / 2], axis=0)
    found = zip(values.mean(axis=1).tolist(), *ends.tolist(), strict=True)
    return [_with_width(Interval(estimate, low, high, n), level) for estimate, low, high in found]


def _with_width(value: Interval, level: float) -> Interval:
    """The interval, or where resampling shows no spread that of `paired_bootstrap`."""
    if value.high - value.low > 1e-12:
        return value
    c, u = value.estimate, 1 - ((1 - level) / 2) ** (1 / value.n)
    return value._replace(low=c - u * (1 + c), high=c + u * (1 - c))


def flips(a: Rows, b: Rows) -> Flips:
    """How often both, one or neither is right, from aligned binary outcomes."""
    x, y = (values == 1 for values in _aligned(a, b, binary=True))
    return Flips(int((x & y).sum()), int((x & ~y).sum()), int((~x & y).sum()), int((~x & ~y).sum()), x.size)


def mcnemar_exact(a: Rows, b: Rows, *, groups: Groups = None) -> float:
    """Two-sided exact McNemar p of aligned binary outcomes; 1 if nothing differs.

    With several seeds (`groups` as in `paired_bootstrap`) it is the exact sign-flip test, of which McNemar's
    is the special case of one seed: differences are summed over a question's seeds, and if the methods
    are equal each sum is as likely with the other sign. Pooling seeds would count repeats as new questions.
    """
    x, y = _aligned(a, b, binary=True)
    sums = _clusters(x - y, groups)[0].astype(int)
    law = np.array([1.0])  # probability of each possible total; one binomial for each size of sum
    for size, count in zip(*np.unique(np.abs(sums[sums != 0]), return_counts=True), strict=True):
        part = np.zeros(2 * size * count + 1)
        part[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        law = np.asarray(np.convolve(law, part))
    totals = np.arange(law.size) - law.size // 2
    return min(1.0, float(law[np.abs(totals) >= abs(sums.sum())].sum()))


def holm(p_values: Mapping[Any, float]) -> dict[Any, float]:
    """Holm's (1979) adjusted p for one family of tests; a null p stays null and is not counted."""
    known = {name: p for name, p in p_values.items() if not math.isnan(p)}
    adjusted = multipletests(list(known.values()), method="holm")[1] if known else []
    return dict.fromkeys(p_values, math.nan) | dict(zip(known, map(float, adjusted), strict=True))


def tost(
    a: Rows, b: Rows, *, margin: float, groups: Groups = None, alpha: float = 0.05, seed: int = 0
) -> Verdict:
    """Two one-sided tests at `alpha` (TOST, Schuirmann 1987), by interval inclusion.

    "agrees" if the 1 - 2 alpha interval of `paired_bootstrap` (arguments as there) lies inside -margin
    to margin, "differs" if it lies outside, otherwise "cannot tell".
    """
    d, low, high, _ = paired_bootstrap(a, b, groups=groups, level=1 - 2 * alpha, seed=seed)
    inside, outside = -margin < low and high < margin, low > margin or high < -margin
    return Verdict(d, low, high, "agrees" if inside else "differs" if outside else "cannot tell")


def minimum_detectable_difference(
    n: int, *, discordance: float, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Smallest paired difference of two accuracies that n questions detect with this power.

    Solves Connor (1987, Biometrics 43:207) for d: sqrt(n) d = z(1 - alpha/2) sqrt(psi) + z(power)
    sqrt(psi - d^2), where psi = `discordance` is the share of questions on which exactly one method is
    right. NaN if n is too small for any difference: d cannot exceed psi.
    """
    z_a, z_b = stats.norm.ppf([1 - alpha / 2, power])
    root = z_a * math.sqrt(n) + z_b * math.sqrt(max(0.0, n + z_b**2 - z_a**2))
    difference = float(math.sqrt(discordance) * root / (n + z_b**2))
    return difference if difference <= discordance and n >= z_a**2 else math.nan


def questions_needed(gain: float, *, discordance: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Number of questions that detect a paired difference `gain` with this power (inverse of the above)."""
    if not 0 < gain <= discordance <= 1:
        raise SkillmoeError(f"need 0 < gain <= discordance <= 1, given {gain} and {discordance}")
    z_a, z_b = stats.norm.ppf([1 - alpha / 2, power])
    root = (z_a * math.sqrt(discordance) + z_b * math.sqrt(discordance - gain**2)) / gain
    return math.ceil(float(root**2) - 1e-9)


def accuracy_table(results: pd.DataFrame, *, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Accuracy of each method and benchmark, its interval, and the number of rows of each status.

    Columns: method, benchmark, accuracy, low, high, n_questions, n_seeds, n_correct, n_answered,
    n_unparsed, n_cut, n_overflow, n_not_run. Unparsed, cut and overflow (a prompt that does not fit the
    model) count as wrong; rows not run are left out and counted (accuracy is null if nothing ran). One seed:
    Wilson. Several: percentile bootstrap over questions, or Wilson with n = questions if all questions agree.
    """
    rows: list[dict[str, Any]] = []
    for (method, benchmark), part in _checked(results).groupby(["method", "benchmark"], sort=False):
        ran = part[part["status"] != "not_run"]
        right, n_seeds, value = ran["correct"].to_numpy(float), len(set(ran["seed"])), Interval()
        if n_seeds > 1:
            value = _bootstrap(right, ran["question_id"], 2000, level, seed)
        if n_seeds == 1 or value.high - value.low < 1e-12:
            value = wilson(right.mean() * (n := ran["question_id"].nunique()), n, level)
        row = {"method": method, "benchmark": benchmark, "accuracy": value.estimate, "low": value.low}
        row |= {"high": value.high, "n_questions": value.n, "n_seeds": n_seeds, "n_correct": int(right.sum())}
        rows.append(row | {f"n_{name}": int((part["status"] == name).sum()) for name in tables.STATUSES})
    return pd.DataFrame(rows)


def compare(
    results: pd.DataFrame,
    *,
    baseline: str,
    family: str = "benchmark",
    alpha: float = 0.05,
    seed: int = 0,
    bounds: Collection[str] = tables.BOUNDS,
) -> pd.DataFrame:
    """Every method against one reference method, paired by seed and question.

    Columns: method, benchmark, baseline, difference, low, high, n_questions, n_seeds, n_missing (pairs
    with a side that was not run), both_right, only_method, only_baseline, both_wrong (pairs), p
    (`mcnemar_exact`, seeds clustered), p_holm (over `family`: "benchmark" or "all" rows), same_as, verdict.
    "better" and "worse" need both p_holm < alpha and an interval (of level 1 - alpha) that excludes 0;
    anything else is "cannot tell", which is not "equal": see `tost`. A benchmark without the baseline, or a
    method that shares no question with it, is a `SkillmoeError`.

    Rows that are not tests are not in Holm's family. `bounds` (oracles) have no p: they are chosen by the
    test questions themselves ("bound"). A method that made the same requests as another (every answer,
    status and token count equal; only if the results hold these columns) is that method under a second
    name, given in `same_as`: if that is the baseline, it has no p either ("same as the baseline"); if it
    is an earlier method, it takes that method's p_holm and is not counted again.
    """
    families = {"benchmark": "benchmark", "all": "baseline"}
    if family not in families:
        raise unknown("family", family, families)
    rows: list[dict[str, Any]] = []
    for benchmark, part in _checked(results).groupby("benchmark", sort=False):
        run = {str(name): own for name, own in part.groupby("method", sort=False)}
        if baseline not in run:
            raise unknown(f"baseline on {benchmark}", baseline, run)
        twins = _twins(results[results["benchmark"] == benchmark], first=baseline)
        for method in [name for name in run if name != baseline]:
            pairs = run[method].merge(run[baseline], "outer", ["seed", "question_id"], suffixes=("_a", "_b"))
            if pairs[["status_a", "status_b"]].isna().any(axis=1).all():
                raise SkillmoeError(f"{method!r} and {baseline!r} share no question and seed of {benchmark}")
            row = {"method": method, "benchmark": benchmark, "baseline": baseline}
            row |= _paired_row(pairs, alpha, seed) | {"same_as": twins.get(method)}
            if method in bounds or twins.get(method) == baseline:
                row["p"] = math.nan
            rows.append(row)
    if not rows:
        raise SkillmoeError(f"nothing to compare with {baseline!r}: the results hold no other method")
    frame = pd.DataFrame(rows)
    tested = frame["p"].where(frame["same_as"].isna())
    frame["p_holm"] = pd.concat(
        pd.Series(holm(p.to_dict())) for _, p in tested.groupby(frame[families[family]])
    )
    first = frame.set_index(["benchmark", "method"])["p_holm"]
    again = frame["same_as"].notna() & frame["p"].notna()
    others = zip(frame.loc[again, "benchmark"], frame.loc[again, "same_as"], strict=True)
    frame.loc[again, "p_holm"] = [first[other] for other in others]
    sure = frame["p_holm"] < alpha
    bound, same = frame["method"].isin(bounds), frame["same_as"] == baseline
    sides = [bound, same, sure & (frame["low"] > 0), sure & (frame["high"] < 0)]
    verdicts = ["bound", "same as the baseline", "better", "worse"]
    order = [name for name in frame if name != "same_as"] + ["same_as"]
    return frame[order].assign(verdict=np.select(sides, verdicts, "cannot tell"))


def detectable(compared: pd.DataFrame, *, alpha: float = 0.05, power: float = 0.8) -> Detectable:
    """The difference that the tests of `compare` detect with this power, at the discordance they observed.

    The level of one test is alpha over the number of tests (the first and strictest step of Holm's
    procedure); n and the discordance are the medians over the tests. One benchmark at a time.
    """
    tested = compared[compared["p"].notna() & compared["same_as"].isna()]
    if tested.empty:
        return Detectable(math.nan, 0, math.nan, alpha, 0, power)
    cells = tested[["both_right", "only_method", "only_baseline", "both_wrong"]].astype(float)
    discordance = float(((cells["only_method"] + cells["only_baseline"]) / cells.sum(axis=1)).median())
    n, level = int(tested["n_questions"].median()), alpha / len(tested)
    difference = minimum_detectable_difference(n, discordance=discordance, power=power, alpha=level)
    return Detectable(difference, n, discordance, level, len(tested), power)


def verdict_against(
    published: float,
    ours: Interval,
    *,
    n: int,
    std: float | None = None,
    n_seeds: int = 3,
    margin: float = 0.02,
) -> Verdict:
    """Our accuracy against a published one: agrees, differs, or cannot tell at this n.

    `published` is a mean accuracy over `n` questions and `std` its standard deviation over `n_seeds`
    seeds (None if none is given), all fractions; `ours` is a 95% interval. The std ignores that the
    questions are a sample too, so a Wilson interval of the published accuracy at n is added. The 95%
    interval of the difference adds the squares of three distances (MOVER: Newcombe 1998, Zou and Donner
    2008): ours, the published Wilson, and t(n_seeds - 1) std / sqrt(n_seeds). "differs": it excludes 0.
    "agrees": it contains 0 and lies within -margin to margin. The difference is unpaired: if both ran
    the same questions, the interval is too wide rather than too narrow.
    """
    std = std or 0.0
    if not (0 <= published <= 1 and 0 <= std <= 1 and n_seeds > 1):
        raise SkillmoeError(f"need fractions and n_seeds of 2 or more, given {published}, {std}, {n_seeds}")
    theirs = wilson(published * n, n)
    spread = seed_spread(std, n_seeds=n_seeds)
    difference = ours.estimate - published
    low = difference - math.hypot(ours.estimate - ours.low, theirs.high - published, spread)
    high = difference + math.hypot(ours.high - ours.estimate, published - theirs.low, spread)
    inside, outside = -margin <= low and high <= margin, low > 0 or high < 0
    return Verdict(difference, low, high, "differs" if outside else "agrees" if inside else "cannot tell")


def seed_spread(std: float, *, n_seeds: int = 3) -> float:
    """Half-width of the 95% interval of a mean over seeds, t(n_seeds - 1) std / sqrt(n_seeds)."""
    return float(stats.t.ppf(0.975, n_seeds - 1)) * std / math.sqrt(n_seeds)


def _twins(results: pd.DataFrame, *, first: str) -> dict[str, str]:
    """Method -> the earlier method (`first` comes first) whose every answer and token count it shares."""
    told = ["answer", "status", "calls", "prompt_tokens", "output_tokens"]
    if not {"answer", "prompt_tokens", "output_tokens"} <= set(results):
        return {}
    kept = [name for name in told if name in results]
    seen: dict[int, str] = {}
    twins: dict[str, str] = {}
    groups = {str(name): own for name, own in results.groupby("method", sort=False)}
    for method in [first, *(name for name in groups if name != first)]:
        rows = groups[method].sort_values(["seed", "question_id"])[["seed", "question_id", *kept]]
        if not rows["prompt_tokens"].fillna(0).sum():
            continue  # a bound, which asked nothing
        mark = hash(rows.astype(str).to_csv(index=False))
        if mark in seen:
            twins[method] = seen[mark]
        seen.setdefault(mark, method)
    return twins


def _paired_row(pairs: pd.DataFrame, alpha: float, seed: int) -> dict[str, Any]:
    not_run = pairs[["status_a", "status_b"]].fillna("not_run") == "not_run"
    ran = pairs[~not_run.any(axis=1)]
    a, b, ids = (ran[name].to_numpy() for name in ("correct_a", "correct_b", "question_id"))
    value, p = Interval(), math.nan
    if len(ran):
        value = paired_bootstrap(a, b, groups=ids, level=1 - alpha, seed=seed)
        p = mcnemar_exact(a, b, groups=ids)
    row = {"difference": value.estimate, "low": value.low, "high": value.high, "n_questions": value.n}
    row |= {"n_seeds": len(set(ran["seed"])), "n_missing": len(pairs) - len(ran)}
    cells = ["both_right", "only_method", "only_baseline", "both_wrong"]
    return row | dict(zip(cells, flips(a, b), strict=False)) | {"p": p}


def _bootstrap(values: Array, groups: Groups, n_boot: int, level: float, seed: int) -> Interval:
    """Percentile interval of the mean over resampled groups; of zero width if all groups agree."""
    if not 0 < level < 1:
        raise SkillmoeError(f"level must lie between 0 and 1, given {level}")
    (sums, counts), random = _clusters(values, groups), generator("bootstrap", seed)
    draws = (random.integers(sums.size, size=sums.size) for _ in range(n_boot))
    even = bool((counts == counts[0]).all())  # then every resample has as many rows
    means = [sums[drawn].sum() / (counts.sum() if even else counts[drawn].sum()) for drawn in draws]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high), sums.size)


def _clusters(values: Array, groups: Groups) -> tuple[Array, Array]:
    """Sum and count of the values of each group, in the order of the groups' names."""
    if values.size == 0:
        raise SkillmoeError("an interval needs at least one question, given none")
    names = np.arange(values.size) if groups is None else np.asarray(groups).astype(str)
    if names.shape != values.shape:
        raise SkillmoeError(f"groups must name the question of all {values.size} rows, given {names.size}")
    inverse = np.unique(names, return_inverse=True)[1]
    return np.bincount(inverse, weights=values), np.bincount(inverse)


def _aligned(a: Rows, b: Rows, *, binary: bool = False) -> tuple[Array, Array]:
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if x.shape != y.shape or x.ndim != 1:
        raise SkillmoeError(f"a and b must be aligned rows, given shapes {x.shape} and {y.shape}")
    both = np.concatenate([x, y])
    if not ((both >= 0) & (both <= 1)).all() or (binary and not np.isin(both, (0, 1)).all()):
        allowed = "right (1) or wrong (0)" if binary else "outcomes from 0 to 1"
        raise SkillmoeError(f"a and b must hold {allowed} and no nulls: leave out what was not run")
    return x, y


def _checked(results: pd.DataFrame) -> pd.DataFrame:
    """The columns used here, checked; more columns than `tables.RESULTS` has, or no costs, are fine."""
    if absent := [name for name in _USED if name not in results]:
        raise SkillmoeError(f"results lack the column {absent[0]!r}: they need {', '.join(_USED)}")
    if results.empty or results[_USED].isna().to_numpy().any():  # the schema would coerce null to True
        raise SkillmoeError("results must have rows, and no null in " + ", ".join(_USED))
    return tables.check(results[_USED], tables.RESULTS.select_columns(_USED))

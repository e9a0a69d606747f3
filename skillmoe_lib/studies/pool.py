"""What each expert of a pool is worth, and how large the pool, k, the budget and validation need to be.

A game (`games`) says which questions every sub-pool answers right under one method. The value of an expert
is what the pool loses without it (leave-one-out), or its mean gain over all orders in which the pool could
have been put together (Shapley 1953; for members of an ensemble Rozemberczki and Sarkar 2021, "The Shapley
value of classifiers in ensemble games").

Intervals are over questions (`evaluation.intervals`), and what was learnt on validation is held fixed; only
the learning curve draws the validation questions anew too.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import comb
from scipy.stats import norm
from scipy.stats import t as student_t

from skillmoe_lib import seeding
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.intervals import Interval, bootstraps, paired_bootstrap, wilson
from skillmoe_lib.studies import what_if as replay
from skillmoe_lib.studies.games import EXACT_UP_TO, Game, game, members_of
from skillmoe_lib.studies.outcomes import COSTS, Bools, Floats, Ints, Outcomes
from skillmoe_lib.studies.what_if import WhatIf, what_if

N_PERMUTATIONS = 100
POINT = 0.01


# -- the value of an expert -----------------------------------------------------------------------------


def shapley_of(values: Floats | Bools) -> Floats:
    """Shapley values from the worth of every sub-pool, shape (2**n, ...) -> (n, ...).

    phi_i = sum over sub-pools S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S)). They add up to
    v(all) - v(none).
    """
    return np.asarray(gains_of(values).mean(axis=1))


def gains_of(values: Floats | Bools) -> Floats:
    """The mean gain of each expert by how many it joins, shape (2**n, ...) -> (n, n, ...).

    Row i, column s: what expert i adds on average to sub-pools of s others. The mean of a row is the expert's
    Shapley value.
    """
    n = int(values.shape[0]).bit_length() - 1
    if values.shape[0] != 2**n or n < 1:
        raise SkillmoeError(f"values must be those of all 2**n sub-pools, given {values.shape[0]}")
    flat, size = values.reshape(2**n, -1), np.bitwise_count(np.arange(2**n))
    with_it, every = np.zeros((n, n + 1, flat.shape[1])), np.zeros((n + 1, flat.shape[1]))
    for count in range(n + 1):
        pools = np.flatnonzero(size == count)
        for at in range(0, len(pools), 2048):  # in parts, for the memory
            worth = flat[pools[at : at + 2048]].astype(float)
            with_it[:, count] += members_of(pools[at : at + 2048], n).T.astype(float) @ worth
            every[count] += worth.sum(axis=0)
    gained = with_it[:, 1:] - (every[:n] - with_it[:, :n])
    return np.asarray((gained / comb(n - 1, np.arange(n))[:, None]).reshape(n, n, *values.shape[1:]))


def shapley(
    played: Game, *, n_permutations: int | None = None, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Each expert's Shapley value: expert, value, low, high, n_questions, n_permutations (0: exact).

    The values add up to the accuracy of the whole pool. `n_permutations` orders are drawn where the pool is
    too large to play every sub-pool (None: `EXACT_UP_TO` decides); the interval then also has the error of
    that draw, the squares of both half-widths added.
    """
    n = len(played.experts)
    if n_permutations is None:
        n_permutations = 0 if n <= EXACT_UP_TO[played.method] else N_PERMUTATIONS
    spread = np.zeros(n)
    if n_permutations == 0:
        by_question = shapley_of(played.play(np.arange(2**n)))
    else:
        by_question, spread = _sampled(played, n_permutations, seed)
    z = float(norm.ppf((1 + level) / 2))
    means = means_of(by_question, level=level, seed=seed)
    rows = [
        (expert, *_wider(value, z * error), n_permutations)
        for expert, value, error in zip(played.experts, means, spread, strict=True)
    ]
    columns = ["expert", "value", "low", "high", "n_questions", "n_permutations"]
    return _best_first(pd.DataFrame(rows, columns=columns))


def _sampled(played: Game, n_permutations: int, seed: int) -> tuple[Floats, Floats]:
    """Mean gains over random orders, shape (n, n_questions), and the standard error of their means, (n,)."""
    n = len(played.experts)
    orders = np.array([seeding.generator("order", seed, i).permutation(n) for i in range(n_permutations)])
    before = np.concatenate([np.zeros((n_permutations, 1), int), (1 << orders).cumsum(axis=1)], axis=1)
    pools, back = np.unique(before, return_inverse=True)
    won = played.play(pools).astype(np.int8)
    gains, means = np.zeros((n, len(played.question_ids))), np.zeros((n_permutations, n))
    for i, (order, at) in enumerate(zip(orders, back.reshape(before.shape), strict=True)):
        gained = np.diff(won[at], axis=0)
        gains[order] += gained / n_permutations
        means[i, order] = gained.mean(axis=1)
    return gains, means.std(axis=0, ddof=1) / math.sqrt(n_permutations)


def leave_one_out(
    outcomes: Outcomes, *, method: str = "vote", level: float = 0.95, seed: int = 0, **settings: Any
) -> pd.DataFrame:
    """What the pool loses without each expert, everything learnt again.

    `method` is one of `what_if.METHODS`, with its `settings`, or "vote": all experts vote.

    Columns: expert, value (accuracy of the whole pool minus that without the expert), low, high (paired by
    question), n_questions, without (the accuracy that is left), device_seconds (what the whole pool takes
    more per question), per_device_second with its low and high (value over those seconds, which are taken as
    exact; null if they are unknown or not saved).
    """
    n = len(outcomes.experts)
    if n < 2:
        raise SkillmoeError(f"leaving one out takes a pool of at least 2 experts, given {n}")
    everyone, all_but_one = settings, settings
    if method == "vote":
        method, everyone, all_but_one = "top_k", {**settings, "k": n}, {**settings, "k": n - 1}
    whole = what_if(outcomes, method=method, seed=seed, **everyone)
    rests = [[name for name in outcomes.experts if name != expert] for expert in outcomes.experts]
    left = [what_if(outcomes, experts=rest, method=method, seed=seed, **all_but_one) for rest in rests]
    lost = [whole.correct.astype(float) - without.correct for without in left]
    values = bootstraps(lost, level=level, seed=seed)
    rows = []
    for expert, without, (value, low, high, count) in zip(outcomes.experts, left, values, strict=True):
        seconds = whole.cost["device_seconds"] - without.cost["device_seconds"]
        rates = [share / seconds if seconds > 0 else math.nan for share in (value, low, high)]
        rows.append((expert, value, low, high, count, without.accuracy.estimate, seconds, *rates))
    columns = ["expert", "value", "low", "high", "n_questions", "without", "device_seconds"]
    per_second = [f"per_device_second{end}" for end in ("", "_low", "_high")]
    return _best_first(pd.DataFrame(rows, columns=[*columns, *per_second]))


def gains_by_size(played: Game, types: Mapping[str, str] | None = None, *, seed: int = 0) -> pd.DataFrame:
    """What one more expert of a type adds to pools of each size: type, size, gain, low, high, n_questions.

    The mean over all experts of the type and all sub-pools of `size` others. The last size is the whole pool
    without one: what the present pool would gain from one more like these, if it is like these. `types` maps
    each expert to its type (None: each is its own). Needs a pool whose every sub-pool can be played.
    """
    n = len(played.experts)
    if n > EXACT_UP_TO[played.method]:
        raise SkillmoeError(
            f"gains by size of {played.method!r} need at most {EXACT_UP_TO[played.method]} experts, given {n}"
        )
    kinds = np.array([(types or {}).get(name, name) for name in played.experts], dtype=object)
    gains = gains_of(played.play(np.arange(2**n)))
    rows = []
    for kind in dict.fromkeys(kinds):
        by_size = means_of(gains[kinds == kind].mean(axis=0), seed=seed)
        rows += [(kind, size, *gain) for size, gain in enumerate(by_size)]
    return pd.DataFrame(rows, columns=["type", "size", "gain", "low", "high", "n_questions"])


def best_subjects(outcomes: Outcomes) -> dict[str, str]:
    """A type for each expert: the subject in which it exceeds the pool's mean most on validation."""
    rows = outcomes.rows("validation")
    ran = np.where(outcomes.ran[rows], outcomes.correct[rows].astype(float), np.nan)
    frame = pd.DataFrame(ran, columns=list(outcomes.experts))
    by_subject = frame.groupby(outcomes.questions["subject"].to_numpy()[rows]).mean()
    above = by_subject.sub(by_subject.mean(axis=1), axis=0)
    return {str(name): str(above[name].idxmax()) for name in above}


# -- redundancy -----------------------------------------------------------------------------------------


def redundancy(
    outcomes: Outcomes, *, split: str = "test", n_boot: int = 1000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """How much each pair of experts is alike.

    Columns: expert, other, n_questions, agreement (both give the same answer; agreement_low, agreement_high:
    Wilson), both_wrong, same_wrong (of the questions that both get wrong, the share on which they give the
    same answer), error_correlation (phi coefficient of being wrong) with low and high, a percentile bootstrap
    over questions. Null where it is not defined: an expert that is always right or always wrong.
    """
    rows = outcomes.rows(split)
    wrong = (~outcomes.correct[rows]).astype(float)
    given = outcomes.answer[rows]
    n = len(rows)
    random = seeding.generator("redundancy", seed)
    weights = random.multinomial(n, np.full(n, 1 / n), size=n_boot) / n
    mean = weights @ wrong
    found = []
    for i, expert in enumerate(outcomes.experts):
        for j in range(i + 1, len(outcomes.experts)):
            both = wrong[:, i] * wrong[:, j]
            same = (given[:, i] == given[:, j]) & (given[:, i] >= 0)
            drawn = _phi(weights @ both, mean[:, i], mean[:, j])
            low, high = (
                np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
                if np.isfinite(drawn).any()
                else (math.nan, math.nan)
            )
            agreement = wilson(int(same.sum()), n, level)
            alike = float((same & (both > 0)).sum() / both.sum()) if both.any() else math.nan
            phi = float(_phi(both.mean(), wrong[:, i].mean(), wrong[:, j].mean()))
            found.append(
                (
                    expert,
                    outcomes.experts[j],
                    n,
                    *agreement[:3],
                    both.mean(),
                    alike,
                    phi,
                    float(low),
                    float(high),
                )
            )
    columns = ["expert", "other", "n_questions", "agreement", "agreement_low", "agreement_high", "both_wrong"]
    columns += ["same_wrong", "error_correlation", "low", "high"]
    return pd.DataFrame(found, columns=columns)


def _phi(both: Any, one: Any, other: Any) -> Any:
    spread = np.sqrt(one * (1 - one) * other * (1 - other))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, (both - one * other) / spread, np.nan)


# -- how much is enough ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class SmallestPool:
    """A sub-pool chosen on validation, and on test its accuracy and its difference to the whole pool."""

    experts: tuple[str, ...]
    validation: float
    accuracy: Interval
    whole: Interval
    difference: Interval
    n_tried: int


def smallest_pool(
    outcomes: Outcomes, method: str = "vote", *, within: float = POINT, seed: int = 0, **settings: Any
) -> SmallestPool:
    """The smallest sub-pool that loses at most `within` of the whole pool's accuracy on validation.

    Of equally small ones the most accurate on validation. All sub-pools are tried up to `EXACT_UP_TO`
    experts; of a larger pool the expert that is missed least is taken out, again and again. The more are
    tried, the more the validation accuracy flatters: read the difference on test.
    """
    fitting = game(outcomes, method, split="validation", seed=seed, **settings)
    n = len(fitting.experts)
    if n <= EXACT_UP_TO[method]:
        pools = np.arange(1, 2**n)
        right = fitting.play(pools).mean(axis=1)
    else:
        pools, right = _taken_out(fitting)
    enough = right >= right[pools == fitting.whole] - within - 1e-12
    size = np.bitwise_count(pools).astype(int)
    at = np.lexsort((pools, -right, size, ~enough))[0]
    judged = game(outcomes, method, split="test", seed=seed, **settings)
    chosen, whole = judged.play(np.array([pools[at], judged.whole]))
    return SmallestPool(
        tuple(
            name for name, here in zip(fitting.experts, members_of(pools[[at]], n)[0], strict=True) if here
        ),
        float(right[at]),
        wilson(int(chosen.sum()), chosen.size),
        wilson(int(whole.sum()), whole.size),
        paired_bootstrap(chosen.astype(float), whole.astype(float), seed=seed),
        len(pools),
    )


def _taken_out(played: Game) -> tuple[Ints, Floats]:
    """Sub-pools from the whole down to one expert, each without the expert that was missed least."""
    pools = [played.whole]
    right = [float(played.play(np.array(pools)).mean())]
    while np.bitwise_count(pools[-1]) > 1:
        here = np.flatnonzero(members_of(np.array(pools[-1:]), len(played.experts))[0])
        tried = pools[-1] ^ (1 << here)
        means = played.play(tried).mean(axis=1)
        pools.append(int(tried[means.argmax()]))
        right.append(float(means.max()))
    return np.array(pools), np.array(right)


def by_k(
    outcomes: Outcomes,
    *,
    methods: Sequence[str] = ("top_k", "random_k", "majority_vote", "committee", "sequential"),
    ks: Iterable[float] = (1, 3, 5),
    seeds: Sequence[int] = (0,),
    baseline: str = "top_k",
    reference: float = 0,
    **settings: Any,
) -> pd.DataFrame:
    """Accuracy of each method at each k, against the baseline at the same k and against another k.

    Columns: method, k, accuracy, low, high, n_questions, calls, difference, difference_low, difference_high
    (to the baseline, paired by question; null where it cannot have this k), change, change_low, change_high
    (to the same method at k = `reference`, one of `ks`; 0: none), and the costs. For sequential recruiting k
    is the average number of calls that its threshold is chosen for. Methods that draw run with every seed,
    and the draws of a question stay together in the interval.
    """
    found: dict[tuple[str, float], list[WhatIf]] = {}
    for k in ks:
        for method in dict.fromkeys([baseline, *methods]):
            if method not in replay.SEQUENTIAL and (k != int(k) or k > len(outcomes.experts)):
                continue  # slots are whole, and at most one for each expert
            drawn = seeds if method in replay.DRAWN else seeds[:1]
            found[method, k] = [what_if(outcomes, method=method, k=k, seed=n, **settings) for n in drawn]
    right = {key: np.mean([one.correct for one in done], axis=0) for key, done in found.items()}

    pairs = [((m, k), other) for m, k in found for other in ((baseline, k), (m, reference)) if other in right]
    gaps = dict(zip(pairs, bootstraps([right[one] - right[other] for one, other in pairs]), strict=True))

    def gap(one: tuple[str, float], other: tuple[str, float]) -> Interval:
        return gaps[one, other] if one != other and other in right else Interval()

    rows = []
    for (method, k), done in found.items():
        if method in methods:
            accuracy = done[0].accuracy if len(done) == 1 else mean_of(right[method, k])
            against = *gap((method, k), (baseline, k))[:3], *gap((method, k), (method, reference))[:3]
            calls = float(np.mean([one.calls for one in done]))
            costs = [float(np.mean([one.cost[name] for one in done])) for name in COSTS]
            rows.append((method, k, *accuracy, calls, *against, *costs))
    columns = ["method", "k", "accuracy", "low", "high", "n_questions", "calls"]
    columns += [f"{gap}{end}" for gap in ("difference", "change") for end in ("", "_low", "_high")]
    frame = pd.DataFrame(rows, columns=[*columns, *COSTS])
    order = {method: i for i, method in enumerate(methods)}
    return frame.sort_values("method", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def learning_curve(
    outcomes: Outcomes,
    *,
    methods: Sequence[str] = ("top_k", "majority_vote", "sequential"),
    sizes: Sequence[int] = (25, 50, 100, 200),
    n_draws: int = 5,
    k: float = 3,
    level: float = 0.95,
    **settings: Any,
) -> pd.DataFrame:
    """Test accuracy against the number of validation questions learnt from.

    Columns: method, n_validation, accuracy, low, high, n_questions, spread (standard deviation between
    validation sets), difference (to all validation questions, paired), difference_low, difference_high,
    n_draws. Each size is drawn `n_draws` times; all of validation is the last row. Intervals are over test
    questions and, the squares of half-widths added, over the draws of validation questions. Draws overlap if
    the size is not small against the whole, and then look more alike than new questions would.
    """
    n_all = len(outcomes.rows("validation"))
    if wrong := [size for size in sizes if not 1 <= size < n_all]:
        raise SkillmoeError(f"sizes must be from 1 to {n_all - 1} validation questions, given {wrong[0]}")
    t = float(student_t.ppf((1 + level) / 2, n_draws - 1)) if n_draws > 1 else math.nan
    drawn_sets: dict[tuple[str, int], list[Bools]] = {}
    for size in sizes:
        for i in range(n_draws):
            known = outcomes.limited(size, seed=i)
            for method in methods:
                one = what_if(known, method=method, k=k, seed=i, **settings)
                drawn_sets.setdefault((method, size), []).append(one.correct)
    points, values = list[tuple[Any, ...]](), list[Floats]()
    for method in methods:
        drawn = range(n_draws) if method in replay.DRAWN else range(1)
        full = np.mean(
            [what_if(outcomes, method=method, k=k, seed=i, **settings).correct for i in drawn], axis=0
        )
        for size in sizes:
            done = drawn_sets[method, size]
            right = np.mean(done, axis=0)
            points.append((method, size, float(np.std(np.mean(done, axis=1), ddof=1)), n_draws))
            values += [right, right - full]
        points.append((method, n_all, 0.0, len(drawn)))
        values += [full, full - full]
    means, rows = means_of(np.array(values), level=level), []
    for i, (method, size, spread, count) in enumerate(points):
        error = t * spread / math.sqrt(count) if size < n_all else 0.0
        accuracy, loss = (_wider(mean, error) for mean in means[2 * i : 2 * i + 2])
        loss = loss if size < n_all else Interval(0.0, 0.0, 0.0)
        rows.append((method, size, *accuracy, spread, *loss[:3], count))
    columns = ["method", "n_validation", "accuracy", "low", "high", "n_questions", "spread", "difference"]
    return pd.DataFrame(rows, columns=[*columns, "difference_low", "difference_high", "n_draws"])


def enough_validation(curve: pd.DataFrame, *, within: float = POINT) -> pd.DataFrame:
    """How many validation questions are enough: method, n_validation, difference with its low and high.

    The smallest size from which on every larger one loses, with certainty, less than `within` against all
    validation questions (the interval's lower end). All of them if no smaller size is certain.
    """
    rows = []
    for _, part in curve.groupby("method", sort=False):
        ordered = part.sort_values("n_validation", ascending=False)
        sure = (ordered["difference_low"] > -within).cummin()
        rows.append(ordered[sure].iloc[-1] if sure.any() else ordered.iloc[0])
    columns = ["method", "n_validation", "difference", "difference_low", "difference_high", "n_questions"]
    return pd.DataFrame(rows)[columns].reset_index(drop=True)


def mean_of(values: Floats, *, level: float = 0.95, seed: int = 0) -> Interval:
    """Mean of one value from -1 to 1 for each question, with its bootstrap interval over questions."""
    return means_of(values[None], level=level, seed=seed)[0]


def means_of(values: Floats, *, level: float = 0.95, seed: int = 0) -> list[Interval]:
    """`mean_of` each row, shape (m, n_questions)."""
    return bootstraps(np.clip(values, -1, 1), level=level, seed=seed)  # rounding may go past 1


def _wider(value: Interval, error: float) -> Interval:
    low = value.estimate - math.hypot(value.estimate - value.low, error)
    return value._replace(low=low, high=value.estimate + math.hypot(value.high - value.estimate, error))


def _best_first(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(["value", "expert"], ascending=[False, True]).reset_index(drop=True)

"""From probabilities to slots: drawing, trimming and refilling (docs/method.md 1.4 and 1.5).

Every question draws from generators of its own (seed and question id), so other questions do not change
its draws. Only trimming has to look at all questions together.
"""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skillmoe_lib import seeding, tables
from skillmoe_lib.errors import SkillmoeError

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


def check_k(k: int, n_experts: int, *, replace: bool) -> None:
    """Raise `SkillmoeError` if k slots cannot be filled from n experts."""
    if k < 1 or (k > n_experts and not replace):
        limit = "at least 1" if replace else f"from 1 to {n_experts} (experts) without replacement"
        raise SkillmoeError(f"k must be {limit}, given {k}")


def draw(chances: pd.DataFrame, k: int, *, seed: int, replace: bool, reserve: Array) -> Indices:
    """Columns drawn for each question, shape (n_questions, k), in the order drawn.

    Parameters
    ----------
    chances
        Probabilities, question x expert.
    reserve
        Shape (n_experts,). Without replacement, experts of probability zero come last, in descending order
        of this value.
    """
    p = chances.to_numpy()
    if replace:
        return _reached(p, uniform(chances.index, k, seed))
    # One exponential clock for each expert, with rate p: the order in which they ring is the order of
    # successive draws without replacement; those that never ring follow in the order of the reserve.
    rings = np.full(p.shape, np.inf)
    clocks = [_numbers("exponential", p.shape[1], seed, name) for name in chances.index]
    with np.errstate(over="ignore"):  # the clock of a nearly impossible expert never rings
        np.divide(np.reshape(clocks, p.shape), p, out=rings, where=p > 0)
    order: Indices = np.lexsort((np.broadcast_to(-reserve, p.shape), rings), axis=1)
    return order[:, :k]


def uniform(question_ids: Iterable[str], k: int, seed: int, *purpose: str) -> Array:
    """The first k numbers of each question's generator, from 0 to below 1, shape (n_questions, k)."""
    most = max(16, 1 << (k - 1).bit_length())  # a larger k has the same first numbers
    numbers = [_numbers("random", most, seed, name, *purpose)[:k] for name in question_ids]
    return np.reshape(numbers, (-1, k))


@lru_cache(maxsize=1 << 15)  # a generator takes longer to make than to draw from
def _numbers(distribution: str, n: int, *parts: object) -> Array:
    """The first n numbers of the generator that `parts` seed; not to be written to."""
    return np.asarray(getattr(seeding.generator(*parts), distribution)(size=n))


def _reached(weights: Array, numbers: Array) -> Indices:
    """Where each number lies in its row's cumulative weights, as `Generator.choice` finds it."""
    bounds = weights.cumsum(axis=1, dtype=float)
    if not (bounds[:, -1:] > 0).all():
        raise SkillmoeError("a draw needs probabilities that are numbers and not all zero")
    bounds /= bounds[:, -1:]
    return np.asarray((bounds[:, None, :] <= numbers[:, :, None]).sum(axis=2))


def trimmed(
    drawn: Indices, chances: pd.DataFrame, *, share: float, by_slots: bool, seed: int, replace: bool
) -> Indices:
    """Slots without the experts that hold fewer than `share` of them all (docs/method.md 1.5).

    A dropped expert's slot is drawn again among the kept, in proportion to the slots they hold
    (`by_slots`) or to the question's own probabilities (by slots if those are all zero). If no expert
    reaches the share, none is dropped. Without replacement at least k experts are kept, the most used
    first, and no question gets one twice.
    """
    held = np.bincount(drawn.ravel(), minlength=chances.shape[1])
    kept = held >= share * drawn.size
    if not replace:
        kept |= np.isin(np.arange(held.size), np.argsort(-held, kind="stable")[: drawn.shape[1]])
    if kept.all() or not kept.any():
        return drawn
    result, p = drawn.copy(), chances.to_numpy()
    torn = np.flatnonzero(~kept[drawn].all(axis=1))
    numbers = uniform(chances.index[torn], drawn.shape[1], seed, "refill")
    for turn in range(drawn.shape[1]):  # each question's first dropped slot, then its second, ...
        dropped = ~kept[result[torn]]
        still = dropped.any(axis=1)
        torn, numbers, dropped = torn[still], numbers[still], dropped[still]
        open_to = np.tile(kept, (len(torn), 1))
        if not replace:
            np.put_along_axis(open_to, result[torn], values=False, axis=1)
        own = np.where(open_to, p[torn], 0.0)
        weights = np.where(open_to, held, 0.0) if by_slots else own
        weights = np.where(weights.any(axis=1, keepdims=True), weights, np.where(open_to, held, 0.0))
        weights = np.where(weights.any(axis=1, keepdims=True), weights, open_to)
        result[torn, dropped.argmax(axis=1)] = _reached(weights, numbers[:, turn : turn + 1])[:, 0]
    return result


def routes(
    drawn: Indices,
    suitability: pd.DataFrame,
    chances: pd.DataFrame | None,
    *,
    seed: int,
    method: str,
) -> pd.DataFrame:
    """Routes frame of the columns drawn; `probability` is null if the router does not draw."""
    n_questions, k = drawn.shape
    at = np.arange(n_questions)[:, None]
    columns = {
        "method": method,
        "seed": seed,
        "question_id": np.repeat(suitability.index.to_numpy(), k),
        "slot": np.tile(np.arange(k), n_questions),
        "expert": suitability.columns.to_numpy()[drawn].ravel(),
        "suitability": suitability.to_numpy()[at, drawn].ravel(),
        "probability": np.nan if chances is None else chances.to_numpy()[at, drawn].ravel(),
    }
    return tables.check(pd.DataFrame(columns), tables.ROUTES)

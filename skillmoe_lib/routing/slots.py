"""From probabilities to slots: drawing, trimming and refilling (docs/method.md 1.4 and 1.5).

Every question draws from generators of its own (seed and question id), so other questions do not change
its draws. Only trimming has to look at all questions together.
"""

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
    drawn = [
        _draw_one(p, k, replace=replace, reserve=reserve, random=seeding.generator(seed, question_id))
        for question_id, p in zip(chances.index, chances.to_numpy(), strict=True)
    ]
    return np.array(drawn, dtype=np.int64).reshape(len(chances), k)


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
    result = drawn.copy()
    for row in np.flatnonzero(~kept[drawn].all(axis=1)):
        p = chances.to_numpy()[row]
        random = seeding.generator(seed, chances.index[row], "refill")
        for slot in np.flatnonzero(~kept[result[row]]):
            open_to = kept if replace else kept & ~np.isin(np.arange(held.size), result[row])
            weights = np.where(open_to, held if by_slots or not p[open_to].any() else p, 0.0)
            weights = weights if weights.any() else open_to.astype(float)
            result[row, slot] = random.choice(held.size, p=weights / weights.sum())
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


def _draw_one(p: Array, k: int, *, replace: bool, reserve: Array, random: np.random.Generator) -> Indices:
    if replace:
        return np.asarray(random.choice(p.size, size=k, p=p))
    # One exponential clock for each expert, with rate p: the order in which they ring is the order of
    # successive draws without replacement; those that never ring follow in the order of the reserve.
    rings = np.full(p.size, np.inf)
    with np.errstate(over="ignore"):  # the clock of a nearly impossible expert never rings
        np.divide(random.exponential(size=p.size), p, out=rings, where=p > 0)
    return np.asarray(np.lexsort((-reserve, rings))[:k])

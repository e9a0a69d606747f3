"""The questions that people bring to a pool, each answered in one line from the tables of `pool`.

Which model is worth its cost? What if k were another? What if one were left out? How many validation
questions are enough? How small may the pool be? What does a budget buy? Every answer is a difference in
accuracy on the same test questions, with its interval; docs/what_if.md says where each comes from.
"""

from typing import Any

import numpy as np
import pandas as pd

from skillmoe_lib.evaluation.formats import points
from skillmoe_lib.studies.pool import SmallestPool

#: The router that is asked about k and about validation: votes of Symbolic-MoE's recruits.
ROUTER = "majority_vote"
COLUMNS = ["question", "answer", "value", "low", "high", "n_questions"]


def answers(
    by_k: pd.DataFrame,
    left_out: pd.DataFrame,
    smallest: SmallestPool,
    enough: pd.DataFrame,
    budget: pd.DataFrame,
    *,
    k: float = 5,
    calls: float = 3,
    router: str = ROUTER,
) -> pd.DataFrame:
    """One row for each question: question, answer, value, low, high, n_questions.

    Parameters
    ----------
    by_k, left_out, smallest, enough, budget
        Of `pool.by_k` (with its `reference`), `leave_one_out`, `smallest_pool`, `enough_validation`, and
        `by_k` over average calls.
    k
        The other k; null values if the pool is too small for it.
    calls
        The budget at which sequential recruiting is compared with as many fixed experts.
    """
    worth, missed = _worth(left_out), left_out.iloc[0]
    other = _row(by_k, method=router, k=k)
    learnt = _row(enough, method=router)
    bought = _row(budget, method="sequential", k=calls)
    kept = smallest.difference
    rows = [
        ("Which model is worth its cost?", *worth),
        (
            f"What if k were {k:g}?",
            *_change(other, "change", f"{router} at k = {k:g}, against the reference k"),
        ),
        (
            "What if one were left out?",
            f"{missed['expert']} is missed most: what the pool loses without it",
            *missed[["value", "low", "high", "n_questions"]],
        ),
        (
            "How many validation questions are enough?",
            *_change(learnt, "difference", f"{learnt.get('n_validation', 'unknown')}, against all of them"),
        ),
        (
            "How small may the pool be?",
            f"{len(smallest.experts)} experts, against the whole pool",
            *(kept.estimate, kept.low, kept.high, kept.n),
        ),
        (
            "What does a budget buy?",
            *_change(
                bought, "difference", f"sequential recruiting at {calls:g} calls, against the best {calls:g}"
            ),
        ),
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _worth(left_out: pd.DataFrame) -> tuple[Any, ...]:
    """The expert with the most accuracy for its seconds among those that are certainly missed; without known
    seconds the one that is missed most."""
    sure = left_out[left_out["low"] > 0]
    if sure.empty:
        best = left_out.iloc[0]
        said = f"none for certain; {best['expert']} is missed most"
    elif sure["per_device_second"].isna().all():
        best = sure.iloc[0]
        said = f"{best['expert']} (costs are not known); {len(sure)} of {len(left_out)} are certainly missed"
    else:
        best = sure.iloc[int(sure["per_device_second"].fillna(-np.inf).argmax())]
        rate, low, high = (points(best[f"per_device_second{end}"]) for end in ("", "_low", "_high"))
        said = f"{best['expert']}: {rate} points a device second [{low}, {high}]; "
        said += f"{len(sure)} of {len(left_out)} are certainly missed"
    return (said, *best[["value", "low", "high", "n_questions"]])


def _row(table: pd.DataFrame, **where: Any) -> dict[str, Any]:
    """The first row with these values; {} if there is none."""
    for column, value in where.items():
        table = table[table[column] == value]
    return dict(table.iloc[0]) if len(table) else {}


def _change(row: dict[str, Any], name: str, said: str) -> tuple[Any, ...]:
    """A text and a difference of a row with its ends and n; nulls if there is no such row."""
    if not row:
        return ("the pool is too small for it", None, None, None, None)
    return (said, row[name], row[f"{name}_low"], row[f"{name}_high"], row["n_questions"])

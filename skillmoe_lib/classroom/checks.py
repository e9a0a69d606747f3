"""Comparing what a student submitted with the truth: for keys, which say how many points an answer is worth.

Reasons name what is wrong and never the right value, since students read them.
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Real

import pandas as pd


def same(given: object, truth: object, *, tolerance: float = 1e-6) -> bool:
    """Whether a submitted value is the true one; numbers up to `tolerance`, missing values as None."""
    if truth is None or truth is pd.NA or (isinstance(truth, float) and math.isnan(truth)):
        return given is None
    if isinstance(truth, bool) or not isinstance(truth, Real):
        return type(given) is type(truth) and given == truth
    return (
        isinstance(given, int | float)
        and not isinstance(given, bool)
        and abs(given - float(truth)) <= tolerance
    )


def check_values(
    given: Mapping[str, object], truth: Mapping[str, object], *, points: float, tolerance: float = 1e-6
) -> tuple[float, str]:
    """Points in equal parts for each named value that is right, and what is wrong."""
    wrong = [
        name for name, value in truth.items() if not same(given.get(name), _plain(value), tolerance=tolerance)
    ]
    return _marked(len(truth) - len(wrong), len(truth), points), _listed(wrong)


def check_table(
    given: Sequence[Mapping[str, object]],
    truth: pd.DataFrame,
    *,
    key: Sequence[str],
    points: float,
    tolerance: float = 1e-6,
) -> tuple[float, str]:
    """Points in equal parts for each column that is right in every row, and what is wrong.

    Parameters
    ----------
    given
        Rows in any order; columns that were not asked for are passed over.
    truth
        The right table. If it has no column beside its key, the rows themselves are what is marked.
    key
        Columns that name a row. Without exactly the right rows there are no points.
    """
    right = {tuple(map(_plain, row[: len(key)])): row[len(key) :] for row in _rows(truth, key)}
    rows = {tuple(row[name] for name in key): row for row in given}
    if len(rows) < len(given):
        return 0, f"{len(given) - len(rows)} rows have the same {' and '.join(key)} as another"
    if n_absent := len(right.keys() - rows.keys()):
        return 0, f"{n_absent} rows are missing ({len(rows)} given)"
    if n_spare := len(rows.keys() - right.keys()):
        return 0, f"{n_spare} rows are not asked for ({len(rows)} given)"
    columns = [name for name in truth.columns if name not in key]
    if not columns:
        return points, ""
    wrong = []
    for at, name in enumerate(columns):
        fitting = (same(rows[k].get(name), _plain(v[at]), tolerance=tolerance) for k, v in right.items())
        if n_wrong := len(right) - sum(fitting):
            wrong.append(f"{name} ({n_wrong} of {len(right)} rows)")
    return _marked(len(columns) - len(wrong), len(columns), points), _listed(wrong)


def _rows(table: pd.DataFrame, key: Sequence[str]) -> list[tuple[object, ...]]:
    order = [*key, *(name for name in table.columns if name not in key)]
    return list(table[order].astype(object).itertuples(index=False, name=None))


def _plain(value: object) -> object:
    return value.item() if hasattr(value, "item") else value


def _marked(n_right: int, n: int, points: float) -> float:
    return round(points * n_right / n, 2)


def _listed(wrong: Sequence[str]) -> str:
    return f"wrong: {', '.join(wrong)}" if wrong else ""

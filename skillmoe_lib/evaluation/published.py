"""The paper's tables (`data/published/*.csv`) and our results beside them.

Source: arXiv 2503.05641 and its authors' own images; `data/published/README.md` gives the source of each
figure. Published figures are percentages, as printed; `beside` returns fractions, like every accuracy of
this project. The published answers to single questions are not available, so these differences are unpaired
(see `intervals.verdict_against`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.evaluation.intervals import Interval, verdict_against
from skillmoe_lib.paths import project_file

_OURS = ["accuracy", "low", "high", "n_questions"]
_THEIRS = ["published_as", "published", "published_std", "published_n", "seen"]
_FRACTIONS = [
    "accuracy",
    "low",
    "high",
    "published",
    "published_std",
    "difference",
    "difference_low",
    "difference_high",
]


def folder() -> Path:
    """The folder of the published tables."""
    return project_file("data/published")


def load(table: str) -> pd.DataFrame:
    """One published table, tidy; percentages as printed, null if the paper prints nothing.

    Text columns have dtype string, counts Int64, figures Float64.

    Raises
    ------
    SkillmoeError
        If there is no such table; the message lists the known ones.
    """
    allowed = sorted(path.stem for path in folder().glob("*.csv"))
    if table not in allowed:
        raise unknown("published table", table, allowed)
    return pd.read_csv(folder() / f"{table}.csv", dtype_backend="numpy_nullable")


def beside(
    ours: pd.DataFrame,
    table: str = "main_table",
    *,
    on: Sequence[str] = ("method", "benchmark"),
    margin: float = 0.02,
) -> pd.DataFrame:
    """Our accuracies beside the published ones: difference, its 95% interval, and a verdict.

    Parameters
    ----------
    ours
        One row for each value of `on`, with `accuracy`, `low`, `high` (fractions; a 95% interval) and
        `n_questions`, as `intervals.accuracy_table` gives them. Other columns are left out.
    table
        A published table with an `accuracy` column.
    on
        Columns that match published rows to ours. The default fits `main_table`;
        `recruiting` needs `("variant", "benchmark")` and `discussion_aggregator`
        `("aggregator", "discussion", "benchmark")`.
    margin
        Largest difference that still counts as agreement, a fraction.

    Returns
    -------
    pandas.DataFrame
        `on`, accuracy, low, high, n_questions, published_as, published, published_std, published_n,
        seen, difference (ours minus published), difference_low, difference_high, verdict; fractions.
        Rows and their order are those of `ours`. The verdict is "agrees", "differs" or "cannot tell"
        (at this n); "not published" if the paper has no such row, "not run" if ours is null.
        A published figure without its number of questions gives a difference, no interval, and
        "cannot tell".
    """
    on = list(on)
    _need(ours, [*on, *_OURS], "our results")
    theirs = _accuracies(table, on)
    for name, frame in (("our results", ours), (f"published table {table!r}", theirs)):
        _unique(frame, on, name)
    frame = ours[[*on, *_OURS]].merge(theirs, on=on, how="left", validate="one_to_one")
    verdicts = [_verdict(row, margin) for row in frame.to_dict("records")]
    columns = ["difference", "difference_low", "difference_high", "verdict"]
    frame[columns] = pd.DataFrame(verdicts, columns=columns, index=frame.index)
    types = dict.fromkeys(_FRACTIONS, "Float64") | {
        "n_questions": "Int64",
        "published_n": "Int64",
        "verdict": "string",
    }
    return frame.astype(types)


def _accuracies(table: str, on: list[str]) -> pd.DataFrame:
    """The published rows with a value in every column of `on`, as fractions."""
    theirs = load(table)
    _need(theirs, [*on, "accuracy", "n_test"], f"published table {table!r}")
    std = theirs["std"] if "std" in theirs else pd.Series(pd.NA, theirs.index, dtype="Float64")
    theirs = theirs.assign(
        published=theirs["accuracy"] / 100, published_std=std / 100, published_n=theirs["n_test"]
    )
    # Rows without one of our names (such as closed models) match none of our rows.
    return theirs.dropna(subset=on)[[*on, *_THEIRS]]


def _need(frame: pd.DataFrame, columns: list[str], name: str) -> None:
    missing = [column for column in columns if column not in frame]
    if missing:
        raise SkillmoeError(
            f"{name} must have the columns {', '.join(columns)}; missing: {', '.join(missing)}"
        )


def _unique(frame: pd.DataFrame, on: list[str], name: str) -> None:
    twice = frame[frame.duplicated(on, keep=False)]
    if len(twice):
        first = ", ".join(f"{column} {twice.iloc[0][column]!r}" for column in on)
        raise SkillmoeError(
            f"{name}: `on` ({', '.join(on)}) must say one row each; given {first} more than once"
        )


def _verdict(row: dict[Any, Any], margin: float) -> tuple[float | None, float | None, float | None, str]:
    if pd.isna(row["published"]):
        return None, None, None, "not published"
    if pd.isna(row["accuracy"]):
        return None, None, None, "not run"
    if pd.isna(row["published_n"]):
        return row["accuracy"] - row["published"], None, None, "cannot tell"
    result = verdict_against(
        float(row["published"]),
        Interval(float(row["accuracy"]), float(row["low"]), float(row["high"]), int(row["n_questions"])),
        n=int(row["published_n"]),
        std=0.0 if pd.isna(row["published_std"]) else float(row["published_std"]),
        margin=margin,
    )
    return result.difference, result.low, result.high, result.verdict

"""What a served model charges: dated prices from `data/prices/*.csv`.

A price holds from the day in its row until the next row of the same model. Prices that a pool file gives for
an expert are shown with the pool; money is counted with these.
"""

from datetime import date
from functools import lru_cache
from typing import NamedTuple

import pandas as pd

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts.servers import is_named
from skillmoe_lib.paths import project_files

COLUMNS = ("model", "input", "cached_input", "output", "currency", "per_tokens", "dated", "source")


class Price(NamedTuple):
    """Money for `per_tokens` tokens read, read from the service's cache, and written."""

    model: str
    input: float
    cached_input: float
    output: float
    currency: str
    per_tokens: float
    dated: str

    def of(self, *, prompt_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float:
        """Money for these tokens; the cached ones are part of the prompt."""
        fresh = prompt_tokens - cached_tokens
        sums = fresh * self.input + cached_tokens * self.cached_input + output_tokens * self.output
        return sums / self.per_tokens


@lru_cache(maxsize=1)
def price_list() -> pd.DataFrame:
    """All rows of `data/prices/*.csv`, in the order of their dates.

    Raises
    ------
    SkillmoeError
        A column that is missing, or a price that is not a number of at least 0.
    """
    tables = []
    for path in project_files("data/prices", "*.csv").values():
        table = pd.read_csv(path, dtype="string")
        if missing := [name for name in COLUMNS if name not in table]:
            raise SkillmoeError(
                f"{path.name}: the columns {', '.join(COLUMNS)} are needed; missing: {missing[0]}"
            )
        for name in ("input", "cached_input", "output", "per_tokens"):
            table[name] = pd.to_numeric(table[name], errors="coerce")
        table["cached_input"] = table["cached_input"].fillna(table["input"])
        bad = table[["input", "output", "per_tokens"]].isna().any(axis=1) | (
            table[["input", "output"]] < 0
        ).any(axis=1)
        if bad.any() or not (table["per_tokens"] > 0).all():
            row = int(bad.to_numpy().argmax()) + 2
            raise SkillmoeError(f"{path.name}: line {row}: prices must be numbers of at least 0")
        tables.append(table)
    rows = pd.concat(tables) if tables else pd.DataFrame(columns=list(COLUMNS))
    return rows.sort_values("dated", kind="stable", ignore_index=True)


def price_of(model: str, *, day: date | None = None) -> Price | None:
    """The price of a model on a day (today), by its name or as a snapshot of it; None if there is none.

    A service answers for `gpt-4o-mini` as `gpt-4o-mini-2024-07-18`: a snapshot costs what its name costs.
    """
    rows = price_list()
    rows = rows[rows["dated"].astype(str) <= (day or date.today()).isoformat()]
    names = [name for name in rows["model"].unique() if is_named(name, model)]
    if not names:
        return None
    row = rows[rows["model"] == max(names, key=len)].iloc[-1]
    return Price(
        str(row["model"]), float(row["input"]), float(row["cached_input"]), float(row["output"]),
        str(row["currency"]), float(row["per_tokens"]), str(row["dated"]),
    )  # fmt: skip

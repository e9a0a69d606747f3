"""What served models were paid, from the tokens that their servers counted and the dated price list.

A price is that of the day on which the batch began (`prices`). A model without a price stands in the tables
with its tokens, and with no money: unknown is not free. Models that run on this machine are not in them.
"""

from collections.abc import Hashable
from datetime import date

import pandas as pd

from skillmoe_lib.inference import prices
from skillmoe_lib.inference.store import GenerationStore

#: The engine of batches that a server answered.
SERVED = "openai"
_STORED = ["request_id", "source", "prompt_tokens", "output_tokens", "cached_tokens", "batch_id"]


def by_request(store: GenerationStore) -> pd.DataFrame:
    """One row per generation of a served model.

    Index request_id. Columns: source, money (null without a price), currency, dated (the price's day; ""
    without a price).
    """
    batches = store.batches()
    begun = batches.loc[batches["engine"] == SERVED].set_index("batch_id")["started_at"]
    rows = store.generations(_STORED) if len(begun) else pd.DataFrame(columns=_STORED)
    rows = rows[rows["batch_id"].isin(begun.index)]
    days = rows["batch_id"].map(begun).astype(str).str[:10]
    known: dict[tuple[Hashable, Hashable], prices.Price | None] = {}
    paid, currency, dated = [], [], []
    for row, day in zip(rows.itertuples(), days, strict=True):
        key = (row.source, day)
        if key not in known:
            known[key] = prices.price_of(str(row.source), day=date.fromisoformat(day))
        price = known[key]
        tokens = {name: int(getattr(row, name)) for name in _STORED[2:5]}
        paid.append(price.of(**tokens) if price else None)
        currency.append(price.currency if price else "")
        dated.append(price.dated if price else "")
    columns = {"source": rows["source"], "money": pd.array(paid, dtype="Float64")}
    return pd.DataFrame(
        {**columns, "currency": currency, "dated": dated, "request_id": rows["request_id"]}
    ).set_index("request_id")


def by_model(store: GenerationStore) -> pd.DataFrame:
    """Columns: source, currency, dated, n_answers, money (null without a price); [] without served models."""
    groups = by_request(store).groupby(["source", "currency", "dated"], sort=True)
    return groups["money"].agg(n_answers="size", money=lambda part: part.sum(min_count=1)).reset_index()


def by_method(used: pd.DataFrame, store: GenerationStore) -> pd.DataFrame:
    """What each method would pay alone: a request that several methods use is counted for each, once.

    `used` is a Used table. Columns: method, currency, n_questions (of all seeds), n_paid (requests with a
    price), money, money_per_question, n_unknown (requests to served models without a price).
    """
    paid = by_request(store)
    once = used.drop_duplicates(["method", "seed", "request_id"])
    rows = once.join(paid, on="request_id", how="inner")
    asked = used.drop_duplicates(["method", "seed", "question_id"]).groupby("method").size()
    unknown = rows[rows["money"].isna()].groupby("method").size()
    table = (
        rows[rows["money"].notna()]
        .groupby(["method", "currency"], sort=False)["money"]
        .agg(n_paid="size", money="sum")
        .reset_index()
    )
    only = [name for name in unknown.index if name not in set(table["method"])]
    table = pd.concat([table, pd.DataFrame({"method": only, "currency": "", "n_paid": 0})], ignore_index=True)
    table["n_questions"] = table["method"].map(asked)
    table["money_per_question"] = table["money"] / table["n_questions"]
    table["n_unknown"] = table["method"].map(unknown).fillna(0).astype(int)
    order = ["method", "currency", "n_questions", "n_paid", "money", "money_per_question", "n_unknown"]
    return table[order]

"""What methods cost, from the ledger: every figure comes from batches that were really run.

A method's cost is what it takes to run it alone: all the requests that it used, although methods that
ask the same share one generation, and every load that they needed in full.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.tables import SUMMARY_COLUMNS


class Sharing(NamedTuple):
    """How often equal requests of different programs were generated only once."""

    n_asked: int
    n_generated: int


def per_request(store: GenerationStore) -> pd.DataFrame:
    """Tokens and device seconds of every stored generation, indexed by request_id.

    Columns: prompt_tokens, output_tokens, device_s (its share of the batch's generation time, loading
    not included) and batch_id. A batch's seconds are shared out by the tokens that had to be computed:
    prompt tokens that were not cached, and output tokens. Device seconds are wall seconds times the
    devices held.
    """
    columns = ["request_id", "prompt_tokens", "cached_tokens", "output_tokens", "batch_id"]
    generations = store.generations(columns).set_index("request_id")
    batches = store.batches().set_index("batch_id")
    computed = generations["prompt_tokens"] - generations["cached_tokens"] + generations["output_tokens"]
    share = computed / computed.groupby(generations["batch_id"]).transform("sum")
    spent = (batches["generate_s"] * batches["devices"]).reindex(generations["batch_id"]).to_numpy()
    frame = generations[["prompt_tokens", "output_tokens", "batch_id"]]
    return frame.assign(device_s=share.to_numpy() * spent)


def cost_by_question(used: pd.DataFrame, store: GenerationStore) -> pd.DataFrame:
    """Cost of each method, seed and question.

    Parameters
    ----------
    used
        One row a request used: method, seed, question_id, request_id.

    Returns
    -------
    One row a method, seed and question: calls, prompt_tokens, output_tokens, device_seconds (its
    generation, and an equal part of the method's loads; null where a request was not run).
    """
    rows = used.merge(per_request(store), left_on="request_id", right_index=True, how="left")
    keys = ["method", "seed", "question_id"]
    costs = rows.groupby(keys, sort=False).agg(
        calls=("request_id", "size"),
        prompt_tokens=("prompt_tokens", "sum"),
        output_tokens=("output_tokens", "sum"),
        device_seconds=("device_s", lambda seconds: seconds.sum(skipna=False)),
    )
    loads = loads_by_method(used, store)
    costs = costs.reset_index()
    n_questions = costs.groupby(["method", "seed"], sort=False)["calls"].transform("size")
    of_method = costs.merge(loads, on=["method", "seed"], how="left")["load_device_s"]
    costs["device_seconds"] += of_method.to_numpy() / n_questions.to_numpy()
    return costs.astype({"prompt_tokens": "Int64", "output_tokens": "Int64"})


def loads_by_method(used: pd.DataFrame, store: GenerationStore) -> pd.DataFrame:
    """Loads that each method and seed needed: method, seed, model_loads, load_device_s."""
    batch_of = per_request(store)["batch_id"]
    batches = store.batches().set_index("batch_id")
    needed = used.assign(batch_id=used["request_id"].map(batch_of)).dropna(subset="batch_id")
    needed = needed[["method", "seed", "batch_id"]].drop_duplicates()
    needed["load_device_s"] = (batches["load_s"] * batches["devices"]).reindex(needed["batch_id"]).to_numpy()
    return needed.groupby(["method", "seed"], sort=False, as_index=False).agg(
        model_loads=("batch_id", "size"), load_device_s=("load_device_s", "sum")
    )


def sharing(request_ids: Sequence[str]) -> Sharing:
    """Requests asked by all programs together, and how many different ones they were."""
    return Sharing(len(request_ids), len(set(request_ids)))


def summary(accuracy: pd.DataFrame, results: pd.DataFrame, loads: pd.DataFrame) -> pd.DataFrame:
    """The table `summary.csv`: accuracy with its interval, and the cost of one pass over the benchmark.

    `accuracy` is `intervals.accuracy_table(results)`; `loads` comes from `loads_by_method`. Costs are
    means over seeds of the sums over questions; oracles are bounds, not methods that could be run, and
    cost nothing.
    """
    costs = ["calls", "prompt_tokens", "output_tokens", "device_seconds"]
    per_seed = results.groupby(["method", "benchmark", "seed"], sort=False)[costs].sum(min_count=1)
    means = per_seed.groupby(["method", "benchmark"], sort=False).mean().reset_index()
    model_loads = loads.groupby("method", as_index=False)["model_loads"].mean()
    table = accuracy.merge(means, on=["method", "benchmark"]).merge(model_loads, on="method", how="left")
    return table[SUMMARY_COLUMNS].fillna({"model_loads": 0})


def batches_table(store: GenerationStore) -> pd.DataFrame:
    """The Batches table with versions spelled out, for reports."""
    batches = store.batches()
    versions = batches["versions"].map(
        lambda text: ", ".join(f"{k} {v}" for k, v in json.loads(text).items())
    )
    return batches.assign(versions=versions)

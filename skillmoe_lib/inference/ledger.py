"""Costs of methods: what each would take alone on this machine, and next to it what was really run.

Both are defined in docs/cost.md. The cost charged to a method is computed from rates, which are estimated
from the store's batches (seconds per prompt token, output token, request and engine step, for each model),
and from cold loads. So it does not depend on which method loaded a model first, on resumed runs, on swapped
weights, on a second writer, or on what other methods asked. The seconds that really ran are divided among the
methods that used them and add up to the seconds of the batches.

Seconds are device seconds: wall seconds times the devices held.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import nnls

from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.tables import SUMMARY_COLUMNS

#: What a batch's seconds consist of, and the column that counts it.
RATES: Mapping[str, str] = {
    "prefill_token_s": "computed_tokens",  # prompt tokens that were not in the engine's prefix cache
    "decode_token_s": "output_tokens",
    "request_s": "n_requests",
    "step_s": "steps",  # the longest output of each stage: a batch takes so long however small it is
}
#: A load that took less (in records that do not say how) was a swap: no process starts so fast.
SWAP_S = 0.5
#: How far a batch's seconds lie from what its rates predict (a share), if other models' rates may be twice or
#: half of this model's: five batches of its own outweigh them.
BATCH_ERROR = 0.2
_STORED = [
    "request_id", "stage", "source", "revision", "max_model_len", "dtype", "quantization", "adapter",
    "options", "prompt_tokens", "output_tokens", "cached_tokens", "batch_id",
]  # fmt: skip
_COSTS = ["calls", "prompt_tokens", "output_tokens", "device_seconds"]


class Sharing(NamedTuple):
    """How often equal requests of different programs were generated only once."""

    n_asked: int
    n_generated: int


# -- rates ----------------------------------------------------------------------------------------


def rates(store: GenerationStore) -> pd.DataFrame:
    """Device seconds that each model takes on this machine, from all batches of the store.

    Returns
    -------
    Index `weights` (source@revision). Columns: those of `RATES`, load_s (a cold load: the median of its
    loads that were not swaps; if all were swaps, of the loads that these swapped into),
    n_batches, n_loads (recorded cold ones).
    """
    return _rates(_stored(store), store)


def work(store: GenerationStore) -> pd.DataFrame:
    """One row per load, by `batch_id` in the order run: its seconds, and what `RATES` are multiplied with.

    Columns: those of the Batches table (`n_requests` as `n_written`), weights, computed_tokens,
    output_tokens, n_requests, steps, device_s, load_device_s, was_swap.
    """
    return _batches(_stored(store), store)


def _stored(store: GenerationStore) -> pd.DataFrame:
    """Every generation's tokens, weights, load and batch, indexed by request_id; no texts."""
    frame = store.generations(_STORED).set_index("request_id")
    frame["weights"] = frame["source"] + "@" + frame["revision"]
    later = frame[["quantization", "adapter", "options"]].fillna("")  # older parts have none
    later["adapter"] = later["adapter"].ne("").map({True: "adapters", False: ""})  # all of a base: one load
    frame["load"] = frame["weights"] + " " + frame["max_model_len"].astype(str) + " " + frame["dtype"]
    for name in later:
        frame["load"] += " " + later[name]
    frame["computed_tokens"] = frame["prompt_tokens"] - frame["cached_tokens"]
    return frame


def _rates(stored: pd.DataFrame, store: GenerationStore) -> pd.DataFrame:
    batches = _batches(stored, store)
    # If a second writer was faster for some requests, the batch includes seconds that are not counted.
    whole = batches[batches["n_requests"] == batches["n_written"]]
    others = batches[~batches["weights"].isin(whole["weights"])]
    used = pd.concat([whole, others])
    used = used[(used["device_s"] > 0) & (used["n_requests"] > 0)]
    found = pd.DataFrame(_fitted(used), columns=[*RATES])
    found.insert(0, "weights", sorted(set(used["weights"])))
    about = batches.groupby("weights").agg(n_batches=("device_s", "size"))
    about["load_s"], about["n_loads"] = _cold_loads(batches)
    idle = dict.fromkeys(RATES, 0.0)  # a model whose batches took no time at all
    table = found.set_index("weights").join(about, how="outer").fillna(idle)
    return table[[*RATES, "load_s", "n_batches", "n_loads"]]


def _batches(stored: pd.DataFrame, store: GenerationStore) -> pd.DataFrame:
    """One row per load in the order run: weights, device seconds, and what the seconds consist of.

    `steps` adds the longest output of each stage, as if later stages of a load waited for earlier ones (they
    join as soon as programs ask, so this is the most that it can be). A batch whose requests were all
    answered first by another writer has no weights and is left out.
    """
    batches = store.batches().rename(columns={"n_requests": "n_written"}).set_index("batch_id")
    longest = stored.groupby(["batch_id", "stage"])["output_tokens"].max().groupby("batch_id").sum()
    made = stored.groupby("batch_id").agg(
        weights=("weights", "first"),
        computed_tokens=("computed_tokens", "sum"),
        output_tokens=("output_tokens", "sum"),
        n_requests=("stage", "size"),
    )
    batches["device_s"] = batches["generate_s"] * batches["devices"]
    batches["load_device_s"] = batches["load_s"] * batches["devices"]
    known = batches["swapped"].notna()
    batches["was_swap"] = batches["swapped"].where(known, batches["load_s"] < SWAP_S).astype(bool)
    return batches.join(made.assign(steps=longest), how="inner")


def _fitted(batches: pd.DataFrame) -> NDArray[np.float64]:
    """Rates of each model (rows, by name), by non-negative least squares on relative errors.

    A few batches cannot determine four rates. So all models together first give the proportions of the
    rates, with a level for each model; a model's own batches then move its rates from there as far as
    their evidence goes.
    """
    names = sorted(set(batches["weights"]))
    if not names:
        return np.zeros((0, len(RATES)))
    work = batches[list(RATES.values())].to_numpy(float)
    model = batches["weights"].map({name: i for i, name in enumerate(names)}).to_numpy(int)
    share = work / batches["device_s"].to_numpy(float)[:, None]  # rates times this should be 1
    level, common = np.ones(len(names)), np.zeros(len(RATES))
    for _ in range(50 if len(names) > 1 else 1):
        common = _non_negative(share * level[model][:, None], np.ones(len(share)))
        says = share @ common
        for i in range(len(names)):
            own = says[(model == i) & (says > 0)]
            level[i] = 1 / float(np.median(own)) if own.size else level[i]
    found = np.zeros((len(names), len(RATES)))
    for i in range(len(names)):
        before, own = level[i] * common, share[model == i]
        seen = before > 0
        rows = np.vstack([own[:, seen] / BATCH_ERROR, np.diag(1 / before[seen])])
        wanted = np.concatenate([np.full(len(own), 1 / BATCH_ERROR), np.ones(int(seen.sum()))])
        found[i, seen] = _non_negative(rows, wanted) if seen.any() else 0.0
    return found


def _non_negative(rows: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    scale = np.abs(rows).max(axis=0)
    scale[scale == 0] = 1.0
    return np.asarray(nnls(rows / scale, wanted)[0] / scale)


def _cold_loads(batches: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Median device seconds of each model's cold loads, and how many there are.

    A swap used a process that the last cold load before it had started, with a model of the same shape.
    """
    cold = batches["load_device_s"].where(~batches["was_swap"])
    started = batches.assign(cold=cold).groupby("engine")["cold"].ffill()
    weights = batches["weights"]
    own, like = cold.groupby(weights).median(), started.groupby(weights).median()
    every = batches["load_device_s"].groupby(weights).median()  # only swaps, whose process is not recorded
    return own.fillna(like).fillna(every), cold.groupby(weights).count()


# -- charges --------------------------------------------------------------------------------------


def cost_by_question(used: pd.DataFrame, store: GenerationStore) -> pd.DataFrame:
    """What each method, seed and question would take, were the method run alone.

    Parameters
    ----------
    used
        One row per request used: method, seed, question_id, request_id, and round (all 0 if it is missing).

    Returns
    -------
    One row for each method, seed and question: calls, prompt_tokens, output_tokens, device_seconds (its
    generation, and an equal share of the method's loads; null if a request was not run). A prompt that
    did not fit its model is a call that takes no tokens and no time.
    """
    rows = _charged(used, store)
    keys = ["method", "seed", "question_id"]
    costs = rows.groupby(keys, sort=False).agg(
        calls=("request_id", "size"),
        prompt_tokens=("prompt_tokens", "sum"),
        output_tokens=("output_tokens", "sum"),
        device_seconds=("device_s", lambda seconds: seconds.sum(skipna=False)),
    )
    costs = costs.reset_index()
    n_questions = costs.groupby(["method", "seed"], sort=False)["calls"].transform("size")
    loads = costs.merge(_loads(rows), on=["method", "seed"], how="left")["load_device_s"].fillna(0.0)
    costs["device_seconds"] += loads.to_numpy() / n_questions.to_numpy()
    return costs.astype({"prompt_tokens": "Int64", "output_tokens": "Int64"})


def cost_by_request(used: pd.DataFrame, store: GenerationStore) -> dict[tuple[int, str], float]:
    """Seed and request -> device seconds charged for it, without loads; `used` is of one method."""
    rows = _charged(used, store).drop_duplicates(["seed", "request_id"])
    keys = zip(rows["seed"].astype(int), rows["request_id"], strict=True)
    return dict(zip(keys, rows["device_s"].astype(float), strict=True))


def loads_by_method(used: pd.DataFrame, store: GenerationStore) -> pd.DataFrame:
    """What each method and seed would load and generate alone, and its share of what really ran.

    Columns: method, seed, model_loads, load_device_s (cold), generate_device_s, ran_device_s (see `ran`).
    """
    rows = _charged(used, store)
    made = rows.groupby(["method", "seed"], sort=False)["device_s"].sum().rename("generate_device_s")
    table = _loads(rows).merge(made.reset_index(), on=["method", "seed"])
    really = ran(used, store).groupby(["method", "seed"])["ran_device_s"].sum().reset_index()
    return table.merge(really, on=["method", "seed"], how="left").fillna({"ran_device_s": 0.0})


def _charged(used: pd.DataFrame, store: GenerationStore) -> pd.DataFrame:
    """`used` with the tokens of each request and the seconds charged for it, without loads.

    A request that a method uses twice is charged once: run alone, it would also be generated once.
    """
    stored = _stored(store)
    table = _rates(stored, store)
    rows = used.assign(round=used.get("round", 0)).reset_index(drop=True)
    told = ["prompt_tokens", "output_tokens", "weights", "load", "cached_tokens"]
    rows = rows.join(stored[told], on="request_id")
    rows["load_s"] = rows["weights"].map(table["load_s"])
    rows["computed_tokens"] = _computed_alone(rows, store)
    key = ["method", "seed"]
    first = ~rows.duplicated([*key, "request_id"])
    batch = rows[first & rows["load"].notna()].groupby([*key, "round", "load"])["output_tokens"]
    output, n = batch.transform("sum"), batch.transform("size")
    share = (rows["output_tokens"] / output).where(output > 0, 1 / n)
    rows["steps"], rows["n_requests"] = share * batch.transform("max"), 1.0
    each = rows["weights"].map(lambda name: name if isinstance(name, str) else None)
    parts = [rows[column] * each.map(table[rate]).astype(float) for rate, column in RATES.items()]
    rows["device_s"] = sum(parts[1:], parts[0]).where(first, 0.0)
    too_long = rows["request_id"].isin(_overflowed(store)) & rows["load"].isna()
    rows.loc[too_long, "device_s"] = 0.0
    unknown = rows["load"].isna() & ~too_long
    rows.loc[unknown, "device_s"] = math.nan
    return rows


def _overflowed(store: GenerationStore) -> set[str]:
    """Failed requests whose prompt did not fit their model."""
    failures = store.failures()
    if "status" not in failures:
        return set()
    return set(failures.loc[failures["status"] == "overflow", "request_id"])


def _computed_alone(rows: pd.DataFrame, store: GenerationStore) -> pd.Series:
    """Prompt tokens that a method would compute for each request, alone with an empty prefix cache.

    An engine with a prefix cache keeps whole blocks of tokens; their size is the greatest common divisor
    of the recorded cached tokens. In alphabetical order each prompt of a load shares with its predecessor
    everything that any earlier one has in common with it (the sum is the content of a prefix tree). Shared
    characters are converted to tokens by the prompt's own length. An engine without a cache computes all.
    """
    computed = rows["prompt_tokens"].astype(float)
    cached = rows.loc[rows["cached_tokens"] > 0].groupby("weights")["cached_tokens"]
    block = cached.agg(lambda tokens: math.gcd(*map(int, tokens)))
    some = rows[rows["weights"].isin(block.index)].drop_duplicates(["method", "seed", "request_id"])
    if some.empty:
        return computed
    texts = store.generations(["request_id", "messages"]).set_index("request_id")["messages"]
    for _, part in some.groupby(["method", "seed", "load"]):
        size, before = int(block[part["weights"].iloc[0]]), ""
        prompts = part.assign(text=part["request_id"].map(texts)).sort_values("text")
        alone = []
        for text, length in zip(prompts["text"].astype(str), prompts["prompt_tokens"], strict=True):
            n_tokens = int(length)
            shared = min(_n_shared(before, text) * n_tokens // max(len(text), 1), n_tokens - 1)
            alone.append(float(n_tokens - shared // size * size))
            before = text
        computed.update(pd.Series(alone, index=prompts.index))
    return computed


def _n_shared(a: str, b: str) -> int:
    """Length of the common prefix of two texts."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle - 1)
    return low


def _loads(rows: pd.DataFrame) -> pd.DataFrame:
    """Cold loads that a method and seed need alone: method, seed, model_loads, load_device_s.

    Each round of all its questions is a wave: it loads every model that it needs once, except one that the
    wave before left in memory. That is the model loaded last, which had the fewest requests; it cannot be
    the one that was in memory when that wave began, if that wave needed other models too.
    """
    found = []
    for (method, seed), part in rows.groupby(["method", "seed"], sort=False):
        ran = part.dropna(subset="load")
        seconds = ran.groupby("load")["load_s"].first()
        waves = [wave.groupby("load").size() for _, wave in ran.groupby("round")]
        loaded = [name for wave in waves for name in wave.index]
        held = ""
        for before, after in pairwise(waves):
            both = {str(name): int(n) for name, n in before.items() if name in after.index}
            if len(before) > 1:
                both.pop(held, None)
            held = min(both, key=lambda name: (both[name], name), default="")
            if held:
                loaded.remove(held)
        found.append((method, seed, len(loaded), float(seconds.reindex(loaded).sum())))
    return pd.DataFrame(found, columns=["method", "seed", "model_loads", "load_device_s"])


# -- what really ran ------------------------------------------------------------------------------


def ran(used: pd.DataFrame, store: GenerationStore) -> pd.DataFrame:
    """What really ran, divided among methods: method, seed, question_id, ran_device_s.

    A batch's load is divided equally among the requests that it answered, its generation by what the rates
    say that each took; a request's seconds are divided equally among the methods and seeds that used it. So
    nothing counts twice: together with `not_used` the sum is the seconds of the batches.
    """
    seconds = request_seconds(store)
    once = used.drop_duplicates(["method", "seed", "request_id"])
    once = once.assign(ran_device_s=once["request_id"].map(seconds).fillna(0.0))
    once["ran_device_s"] /= once.groupby("request_id")["method"].transform("size")
    table = once.groupby(["method", "seed", "question_id"], sort=False)["ran_device_s"].sum()
    return table.reset_index()


def not_used(used: pd.DataFrame, store: GenerationStore) -> float:
    """Device seconds of the store's batches that no request in `used` accounts for."""
    batches = store.batches()
    total = float(((batches["load_s"] + batches["generate_s"]) * batches["devices"]).sum())
    return max(0.0, total - float(ran(used, store)["ran_device_s"].sum()))


def request_seconds(store: GenerationStore) -> pd.Series:
    """Every stored request's share of the device seconds that its batch really took, by request_id."""
    stored = _stored(store)
    table = _rates(stored, store)
    batches = store.batches().set_index("batch_id")
    rows = stored.assign(n_requests=1.0, steps=stored["output_tokens"])
    weight = sum(
        (rows[column] * rows["weights"].map(table[rate]) for rate, column in RATES.items()),
        pd.Series(0.0, rows.index),
    )
    of_batch = rows["batch_id"]
    total, n = weight.groupby(of_batch).transform("sum"), weight.groupby(of_batch).transform("size")
    # If another writer was faster for part of a batch, only the requests that count are charged.
    counted = n / of_batch.map(batches["n_requests"])
    share = (weight / total).where(total > 0, 1 / n)
    spent = of_batch.map(batches["generate_s"] * batches["devices"]) * share
    loaded = of_batch.map(batches["load_s"] * batches["devices"]) / n
    return (spent + loaded) * counted


# -- tables ---------------------------------------------------------------------------------------


def preparation(used: pd.DataFrame, store: GenerationStore) -> pd.DataFrame:
    """The table `preparation.csv`: what is asked before a method can run, one row per step.

    `used` names the step as its `method` ("keywords of test questions" and so on; see
    `pipeline.preparation`). Columns: step, when ("test" for steps that every new question needs,
    "preparation" for steps done once), n_questions, calls, prompt_tokens, output_tokens, device_seconds,
    model_loads, ran_device_seconds; seconds as in `cost_by_question`, each step run alone.
    """
    if used.empty:
        return pd.DataFrame(columns=["step", "when", "n_questions", *_COSTS, "model_loads"])
    costs = cost_by_question(used, store)
    table = costs.groupby("method", sort=False)[_COSTS].sum(min_count=1)
    table.insert(0, "n_questions", used.groupby("method")["question_id"].nunique())
    loads = loads_by_method(used, store).groupby("method")[["model_loads", "ran_device_s"]].sum()
    table = table.join(loads).rename(columns={"ran_device_s": "ran_device_seconds"})
    table = table.rename_axis("step").reset_index()
    when = np.where(table["step"] == KEYWORDS_AT_TEST, "test", "preparation")
    table.insert(1, "when", when)
    return table


#: The step of `preparation` that every test question needs before experts are recruited for it.
KEYWORDS_AT_TEST = "keywords of test questions"


def summary(
    accuracy: pd.DataFrame,
    results: pd.DataFrame,
    loads: pd.DataFrame,
    *,
    prepared: pd.DataFrame | None = None,
    skill_routed: Collection[str] = (),
) -> pd.DataFrame:
    """The table `summary.csv`: accuracy with its interval, and the cost of one pass over the benchmark.

    `accuracy` is `intervals.accuracy_table(results)`; `loads` comes from `loads_by_method`, with a column
    `benchmark` if there are several. Costs are
    means over seeds of the sums over questions; oracles are bounds, not methods that could be run, and
    cost nothing. Costs of the methods exclude keyword calls. The keyword columns are what the methods in
    `skill_routed` need in addition, from `prepared` (of `preparation`); 0 for the others, null if
    `prepared` is not given.
    """
    per_seed = results.groupby(["method", "benchmark", "seed"], sort=False)[_COSTS].sum(min_count=1)
    means = per_seed.groupby(["method", "benchmark"], sort=False).mean().reset_index()
    known = [name for name in ("model_loads", "ran_device_s") if name in loads]
    own = ["method", "benchmark"] if "benchmark" in loads else ["method"]
    of_method = loads.groupby(own, as_index=False)[known].mean()
    table = accuracy.merge(means, on=["method", "benchmark"]).merge(of_method, on=own, how="left")
    table = table.fillna(dict.fromkeys(known, 0))
    table = table.rename(columns={"ran_device_s": "ran_device_seconds"})
    for name in _COSTS:
        price = math.nan
        if prepared is not None:
            at_test = prepared.loc[prepared["step"] == KEYWORDS_AT_TEST, name]
            price = float(at_test.sum(min_count=1))
        free = 0.0 if prepared is not None else math.nan
        table[f"keyword_{name}"] = np.where(table["method"].isin(skill_routed), price, free)
    return table.reindex(columns=SUMMARY_COLUMNS)


def sharing(request_ids: Sequence[str]) -> Sharing:
    """The number of requests asked by all programs together, and how many of them were different."""
    return Sharing(len(request_ids), len(set(request_ids)))


def batches_table(store: GenerationStore) -> pd.DataFrame:
    """The Batches table with versions as text, for reports."""
    batches = store.batches()
    versions = batches["versions"].map(
        lambda text: ", ".join(f"{k} {v}" for k, v in json.loads(text).items())
    )
    return batches.assign(versions=versions)


def engines(used: pd.DataFrame, store: GenerationStore) -> dict[str, int]:
    """Engine and versions -> how many of these requests it answered."""
    batch_of = store.generations(["request_id", "batch_id"]).set_index("request_id")["batch_id"]
    table = batches_table(store).set_index("batch_id")
    names = (table["engine"] + " " + table["versions"]).str.strip()
    found = used["request_id"].drop_duplicates().map(batch_of).map(names)
    return {str(name): int(n) for name, n in found.value_counts().items()}

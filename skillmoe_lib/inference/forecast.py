"""What requests that were only rehearsed would take: seconds, memory, disk and money (docs/cost.md).

Seconds come from the ledger of earlier runs (`ledger.rates`). A model without batches of its own takes the
rates of the model nearest to it in size, scaled; where nothing was run at all, the guesses below, which are
named as such in every table (`basis`).
"""

import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import psutil

from skillmoe_lib.experts import devices
from skillmoe_lib.experts.servers import PREFIX
from skillmoe_lib.generation import Model
from skillmoe_lib.inference import ledger, prices
from skillmoe_lib.inference.store import GenerationStore

#: Guesses: seconds for a billion parameters (each rate and a load), and what a load takes besides. CPU: two
#: cores, SmolLM2-135M and a 6M-parameter Llama; GPU: one H100, 1.1B and 7.4B (docs/decisions/0002-vllm.md).
GUESSES: Mapping[str, Mapping[str, float]] = {
    "cpu": {
        "prefill_token_s": 3e-3,
        "decode_token_s": 1.5e-2,
        "request_s": 1e-3,
        "step_s": 5e-3,
        "load_s": 20,
    },
    "gpu": {
        "prefill_token_s": 5e-6,
        "decode_token_s": 3e-5,
        "request_s": 2e-3,
        "step_s": 2e-3,
        "load_s": 0.6,
    },
    "server": {"prefill_token_s": 0, "decode_token_s": 0, "request_s": 0.5, "step_s": 0.02, "load_s": 0},
}
BESIDES_S: Mapping[str, float] = {"cpu": 2.0, "gpu": 2.5, "server": 0.0}
SWAP_S = 0.1
#: A guess: parameters of a model whose files are not here and whose name does not tell.
PARAMETERS = 7e9
#: How far off the seconds may be, as a factor, where they are scaled from another model's, and where guessed.
SCALED, GUESSED = 2.0, 4.0
#: A guess, where no load has recorded its memory: an engine's process besides weights and key-value cache.
PROCESS_BYTES = 1.2e9
#: Stages that show a model what others wrote, or follow on it: how many there are, and how long their prompts
#: get, hangs on answers.
AFTER_ANSWERS = frozenset({"aggregate", "feedback", "pick", "reconcile", "refine", "revise"})
_GIB = 2**30
_RATES = [*ledger.RATES, "load_s"]
_COLUMNS = [
    "request_id", "stage", "expert", "source", "revision", "batch_id", "prompt_tokens", "output_tokens",
    "cached_tokens", "max_tokens", "max_model_len",
]  # fmt: skip


class Calibration(NamedTuple):
    """What earlier runs say: `rates` by weights; seconds of a swap; how far off a batch's seconds are (as
    factors: a tenth of the seconds were in batches below the one, a tenth above the other); and the peak of
    memory by weights, where recorded."""

    rates: pd.DataFrame
    swap_s: float
    low: float
    high: float
    peaks: Mapping[str, float]


def calibrate(past: GenerationStore) -> Calibration:
    """Rates and their errors from the ledger of `past`."""
    rates, done = ledger.rates(past), ledger.work(past)
    swaps = done.loc[done["was_swap"], "load_device_s"]
    peaks = done[done["peak_bytes"] > 0].groupby("weights")["peak_bytes"].max().astype(float)
    low, high = 1 / GUESSED, GUESSED
    if len(done):
        says = _generation(done, rates.reindex(done["weights"]).set_axis(done.index))
        off = (done["device_s"] / says)[(says > 0) & (done["device_s"] > 0)]
        if len(off):
            off = off.sort_values()
            share = says[off.index].cumsum() / says[off.index].sum()
            low, high = (float(off.iloc[int(np.searchsorted(share, end))]) for end in (0.1, 0.9))
    swap = float(swaps.median()) if len(swaps) else SWAP_S
    return Calibration(
        rates, swap, min(low, 1.0), max(high, 1.0), {str(k): float(v) for k, v in peaks.items()}
    )


def _generation(batches: pd.DataFrame, rates: pd.DataFrame) -> pd.Series:
    """Device seconds that rates (aligned with the batches) give for what the batches consist of."""
    parts = [batches[column].astype(float) * rates[rate] for rate, column in ledger.RATES.items()]
    return sum(parts[1:], parts[0])


def requests(
    stores: Sequence[GenerationStore], seen: set[str], known: Calibration, models: Mapping[str, Model]
) -> pd.DataFrame:
    """One row per rehearsed request: what it asks, and its share of what its batch would take.

    Parameters
    ----------
    stores
        Those that the rehearsal wrote to.
    seen
        The batches that were in them before.
    models
        By weights (source@revision), as a pool has them: for the files, from which their sizes are known.

    Returns
    -------
    Columns: request_id, stage, expert, weights, batch_id, prompt_tokens, output_tokens, cached_tokens,
    max_tokens, max_model_len, swapped, generate_s, load_s (device seconds), low_s, high_s (of both), basis
    ("own", "scaled" or "guess"), money and currency (null if free or of unknown price).
    """
    return pd.concat([_of_store(store, seen, known, models) for store in stores], ignore_index=True)


def _of_store(
    store: GenerationStore, seen: set[str], known: Calibration, models: Mapping[str, Model]
) -> pd.DataFrame:
    rows = store.generations(_COLUMNS)
    rows = rows[~rows["batch_id"].isin(seen)].reset_index(drop=True)
    rows["weights"] = rows["source"] + "@" + rows["revision"]
    batches = ledger.work(store).drop(index=list(seen), errors="ignore")
    told = {w: rates_of(w, models.get(w), known) for w in rows["weights"].unique()}
    rates = pd.DataFrame([told[w].rates for w in batches["weights"]], batches.index, _RATES, dtype=float)
    swapped = batches["swapped"].astype(bool)
    of_batch = pd.DataFrame(
        {
            "generate_s": _generation(batches, rates),
            "load_s": rates["load_s"].where(~swapped, known.swap_s),
            "swapped": swapped,
        }
    )
    # A request's own share: its steps are those of the batch, by its part of the tokens.
    same = rows.groupby(["batch_id", "stage"])["output_tokens"]
    parts = rows.assign(
        computed_tokens=rows["prompt_tokens"] - rows["cached_tokens"],
        n_requests=1.0,
        steps=rows["output_tokens"] * same.transform("max") / same.transform("sum").clip(lower=1),
    )
    each = _generation(parts, rates.reindex(rows["batch_id"]).set_axis(rows.index))
    batch = rows["batch_id"]
    total, n = each.groupby(batch).transform("sum"), each.groupby(batch).transform("size")
    rows["generate_s"] = batch.map(of_batch["generate_s"]).astype(float) * (
        each / total.where(total > 0)
    ).fillna(1 / n)
    rows["load_s"] = batch.map(of_batch["load_s"]).astype(float) / n
    rows["swapped"] = batch.map(of_batch["swapped"]).astype(bool)
    rows["basis"] = rows["weights"].map({w: t.basis for w, t in told.items()})
    off = {"own": (known.low, known.high), "scaled": (1 / SCALED, SCALED), "guess": (1 / GUESSED, GUESSED)}
    for i, name in enumerate(("low_s", "high_s")):
        factor = rows["basis"].map({basis: ends[i] for basis, ends in off.items()}).astype(float)
        rows[name] = (rows["generate_s"] + rows["load_s"]) * factor
    return rows.join(_money(rows, models)).drop(columns=["source", "revision"])


def _money(rows: pd.DataFrame, models: Mapping[str, Model]) -> pd.DataFrame:
    """Money of requests to served models, and its currency; null for local ones and without a known price."""
    money, currency = pd.Series(math.nan, rows.index), pd.Series(None, rows.index, dtype=object)
    for weights, part in rows.groupby("weights"):
        model = models.get(str(weights))
        price = prices.price_of(model.source) if model and model.path.startswith(PREFIX) else None
        if price:
            tokens = zip(part["prompt_tokens"], part["output_tokens"], part["cached_tokens"], strict=True)
            paid = [
                price.of(prompt_tokens=read, output_tokens=written, cached_tokens=cached)
                for read, written, cached in tokens
            ]
            money.update(pd.Series(paid, part.index))
            currency[part.index] = price.currency
    return pd.DataFrame({"money": money, "currency": currency})


class Told(NamedTuple):
    """Rates of a model (those of `ledger.RATES`, and load_s), and where they are from."""

    rates: Mapping[str, float]
    basis: str


def rates_of(weights: str, model: Model | None, known: Calibration) -> Told:
    """A model's own rates; else those of the nearest model by size, scaled; else guesses."""
    source = weights.partition("@")[0]
    own = [w for w in known.rates.index if w == weights] or [
        w
        for w in known.rates.index
        if w.partition("@")[0] == source  # trained again
    ]
    if own:
        return Told(known.rates.loc[own[-1], _RATES].to_dict(), "own")
    size, where = parameters(source, model), device_of(model)
    if len(known.rates) and where != "server":
        sizes = {w: parameters(w.partition("@")[0], None) for w in known.rates.index}
        nearest = min(sizes, key=lambda w: abs(math.log(sizes[w] / size)))
        scale = size / sizes[nearest]
        row = known.rates.loc[nearest, _RATES].to_dict()
        return Told({n: v * scale if n.endswith("token_s") else v for n, v in row.items()}, "scaled")
    guess = {n: v * (size / 1e9 if where != "server" else 1) for n, v in GUESSES[where].items()}
    return Told({**guess, "load_s": guess["load_s"] + BESIDES_S[where]}, "guess")


def parameters(source: str, model: Model | None) -> float:
    """Parameters of a model: from its files, or the number before "b" or "m" in its name, or a guess."""
    if model and (weights := weight_bytes(model)):
        return weights / _bytes_each(model)
    found = re.search(r"(?<![\w.])(\d+(?:\.\d+)?) ?([bm])(?![a-z0-9])", source.lower())
    return float(found[1]) * (1e9 if found[2] == "b" else 1e6) if found else PARAMETERS


def weight_bytes(model: Model) -> int:
    """Size of a model's files of weights; 0 if they are not here."""
    folder = Path(model.path) if model.path and not model.path.startswith(PREFIX) else None
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder else 0


def _bytes_each(model: Model) -> int:
    try:
        config = json.loads((Path(model.path) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 2
    return 2 if (config.get("dtype") or config.get("torch_dtype")) in ("bfloat16", "float16") else 4


def device_of(model: Model | None) -> str:
    """Where a model would run: "server", "gpu" or "cpu"."""
    if model and model.path.startswith(PREFIX):
        return "server"
    return "gpu" if devices.device() == "cuda" else "cpu"


def memory_of(weights: str, model: Model | None, known: Calibration) -> float:
    """The most memory that a load takes, in bytes: a GPU's, or the process's on a CPU; 0 on a server.

    On a CPU the recorded peak of the model itself; else the largest recorded one, with the difference of the
    weights; else the guess for a process, 1.2 times the weights, and the key-value cache that the engine sets
    aside. On each GPU that shares the model its part of 1.2 times the weights: what is left is the cache.
    """
    where = device_of(model)
    if where == "server":
        return 0.0
    if where == "cpu" and weights in known.peaks:
        return known.peaks[weights]
    each = 4 if model and model.dtype == "float32" else 2
    own = 1.2 * each * parameters(weights.partition("@")[0], model)
    if where == "gpu":
        return own / max(1, model.tensor_parallel_size if model else 1)
    if known.peaks:
        other = max(known.peaks, key=lambda name: known.peaks[name])
        return max(known.peaks[other] + own - 1.2 * each * parameters(other.partition("@")[0], None), own)
    return PROCESS_BYTES + own + float(os.environ.get("VLLM_CPU_KVCACHE_SPACE", "2")) * _GIB


def free_memory(where: str) -> float:
    """Bytes that a load may take: what is free, or nine tenths of the smallest GPU; infinite if unknown."""
    if where == "cpu":
        return float(psutil.virtual_memory().available)
    program = shutil.which("nvidia-smi") if where == "gpu" else None
    if program is None:
        return math.inf
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    sizes = [float(line) for line in done.stdout.split() if line.strip().isdigit()]
    return 0.9 * min(sizes) * 2**20 if sizes else math.inf

"""Content of the generation store: counts, tokens and device seconds by model and stage, and failures."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from skillmoe_lib.inference import money
from skillmoe_lib.inference.store import GenerationStore, StoreWarning

_SHOWN = [
    "request_id", "source", "stage", "finish_reason", "prompt_tokens", "output_tokens", "batch_id",
]  # fmt: skip


def status(root: Path) -> str:
    """The content of the generation stores under `root` (one folder per engine), as text to read."""
    if (root / "parts").is_dir():
        return _store(root)
    folders = sorted(path for path in root.glob("*") if path.is_dir()) if root.is_dir() else []
    return "\n\n".join(map(_store, folders)) or f"{root} holds no generations yet: make run"


def _store(folder: Path) -> str:
    store = GenerationStore(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)  # files set aside are reported below
        generations, batches, failures = store.generations(_SHOWN), store.batches(), store.failures()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    seconds = (batches["devices"] * (batches["load_s"] + batches["generate_s"])).sum()
    lines = [
        f"{folder.name}: {len(generations):,} generations, {len(batches):,} loads, "
        f"{seconds:,.0f} device seconds, {size:,.1f} MB on disk"
    ]
    if len(generations):
        groups = generations.assign(cut=generations["finish_reason"].eq("length")).groupby(
            ["source", "stage"]
        )
        table = groups.agg(
            generations=("request_id", "size"),
            cut=("cut", "sum"),
            prompt_tokens=("prompt_tokens", "sum"),
            output_tokens=("output_tokens", "sum"),
        )
        rows = [
            [*key, *(f"{count:,}" for count in counts)]
            for key, counts in zip(table.index, table.to_numpy(), strict=True)
        ]
        lines.append(_columns([["model", "stage", *table.columns], *rows]))
    if len(batches):
        engines = (batches["engine"] + " " + batches["versions"]).value_counts(sort=False)
        lines += [f"  {engine}: {n} load(s)" for engine, n in engines.items()]
    for row in money.by_model(store).to_dict("records"):
        known = pd.notna(row["money"])
        told = f"paid: {row['money']:.4g} {row['currency']} for" if known else "no price is known for"
        dated = f" (price of {row['dated']})" if known else ""
        lines.append(f"  {told} {row['n_answers']:,} answers of {row['source']}{dated}")
    laid_out = batches.loc[batches["engine"] == "vllm", "batch_id"]
    own = generations.loc[generations["batch_id"].isin(laid_out), "request_id"]
    if n_unknown := sum(not store.layout_of(request_id) for request_id in own):
        lines.append(
            f"  {n_unknown:,} generations do not record what the engine got: skillmoe migrate {folder}"
        )
    open_failures = failures[~failures["request_id"].isin(generations["request_id"])]
    last = open_failures.drop_duplicates("request_id", keep="last")
    n_long = int((last["status"] == "overflow").sum())
    lines += [f"  prompts that did not fit the context: {n_long} request(s)"] if n_long else []
    reasons = last.loc[last["status"] != "overflow", "reason"].value_counts()
    lines += [f"  failed, not answered since: {n} request(s): {reason}" for reason, n in reasons.items()]
    n_open = len(list((folder / "open").glob("*.jsonl")))
    lines += [f"  under way or killed: {n_open} load(s), counted when the next run starts"] if n_open else []
    lines += [f"  set aside, could not be read: {path}" for path in store.set_aside()]
    return "\n".join(lines)


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Aligned text: two columns of words, then counts to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  "
        + "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )

"""How much of vLLM's speed is left: tokens a second through scheduler, engine and store, and of vLLM bare.

The same token prompts, sampling settings and seeds, on the same device, in turns within one run, each in
processes of its own. Printed are ratios of medians, with versions and device; absolute figures are of this
machine only.

    python benchmarks/throughput.py                          a pocket expert and SmolLM2
    python benchmarks/throughput.py --requests 64 --rounds 1 a quick look
    python benchmarks/throughput.py --models pocket          only the first
"""

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from skillmoe_lib import experts, prompts, questions
from skillmoe_lib.experts import devices
from skillmoe_lib.generation import Request, Sampling
from skillmoe_lib.inference import schedule
from skillmoe_lib.inference.engines import vllm as vllm_engine
from skillmoe_lib.inference.engines import vllm_options
from skillmoe_lib.inference.store import GenerationStore

#: Name -> (pool, expert, a second expert whose weights fit the same process or "", tokens of an answer).
MODELS = {
    "pocket": ("pocket", "Generalist-1", "Generalist-2", 110),
    "smollm2": ("packaged", "SmolLM2-direct", "", 48),
}


class Speed(NamedTuple):
    """Tokens written and what they took, in seconds; `rest` is neither loading nor generating."""

    n_tokens: int
    generating: float
    loading: float
    rest: float


def requests_of(name: str, *, n: int) -> list[list[Request]]:
    """n requests of the model, and if there is a second one n of it."""
    pool, first, second, max_tokens = MODELS[name]
    asked = questions.as_questions(questions.load("pocket"))[:n]
    members = experts.load_pool(pool).experts
    groups = []
    for member in filter(None, (first, second)):
        expert = replace(members[member], sampling=Sampling(temperature=0.7, max_tokens=max_tokens))
        groups.append([prompts.solve(question, expert, seed=0) for question in asked])
    return groups


def ours(groups: Sequence[Sequence[Request]]) -> Speed:
    """Through scheduler, engine process and store."""

    def asking(group: Sequence[Request]) -> Any:
        return (yield list(group))

    engine = vllm_engine.VLLMEngine()
    engine.start()  # importing vLLM belongs to no model
    with tempfile.TemporaryDirectory() as folder:
        store = GenerationStore(Path(folder))
        started = time.perf_counter()
        done = schedule.run({str(i): asking(group) for i, group in enumerate(groups)}, engine, store)
        wall = time.perf_counter() - started
        engine.release()
        batches = store.batches()
        written = sum(g.output_tokens for outcome in done.values() for g in outcome.result)
    generating, loading = float(batches["generate_s"].sum()), float(batches["load_s"].sum())
    return Speed(written, generating, loading, wall - generating - loading)


def bare(groups: Sequence[Sequence[Request]]) -> Speed:
    """`vllm.LLM.generate` on the same token ids, and `reload_weights` between two models."""
    ours_, theirs = multiprocessing.get_context("spawn").Pipe()
    jobs = [[vllm_engine._job(r, ids) for r, ids in zip(g, _ids(g), strict=True)] for g in groups]
    options = vllm_options.options(groups[0][0].model, devices.device())
    paths = [group[0].model.path for group in groups]
    process = multiprocessing.get_context("spawn").Process(target=_bare, args=(theirs, options, paths, jobs))
    process.start()
    theirs.close()
    found = ours_.recv()
    process.join()
    return Speed(*found)


def _ids(group: Sequence[Request]) -> list[list[int]]:
    return vllm_engine.render(group)


def _bare(
    connection: Any, options: dict[str, Any], paths: list[str], jobs: list[list[dict[str, Any]]]
) -> None:
    os.environ.update(vllm_options.environment(devices.device()))
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    started = time.perf_counter()
    llm = LLM(**options)
    loading, generating, written = time.perf_counter() - started, 0.0, 0
    for path, group in zip(paths, jobs, strict=True):
        if path != options["model"]:
            started = time.perf_counter()
            llm.collective_rpc("reload_weights", kwargs={"weights_path": path})
            llm.reset_prefix_cache()
            loading += time.perf_counter() - started
        settings = [
            SamplingParams(
                temperature=job["temperature"], top_p=job["top_p"], max_tokens=job["max_tokens"],
                stop=job["stop"] or None, seed=job["seed"],
            )
            for job in group
        ]  # fmt: skip
        started = time.perf_counter()
        outputs = llm.generate(
            [TokensPrompt(prompt_token_ids=job["ids"]) for job in group], settings, use_tqdm=False
        )
        generating += time.perf_counter() - started
        written += sum(len(output.outputs[0].token_ids) for output in outputs)
    connection.send((written, generating, loading, 0.0))


def measure(name: str, *, n: int, rounds: int) -> pd.DataFrame:
    """One row a round: tokens a second bare, of our generating alone, and of all but loading."""
    groups = requests_of(name, n=n)
    rows = []
    for i in range(rounds):
        plain, mine = bare(groups), ours(groups)
        rows.append(
            {
                "model": name,
                "round": i,
                "bare, tokens/s": plain.n_tokens / plain.generating,
                "ours generating, tokens/s": mine.n_tokens / mine.generating,
                "ours but for loading, tokens/s": mine.n_tokens / (mine.generating + mine.rest),
                "loading bare, s": plain.loading,
                "loading ours, s": mine.loading,
                "neither, s": mine.rest,
                "tokens bare": plain.n_tokens,
                "tokens ours": mine.n_tokens,
            }
        )
        print(
            json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in rows[-1].items()}),
            flush=True,
        )
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    versions = {p: importlib.metadata.version(p) for p in ("torch", "transformers", "skillmoe")}
    print(f"{devices.device()}, {platform.machine()}, {os.cpu_count()} cores, {versions}")
    for name in given.models:
        found = measure(name, n=given.requests, rounds=given.rounds)
        bare_s = statistics.median(found["bare, tokens/s"])
        for column in ("ours generating, tokens/s", "ours but for loading, tokens/s"):
            share = statistics.median(found[column]) / bare_s
            print(f"{name}: {column.removesuffix(', tokens/s')} {share:.1%} of bare vLLM")
    return 0


if __name__ == "__main__":
    sys.exit(main())

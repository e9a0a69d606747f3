"""Experts of the pocket pool here and on a Ray cluster: are the texts equal, is anything lost by a kill?

The same requests are generated three times, each into a store of its own: by vLLM here, by vLLM in the tasks
of a cluster, and there again with one worker killed in the middle. Sampling is seeded, so a request's text is
the same every time (within one batch size, number format and machine).

    python benchmarks/cluster.py --questions 60

RAY_ADDRESS names the cluster; without it, it is one of this machine.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import psutil

from skillmoe_lib.experts import load_pool
from skillmoe_lib.generation import Engine
from skillmoe_lib.inference import schedule
from skillmoe_lib.inference.engines.ray_cluster import RayEngine
from skillmoe_lib.inference.engines.vllm import VLLMEngine
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods.single import every_expert
from skillmoe_lib.questions import Question

EXPERTS = ("Sums", "Algebra")


def main() -> None:
    """Run all three, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=60)
    n = parser.parse_args().questions
    with tempfile.TemporaryDirectory() as folder:
        here = _run("here", VLLMEngine(), Path(folder) / "here", n)
        there = _run("cluster", RayEngine(VLLMEngine()), Path(folder) / "cluster", n)
        killing = threading.Thread(target=_kill_one, args=(Path(folder) / "killed", n // 3), daemon=True)
        killing.start()
        killed = _run("cluster, one worker killed", RayEngine(VLLMEngine()), Path(folder) / "killed", n)
    for name, texts in {"cluster": there, "killed": killed}.items():
        equal = sum(texts.get(key) == text for key, text in here.items())
        print(
            f"{name}: {equal} of {len(here)} texts equal to those made here, {len(here.keys() - texts)} lost"
        )


def _run(name: str, engine: Engine, folder: Path, n: int) -> dict[str, str]:
    """Request id -> text."""
    members = load_pool("pocket").subset(EXPERTS).experts
    start = time.perf_counter()
    store = GenerationStore(folder)
    schedule.run(every_expert([_question(i) for i in range(n)], members, seed=0), engine, store)
    made = store.generations(["request_id", "text"])
    print(f"{name}: {len(made)} generations in {time.perf_counter() - start:.1f} s", flush=True)
    return dict(made.to_numpy().tolist())


def _question(i: int) -> Question:
    text = f"What is {i} + {7 * i % 100} + {13 * i % 100}?"
    return Question(f"q{i}", "cluster", "test", text, (), str(i + 7 * i % 100 + 13 * i % 100), "sums", "math")


def _kill_one(store: Path, after: int) -> None:
    """SIGKILL to a worker of this machine that holds a task, once so many generations are on disk."""
    while True:
        journals = [path.read_bytes().count(b"\n") for path in (store / "open").glob("*.jsonl")]
        workers = [
            p for p in psutil.process_iter(["cmdline"]) if "ray::_answer" in " ".join(p.info["cmdline"] or ())
        ]
        if sum(journals) >= after and workers:
            print(f"killed: worker {workers[0].pid} after {sum(journals)} generations", flush=True)
            workers[0].kill()
            return
        time.sleep(0.05)


if __name__ == "__main__":
    main()

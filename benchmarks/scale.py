"""How far a run goes: seconds and memory of every stage, at growing numbers of requests.

Sixteen scripted experts and a store on this disk: annotate, validate, recruit and compete (Symbolic-MoE, and
every expert once on every test question), then the same once more from the store. What is measured is the
project, not a model: a scripted text costs nothing. Each size runs in a process of its own, whose peak of
resident memory is taken; the exponent b of a stage fits seconds = a * requests^b between two sizes.

    python benchmarks/scale.py                   25,000, 100,000 and 400,000 requests
    python benchmarks/scale.py 1600000           100,000 questions x 16 experts, on demand
"""

import argparse
import itertools
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from skillmoe_lib import pipeline, tables
from skillmoe_lib.experts import Expert, Pool
from skillmoe_lib.generation import Failure, Generation, Model, Request, Sampling
from skillmoe_lib.inference.engines.scripted import ScriptedEngine
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods.lineup import Choice
from skillmoe_lib.pipeline import Session
from skillmoe_lib.profiling import skills
from skillmoe_lib.routing import SkillRouter

SIZES = (25_000, 100_000, 400_000)
N_EXPERTS, N_VALIDATION, N_TOPICS = 16, 200, 300
_STEM = "A body of mass m slides down a plane without friction. " * 10  # of a question: 550 characters
_CHAIN = "First the forces are drawn, then each is projected on the plane. " * 10  # of a text: 650 characters


class Scripted(ScriptedEngine):
    """Forgets what it was asked: remembering it would be most of what is measured."""

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation | Failure]:
        """Answer by the rule."""
        for outcome in super().generate(requests):
            self.requests.clear()
            yield outcome


def reply(request: Request) -> str:
    """Two topics of the question, or a chain of thought that is right more often for some experts."""
    number = int(request.question_id[1:])
    if request.stage == "keywords":
        return f"Keywords: topic {number % N_TOPICS}, topic {number * 7 % N_TOPICS}"
    right = (number * 31 + int(request.id[:4], 16)) % 100 < 40 + 3 * int(request.expert.lstrip("E") or 0)
    return f"{_CHAIN}The answer is ({'ABCD'[number % 4 if right else (number + 1) % 4]})"


def questions(n: int, split: str) -> pd.DataFrame:
    """`n` multiple-choice questions of one split."""
    return pd.DataFrame(
        {
            "question_id": [f"{split[0]}{i}" for i in range(n)],
            "benchmark": "scale",
            "split": split,
            "text": [f"{_STEM}What of {split} {i}?" for i in range(n)],
            "choices": json.dumps(["one", "two", "three", "four"]),
            "gold": ["ABCD"[i % 4] for i in range(n)],
            "subject": "mechanics",
            "kind": "choice",
            "checker": "{}",
        }
    )


def session(folder: Path) -> Session:
    """A pool of scripted experts, each with a model of its own."""
    names = [f"E{i}" for i in range(N_EXPERTS)]
    experts = {name: Expert(name, Model(f"folder:{name}", "1"), Sampling()) for name in names}
    namer = Expert("namer", Model("folder:namer", "1"), Sampling())
    return Session(Pool("scale", experts, namer, tuple(names)), Scripted(reply), GenerationStore(folder))


def once(n_requests: int, folder: Path) -> Iterator[tuple[str, float]]:
    """Run the chain for about so many requests of experts; yields each stage and its seconds."""
    asked = tables.check(
        pd.concat([questions(N_VALIDATION, "validation"), questions(n_requests // N_EXPERTS, "test")]),
        tables.QUESTIONS,
    )
    last = time.perf_counter()

    def passed() -> float:
        nonlocal last
        before, last = last, time.perf_counter()
        return last - before

    at_work = session(folder)
    named = pipeline.annotate(at_work, asked, votes=2)
    yield "annotate", passed()
    scores = pipeline.validate(at_work, asked)
    yield "validate", passed()
    parts = pipeline.split_of(asked, named)
    matched = skills.match(parts["test"], parts["validation"]["skill"], embed=_letters)
    router = SkillRouter(k=3)
    ids = asked.loc[asked["split"] == "test", "question_id"]
    routes = router.fit(parts["validation"], scores).route(matched, question_ids=ids)
    yield "recruit", passed()
    choice = Choice(tuple(at_work.pool.experts), "E15")
    pipeline.compete(at_work, ["symbolic_moe"], asked, routes, choice, seeds=(0,))
    yield "compete", passed()
    del at_work
    again = session(folder)  # a store opened anew, as by the next notebook
    pipeline.compete(again, ["symbolic_moe"], asked, routes, choice, seeds=(0,))
    assert not again.engine.loads, "everything was stored"  # type: ignore[attr-defined]  # noqa: S101
    yield "compete again", passed()


def _letters(texts: Sequence[str]) -> np.ndarray:
    counts = np.array(
        [[text.count(digit) + 0.1 for digit in "0123456789"] for text in texts], dtype=np.float32
    )
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def measure(n_requests: int) -> dict[str, float]:
    """Seconds of each stage and peak memory up to its end, in a process of its own."""
    command = [sys.executable, __file__, "--here", str(n_requests)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - ourselves
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_here(n_requests: int) -> dict[str, float]:
    """What `measure` measures, in this process."""
    import resource

    found: dict[str, float] = {}
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="skillmoe-scale-", dir=Path.cwd()) as folder:
        for stage, seconds in once(n_requests, Path(folder) / "store"):
            found[f"{stage}, s"] = seconds
            peaks[f"peak memory up to {stage}, MB"] = (
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
            )
        store = GenerationStore(Path(folder) / "store")
        found |= peaks
        found["generations"] = float(len(store.generations(["request_id"])))
        found["parts"] = float(len(list((store.root / "parts").iterdir())))
        found["store, MB"] = sum(part.stat().st_size for part in (store.root / "parts").iterdir()) / 1e6
    return found


def exponents(measured: pd.DataFrame) -> pd.DataFrame:
    """Exponents of growth between neighbouring sizes (the index), of every column."""
    sizes, rows = list(measured.index), {}
    for low, high in itertools.pairwise(sizes):
        ratio = measured.loc[high] / measured.loc[low].clip(lower=1e-9)
        rows[f"{low:,} to {high:,}"] = ratio.map(math.log) / math.log(high / low)
    return pd.DataFrame(rows).T


def main() -> None:
    """Measure the sizes given, and print seconds, memory and exponents."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sizes", nargs="*", type=int, default=list(SIZES), help="numbers of requests")
    parser.add_argument("--here", action="store_true", help="one size, in this process, as JSON")
    given = parser.parse_args()
    if given.here:
        print(json.dumps(run_here(given.sizes[0])))
        return
    measured = pd.DataFrame({n: measure(n) for n in given.sizes}).T.rename_axis("requests")
    print(measured.T.round(1).to_string())
    if len(measured) > 1:
        print("\nexponents of growth")
        print(exponents(measured).T.round(2).to_string())


if __name__ == "__main__":
    main()

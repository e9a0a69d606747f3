"""Faults injected into real runs: is anything lost, is anything made twice, and what does the user see?

Every fault has a project of its own: two experts of the pocket pool, sums as questions, a store. A run is
started as people start it (`python -m skillmoe_lib run`: the runner, its kernel, and the engine's process),
the fault is injected, and the same command is run again without it. The engine's process notes each
generation when it is finished, before anything else learns of it. Lost are those finished in the first run
that the second does not find in the store; made twice are those finished more than once in both.

    python benchmarks/faults.py                        all faults with vLLM: about a minute each
    python benchmarks/faults.py --engine stand-in      a stand-in for vLLM that writes meaningless texts
    python benchmarks/faults.py runner "torn part"     only the faults whose names contain one of these
    python benchmarks/faults.py --kills 20             one run, killed 20 times at random moments, and
                                                       one that nobody disturbs: are their tables equal?
"""

import argparse
import contextlib
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pandas as pd
import psutil

from skillmoe_lib import experts, files
from skillmoe_lib.evaluation import results
from skillmoe_lib.inference import journal, schedule
from skillmoe_lib.inference.engines import vllm as vllm_engine
from skillmoe_lib.inference.engines import vllm_process
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods.single import every_expert
from skillmoe_lib.questions import Question

ROOT = Path(__file__).resolve().parents[1]
EXPERTS = ("sums", "algebra")
LIMIT_S = 480.0  # of a run
HOME = "SKILLMOE_FAULTS"  # names the project's folder to the kernel and to the engine's process
STALL_S = 15.0  # after which a hung engine is ended, where one hangs: longer than a load


# -- the faults ------------------------------------------------------------------------------------------


class Running(NamedTuple):
    """A command that runs, in the project's folder."""

    home: Path
    process: subprocess.Popen[bytes]

    def kill(self, *who: str) -> None:
        """SIGKILL to "runner", "kernel" or "engine"."""
        for name in who:
            pid = self.process.pid if name == "runner" else int((self.home / name).read_text())
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Fault(NamedTuple):
    """`inside` is read by `run_here` and `serve`; `outside` is done when `after` (a share) is finished;
    `between` is done when the first run has ended."""

    name: str
    inside: Mapping[str, Any] = {}
    outside: Callable[[Running], Any] | None = None
    after: float = 0.0
    between: Callable[[Path], Any] | None = None


def _tear_a_part(home: Path) -> None:
    part = min((_store(home).root / "parts").iterdir())
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 1
    part.write_bytes(data)


def _tear_the_last_line(home: Path) -> None:
    for path in (_store(home).root / "open").glob("*.jsonl"):
        with path.open("ab") as stream:
            stream.write(b'0123abcd {"request_id": "half a li')


def _second_writer(running: Running) -> None:
    second = _start(running.home, "second")
    _finish(second)


FAULTS = (
    Fault("the engine is killed", outside=lambda run: run.kill("engine"), after=0.2),
    Fault("the engine is killed, later", outside=lambda run: run.kill("engine"), after=0.7),
    Fault("the engine is killed while it loads", {"load": "kill", "once": True}),
    Fault("the engine ends by itself", {"after": 0.5, "do": "exit", "once": True}),
    Fault("the engine raises", {"after": 0.4, "do": "raise", "once": True}),
    Fault("the engine hangs", {"after": 0.3, "do": "hang", "once": True, "stall_s": STALL_S}),
    Fault("the engine hangs while it loads", {"load": "hang", "once": True, "stall_s": STALL_S}),
    Fault("a prompt kills the engine, always", {"poison": "kill"}),
    Fault("a prompt makes the engine raise, always", {"poison": "raise"}),
    Fault("a prompt is refused", {"poison": "refuse"}),
    Fault("the kernel is killed", outside=lambda run: run.kill("kernel"), after=0.3),
    Fault("the kernel is killed, later", outside=lambda run: run.kill("kernel"), after=0.8),
    Fault("the runner is killed", outside=lambda run: run.kill("runner"), after=0.25),
    Fault("the runner is killed, later", outside=lambda run: run.kill("runner"), after=0.75),
    Fault("runner and kernel are killed", outside=lambda run: run.kill("runner", "kernel"), after=0.5),
    Fault("all three are killed", outside=lambda run: run.kill("runner", "kernel", "engine"), after=0.5),
    Fault("SIGTERM", outside=lambda run: run.process.terminate(), after=0.4),
    Fault("Ctrl-C", outside=lambda run: run.process.send_signal(signal.SIGINT), after=0.4),
    Fault("Ctrl-C, later", outside=lambda run: run.process.send_signal(signal.SIGINT), after=0.9),
    Fault("the disk is full, for parts until the run ends", {"full_after": 0.4}),
    Fault("a torn part (what was in it is made again)", between=_tear_a_part),
    Fault(
        "a kernel is killed, and a journal's last line torn",
        outside=lambda run: run.kill("kernel"),
        after=0.6,
        between=_tear_the_last_line,
    ),
    Fault("two runs at once, of other questions", outside=_second_writer, after=0.1),
)


# -- in the kernel and in the engine's process ---------------------------------------------------------------


def run_here(part: str = "first") -> None:
    """What the notebook's only cell calls: both experts on the questions of this part, under the fault."""
    home = Path(os.environ[HOME])
    about = json.loads((home / "about.json").read_text())
    (home / "kernel").write_text(str(os.getpid()))
    store, members = _store(home), experts.load_pool(str(home / "pool.yaml")).experts
    store.recover()
    (home / "kept.json").write_text(json.dumps(store.generations(["request_id"])["request_id"].tolist()))
    first = 0 if part == "first" else about["questions"]
    asked = [_question(first + i) for i in range(about["questions"])]
    (home / "poison").write_text(_asked_first(asked[len(asked) // 3], members))
    if about["engine"] == "stand-in":
        vllm_engine._PRELOAD[:] = [vllm_process.__name__]
        vllm_engine.render = lambda requests: [[1, 2, 3] for _ in requests]
        vllm_engine.VLLMEngine.check = lambda *_: None  # type: ignore[method-assign]
    vllm_engine._PRELOAD.append(__name__)
    vllm_engine.vllm_process = sys.modules[__name__]  # for its `serve`, which is the one below
    if share := about["fault"].get("full_after"):
        _fill_disk(round(share * about["n"]))
    engine = vllm_engine.VLLMEngine(stall_s=about["fault"].get("stall_s", 600.0))
    outcomes = schedule.run(every_expert(asked, members, seed=0), engine, store)
    results.scores(outcomes, asked, members).to_csv(home / f"scores-{part}.csv", index=False)


def _asked_first(question: Question, members: Mapping[str, experts.Expert]) -> str:
    (_, program), *_ = every_expert([question], members, seed=0)
    return str(next(program)[0].id)


def _fill_disk(after: int) -> None:
    """Let one line of a journal fail, and from then on everything that is synced."""
    put, n = journal.JournalFile._put, 0

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fills(self: journal.JournalFile, file: int, entry: Mapping[str, Any]) -> None:
        nonlocal n
        n += 1
        if n == after:
            files.os.fsync = full  # type: ignore[assignment]
            full()
        put(self, file, entry)

    journal.JournalFile._put = fills  # type: ignore[method-assign]


def serve(connection: Any, options: dict[str, Any], log_dir: str) -> None:
    """The engine's process, which notes what is finished, with the fault in it."""
    import vllm

    home = Path(os.environ[HOME])
    about = json.loads((home / "about.json").read_text())
    (home / "engine").write_text(str(os.getpid()))
    fault, build, poison = about["fault"], vllm.LLM, (home / "poison").read_text()

    def strike(kind: str) -> None:
        if fault.get("once"):
            if (home / "struck").exists():
                return
            (home / "struck").touch()
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "exit":
            os._exit(3)
        if kind == "hang":
            time.sleep(3600)
        raise RuntimeError("an illegal\nmemory access")

    def llm(**options: Any) -> Any:
        if "load" in fault:
            strike(fault["load"])
        made = build(**options)
        engine, poisoned = made.llm_engine, []
        add, step = engine.add_request, engine.step

        def add_request(request_id: str, *given: Any) -> Any:
            if "poison" in fault and request_id == poison:
                if fault["poison"] == "refuse":
                    raise ValueError("no such token")
                poisoned.append(request_id)
            return add(request_id, *given)

        def noted_step() -> Any:
            if poisoned:
                strike(fault["poison"])
            if "do" in fault and len(_made(home)) >= fault["after"] * about["n"]:
                strike(fault["do"])
            outputs = step()
            if ids := [output.request_id for output in outputs if output.finished]:
                with (home / "made.log").open("a") as log:
                    log.write("".join(f"{request_id}\n" for request_id in ids))
            return outputs

        engine.add_request, engine.step = add_request, noted_step
        return made

    vllm.LLM = llm
    vllm_process.serve(connection, options, log_dir)


STAND_IN = """
import time
from types import SimpleNamespace

SamplingParams = dict

class LLM:
    def __init__(self, **options):
        self.llm_engine, self.queue = self, []
        time.sleep(0.2)

    def collective_rpc(self, name, **given):
        pass

    def reset_prefix_cache(self):
        pass

    def add_request(self, request_id, prompt, parameters):
        self.queue.append(request_id)

    def has_unfinished_requests(self):
        return bool(self.queue)

    def step(self):
        time.sleep(0.05)
        ready, self.queue = self.queue[:3], self.queue[3:]
        done = SimpleNamespace(text="The answer is \\\\boxed{1}", token_ids=[1], finish_reason="stop")
        return [
            SimpleNamespace(request_id=i, finished=True, outputs=[done], num_cached_tokens=0) for i in ready
        ]
"""


# -- a project, and commands run in it -----------------------------------------------------------------------


def make_project(home: Path, fault: Fault, *, engine: str, n_questions: int) -> None:
    """Everything that `run_here` reads."""
    entries = []
    for name in EXPERTS:
        shutil.copytree(ROOT / "data" / "pocket" / name, home / "data" / "pocket" / name)
        entries.append(f"  - {{name: {name}, model: 'folder:data/pocket/{name}', dtype: float32}}")
    pool = ["name: two", "sampling: {max_tokens: 160}", "keyword_model: {model: 'folder:data/pocket/sums'}"]
    (home / "pool.yaml").write_text("\n".join([*pool, "experts:", *entries]))
    about = {"fault": dict(fault.inside), "engine": engine, "questions": n_questions}
    (home / "about.json").write_text(json.dumps({**about, "n": n_questions * len(EXPERTS)}))
    cells = [
        nbformat.v4.new_code_cell(
            'part: str = "first"  # which questions', metadata={"tags": ["parameters"]}
        ),
        nbformat.v4.new_code_cell("from benchmarks.faults import run_here\n\nrun_here(part)"),
    ]
    (home / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), home / "notebooks" / "faults.ipynb")
    if engine == "stand-in":
        (home / "stand_in" / "vllm").mkdir(parents=True)
        (home / "stand_in" / "vllm" / "__init__.py").write_text(STAND_IN)
        (home / "stand_in" / "vllm" / "inputs.py").write_text("TokensPrompt = dict\n")


def _question(i: int) -> Question:
    text = f"What is {i} + {7 * i % 100} + {13 * i % 100}?"
    return Question(f"q{i}", "faults", "test", text, (), str(i + 7 * i % 100 + 13 * i % 100), "sums", "math")


def _store(home: Path) -> GenerationStore:
    return GenerationStore(home / "store")


def _made(home: Path) -> list[str]:
    log = home / "made.log"
    return log.read_text().split() if log.exists() else []


def _start(home: Path, part: str = "first") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "skillmoe_lib", "run", "faults", "-p", f"part={part}"]
    paths = [str(ROOT), *([str(home / "stand_in")] if (home / "stand_in").exists() else [])]
    environment = {**os.environ, HOME: str(home), "SKILLMOE_HOME": str(home)}
    environment["PYTHONPATH"] = os.pathsep.join([*paths[::-1], os.environ.get("PYTHONPATH", "")])
    with (home / f"output-{part}").open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - ourselves
            command, cwd=home, env=environment, stdout=output, stderr=output, start_new_session=True,
            preexec_fn=_hears_ctrl_c,
        )  # fmt: skip


def _hears_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background ignores it


def _finish(process: subprocess.Popen[bytes]) -> int:
    """Wait for a command; if it does not end, its whole family is killed."""
    try:
        return process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        for child in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            child.kill()
        return process.wait()


def _line(home: Path, code: int) -> str:
    """The line that a person would read last: the error, or else the last one."""
    lines = [
        line.strip()
        for line in (home / "output-first").read_text(errors="replace").splitlines()
        if line.strip()
    ]
    errors = [line for line in lines if line.startswith("error: ")]
    if code < 0:
        return f"({signal.Signals(-code).name} ended it)"
    return (errors or lines or ["(nothing)"])[-1]


class Outcome(NamedTuple):
    """What became of a fault: the line of the run that it struck, and generations lost and made twice."""

    fault: str
    line: str
    lost: int
    made_twice: int
    missing: int
    seconds: float


def inject(fault: Fault, *, engine: str = "vllm", n_questions: int = 100) -> Outcome:
    """Run under the fault, run again without it, and count."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="skillmoe-fault-") as folder:
        home = Path(folder)
        make_project(home, fault, engine=engine, n_questions=n_questions)
        about = json.loads((home / "about.json").read_text())
        running = Running(home, _start(home))
        if fault.outside:
            until = time.monotonic() + LIMIT_S
            while len(_made(home)) < max(1, fault.after * about["n"]):
                if running.process.poll() is not None or time.monotonic() > until:
                    break
                time.sleep(0.02)
            time.sleep(random.random() / 10)  # noqa: S311 - any moment will do
            fault.outside(running)
        line = _line(home, _finish(running.process))
        if fault.between:
            fault.between(home)
        before = set(_made(home))
        (home / "about.json").write_text(json.dumps({**about, "fault": {}}))
        code = _finish(_start(home))
        kept = set(json.loads((home / "kept.json").read_text()))
        # An engine that was still finishing a step when its runner died has noted more since.
        made = Counter(_made(home))
        stored = set(_store(home).generations(["request_id"])["request_id"])
        missing = max(0, about["n"] - len(stored)) if code == 0 else about["n"]
        twice = sum(made.values()) - len(made)
    return Outcome(fault.name, line, len(before - kept), twice, missing, time.monotonic() - began)


class Killed(NamedTuple):
    """What became of a run that was killed again and again: how often each was killed, generations lost and
    made twice, and rows of the Scores table that differ from those of a run that nobody disturbed."""

    kills: Mapping[str, int]
    lost: int
    made_twice: int
    n_rows: int
    n_differ: int
    seconds: float


TARGETS = (("engine",), ("kernel",), ("runner",), ("runner", "kernel", "engine"))


def kill_at_random(n_kills: int, *, engine: str = "vllm", n_questions: int = 500, seed: int = 0) -> Killed:
    """Kill one run `n_kills` times at random moments, start it again each time, and let it end."""
    began, draw = time.monotonic(), random.Random(seed)  # noqa: S311 - any moment will do
    calm, kills = Fault("none"), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="skillmoe-fault-") as folder:
        home, quiet = Path(folder) / "killed", Path(folder) / "quiet"
        for each in (home, quiet):
            make_project(each, calm, engine=engine, n_questions=n_questions)
        n = n_questions * len(EXPERTS)
        lost, running = 0, _start_anew(home)
        while kills.total() < n_kills:
            until = len(_made(home)) + draw.randint(0, max(1, 2 * n // (n_kills + 1)))
            while len(_made(home)) < min(until, n - 1) and running.process.poll() is None:
                time.sleep(0.02)
            time.sleep(draw.random() / 5)
            who = draw.choice(TARGETS)
            if running.process.poll() is None and all(
                name == "runner" or (home / name).exists() for name in who
            ):
                running.kill(*who)
                kills["all three" if len(who) > 1 else who[0]] += 1
                if who == ("engine",):
                    (home / "engine").unlink()
                    continue  # the run goes on by itself
            elif running.process.poll() is None:
                continue  # it has not started yet what was to be killed
            _finish(running.process)
            before = set(_made(home))
            running = _start_anew(home)
            lost += len(before - _kept_by(running))
        code = _finish(running.process)
        made = Counter(_made(home))
        if code or _finish(_start(quiet)):
            raise SystemExit(f"a run did not end by itself:\n{(home / 'output-first').read_text()[-2000:]}")
        tables = [pd.read_csv(each / "scores-first.csv", dtype=str) for each in (home, quiet)]
        differ = int((tables[0].fillna("") != tables[1].fillna("")).any(axis=1).sum())
    twice = made.total() - len(made)
    return Killed(dict(kills), lost, twice, len(tables[0]), differ, time.monotonic() - began)


def _start_anew(home: Path) -> Running:
    """Start the run; what the one before left for us is removed."""
    for name in ("kernel", "engine", "kept.json"):
        (home / name).unlink(missing_ok=True)
    return Running(home, _start(home))


def _kept_by(running: Running) -> set[str]:
    """What the run that has just been started finds in the store, as soon as it has looked."""
    kept, until = running.home / "kept.json", time.monotonic() + LIMIT_S
    while running.process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return set(json.loads(kept.read_text()))
        time.sleep(0.02)
    raise SystemExit(f"a run ended before it looked:\n{(running.home / 'output-first').read_text()[-2000:]}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Inject faults one after another; print a line for each, and a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of the names of faults (default: all)")
    parser.add_argument("--engine", choices=["vllm", "stand-in"], default="vllm")
    parser.add_argument("--questions", type=int, default=100, help="of each run, for two experts")
    parser.add_argument("--kills", type=int, default=0, help="kill one run this often, at random moments")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    given = parser.parse_args(arguments)
    if given.kills:
        told_all = kill_at_random(
            given.kills, engine=given.engine, n_questions=given.questions, seed=given.seed
        )
        print(f"{told_all.kills}: lost {told_all.lost}, made twice {told_all.made_twice}")
        print(
            f"{told_all.n_differ} of {told_all.n_rows} rows of the Scores table differ from one that "
            f"nobody disturbed; {told_all.seconds:.0f} s"
        )
        return int(bool(told_all.lost or told_all.made_twice or told_all.n_differ))
    chosen = [f for f in FAULTS if not given.names or any(name in f.name for name in given.names)]
    done = []
    for i, fault in enumerate(chosen, start=1):
        done.append(inject(fault, engine=given.engine, n_questions=given.questions))
        told = done[-1]
        print(
            f"[{i}/{len(chosen)}] {told.fault}: {told.line} | lost {told.lost}, made twice "
            f"{told.made_twice}, missing in the end {told.missing}, {told.seconds:.0f} s",
            flush=True,
        )
    table = pd.DataFrame(done).drop(columns="line").round(0)
    print("\n" + table.to_string(index=False))
    totals = table[["lost", "made_twice", "missing"]].sum()
    print(f"in all: {', '.join(f'{name} {n}' for name, n in totals.items())}")
    return int(totals["missing"] > 0)


if __name__ == "__main__":
    sys.exit(main())

"""Failures during a run: of the engine's process, the runner, the disk. Real processes, a made-up model.

The vLLM engine runs unchanged, with its processes, pipes and signals; only the package `vllm` in its worker
is replaced by one that finishes one request per step and does what `fault.json` in the model's folder says.
No case loses a finished text or generates one twice, and each ends with one line or none.
"""

import contextlib
import errno
import json
import multiprocessing.forkserver
import random
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.generation import Message, Model, Request, Sampling
from skillmoe_lib.inference import journal, schedule
from skillmoe_lib.inference.engines import vllm as vllm_engine
from skillmoe_lib.inference.engines.replay import ReplayEngine
from skillmoe_lib.inference.engines.vllm import VLLMEngine
from skillmoe_lib.inference.store import GenerationStore, StoreWarning

ROOT = Path(__file__).resolve().parents[2]
N = 12  # questions; each asks A and B, then A again

STAND_IN = """
import json, os, time
from pathlib import Path
from types import SimpleNamespace

SamplingParams = dict

class LLM:
    def __init__(self, model, **options):
        self.folder = Path(model)
        self.fault = json.loads((self.folder / "fault.json").read_text())
        (self.folder / f"pid-{os.getpid()}").touch()
        self.llm_engine, self.queue, self.n_made = self, [], 0
        if "load" in self.fault:
            self.strike(self.fault["load"])

    def strike(self, kind):
        if self.fault.get("after", 0) > self.n_made:
            return
        if self.fault.get("once"):
            if (self.folder / "struck").exists():
                return
            (self.folder / "struck").touch()
        if kind == "kill":
            os.kill(os.getpid(), 9)
        if kind == "exit":
            os._exit(3)
        if kind == "hang":
            time.sleep(1000)
        raise RuntimeError("an illegal\\nmemory access")

    def add_request(self, request_id, prompt, parameters):
        refused = self.fault.get("refuse") if self.n_made >= self.fault.get("after", 0) else None
        if refused == prompt["prompt_token_ids"][0]:
            raise ValueError("no such token")
        self.queue.append((request_id, prompt["prompt_token_ids"][0]))

    def has_unfinished_requests(self):
        return bool(self.queue)

    def step(self):
        time.sleep(self.fault.get("step_s", 0))
        return [self.finish() for _ in self.queue[: self.fault.get("at_a_time", 1)]]

    def finish(self):
        request_id, number = self.queue.pop(0)
        if str(number) in self.fault.get("at", {}):
            self.strike(self.fault["at"][str(number)])
        with (self.folder / "made.log").open("a") as log:
            log.write(request_id + "\\n")
        self.n_made += 1
        text = "text of " + request_id + "." * self.fault.get("n_dots", 0)
        done = SimpleNamespace(text=text, token_ids=[1], finish_reason="stop")
        return SimpleNamespace(request_id=request_id, finished=True, outputs=[done], num_cached_tokens=0)
"""


def layout(requests):
    """The number of the question is its prompt; a question too long for the context is as long as it."""
    return [[int(r.question_id)] * (64 if "long" in r.messages[-1].content else 1) for r in requests]


@contextlib.contextmanager
def stand_in(folder):
    """Workers import the package `vllm` of this folder, from a server of their own."""
    package = folder / "package" / "vllm"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(STAND_IN)
    (package / "inputs.py").write_text("TokensPrompt = dict\n")
    server = multiprocessing.forkserver._forkserver
    with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        patched.syspath_prepend(package.parent)
        patched.setattr(vllm_engine, "_PRELOAD", [vllm_engine.vllm_process.__name__])
        patched.setattr(vllm_engine, "render", layout)
        patched.setattr(VLLMEngine, "check", lambda self, model: None)
        server._stop()
        try:
            yield
        finally:
            server._stop()


@pytest.fixture(scope="module")
def stand_in_vllm(tmp_path_factory):
    """One server for this file's tests: starting it takes the time."""
    with stand_in(tmp_path_factory.mktemp("stand_in")):
        yield


pytestmark = pytest.mark.usefixtures("stand_in_vllm")


def model(folder, name, fault=None):
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "fault.json").write_text(json.dumps(fault or {}))
    return Model(name, "1", max_model_len=64, path=str(folder / name))


def programs(folder, a=None, b=None, *, long=()):
    one, two = model(folder, "A", a), model(folder, "B", b)

    def ask(number, expert, text):
        said = (Message("user", "long" if number in long and expert == one else text),)
        return Request("solve", str(number), expert.source, expert, said, Sampling())

    def program(number):
        first = yield [ask(number, one, f"{number}"), ask(number, two, f"{number}")]
        second = yield [ask(number, one, f"{number} again")]
        return [generation.finish_reason for generation in (*first, *second)]

    return {number: program(number) for number in range(N)}


def engine(stall_s=60.0):
    return VLLMEngine(swap_weights=False, stall_s=stall_s)


def made(folder):
    """How often each request was generated by a worker."""
    logs = [log.read_text().split() for log in sorted(folder.glob("*/made.log"))]
    return Counter(request_id for log in logs for request_id in log)


def workers(folder):
    """Workers that are still there; one that is dead and not yet collected is not."""
    alive = []
    for pid in [int(file.name[4:]) for file in folder.glob("*/pid-*")]:
        with contextlib.suppress(psutil.NoSuchProcess):
            alive += [pid] * (psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return alive


#: Name: what A and B do, seconds until a worker hangs, questions that cannot be run, the reason in the line.
FAULTS = {
    "the worker is killed, once": ({"at": {"5": "kill"}, "once": True}, {}, 60, [], ""),
    "the worker is killed while it loads, once": ({"load": "kill", "once": True}, {}, 60, [], ""),
    "the worker ends, once": ({}, {"at": {"0": "exit"}, "once": True}, 60, [], ""),
    "the engine raises, once": ({"at": {"11": "raise"}, "once": True}, {}, 60, [], ""),
    "the engine hangs, once": ({"at": {"5": "hang"}, "once": True}, {}, 1, [], ""),
    "the load hangs, once": ({}, {"load": "hang", "once": True}, 1, [], ""),
    "a prompt kills the worker": ({}, {"at": {"7": "kill"}}, 60, [7], "the engine died .*signal 9"),
    "a prompt ends the worker": ({}, {"at": {"7": "exit"}}, 60, [7], "the engine died .*exit code 3"),
    "a prompt makes the engine raise": (
        {},
        {"at": {"0": "raise"}},
        60,
        [0],
        "RuntimeError: an illegal memory",
    ),
    "a prompt makes the engine hang": ({}, {"at": {"11": "hang"}}, 0.7, [11], "no progress for 0.7 s"),
    "two prompts kill the worker": ({}, {"at": {"2": "kill", "9": "kill"}}, 60, [2, 9], "the engine died"),
    "a prompt is refused": ({}, {"refuse": 3}, 60, [3], "ValueError: no such token"),
    "a model cannot be loaded": (
        {},
        {"load": "raise"},
        60,
        list(range(N)),
        "cannot be loaded or run: Runtime",
    ),
}


@pytest.mark.parametrize(("a", "b", "stall_s", "culprits", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_the_engine(tmp_path, a, b, stall_s, culprits, reason):
    store = GenerationStore(tmp_path / "store")
    named = pytest.raises(SkillmoeError, match=rf"{len(culprits)} request\(s\) could not be run.*{reason}")
    with named if culprits else contextlib.nullcontext() as error:
        schedule.run(programs(tmp_path, a, b), engine(stall_s), store)
    assert not culprits or "\n" not in str(error.value)
    assert workers(tmp_path) == []
    stored = store.generations()["request_id"]
    assert Counter(stored) == made(tmp_path), "nothing lost, nothing twice"
    assert len(stored) == 3 * N - len(culprits)
    assert sorted(map(int, store.failures()["question_id"])) == culprits
    left_out = schedule.run(programs(tmp_path), ReplayEngine(), GenerationStore(store.root))
    assert [n for n in left_out if "not_run" in left_out[n].result] == culprits

    outcomes = schedule.run(programs(tmp_path), engine(), GenerationStore(store.root))
    assert all(outcome.result == ["stop"] * 3 for outcome in outcomes.values())
    assert set(made(tmp_path).values()) == {1}
    assert made(tmp_path).keys() == set(store.generations()["request_id"])


def test_prompts_that_do_not_fit_are_no_fault(tmp_path):
    store = GenerationStore(tmp_path / "store")
    outcomes = schedule.run(programs(tmp_path, long=(4,)), engine(), store)
    assert outcomes[4].result == ["overflow", "stop", "overflow"]
    assert sum(made(tmp_path).values()) == 3 * N - 2


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("lasting", [False, True])
def test_a_full_disk(tmp_path, lasting):
    """For a moment, or for parts until the run is over: all that was finished is there in the next."""
    store, calls = GenerationStore(tmp_path / "store"), []
    with pytest.MonkeyPatch.context() as patched:
        put = journal.JournalFile._put

        def fills(self, file, entry):
            calls.append(entry)
            if len(calls) == 8:
                if lasting:
                    patched.setattr("skillmoe_lib.files.os.fsync", full)
                full()
            put(self, file, entry)

        patched.setattr(journal.JournalFile, "_put", fills)
        with pytest.raises(SkillmoeError, match="No space left on device; what was stored is intact"):
            schedule.run(programs(tmp_path), engine(), store)
        patched.undo()
    assert workers(tmp_path) == []
    store.recover()
    assert len(store.generations()) >= 7
    assert Counter(store.generations()["request_id"]) == made(tmp_path), "nothing lost"
    schedule.run(programs(tmp_path), engine(), GenerationStore(store.root))
    assert len(store.generations()) == 3 * N
    assert set(made(tmp_path).values()) == {1}, "nothing twice"


def test_a_torn_part_is_made_again_and_nothing_else(tmp_path):
    store = GenerationStore(tmp_path / "store")
    schedule.run(programs(tmp_path), engine(), store)
    part = min((store.root / "parts").iterdir())
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 1
    part.write_bytes(data)
    with pytest.warns(StoreWarning, match="moved to"):
        outcomes = schedule.run(programs(tmp_path), engine(), GenerationStore(store.root))
    assert all(outcome.result == ["stop"] * 3 for outcome in outcomes.values())
    assert sorted(made(tmp_path).values()) == [1] * (2 * N) + [2] * N


# --- the runner itself --------------------------------------------------------------------------------

RUNNER = """
import sys
from pathlib import Path
sys.path[:0] = ["tests/inference", "tests", "."]
import test_faults as t

folder, slow, store = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
folder.mkdir(exist_ok=True)
try:
    with t.stand_in(folder):
        a = {"step_s": slow, **({"at": {"9": "hang"}} if "hang" in sys.argv else {})}
        both = t.chained(folder, a) if "chained" in sys.argv else t.programs(folder, a, {"step_s": slow})
        t.schedule.run(both, t.engine(), t.GenerationStore(store))
except KeyboardInterrupt:
    sys.exit("interrupted")
except t.SkillmoeError as error:
    sys.exit(str(error))
"""


def start(folder, *options, slow=0.05):
    command = [sys.executable, "-W", "error", "-c", RUNNER, str(folder), str(slow), *map(str, options)]
    return subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=_hears_ctrl_c, start_new_session=True
    )


def _hears_ctrl_c():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it


def wait_for(runner, condition, *, limit_s=120):
    until = time.monotonic() + limit_s
    while not condition():
        assert runner.poll() is None, runner.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.02)


def nothing_is_lost(folder, store):
    """No process of the run stays, and what was finished is in the store."""
    until = time.monotonic() + 30
    while workers(folder):
        assert time.monotonic() < until, "a worker outlives its runner"
        time.sleep(0.05)
    store.recover()
    assert Counter(store.generations()["request_id"]) == made(folder), "nothing lost"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda end: end.name)
@pytest.mark.parametrize("hanging", [False, True])
def test_a_runner_that_is_ended_goes_on_where_it_was(tmp_path, end, hanging):
    """What was finished is stored, received or not, and nothing is made twice; no process stays."""
    store = GenerationStore(tmp_path / "store")
    runner = start(tmp_path, store.root, *(["hang"] if hanging else []))
    try:
        wait_for(runner, lambda: sum(made(tmp_path).values()) >= 8)
        time.sleep(0.5 if hanging else 0)
        runner.send_signal(end)
        said = runner.communicate(timeout=60)[1]
    finally:
        runner.kill()
        runner.wait()
    assert runner.returncode == (1 if end == signal.SIGINT else -end)
    assert said.strip().splitlines()[-1:] == ["interrupted"] or end != signal.SIGINT
    nothing_is_lost(tmp_path, store)
    outcomes = schedule.run(programs(tmp_path), engine(), GenerationStore(store.root))
    assert all(outcome.result == ["stop"] * 3 for outcome in outcomes.values())
    assert set(made(tmp_path).values()) == {1}, "nothing twice"
    assert len(store.generations()) == 3 * N


@pytest.mark.parametrize("slow", [0.01, 0.3])
def test_a_runner_killed_again_and_again_and_started_at_once(tmp_path, slow):
    """The engine's process still finishes a step when the next run begins."""
    store, draw = GenerationStore(tmp_path / "store"), random.Random(0)
    for _ in range(3):
        n = sum(made(tmp_path).values()) + draw.randint(1, 6)
        if n > 3 * N - 3:
            break
        runner = start(tmp_path, store.root, slow=slow)
        try:
            wait_for(runner, lambda n=n: sum(made(tmp_path).values()) >= n)
            time.sleep(slow * draw.random())
        finally:
            runner.kill()
            runner.communicate()
    outcomes = schedule.run(programs(tmp_path), engine(), GenerationStore(store.root))
    assert all(outcome.result == ["stop"] * 3 for outcome in outcomes.values())
    assert sorted(made(tmp_path).values()) == [1] * (3 * N), "nothing twice"
    assert Counter(store.generations()["request_id"]) == made(tmp_path), "nothing lost"
    assert not list((store.root / "open").iterdir())


def test_two_runners_share_a_store(tmp_path):
    """Each takes what the other has finished before it looks; what both made counts once."""
    store = GenerationStore(tmp_path / "store")
    runners = [start(tmp_path / name, store.root, slow=0.01) for name in ("one", "two")]
    said = [runner.communicate(timeout=200)[1] for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], said
    assert store.set_aside() == []
    assert not list((store.root / "open").iterdir())
    assert len(store.generations()) == 3 * N
    assert store.generations()["request_id"].is_unique


def test_a_store_that_may_only_be_read_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SkillmoeError, match="cannot write"):
        schedule.run(programs(tmp_path), engine(), GenerationStore(tmp_path / "file" / "store"))
    assert not made(tmp_path)


def test_a_torn_line_of_a_journal_is_set_aside_and_the_others_count(tmp_path):
    store = GenerationStore(tmp_path / "store")
    runner = start(tmp_path, store.root)
    try:
        wait_for(runner, lambda: sum(made(tmp_path).values()) >= 8)
    finally:
        runner.kill()
        runner.communicate()
    ours, of_the_engine = sorted((store.root / "open").glob("*.jsonl"))
    of_the_engine.unlink()
    lines = ours.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3][:20] + b"\n"
    ours.write_bytes(b"".join(lines) + b"1234 half a li")
    with pytest.warns(StoreWarning, match="1 of its lines are torn"):
        store.recover()
    assert len(store.generations()) == len(lines) - 2
    assert [path.name for path in store.set_aside()] == [ours.name]


# --- requests that join what is under way -------------------------------------------------------------


def chained(folder, fault=None, n_waves=4, context=64):
    """Programs that ask one model again and again: each wave joins what the others still wait for."""
    one = replace(model(folder, "A", fault), max_model_len=context)

    def ask(number, wave):
        said = (Message("user", f"{number} {wave}"),)
        return Request("solve", str(number), one.source, one, said, Sampling())

    def program(number):
        reasons = []
        for wave in range(n_waves):
            (generation,) = yield [ask(number, wave)]
            reasons.append(generation.finish_reason)
        return reasons

    return {number: program(number) for number in range(N)}


#: Name: what A does, seconds until it hangs, questions whose requests cannot be run.
FAULTS_OF_CHAINS = {
    "none": ({}, 60, []),
    "the worker is killed, once": ({"at": {"11": "kill"}, "after": 20, "once": True}, 60, []),
    "the engine raises, once": ({"at": {"3": "raise"}, "after": 20, "once": True}, 60, []),
    "the engine hangs, once": ({"at": {"5": "hang"}, "after": 20, "once": True}, 1, []),
    "what joins is refused": ({"refuse": 3, "after": 20}, 60, [3]),
}


@pytest.mark.parametrize(("fault", "stall_s", "culprits"), FAULTS_OF_CHAINS.values(), ids=FAULTS_OF_CHAINS)
def test_a_fault_while_requests_join(tmp_path, monkeypatch, fault, stall_s, culprits):
    monkeypatch.setattr(schedule, "TURN_S", 0.02)
    store = GenerationStore(tmp_path / "store")
    named = pytest.raises(SkillmoeError, match=r"request\(s\) could not be run")
    with named if culprits else contextlib.nullcontext():
        schedule.run(chained(tmp_path, {"step_s": 0.005, **fault}), engine(stall_s), store)
    assert workers(tmp_path) == []
    assert not list((store.root / "open").iterdir())
    assert Counter(store.generations()["request_id"]) == made(tmp_path), "nothing lost, nothing twice"
    assert set(map(int, store.failures()["question_id"])) == set(culprits)
    if not culprits:
        n_loads = 1 + bool(fault)
        assert len(list(tmp_path.glob("A/pid-*"))) == n_loads
    outcomes = schedule.run(chained(tmp_path), engine(), GenerationStore(store.root))
    assert all(outcome.result == ["stop"] * 4 for outcome in outcomes.values())
    assert made(tmp_path) == dict.fromkeys(store.generations()["request_id"], 1)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=lambda end: end.name)
def test_a_runner_that_is_ended_while_requests_join(tmp_path, end):
    store = GenerationStore(tmp_path / "store")
    runner = start(tmp_path, store.root, "chained", slow=0.02)
    try:
        wait_for(runner, lambda: sum(made(tmp_path).values()) >= 2 * N)
        runner.send_signal(end)
        runner.communicate(timeout=60)
    finally:
        runner.kill()
        runner.wait()
    nothing_is_lost(tmp_path, store)
    schedule.run(chained(tmp_path), engine(), GenerationStore(store.root))
    assert made(tmp_path) == dict.fromkeys(store.generations()["request_id"], 1), "nothing twice"
    assert len(store.generations()) == 4 * N


def test_more_joins_than_fits_the_pipe_both_ways(tmp_path, monkeypatch):
    """Neither side waits for the other: long prompts go in while long answers come out."""
    monkeypatch.setattr(schedule, "TURN_S", 0.0)
    monkeypatch.setattr(schedule, "TURN_SHARE", 1.0)
    monkeypatch.setattr(vllm_engine, "render", lambda rs: [[int(r.question_id), *[9] * 100_000] for r in rs])
    store = GenerationStore(tmp_path / "store")
    asked = chained(tmp_path, {"n_dots": 200_000, "at_a_time": 4}, n_waves=3, context=200_000)
    schedule.run(asked, engine(20.0), store)
    assert len(store.generations()) == 3 * N
    assert set(made(tmp_path).values()) == {1}

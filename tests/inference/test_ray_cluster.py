"""A Ray cluster of this machine, with two workers that run a scripted engine; one of them is killed."""

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.generation import Failure, Message, Model, Request, Sampling
from skillmoe_lib.inference import schedule
from skillmoe_lib.inference.engines import ray_cluster
from skillmoe_lib.inference.engines.ray_cluster import RayEngine
from skillmoe_lib.inference.engines.scripted import ScriptedEngine
from skillmoe_lib.inference.store import GenerationStore

ROOT = Path(__file__).resolve().parents[2]
MODEL = Model("org/model", "1")
# Ray forgets the processes that it starts, and Python says so when it collects them.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason='a cluster needs ray: pip install "skillmoe[ray]"')
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.delenv("RAY_ADDRESS", raising=False)
        # Workers inherit it: what they import comes from this checkout.
        environment.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        ray.init(
            num_cpus=2,  # two workers, however few cores there are
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=80 * 2**20,
        )
    # The rules below are sent with the engine, not imported: this module is not one that workers find.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.shutdown()


def requests(n: int, model: Model = MODEL) -> list[Request]:
    return [
        Request("solve", f"q{i}", "ann", model, (Message("user", f"What is {i}?"),), Sampling(seed=1))
        for i in range(n)
    ]


def program(request: Request) -> Iterator[list[Request]]:
    (generation,) = yield [request]
    return generation.text


def run(engine: RayEngine, store: GenerationStore, n: int) -> list[str]:
    asked = requests(n)
    outcomes = schedule.run({r.id: program(r) for r in asked}, engine, store)
    return [outcomes[r.id].result for r in asked]


def on_cluster(reply: Callable[[Request], str | Failure], **about: object) -> RayEngine:
    return RayEngine(ScriptedEngine(reply), cpus=1, **about)


def noting(notes: Path, pause_s: float = 0.0) -> Callable[[Request], str]:
    """A rule that notes on disk what was made, and by which process."""

    def reply(request: Request) -> str:
        time.sleep(pause_s)
        with notes.open("a") as stream:
            stream.write(f"{request.question_id} {os.getpid()}\n")
        return f"answer to {request.question_id}"

    return reply


def made(notes: Path) -> list[tuple[str, int]]:
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [(question, int(pid)) for question, pid in map(str.split, lines)]


def test_requests_are_spread_over_workers_and_stored_here(cluster: None, tmp_path: Path) -> None:
    store, notes = GenerationStore(tmp_path / "store"), tmp_path / "notes"
    engine = on_cluster(noting(notes, 0.02))
    assert run(engine, store, 120) == [f"answer to q{i}" for i in range(120)]
    assert Counter(question for question, _ in made(notes)) == {f"q{i}": 1 for i in range(120)}
    workers = {pid for _, pid in made(notes)}
    assert len(workers) == 2, "two tasks of 60, each with a process of its own"
    assert os.getpid() not in workers
    (batch,) = store.batches().to_dict("records")
    assert (batch["engine"], batch["devices"], batch["n_requests"]) == ("scripted", 2, 120)
    assert '"ray"' in batch["versions"]
    run(engine, store, 120)
    assert len(made(notes)) == 120, "what the store has is not made again"


def test_a_worker_killed_in_the_middle_loses_nothing_that_was_stored(cluster: None, tmp_path: Path) -> None:
    store, notes = GenerationStore(tmp_path / "store"), tmp_path / "notes"
    engine = on_cluster(noting(notes, 0.02))
    killed: list[tuple[int, set[str]]] = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            journals = [path.read_text() for path in (tmp_path / "store" / "open").glob("*.jsonl")]
            there = {f"q{i}" for i in range(120) if any(f'"answer to q{i}"' in text for text in journals)}
            if len(there) >= 20:
                killed.append((made(notes)[-1][1], there))
                os.kill(killed[0][0], signal.SIGKILL)
                return
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    texts = run(engine, store, 120)
    killer.join()
    ((pid, there),) = killed
    assert texts == [f"answer to q{i}" for i in range(120)]
    assert len(store.generations()) == 120
    assert len({maker for _, maker in made(notes)}) == 3, "the killed one, the other, and one in its place"
    twice = {question for question, n in Counter(question for question, _ in made(notes)).items() if n > 1}
    assert not twice & there
    assert len(twice) <= 20, "only what was still on its way"
    assert made(notes)[-1][1] != pid


def test_requests_that_kill_every_worker_are_found_and_the_others_served(
    cluster: None, tmp_path: Path
) -> None:
    def reply(request: Request) -> str:
        if request.question_id == "q3":
            os.kill(os.getpid(), 9)
        return "fine"

    store = GenerationStore(tmp_path)
    with pytest.raises(SkillmoeError, match=r"1 request\(s\) could not be run.*question 'q3' .*failed"):
        run(on_cluster(reply, retries=0), store, 6)
    assert len(store.generations()) == 5
    assert store.failures()["question_id"].tolist() == ["q3"]


def test_an_engine_s_own_error_is_one_line_and_other_tasks_end_first(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(request: Request) -> str:
        if request.question_id == "q0":
            raise ValueError("no such\nword")
        return "fine"

    monkeypatch.setattr(ray_cluster, "AT_LEAST", 3)
    engine = on_cluster(reply)
    seen = []
    with engine.load(MODEL) as loaded, pytest.raises(SkillmoeError) as error:
        seen += loaded.generate(requests(6))  # two tasks of three
    assert str(error.value) == "a worker with 'org/model' failed (ValueError): no such word"
    engine.release()
    store = GenerationStore(tmp_path)
    with pytest.raises(SkillmoeError, match="question 'q0'"):
        run(engine, store, 6)
    assert len(store.generations()) == 5


def test_a_failure_of_one_request_is_handed_over(cluster: None) -> None:
    engine = on_cluster(lambda request: Failure(request.id, "too odd"))
    (asked,) = requests(1)
    with engine.load(MODEL) as loaded:
        assert list(loaded.generate([asked])) == [Failure(asked.id, "too odd")]


def test_what_a_worker_cannot_serve_is_refused_before_anything_is_sent(cluster: None) -> None:
    class Refusing(ScriptedEngine):
        def check(self, model: Model) -> None:
            raise SkillmoeError(f"engine 'vllm' is not installed on {'a worker'}")

    engine = RayEngine(Refusing(lambda _: ""), cpus=1)
    with pytest.raises(SkillmoeError, match=r"^engine 'vllm' is not installed on a worker$"):
        engine.check(MODEL)


def test_more_than_any_machine_has(cluster: None) -> None:
    engine = RayEngine(ScriptedEngine(lambda _: ""), cpus=64)
    with pytest.raises(SkillmoeError, match="no machine of the cluster has cores for a task"):
        engine.check(MODEL)


# --- without a cluster ----------------------------------------------------------------------------------


def test_a_worker_with_other_code_is_refused() -> None:
    with pytest.raises(
        SkillmoeError, match=r"^a worker has skillmoe .*, this machine 0\.0: install the same"
    ):
        ray_cluster._look(ScriptedEngine(lambda _: ""), MODEL, "0.0")


def test_a_worker_finds_the_model_by_its_name_and_refuses_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ray_cluster.model_files.ModelFiles(tmp_path, "its digest")
    monkeypatch.setattr(ray_cluster.model_files, "locate", lambda source, revision: found)
    elsewhere = Model("folder:a", "its digest", path="/nowhere/on/this/machine")
    assert ray_cluster._here(elsewhere).path == str(tmp_path)
    assert ray_cluster._here(MODEL) is MODEL, "an engine without files"
    shared = Model("folder:a", "any", path=str(tmp_path))
    assert ray_cluster._here(shared) is shared
    with pytest.raises(
        SkillmoeError, match="a worker has other files of 'folder:a': revision its digest, here 1"
    ):
        ray_cluster._here(Model("folder:a", "1", path="/nowhere/on/this/machine"))


def test_a_client_s_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    engine = RayEngine(ScriptedEngine(lambda _: ""), address="ray://head:10001")
    with pytest.raises(SkillmoeError, match=r"got 'ray://head:10001': run this on a machine of the cluster"):
        engine.start()


def test_ray_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skillmoe_lib.errors.find_spec", lambda _: None)
    with pytest.raises(SkillmoeError, match=r'engine \'ray\' needs ray: pip install "skillmoe\[ray\]"'):
        RayEngine(ScriptedEngine(lambda _: "")).start()

"""A Ray cluster: a task takes some of a model's requests to a machine that has a GPU free (docs/cluster.md).

It runs the same engine as this machine would, in a worker of its own that ends with it (`max_calls=1`), and
hands over each generation as soon as it is finished. The store is written here, by the scheduler alone: so it
needs no shared folder, and what it has is never asked for again. If a worker dies, what it had not handed
over is sent to another one. Prompts are laid out and counted here, by the model's files on this machine.
"""

import importlib.metadata
import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skillmoe_lib import __version__
from skillmoe_lib.errors import SkillmoeError, require
from skillmoe_lib.experts import model_files
from skillmoe_lib.generation import Engine, Failure, Generation, LoadKey, Model, Request

#: A task takes at least so many requests, if there are: each loads the model.
AT_LEAST = 50


@dataclass
class RayEngine:
    """Generation on a cluster by `local`, the engine that every task runs.

    `address` is the cluster's, such as "10.0.0.1:6379"; "" is RAY_ADDRESS, or else a cluster of this machine
    alone. A task holds `gpus` GPUs, or as many as share its model (0 where the cluster has none) and `cpus`
    cores (0: one, or all of a machine where there are no GPUs, since engines that share cores crawl). A
    worker may die `retries` times in a row, without a generation between, before its requests count as the
    cause.
    """

    local: Engine
    address: str = ""
    gpus: float = 1
    cpus: int = 0
    retries: int = 2
    _about: dict[LoadKey, Mapping[str, Any]] = field(default_factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        """The local engine's: its generations and the cluster's are of one kind, and in one store."""
        return self.local.name

    def describe(self) -> Mapping[str, Any]:
        """The local engine's; what is loaded describes itself."""
        return self.local.describe()

    def check(self, model: Model) -> None:
        """Refuse before anything is sent: no cluster, no engine there, other files or code."""
        if model.load_key not in self._about:
            ray = self._joined()
            task = self._task(_look, model, max_calls=1, max_retries=self.retries)
            try:
                self._about[model.load_key] = ray.get(task.remote(self.local, model, __version__))
            except ray.exceptions.RayError as error:
                raise _told(error, model) from error

    def prompt_tokens(self, requests: Sequence[Request]) -> list[int]:
        """As the local engine."""
        return self.local.prompt_tokens(requests)

    def layout(self, model: Model) -> str:
        """As the local engine."""
        return self.local.layout(model)

    def rendered(self, requests: Sequence[Request]) -> list[str]:
        """As the local engine."""
        return self.local.rendered(requests)

    @contextmanager
    def load(self, model: Model) -> Iterator["_OnCluster"]:
        """Nothing is loaded here: each task loads the model."""
        self.check(model)
        yield _OnCluster(self, model, self._about[model.load_key])

    def start(self) -> None:
        """Join the cluster."""
        self._joined()

    def release(self) -> None:
        """Nothing is kept: a worker ends with its task."""

    def _joined(self) -> Any:
        """Ray itself, when it is in the cluster."""
        require("engine 'ray'", "ray", extra="ray")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
        import ray

        if ray.is_initialized():
            return ray
        address = self.address or os.environ.get("RAY_ADDRESS", "")
        if address.startswith("ray://"):
            raise SkillmoeError(
                f"a Ray client cannot hand over generations as they come, got {address!r}: run this on a "
                "machine of the cluster, with its address as HOST:PORT"
            )
        try:
            ray.init(
                address=address or None, log_to_driver=False, logging_level="ERROR", namespace="skillmoe"
            )
        except Exception as error:  # a plain one among them, if its processes start too slowly
            reason = " ".join(str(error).split())[:200]
            raise SkillmoeError(f"no Ray cluster at {address or 'this machine'}: {reason}") from error
        return ray

    def _share(self, model: Model) -> tuple[dict[str, float], int]:
        """What a task holds, and how many fit into the cluster at a time."""
        machines = [node["Resources"] for node in self._joined().nodes() if node["Alive"]]
        if gpus := any(machine.get("GPU") for machine in machines):
            share = {"GPU": max(self.gpus, model.tensor_parallel_size), "CPU": self.cpus or 1}
        else:
            share = {"GPU": 0, "CPU": self.cpus or min(machine.get("CPU", 1) for machine in machines)}
        needed = {name: amount for name, amount in share.items() if amount}
        n = sum(
            int(min(machine.get(name, 0) / amount for name, amount in needed.items())) for machine in machines
        )
        if not n:
            raise SkillmoeError(
                f"no machine of the cluster has {'GPUs' if gpus else 'cores'} for a task: {share}"
            )
        return {"num_gpus": share["GPU"], "num_cpus": share["CPU"]}, n

    def _task(self, function: Any, model: Model, **options: Any) -> Any:
        share, _ = self._share(model)
        return self._joined().remote(**share, **options)(function)


@dataclass
class _Chunk:
    """Requests of one task that are not answered yet."""

    left: dict[str, Request]
    n_deaths: int = 0  # of workers, since the last generation


@dataclass
class _OnCluster:
    """A model, as the cluster serves it."""

    cluster: RayEngine
    model: Model
    about: Mapping[str, Any]

    def describe(self) -> Mapping[str, Any]:
        """All devices that its tasks may hold at a time, and the versions on the worker that was asked."""
        share, n = self.cluster._share(self.model)
        return {"devices": n * max(1, math.ceil(share["num_gpus"])), "versions": self.about["versions"]}

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation | Failure]:
        """Send all requests, in as many tasks as fit at a time, and yield what comes from any of them.

        An engine that fails in one task ends this only when all others are done.
        """
        ray = self.cluster._joined()
        _, n = self.cluster._share(self.model)
        task = self.cluster._task(_answer, self.model, max_calls=1, max_retries=0, num_returns="streaming")
        size = max(AT_LEAST, math.ceil(len(requests) / n))
        waiting = iter(requests)
        working: dict[Any, _Chunk] = {}
        fault: SkillmoeError | None = None

        def send(chunk: _Chunk) -> None:
            working[task.remote(self.cluster.local, self.model, list(chunk.left.values()))] = chunk

        while some := list(itertools.islice(waiting, size)):
            send(_Chunk({request.id: request for request in some}))
        try:
            while working:
                (stream,), _ = ray.wait(list(working), num_returns=1)
                chunk = working[stream]
                try:
                    outcome = ray.get(next(stream))
                except StopIteration:
                    del working[stream]
                    if chunk.left:
                        fault = SkillmoeError(f"a task left {len(chunk.left)} of its requests unanswered")
                except ray.exceptions.RayTaskError as error:  # the engine, or what it was given
                    del working[stream]
                    fault = _told(error, self.model)
                except ray.exceptions.RayError as error:  # the worker or its machine is gone
                    del working[stream]
                    chunk.n_deaths += 1
                    if chunk.n_deaths > self.cluster.retries:
                        fault = _told(error, self.model)
                    elif chunk.left:
                        send(chunk)
                else:
                    chunk.n_deaths = 0
                    del chunk.left[outcome.request_id]
                    yield outcome
        finally:
            for stream in working:  # the scheduler wants no more
                ray.cancel(stream, force=True)
        if fault:
            raise fault


def _look(engine: Engine, model: Model, version: str) -> Mapping[str, Any]:
    """On a worker: whether it could serve the model, and what it is."""
    if __version__ != version:
        raise SkillmoeError(
            f"a worker has skillmoe {__version__}, this machine {version}: install the same everywhere"
        )
    engine.check(_here(model))
    about = engine.describe()
    return {**about, "versions": {**about["versions"], "ray": importlib.metadata.version("ray")}}


def _answer(engine: Engine, model: Model, requests: Sequence[Request]) -> Iterator[Generation | Failure]:
    """On a worker: load the model, answer all requests, and end with nothing left in memory."""
    here = _here(model)
    places = {asked_of: _here(asked_of) for asked_of in {request.model for request in requests}}
    asked = [replace(request, model=places[request.model]) for request in requests]
    try:
        engine.start()
        with engine.load(here) as loaded:
            yield from loaded.generate(asked)
    finally:
        engine.release()


def _here(model: Model) -> Model:
    """The model with the path of its files on this machine."""
    folders = [path for path in (model.path, model.adapter_path) if path]
    if all(Path(folder).is_dir() for folder in folders):  # shared folders, or an engine without files
        return model
    found = model_files.locate(model.source, model.revision)
    if found.revision != model.revision:
        raise SkillmoeError(
            f"a worker has other files of {model.source!r}: revision {found.revision}, here {model.revision}"
        )
    here = replace(model, path=str(found.path))
    if model.adapter:
        source, _, revision = model.adapter.rpartition("@")
        adapter = model_files.locate_adapter(source)
        if adapter.revision != revision:
            raise SkillmoeError(
                f"a worker has other files of {source!r}: revision {adapter.revision}, here {revision}"
            )
        here = replace(here, adapter_path=str(adapter.path))
    return here


def _told(error: Any, model: Model) -> SkillmoeError:
    """An error of a worker in one line."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, SkillmoeError):
        return cause
    reason = " ".join(str(cause or error).split())[:200]
    return SkillmoeError(f"a worker with {model.source!r} failed ({type(cause or error).__name__}): {reason}")

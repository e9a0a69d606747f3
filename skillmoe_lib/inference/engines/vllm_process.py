"""The process that holds a model for `engines.vllm`: it runs vLLM and imports little of this project."""

import contextlib
import gc
import itertools
import logging
import os
import queue
import select
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from skillmoe_lib.generation import Failure, Generation
from skillmoe_lib.inference.journal import JournalFile

_SIGN_OF_LIFE_S = 0.2  # the parent also uses these moments to let requests join
_GRACE_S = 10.0
_NUMBERS = itertools.count(1)
# torch warns of this on every CPU, as it is imported after this module: a line in red in every notebook.
logging.getLogger("torch._library.triton").setLevel(logging.ERROR)


def serve(connection: Connection, options: dict[str, Any], log_dir: str) -> None:
    """Load a model and report it; then answer jobs and swap weights until the parent closes.

    Messages on `connection`: in come jobs with the journal for what they give (a pair), jobs that join these
    (a list), the path of other weights, or None (everything is stored: end); out go a mapping (loaded),
    `Generation` and `Failure`, None (a sign of life), or a string (an error, the last message). A prompt that
    the engine refuses is a `Failure`; an engine that raises while it generates is not used again, because its
    state is unknown. A new pair says that the parent has stored what the one before gave.
    """
    journal: JournalFile | None = None
    _end_with_parent(connection)
    _redirect_output(log_dir)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, inbox), daemon=True).start()
    gc.freeze()  # inherited objects are never garbage, and scanning them takes seconds
    try:
        from vllm import LLM

        llm = LLM(**options)
        connection.send(_loaded(llm))
        while (asked := inbox.get()) is not _GONE:
            if isinstance(asked, str):
                llm.collective_rpc("reload_weights", kwargs={"weights_path": asked})
                llm.reset_prefix_cache()  # its content was computed with the old weights
                connection.send(_loaded(llm))
                continue
            if isinstance(asked, list):  # they were to join jobs that have ended since
                jobs = asked
            else:
                if journal:
                    journal.remove()
                if asked is None:
                    return
                jobs, journal = asked
            _generate(llm.llm_engine, jobs, connection, inbox, journal)
    except (EOFError, ConnectionError):
        return
    except Exception as error:
        # Whatever went wrong must reach the parent: there it becomes a SkillmoeError.
        connection.send(_in_one_line(error))


def _loaded(llm: Any) -> dict[str, str]:
    """What is known of a model only now: the number format in which it lies in memory."""
    found = getattr(getattr(llm, "model_config", None), "dtype", "")
    return {"dtype": str(found).removeprefix("torch.")}


_GONE = object()  # the last thing in the inbox


def _read(connection: Connection, inbox: "queue.SimpleQueue[Any]") -> None:
    """Take in what the parent sends as it comes. If that waited for the end of a step, and the step's results
    for a parent that is still sending, both would wait for ever."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            inbox.put(connection.recv())
    inbox.put(_GONE)


def _generate(
    engine: Any,
    jobs: Sequence[Mapping[str, Any]],
    connection: Connection,
    inbox: "queue.SimpleQueue[Any]",
    journal: JournalFile | None,
) -> None:
    """Answer the jobs, and those that come in the meantime."""
    by_id: dict[str, Mapping[str, Any]] = {}
    _add(engine, jobs, by_id, connection)
    told = noted = time.monotonic()
    while engine.has_unfinished_requests():
        while not inbox.empty():
            if not isinstance(joining := inbox.get(), list):
                raise EOFError  # the parent is gone, or wants no more
            _add(engine, joining, by_id, connection)
        finished = [_outcome(output, by_id[output.request_id]) for output in engine.step() if output.finished]
        if journal:  # all of them before the first is sent: sending fails if the parent is gone
            for outcome in finished:
                if isinstance(outcome, Generation):
                    row = {**by_id[outcome.request_id]["row"], **vars(outcome)}
                    since, noted = noted, time.monotonic()
                    with contextlib.suppress(OSError):  # a full disk, which the parent will tell
                        journal.append({**row, "generate_s": noted - since})
        if time.monotonic() - told > _SIGN_OF_LIFE_S:
            connection.send(None)
            told = time.monotonic()
        for outcome in finished:
            connection.send(outcome)


def _add(
    engine: Any,
    jobs: Sequence[Mapping[str, Any]],
    by_id: dict[str, Mapping[str, Any]],
    connection: Connection,
) -> None:
    from vllm import SamplingParams
    from vllm.inputs import TokensPrompt

    for job in jobs:
        by_id[job["id"]] = job
        parameters = SamplingParams(
            temperature=job["temperature"],
            top_p=job["top_p"],
            max_tokens=job["max_tokens"],
            min_tokens=job.get("min_tokens", 0),
            stop=job["stop"] or None,
            seed=job["seed"],
        )
        try:
            under = {"lora_request": _lora(*job["adapter"])} if "adapter" in job else {}
            engine.add_request(job["id"], TokensPrompt(prompt_token_ids=job["ids"]), parameters, **under)
        except Exception as error:  # whatever reason the engine has to refuse this prompt
            connection.send(Failure(job["id"], _in_one_line(error)))


@cache
def _lora(name: str, path: str) -> Any:
    """What the engine knows an adapter by, also in its prefix cache: a name, and a number of its own."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(name, next(_NUMBERS), path)


def _outcome(output: Any, job: Mapping[str, Any]) -> Generation | Failure:
    done = output.outputs[0]
    if done.finish_reason not in ("stop", "length"):
        return Failure(output.request_id, f"the engine ended it with {done.finish_reason!r}")
    return Generation(
        output.request_id,
        done.text,
        done.finish_reason,
        prompt_tokens=len(job["ids"]),
        output_tokens=len(done.token_ids),
        cached_tokens=output.num_cached_tokens or 0,
        rendered=job["rendered"],
    )


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _end_with_parent(connection: Connection) -> None:
    """Lead a process group, so that it can be ended as a whole, and end it when the parent is gone.

    Between two steps the process notices that at once; this is for a process that hangs. The server that
    forked it cannot help: it stays alive as long as any of its processes.
    """
    os.setsid()

    def watch() -> None:
        line = select.poll()
        line.register(connection.fileno(), 0)  # a closed connection is always reported
        line.poll()
        time.sleep(_GRACE_S)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _redirect_output(log_dir: str) -> None:
    target = Path(log_dir) / f"vllm-{os.getpid()}.log" if log_dir else Path(os.devnull)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)

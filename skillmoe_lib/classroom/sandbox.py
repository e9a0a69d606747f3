"""Executes a submission out of reach of everything that decides its mark.

`execute` starts `warden`, which starts `runner` under limits; what comes back is the text of answers.json,
how the run ended, and what was noticed. All of it was written by a student's code and is treated so.
"""

import json
import os
import site
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

from skillmoe_lib.classroom import runner, warden
from skillmoe_lib.classroom.submission import ANSWERS
from skillmoe_lib.paths import project_root

_PACKAGE = Path(__file__).resolve().parents[1]
#: If root grades, each submission runs as one of these users, another one than those beside it: the limit on
#: processes counts per user.
_USERS = cycle(range(61_184 + os.getpid() % 2_000, 65_184))
_GRACE_S = 60.0


@dataclass(frozen=True)
class Limits:
    """What a submission may use."""

    time_s: float = 300.0
    """Wall clock for the whole notebook."""
    memory_bytes: int = 2 * 2**30
    """Memory in use, of all its processes together."""
    address_bytes: int = 6 * 2**30
    """Address space of one process; libraries reserve much more than they use."""
    n_processes: int = 32
    """Processes at the same time."""
    output_bytes: int = 4 * 2**20
    """What its cells print."""
    file_bytes: int = 16 * 2**20
    """The largest file."""


class Raised(NamedTuple):
    """A cell that raised: its nbgrader id ("" if it has none), its number, the exception and its text."""

    id: str
    number: int
    error: str
    said: str


@dataclass(frozen=True)
class Execution:
    """What is known after a submission has run."""

    answers: str | None
    """Text of answers.json; None if there is none that could be taken."""
    stopped: str
    """Why it did not run to its end, in one line; "" if it did."""
    noted: list[str] = field(default_factory=list)
    """What it did that a submission has no business with."""
    raised: list[Raised] = field(default_factory=list)
    student_id: str | None = None
    """The id that the notebook gives."""
    wall_s: float = 0.0


def execute(
    cells: Sequence[Mapping[str, str]],
    *,
    limits: Limits | None = None,
    hidden: Sequence[Path] = (),
    namespaces: bool | None = None,
) -> Execution:
    """Run cells ({"id", "source"}) in a process of its own and take the answers that they leave.

    Parameters
    ----------
    cells
        In order.
    limits
        Default `Limits()`.
    hidden
        Folders with keys, grades and other submissions: not to be seen even where they lie inside Python's
        own or the project's data.
    namespaces
        Whether to use Linux namespaces; by default where they can be made (`have_namespaces`).
    """
    limits = limits or Limits()
    namespaces = have_namespaces() if namespaces is None else namespaces
    job = _job(namespaces) | {
        "limits": vars(limits),
        "hidden": [str(path.resolve()) for path in hidden],
        "work": {
            "cells": [dict(cell) for cell in cells],
            "private": [str(path.resolve()) for path in hidden],
            "refuse": not namespaces,
        },
    }
    said = _start(job, limits.time_s + _GRACE_S)
    if said is None:
        return Execution(None, "could not be run: the process that watches it ended")
    return _execution(said, limits)


@cache
def have_namespaces() -> bool:
    """Whether a submission without cells runs in namespaces here (Linux; not in most containers)."""
    return (
        sys.platform == "linux" and not execute([], limits=Limits(time_s=_GRACE_S), namespaces=True).stopped
    )


def _job(namespaces: bool) -> dict[str, Any]:
    """What the warden needs to know of this machine."""
    root = project_root()
    keep = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
    return {
        "namespaces": namespaces,
        "user": next(_USERS),
        "python": sys.executable,
        "runner": runner.__file__,
        "readable": [
            sys.prefix,
            sys.base_prefix,
            os.path.realpath(sys.base_prefix),
            *site.getsitepackages(),
            str(_PACKAGE),
            str(root / "data"),
        ],
        "environment": keep
        | {
            "PYTHONPATH": str(_PACKAGE.parent),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SKILLMOE_HOME": str(root),
            "MPLBACKEND": "agg",
            "HF_HUB_OFFLINE": "1",
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        },
    }


def _start(job: dict[str, Any], patience_s: float) -> dict[str, Any] | None:
    """Run the warden; its report, or None if it gave none."""
    with tempfile.TemporaryDirectory(prefix="skillmoe-submission-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own file
            [sys.executable, "-P", "-X", "utf8", warden.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        try:
            out, _ = process.communicate(json.dumps(job | {"folder": folder}), timeout=patience_s)
            report = json.loads(out)
        except (subprocess.TimeoutExpired, ValueError, OSError):
            return None
        finally:
            process.kill()
            process.wait()
        return dict(report)


def _execution(said: dict[str, Any], limits: Limits) -> Execution:
    """The warden's report in words."""
    lines = runner.read_run(said[runner.RUN] or "")
    begun = next((line.get("cell") for line in reversed(lines) if "cell" in line), None)
    where = f" in code cell {begun}" if isinstance(begun, int) else " before its first cell"
    last: Mapping[str, Any] = next((line for line in reversed(lines) if line.get("finished") is True), {})
    stopped = {
        "time": f"did not end within {limits.time_s:g} s{where}",
        "output": f"printed more than {limits.output_bytes / 2**20:g} MB{where}",
        "processes": f"started more than {limits.n_processes} processes{where}",
        "memory": f"used more than {limits.memory_bytes / 2**30:g} GB of memory{where}",
    }.get(said["end"], "")
    if not stopped and not last:
        stopped = f"its process ended{where} (exit code {said['code']})"
    answers = said[ANSWERS]
    noted = list(dict.fromkeys(_line(line["note"]) for line in lines if isinstance(line.get("note"), str)))
    if said["odd"]:
        noted.insert(0, f"{', '.join(said['odd'])} could not be taken (a link, too large, or no file)")
    if said["others"]:
        noted.append(f"left {', '.join(map(_line, said['others']))} (ignored)")
    raised = [
        Raised(_line(line.get("id")), int(line["cell"]), _line(line["error"]), _line(line.get("said")))
        for line in lines
        if isinstance(line.get("error"), str) and isinstance(line.get("cell"), int)
    ]
    student_id = last.get("student_id")
    return Execution(
        answers=answers,
        stopped=stopped,
        noted=noted[:5],
        raised=raised,
        student_id=_line(student_id) if isinstance(student_id, str) else None,
        wall_s=said["wall_s"],
    )


def _line(text: object) -> str:
    """Text from a submission as a short piece of one line."""
    words = " ".join(str(text if text is not None else "").split())
    return "".join(c for c in words if c.isprintable())[:200]


def weakness() -> str:
    """What a person must know before grading on a machine without namespaces; "" where there are some."""
    if have_namespaces():
        return ""
    return (
        "this machine makes no namespaces (Linux does, outside most containers): submissions run as your "
        "user, kept from your files and the network only by checks in Python that determined code gets round"
    )

"""Runs a submission's cells, inside the limits that `warden` has set. All of it is in the student's reach.

A script: it reads {"cells": [{"id", "source"}], "private": folders, "refuse": bool} from standard input,
runs the cells one after another in IPython (a cell that raises does not stop the next one, as in nbgrader),
and leaves what they `submit` in answers.json. No kernel and no socket is needed for that.

It also leaves run.jsonl: which cell was begun, what it raised, and what an audit hook of Python saw (a
connection, a look for the key, a file opened for writing elsewhere). These lines only explain a result to
people: a student's code could forge them and would gain nothing. Where the system offers no namespaces
(`refuse`), the hook also refuses these, which careless code does not get past and determined code does.
"""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

RUN = "run.jsonl"
_STARTS = {"os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "os.spawn", "subprocess.Popen"}


def main() -> None:
    """Run the cells that standard input gives."""
    work = json.load(sys.stdin)
    log = os.open(RUN, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(**line: Any) -> None:
        with contextlib.suppress(OSError):  # the submission closed the file: its loss
            os.write(log, json.dumps(line).encode() + b"\n")

    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell.cache_size = 0  # type: ignore[assignment]
    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False  # type: ignore[union-attr]
    shell.colors = "nocolor"
    sys.addaudithook(_hook(say, private=tuple(work["private"]), refuse=work["refuse"]))
    for number, cell in enumerate(work["cells"], start=1):
        say(cell=number, id=cell["id"])
        result = shell.run_cell(cell["source"])  # type: ignore[no-untyped-call]
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            said = " ".join(str(error).split())[:200]
            say(cell=number, id=cell["id"], error=type(error).__name__, said=said)
    student_id = shell.user_ns.get("student_id")
    say(finished=True, student_id=student_id[:100] if isinstance(student_id, str) else None)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(0)  # no thread that the submission left, and nothing that it registered, holds this up


def _hook(
    say: Callable[..., None], *, private: tuple[str, ...], refuse: bool
) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that notes, once each, what a submission has no business with."""
    here = os.path.realpath(".")
    # A store locks its folder in the system's place for temporary files; numbered paths are descriptors.
    writable = (here, os.path.realpath(tempfile.gettempdir()), "/dev/", "/proc/self/fd")
    noted: set[str] = set()
    busy = False

    def look(event: str, given: tuple[Any, ...]) -> str:
        if event in {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"}:
            family = getattr(getattr(given[0], "family", None), "name", "")
            return "" if family == "AF_UNIX" else "used the network"
        if event in {"open", "os.listdir", "os.scandir"} and given and isinstance(given[0], str | bytes):
            path = os.path.abspath(os.fsdecode(given[0]))  # noqa: PTH100 - follows no link
            if refuse:
                path = os.path.realpath(path)
            if private and path.removeprefix("/proc/1/root").startswith(private):
                return "looked into the instructor's folders"
            flags = given[2] if event == "open" and len(given) > 2 and isinstance(given[2], int) else 0
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and not os.path.realpath(path).startswith(writable):
                return "opened a file for writing outside its folder"
        if refuse and event in _STARTS and "math_process.py" not in str(given):
            return "started a process"
        return ""

    def hook(event: str, given: tuple[Any, ...]) -> None:
        nonlocal busy
        if busy:  # what the hook itself does
            return
        busy = True
        try:
            what = look(event, given)
            if what and what not in noted:
                noted.add(what)
                say(note=what)
        finally:
            busy = False
        if what and refuse:
            raise PermissionError(f"not in a submission: {what}")

    return hook


def read_run(text: str) -> list[Mapping[str, Any]]:
    """The lines of run.jsonl that are what they should be; whatever else it holds is passed over."""
    lines: list[Mapping[str, Any]] = []
    for raw in text.splitlines()[:5_000]:
        try:
            line = json.loads(raw)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


if __name__ == "__main__":
    main()

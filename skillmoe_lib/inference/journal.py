"""Files for what a load is generating now: one line for each generation, on disk before it is passed on.

A run that is killed leaves them in the store's folder `open/`, and `GenerationStore.recover` takes up what is
in them. There are two for a load, because a kill also loses what is on its way from one process to another:
the runner's, and, if the engine generates in a process of its own, that process's, for what it has finished.
"""

import contextlib
import json
import os
import time
import uuid
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import psutil

try:
    import fcntl
except ImportError:  # Windows, where only the scripted engine runs
    fcntl = None  # type: ignore[assignment]

#: How long an engine's process may outlive its runner: `engines.vllm_process` ends itself after 10 s.
OUTLIVES_S = 15.0


class JournalFile:
    """Lines of a checksum and JSON; the first one is `head`: the fields of the batch, and the runner's id.

    The file is made with the first line, and locked as long as its process lives, which distinguishes a
    load that is going from one that was killed.
    """

    def __init__(self, folder: Path, batch: Mapping[str, Any]) -> None:
        self.path = folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.jsonl"
        self.head = {**batch, "runner": os.getpid()}
        self.size = 0
        self._file: int | None = None

    def append(self, row: Mapping[str, Any]) -> None:
        """Put a row on disk; if that fails, no half line of it is left."""
        if self._file is None:
            self._file = self._begin()
        self._put(self._file, row)

    def remove(self) -> None:
        """Delete it, once all its rows are stored; the next row begins it again."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self.close()

    def close(self) -> None:
        """Leave it for `GenerationStore.recover`."""
        if self._file is not None:
            os.close(self._file)
        self._file, self.size = None, 0

    def _begin(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        hidden = self.path.with_suffix(".new")  # until it is locked: another run must not think it abandoned
        file = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            lock(file)
            self._put(file, self.head)
            hidden.replace(self.path)
        except OSError:
            os.close(file)
            hidden.unlink(missing_ok=True)
            raise
        return file

    def _put(self, file: int, entry: Mapping[str, Any]) -> None:
        text = json.dumps(entry, ensure_ascii=True).encode()
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        try:
            done = 0
            while done < len(line):
                done += os.write(file, line[done:])
        except OSError:
            os.ftruncate(file, self.size)
            os.lseek(file, self.size, os.SEEK_SET)
            raise
        self.size += len(line)


def entries(stream: Iterable[bytes]) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
    """A file's head, its rows, and the number of damaged lines (not counting a last line cut short)."""
    whole, n_torn = [], 0
    for line in stream:
        check, _, text = line.rstrip(b"\n").partition(b" ")
        if line.endswith(b"\n") and check == b"%08x" % zlib.crc32(text):
            whole.append(json.loads(text))
        else:
            n_torn += line.endswith(b"\n")
    head = whole[0] if whole and "engine" in whole[0] else {}
    return head, whole[bool(head) :], n_torn


def lock(file: int) -> bool:
    """Lock the file for this process until it is closed; False if another process holds it."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def lock_left(stream: BinaryIO) -> bool:
    """Lock a file whose runner is gone; False if that is at work.

    If the engine's process is about to follow its runner, this waits for its last lines.
    """
    until = time.monotonic() + OUTLIVES_S
    while not lock(stream.fileno()):
        stream.seek(0)
        if _is_there(entries([stream.readline()])[0].get("runner")) or time.monotonic() > until:
            return False
        time.sleep(0.05)
    stream.seek(0)
    return True


def _is_there(process: int | None) -> bool:
    """Whether a process of this number runs; an unknown one is taken to."""
    if process is None:
        return True
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    return False

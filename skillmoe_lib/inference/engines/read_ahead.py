"""Reading a model's files before they are needed, while another model generates (docs/loads.md).

What is read stays in the system's page cache, from which a load then takes it at the speed of memory. Plain
reads are used rather than `posix_fadvise`, which Linux limits to a small window, and other systems ignore.
"""

import contextlib
import threading
from pathlib import Path

import psutil

#: The share of the free memory that files may take: the page cache gives way to programs, but so does what
#: else it holds.
SHARE = 0.5
_AT_A_TIME = 4 * 2**20


class ReadAhead:
    """Reads the weights in one folder at a time, in a thread of its own."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._reading: tuple[threading.Thread, threading.Event] | None = None

    def begin(self, folder: Path) -> None:
        """Read the weights of this model instead of another's; not twice in a row, and not if they would take
        too much memory."""
        if folder == self._folder:
            return
        self.end()
        self._folder = folder
        files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
        if sum(file.stat().st_size for file in files) <= SHARE * psutil.virtual_memory().available:
            stop = threading.Event()
            thread = threading.Thread(target=_read, args=(files, stop), name="read ahead", daemon=True)
            thread.start()
            self._reading = thread, stop

    def end(self) -> None:
        """Stop reading: what reads the files next does it itself."""
        if self._reading:
            thread, stop = self._reading
            stop.set()
            thread.join()
        self._folder = self._reading = None


def _read(files: list[Path], stop: threading.Event) -> None:
    buffer = bytearray(_AT_A_TIME)
    with contextlib.suppress(OSError):  # the load itself will say what is wrong with a file
        for file in files:
            with file.open("rb", buffering=0) as stream:
                while not stop.is_set() and stream.readinto(buffer):
                    pass

"""Progress bars for long steps: what is being loaded or generated, how much is done, and the time left.

A kernel started by `cli/notebooks.py` writes its bars to the file named by SKILLMOE_PROGRESS, which the
runner copies to the terminal; SKILLMOE_COLUMNS is that terminal's width, absent if it is a log.
"""

import contextlib
import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

LINE_EVERY_S = 15.0
_BAR = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit} [{elapsed}, {remaining} left]"
_WIDGET = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit} [{elapsed}, {remaining} left]"
_LINE = "{desc}{n_fmt}/{total_fmt} {unit} [{elapsed}, {remaining} left]"


class _Sink:
    """Where a bar is drawn: a file (by path) or stderr; as a plain line every 15 s in a log."""

    encoding = "utf-8"

    def __init__(self, path: str | None, *, lines: bool) -> None:
        self.path, self.lines = path, lines
        self.held, self.due_s = "", 0.0

    def write(self, text: str) -> None:
        if self.lines:
            self.held = text.strip() or self.held
            # A bar that closes writes a bare newline; only then is its last state shown.
            if not self.held or (time.monotonic() < self.due_s and not text.endswith("\n")):
                return
            text, self.held, self.due_s = f"{self.held}\n", "", time.monotonic() + LINE_EVERY_S
        # A bar that cannot be drawn (full disk, terminal gone) is no reason to lose a generation.
        with contextlib.suppress(OSError):
            if self.path is None:
                sys.stderr.write(text)
            else:
                with Path(self.path).open("a", encoding="utf-8", newline="") as stream:
                    stream.write(text)

    def flush(self) -> None:
        if self.path is None:
            sys.stderr.flush()


def by_hand() -> bool:
    """Whether this is a kernel that a person works in (JupyterLab), not one of `cli/notebooks.py`."""
    kernelapp = sys.modules.get("ipykernel.kernelapp")
    own = {"SKILLMOE_PROGRESS", "SKILLMOE_KERNEL_LOG"} & os.environ.keys()
    return kernelapp is not None and kernelapp.IPKernelApp.initialized() and not own


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """No bars are drawn."""
    before = os.environ.get("SKILLMOE_PROGRESS")
    os.environ["SKILLMOE_PROGRESS"] = os.devnull
    try:
        yield
    finally:
        del os.environ["SKILLMOE_PROGRESS"]
        if before is not None:
            os.environ["SKILLMOE_PROGRESS"] = before


def bar(total: int | None, description: str, *, unit: str = "request") -> Any:
    """Make a tqdm bar (context manager with `update`, `set_description` and a settable `total`).

    `total` counts `unit`s; it is None (given as None or 0) until it is known.
    """
    from tqdm import tqdm as plain

    plain.monitor_interval = 0  # no thread of tqdm's own: engines fork
    path = os.environ.get("SKILLMOE_PROGRESS")
    columns = os.environ.get("SKILLMOE_COLUMNS")
    if by_hand() and find_spec("ipywidgets"):
        return _in_notebook()(total=total or None, desc=description, unit=unit, bar_format=_WIDGET)
    live = columns is not None if path else sys.stderr.isatty()
    return plain(
        total=total or None,
        desc=f"{description}: ",  # as `set_description` puts it
        unit=unit,
        file=_Sink(path, lines=not live),
        ncols=int(columns) if path and columns else None,
        dynamic_ncols=live and path is None,
        leave=not live,
        mininterval=0.2 if live else 1.0,
        miniters=1,
        bar_format=_BAR if live else _LINE,
        ascii=False,
    )


def _in_notebook() -> Any:
    """tqdm's widget, whose bar also grows to its full width when a total is set later.

    tqdm draws a bar without a total as a full square of 20 pixels, and leaves it so.
    """
    from tqdm.notebook import tqdm_notebook

    class Widget(tqdm_notebook):  # type: ignore[misc]
        def display(self, *args: Any, **options: Any) -> None:
            shown = self.container.children[1]
            if self.total and shown.max != self.total:
                shown.max, shown.bar_style, shown.layout.width = self.total, "", None
            super().display(*args, **options)

    return Widget


class Mirror:
    """Copies the bars that a kernel writes to a file (see `progress`) to the user's terminal."""

    def __init__(self, file: Path, terminal: TextIO) -> None:
        self.file, self.terminal = file, terminal
        self.live = terminal.isatty()
        self.environment: dict[str, Any] = {"SKILLMOE_PROGRESS": str(file)}
        if self.live:
            self.environment["SKILLMOE_COLUMNS"] = str(os.get_terminal_size(terminal.fileno()).columns or 80)
        file.touch()

    @contextlib.contextmanager
    def showing(self, title: str) -> Iterator[None]:
        """One line for a step: its title at once, its bars while it runs, its seconds when it is done."""
        self._write(title)
        start, outcome = time.monotonic(), "stopped after "
        done, shown = threading.Event(), threading.Event()
        with self.file.open(encoding="utf-8", errors="replace", newline="") as source:
            source.seek(0, io.SEEK_END)
            thread = threading.Thread(target=self._copy, args=(source, done, shown), daemon=True)
            thread.start()
            try:
                yield
                outcome = ""
            finally:
                done.set()
                thread.join()
                # Bars have taken the title's line: clear it (terminal) or begin another (log).
                again = ("\r\x1b[K" if self.live else "") + title if shown.is_set() else ""
                self._write(f"{again}  {outcome}{time.monotonic() - start:.0f} s\n")

    def _copy(self, source: TextIO, done: threading.Event, shown: threading.Event) -> None:
        last = False
        while not last:
            last = done.wait(0.2)
            if text := source.read():
                self._write(text if shown.is_set() or self.live else "\n" + text)
                shown.set()

    def _write(self, text: str) -> None:
        self.terminal.write(text)
        self.terminal.flush()

import io
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from skillmoe_lib import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 99


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that tests set by hand."""
    hand = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: hand.now))
    return hand


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SKILLMOE_PROGRESS", str(tmp_path / "bars"))
    monkeypatch.delenv("SKILLMOE_COLUMNS", raising=False)
    return tmp_path / "bars"


def test_log_gets_a_line_every_15_s_and_the_last_state(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = progress._Sink(None, lines=True)
    for second, text in enumerate(["\r0/40", "\r1/40", "\r2/40 ", "\r3/40"]):
        clock.now = 100.0 + 6 * second
        sink.write(text)
    clock.now += 1
    sink.write("\r4/40")
    sink.write("\n")
    assert capsys.readouterr().err == "0/40\n3/40\n4/40\n"


def test_bar_in_a_log(file: Path) -> None:
    with progress.bar(0, "answers: loading sums") as bar:
        bar.total = (bar.total or 0) + 3
        bar.set_description("answers: sums")
        for _ in range(3):
            bar.update(1)
    lines = file.read_text().splitlines()
    assert lines[0].startswith("answers: loading sums: 0/? request [00:00")
    assert lines[-1].startswith("answers: sums: 3/3 request [00:00")
    assert len(lines) == 2


def test_bar_on_a_terminal_fits_it_and_leaves_no_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKILLMOE_COLUMNS", "70")
    with progress.bar(4, "unpacking", unit="model") as bar:
        bar.update(4)
        bar.refresh()
    text = file.read_bytes().decode()
    assert "\n" not in text
    states = [state for state in text.split("\r") if state.strip()]
    assert max(map(len, states)) <= 70
    assert "unpacking: 100%|" in states[-1]
    assert "4/4 model" in states[-1]
    assert text.endswith("\r")


def test_bar_outside_a_run_goes_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SKILLMOE_PROGRESS", raising=False)
    with progress.bar(2, "embedding", unit="text") as bar:
        bar.update(2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].startswith("embedding: 2/2 text")


def test_bar_in_a_notebook_grows_when_its_total_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """tqdm leaves a bar that began without a total as a full square of 20 pixels."""
    pytest.importorskip("ipywidgets")
    monkeypatch.setattr(progress, "by_hand", lambda: True)
    bar = progress.bar(0, "answers: loading sums")
    shown = bar.container.children[1]
    assert shown.layout.width == "20px"
    bar.total = (bar.total or 0) + 40
    bar.set_description("answers: sums")
    bar.update(10)
    bar.refresh()
    assert (shown.layout.width, shown.max, shown.value) == (None, 40, 10)
    assert "10/40\u2007request" in bar.container.children[2].value
    bar.update(30)
    bar.close()


def test_a_kernel_of_the_runner_is_not_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not progress.by_hand()  # no kernel at all
    app = SimpleNamespace(IPKernelApp=SimpleNamespace(initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", app)
    monkeypatch.delenv("SKILLMOE_PROGRESS", raising=False)
    monkeypatch.delenv("SKILLMOE_KERNEL_LOG", raising=False)
    assert progress.by_hand()
    monkeypatch.setenv("SKILLMOE_KERNEL_LOG", "log")
    assert not progress.by_hand()


def test_a_bar_that_cannot_be_drawn_stops_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SKILLMOE_PROGRESS", str(tmp_path / "absent" / "bars"))
    with progress.bar(2, "x") as bar:
        bar.update(2)
    assert bar.n == 2


def test_mirror_without_bars_is_one_line(tmp_path: Path) -> None:
    terminal = io.StringIO()
    with progress.Mirror(tmp_path / "bars", terminal).showing("[1/2] 01_questions ..."):
        assert terminal.getvalue() == "[1/2] 01_questions ..."
    assert terminal.getvalue() == "[1/2] 01_questions ...  0 s\n"


def test_mirror_copies_what_another_process_writes(tmp_path: Path) -> None:
    terminal = io.StringIO()
    mirror = progress.Mirror(tmp_path / "bars", terminal)
    assert mirror.environment == {"SKILLMOE_PROGRESS": str(tmp_path / "bars")}
    mirror.file.write_text("of an earlier step\n")
    with mirror.showing("one"), mirror.file.open("a", encoding="utf-8") as bars:
        bars.write("sums: 1/2 ▏é\n")
    assert terminal.getvalue() == "one\nsums: 1/2 ▏é\none  0 s\n"


def test_mirror_on_a_terminal_redraws_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.os, "get_terminal_size", lambda _: SimpleNamespace(columns=91))
    terminal = Terminal()
    mirror = progress.Mirror(tmp_path / "bars", terminal)
    assert mirror.environment["SKILLMOE_COLUMNS"] == "91"
    with mirror.showing("one"), mirror.file.open("a", encoding="utf-8", newline="") as bars:
        bars.write("\rbar")
    assert terminal.getvalue() == "one\rbar\r\x1b[Kone  0 s\n"


def test_mirror_says_where_a_step_stopped_and_ends_its_thread(tmp_path: Path) -> None:
    terminal, n_threads = io.StringIO(), threading.active_count()
    with (
        pytest.raises(KeyboardInterrupt),
        progress.Mirror(tmp_path / "bars", terminal).showing("one"),
    ):
        raise KeyboardInterrupt
    assert terminal.getvalue() == "one  stopped after 0 s\n"
    assert threading.active_count() == n_threads

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import psutil
import pytest

from skillmoe_lib import hub
from skillmoe_lib.cli import doctor
from skillmoe_lib.cli.commands import main
from skillmoe_lib.cli.doctor import Check
from skillmoe_lib.errors import SkillmoeError

PARAMETERS = 'report: str = "pocket"  # folder under reports/\nk: int = 3  # experts a question'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of three notebooks, of which the second fails."""
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    cells = {
        "01_a": "print(k)",
        "02_b": "from skillmoe_lib.errors import SkillmoeError as E; raise E('no model:\\nit must be there')",
        "03_c": "1",
        "slow": "import os, time; open('kernel', 'w').write(str(os.getpid())); time.sleep(300)",
    }
    (tmp_path / "notebooks").mkdir()
    for name, cell in cells.items():
        tagged = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
        notebook = nbformat.v4.new_notebook(cells=[tagged, nbformat.v4.new_code_cell(cell)])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
    return tmp_path


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys\nfrom skillmoe_lib.cli.commands import _parser\n_parser().format_help()\n"
        "heavy = {'numpy', 'pandas', 'papermill', 'nbformat', 'torch', 'vllm', 'jinja2', 'psutil'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nope"], "unknown notebook 'nope': it must be one of 01_a, 02_b, 03_c, chain, slow"),
        (["run", "01_a", "-p", "k"], "a parameter must be given as NAME=VALUE, got 'k'"),
        (["run", "01_a", "-p", "k=1", "-p", "k=2"], "parameter 'k' is given twice: '1' and '2'"),
        (["run", "chain", "-p", "k=x"], "parameter 'k' of 01_a must be an int (default 3), got 'x'"),
        (
            ["run", "chain", "-p", "q=1"],
            "unknown parameter of 01_a 02_b 03_c 'q': it must be one of k, report",
        ),
        (["params", "nope"], "unknown notebook 'nope': it must be one of 01_a, 02_b, 03_c, chain, slow"),
        (["report", "../notebooks"], "unknown report '../notebooks': it must be one of (none)"),
    ],
)
def test_a_wrong_request_is_one_line_before_anything_runs(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"error: {message}\n")
    assert not (project / "reports").exists()


def test_parameters_are_listed_and_nothing_runs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        "01_a",
        "  report: str = 'pocket'  folder under reports/ [a plain folder name (letters, digits, . _ -)]",
        "  k: int = 3              experts a question [1 to 64]",
    ]
    expected = "\n".join(lines) + "\n"
    assert main(["params", "01_a"]) == 0
    assert capsys.readouterr().out == expected
    assert main(["run", "01_a", "--help-parameters"]) == 0
    assert capsys.readouterr().out == expected
    assert not (project / "reports").exists()


def test_no_grammars_are_compiled_to_read_a_notebook(project: Path) -> None:
    code = """
import sys
from skillmoe_lib.cli.commands import main
assert main(["params", "01_a"]) == 0
assert "nbformat" in sys.modules
assert "lark" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, timeout=120)


def test_a_chain_stops_at_a_failure_and_leaves_its_report(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "chain", "-p", "k=5", "-p", "report=small"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "report: reports/small/index.html\n"
    lines = captured.err.splitlines()
    assert lines[0].startswith("[1/3] 01_a ...  ")
    assert lines[1].startswith("[2/3] 02_b ...  stopped after ")
    assert lines[2:] == ["error: no model: it must be there"]
    notebooks = project / "reports" / "small" / "notebooks"
    assert sorted(path.name for path in notebooks.glob("*.ipynb")) == ["01_a.ipynb", "02_b.ipynb"]
    assert ">5\n" in (notebooks / "01_a.html").read_text(encoding="utf-8")
    page = project / "reports" / "small" / "index.html"
    assert "no model:\nit must be there" in page.read_text(encoding="utf-8")

    page.unlink()
    assert main(["report", "small"]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert page.is_file()


# A shell starts background jobs with SIGINT ignored, which their children inherit, Python among them.
INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from skillmoe_lib.cli.commands import main
sys.exit(main())
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command of ours that an interrupt reaches; whatever the test does, it is ended after it."""
    started: list[subprocess.Popen[str]] = []

    def popen(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", INTERRUPTIBLE, *arguments]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True))
        return started[-1]

    yield popen
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(
                recursive=True
            ):  # kernels have groups of their own
                child.kill()
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("ignored", [False, True], ids=["foreground", "background"])
def test_an_interrupt_is_one_line_and_leaves_no_kernel(
    project: Path, start: Callable[..., subprocess.Popen[str]], ignored: bool
) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ignored else None
    try:
        process = start("run", "slow")
    finally:
        if ignored:
            signal.signal(signal.SIGINT, before)
    until = time.monotonic() + 120
    while not ((project / "kernel").is_file() and (project / "kernel").read_text()):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int((project / "kernel").read_text()), 0)
    assert "interrupted" in (project / "reports" / "pocket" / "index.html").read_text(encoding="utf-8")
    kept = nbformat.read(project / "reports" / "pocket" / "notebooks" / "slow.ipynb", as_version=4)
    assert kept.cells[0].source == "**This run did not finish:** interrupted."


@pytest.mark.parametrize(("ok", "needed", "code"), [(True, True, 0), (False, False, 0), (False, True, 1)])
def test_doctor_fails_only_for_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ok: bool, needed: bool, code: int
) -> None:
    checks = [Check(True, "python", "3.11"), Check(ok, "x", "y", "z", needed)]
    monkeypatch.setattr(doctor, "check_machine", lambda pool: checks if pool == "tiny" else [])
    assert main(["doctor", "tiny"]) == code
    assert capsys.readouterr().out.splitlines()[0] == "ok      python: 3.11"


def test_doctor_looks_for_the_models_of_the_chain(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "check_machine", lambda pool: [Check(True, "pool", pool)])
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "ok      pool: pocket\n"
    path = project / "notebooks" / "02_b.ipynb"
    path.write_text(path.read_text().replace("k: int = 3", "pool: str = 'mine'"))
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "ok      pool: mine\n"


def test_output_into_a_pipe_that_closes_is_no_error(project: Path) -> None:
    code = f"{sys.executable} -m skillmoe_lib params chain | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_status_looks_where_it_is_told_or_in_data(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert (
        capsys.readouterr().out == f"{project / 'data' / 'generations'} holds no generations yet: make run\n"
    )
    assert main(["status", str(project / "elsewhere")]) == 0
    assert "elsewhere holds no generations" in capsys.readouterr().out


def test_pin_hands_on_the_name_and_its_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> None:
        raise SkillmoeError(f"no hub\nfor {name}")

    monkeypatch.setattr(hub, "pin", refuse)
    assert main(["pin", "paper16"]) == 2
    assert capsys.readouterr().err == "error: no hub for paper16\n"

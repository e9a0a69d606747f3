import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.kernelspec import KernelSpecManager

from skillmoe_lib.cli import notebooks as runner
from skillmoe_lib.cli.parameters import Parameter, Value, convert, describe_parameters, read_parameters
from skillmoe_lib.errors import SkillmoeError

Make = Callable[..., Path]
PLAIN = "a plain folder name (letters, digits, . _ -)"
PARAMETERS = """report: str = "pocket"  # folder under reports/
k: int = 3  # experts a question
threshold: float = 0.5  # cosine, in [-1, 1]
fast: bool = False  # fewer # questions
"""


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A project in a temporary folder, and a function that puts notebooks into it."""
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()

    def write(name: str, *cells: str, parameters: str = "") -> Path:
        notebook = nbformat.v4.new_notebook()
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        if parameters:
            tags = {"tags": ["parameters"]}
            notebook.cells.append(nbformat.v4.new_code_cell(parameters, metadata=tags))
        notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(notebook, path)
        return path

    return write


def outputs(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(out.get("text", "") for cell in cells for out in cell.get("outputs", []))


def test_parameters_are_read_with_type_default_and_help(make: Make) -> None:
    found = read_parameters(make("a", "1", parameters=PARAMETERS))
    assert list(found.values()) == [
        Parameter("report", "str", "pocket", "folder under reports/"),
        Parameter("k", "int", 3, "experts a question"),
        Parameter("threshold", "float", 0.5, "cosine, in [-1, 1]"),
        Parameter("fast", "bool", False, "fewer # questions"),
    ]
    assert read_parameters(make("b", "k: int = 3")) == {}


@pytest.mark.parametrize(
    "line",
    [
        "k = 3",
        "k: int = None",
        "k: int = True",
        "k: int = 3.0",
        "k: list = [3]",
        "k: int",
        "a: int = b",
        "f()",
        'mark: str = "#1"',
        "x: int = y = 3",
    ],
)
def test_a_line_of_another_form_is_named(make: Make, line: str) -> None:
    with pytest.raises(SkillmoeError, match=r"parameters cell of bad .*int, float, str, bool") as error:
        read_parameters(make("bad", parameters=f"ok: int = 1\n{line}"))
    assert repr(line) in str(error.value)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"cells": [1]}', "no json"])
def test_a_file_that_is_no_notebook_is_named(make: Make, text: str) -> None:
    path = make("torn")
    path.write_text(text)
    with pytest.raises(SkillmoeError, match=r"torn\.ipynb is not a notebook"):
        read_parameters(path)


def test_parameters_are_described(make: Make) -> None:
    text = describe_parameters(make("a", parameters="k: int = 3  # experts\nreport: str = 'x'"))
    assert text.splitlines() == [
        "a",
        "  k: int = 3         experts [1 to 64]",
        "  report: str = 'x'   [a plain folder name (letters, digits, . _ -)]",
    ]
    assert describe_parameters(make("b")) == "b\n  (no parameters)"


def test_notebooks_are_found_by_stem_path_and_chain(make: Make) -> None:
    names = ["table_main", "02_b", "01_a", "assignments/03_c", "10_d"]
    paths = {name: make(name) for name in names}
    stems = [path.stem for path in runner.find_notebooks(["chain"])]
    assert stems == ["01_a", "02_b", "10_d"]
    assert runner.find_notebooks(["table_main", "notebooks/01_a.ipynb", "assignments/03_c", "01_a"]) == [
        paths["table_main"],
        paths["01_a"],
        paths["assignments/03_c"],
    ]


def test_a_stem_is_found_in_any_folder_and_the_chain_in_its_own(make: Make) -> None:
    names = ["paper/table_main", "chain/02_b", "chain/01_a", "assignments/01_a", "assignments/03_c"]
    paths = {name: make(name) for name in names}
    assert runner.find_notebooks(["chain"]) == [paths["chain/01_a"], paths["chain/02_b"]]
    assert runner.find_notebooks(["table_main", "assignments/01_a", "03_c"]) == [
        paths["paper/table_main"],
        paths["assignments/01_a"],
        paths["assignments/03_c"],
    ]
    with pytest.raises(
        SkillmoeError, match="one of 02_b, 03_c, assignments/01_a, chain, chain/01_a, table_main"
    ):
        runner.find_notebooks(["01_a"])  # which of the two?


def test_an_unknown_notebook_is_refused_with_the_known_ones(make: Make) -> None:
    make("01_a")
    with pytest.raises(SkillmoeError, match="unknown notebook '01_b': it must be one of 01_a, chain"):
        runner.find_notebooks(["01_b"])


def test_a_parameter_goes_to_the_notebooks_that_have_it(make: Make, tmp_path: Path) -> None:
    both = [make("a", parameters='report: str = "x"\nk: int = 3'), make("b", parameters="seed: int = 0")]
    first, second = runner.make_jobs(both, {"k": "5", "seed": "7"})
    assert (first.given, second.given) == ({"k": 5}, {"seed": 7})
    assert first.output == tmp_path / "reports" / "x" / "notebooks" / "a.ipynb"
    assert second.output == tmp_path / "reports" / "b" / "notebooks" / "b.ipynb"
    assert runner.make_jobs(both, {})[0].given == {}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("kk", "3", "unknown parameter of a 'kk': it must be one of fast, k, report, threshold"),
        ("k", "three", "parameter 'k' of a must be an int (default 3), got 'three'"),
        ("k", "3.0", "parameter 'k' of a must be an int (default 3), got '3.0'"),
        ("k", "", "parameter 'k' of a must be an int (default 3), got ''"),
        ("threshold", "nan", "parameter 'threshold' of a must be a finite float (default 0.5), got 'nan'"),
        ("fast", "1", "parameter 'fast' of a must be true or false (default False), got '1'"),
        (
            "report",
            "../x",
            "parameter 'report' of a must be a plain folder name (letters, digits, . _ -), got '../x'",
        ),
        (
            "report",
            "..",
            "parameter 'report' of a must be a plain folder name (letters, digits, . _ -), got '..'",
        ),
    ],
)
def test_a_wrong_parameter_is_refused(make: Make, name: str, text: str, message: str) -> None:
    with pytest.raises(SkillmoeError) as error:
        runner.make_jobs([make("a", parameters=PARAMETERS)], {name: text})
    assert str(error.value) == message


def test_one_notebook_never_replaces_another(make: Make, tmp_path: Path) -> None:
    other = tmp_path / "a.ipynb"
    other.write_bytes(make("a", "1").read_bytes())
    with pytest.raises(
        SkillmoeError, match=r"would replace another notebook at reports/a/notebooks/a\.ipynb"
    ):
        runner.make_jobs([tmp_path / "notebooks" / "a.ipynb", other], {})


@given(
    value=st.one_of(st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.text())
)
def test_what_is_given_as_text_comes_back(value: Value) -> None:
    parameter = Parameter("x", type(value).__name__, value, "")
    back = convert(parameter, str(value), "a")
    assert back == value
    assert type(back) is type(value)


@pytest.fixture
def broken_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's own `python3` kernel, found before any other, that does not start; and a start-up file."""
    home = tmp_path / "home"
    folder = home / "jupyter" / "kernels" / "python3"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps({"argv": ["/no/such/python"], "display_name": "x"}))
    startup = home / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("k = 'from a start-up file'; raise SystemExit")
    for name, value in {
        "JUPYTER_DATA_DIR": "jupyter",
        "JUPYTER_PATH": "jupyter",
        "IPYTHONDIR": "ipython",
    }.items():
        monkeypatch.setenv(name, str(home / value))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    monkeypatch.setenv("HOME", str(home))


@pytest.mark.usefixtures("broken_kernel")
def test_a_run_has_its_own_kernel_parameters_folder_and_bars(make: Make, tmp_path: Path) -> None:
    assert KernelSpecManager().get_kernel_spec("python3").argv == ["/no/such/python"]
    path = make(
        "01_a",
        "import os, sys\nfrom skillmoe_lib import progress",
        "print(sys.executable, os.getcwd(), k, report)",
        "with progress.bar(2, 'answers: sums') as bar:\n    bar.update(2)",
        "os.write(2, b'noise of C code')",
        parameters=PARAMETERS,
    )
    before, stderr = os.environ["JUPYTER_PATH"], io.StringIO()
    source = path.read_bytes()
    (job,) = runner.make_jobs([path], {"k": "4"})
    runner.execute([job], stderr=stderr)

    assert outputs(job.output).splitlines()[0] == f"{sys.executable} {tmp_path} 4 pocket"
    lines = stderr.getvalue().splitlines()
    assert lines[0] == "[1/1] 01_a ..."
    assert lines[-2].startswith("answers: sums: 2/2 request")
    assert lines[-1].startswith("[1/1] 01_a ...  ")
    metadata = nbformat.read(job.output, as_version=4).metadata
    assert metadata.kernelspec.name == "python3"
    assert metadata.papermill.parameters == {"k": 4}
    assert str(tmp_path) not in json.dumps(metadata)
    assert os.environ["JUPYTER_PATH"] == before
    assert Path.cwd() == tmp_path
    assert path.read_bytes() == source


def run_failing(make: Make, cell: str) -> tuple[str, Any]:
    jobs = runner.make_jobs([make("01_a", "1", cell, "print('after')"), make("02_b", "1")], {})
    with pytest.raises(runner.NotebookFailed) as error:
        runner.execute(jobs, stderr=io.StringIO())
    assert not jobs[1].output.exists()
    assert "after" not in outputs(jobs[0].output)
    return str(error.value), nbformat.read(jobs[0].output, as_version=4)


def test_a_failed_notebook_is_kept_and_stops_the_rest(make: Make) -> None:
    line, kept = run_failing(make, "raise ValueError('first\\nsecond')")
    assert line == "ValueError: first (see reports/01_a/notebooks/01_a.ipynb)"
    assert kept.metadata.papermill.exception is True


def test_a_project_error_is_given_as_it_is(make: Make) -> None:
    line, _ = run_failing(
        make, "from skillmoe_lib.errors import unknown\nraise unknown('pool', 'x', ['a', 'b'])"
    )
    assert line == "unknown pool 'x': it must be one of a, b"


def test_a_killed_kernel_is_a_failure_that_its_notebook_tells(make: Make) -> None:
    line, kept = run_failing(make, "import os; os.kill(os.getpid(), 9)")
    assert line == (
        "01_a: the kernel died, most often because memory ran out (see reports/01_a/notebooks/01_a.ipynb)"
    )
    assert kept.metadata.papermill.exception is True
    assert kept.cells[0].source.startswith("**This run did not finish:** the kernel died")


def test_a_report_folder_that_cannot_be_made_is_named(make: Make, tmp_path: Path) -> None:
    jobs = runner.make_jobs([make("a", "1")], {})
    (tmp_path / "reports").write_text("a file in the way")
    with pytest.raises(
        runner.NotebookFailed, match=r"cannot write reports/a/notebooks/a\.ipynb: Not a directory"
    ):
        runner.execute(jobs, stderr=io.StringIO())
    with pytest.raises(SkillmoeError, match="cannot write reports to reports/a: Not a directory"):
        runner.make_jobs([tmp_path / "notebooks" / "a.ipynb"], {})


def test_the_next_kernel_starts_ahead_with_nothing_in_it_and_all_end(make: Make) -> None:
    """Two processes, alive together, the second with the library but no names of its own."""
    about = "import os, sys\nprint(os.getpid(), 'skillmoe_lib.pipeline' in sys.modules, 'seen' in globals())"
    count = "sum('ipykernel' in str(c.cmdline()) for c in psutil.Process().parent().children())"
    wait = f"import time, psutil\nseen = 1\ntime.sleep(2)\nprint({count})"
    jobs = runner.make_jobs([make("01_a", about, wait), make("02_b", about), make("03_c", about)], {})
    runner.execute(jobs, stderr=io.StringIO())
    said = [outputs(job.output).splitlines() for job in jobs]
    pids = {int(lines[0].split()[0]) for lines in said}
    assert len(pids) == 3
    assert [lines[0].split()[1:] for lines in said] == [["True", "False"]] * 3
    assert int(said[0][1]) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_after_a_failure_no_kernel_is_left(make: Make) -> None:
    run_failing(make, "raise ValueError")
    assert not [child for child in psutil.Process().children() if "ipykernel" in " ".join(child.cmdline())]

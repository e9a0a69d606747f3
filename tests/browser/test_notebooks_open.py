"""Every assignment and how-to notebook, opened in JupyterLab and run once: `make test-browser ALL=1`.

Each has five minutes. What they compute is tested in tests/classroom and tests/studies.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 300
pytestmark = pytest.mark.timeout(LIMIT_S + 240)
ASSIGNMENTS = sorted(path.stem for path in (ROOT / "notebooks/assignments/source").glob("*.ipynb"))


def opened_and_run(lab: Any, watched: Any, path: str, *, past_errors: bool = False) -> None:
    """Open the notebook, run it, and print how long that took."""
    watched.open(lab.notebook(path))
    took = watched.run_all(limit_s=LIMIT_S, past_errors=past_errors)
    watched.shot("open_" + "_".join(Path(path).parts[-2:]).removesuffix(".ipynb"))
    print(f"\n{path}: {took:.1f} s")
    assert took < LIMIT_S
    assert watched.serious() == []


@pytest.fixture(scope="session")
def course(project: Path) -> Path:
    """The assignments' folder, with the students' versions. Their exercises are unsolved, so they go on."""
    environment = {**os.environ, "SKILLMOE_HOME": str(project), "PYTHONPATH": str(ROOT)}
    build = [sys.executable, "-m", "skillmoe_lib", "assignments", "build"]
    subprocess.run(build, cwd=project, env=environment, check=True, capture_output=True)
    for path in sorted((project / "notebooks" / "assignments" / "student").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "raises-exception"]
        nbformat.write(notebook, path)
    return project / "notebooks" / "assignments"


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_a_solution_runs_through(course: Path, lab: Any, watched: Any, name: str) -> None:
    opened_and_run(lab, watched, f"notebooks/assignments/source/{name}.ipynb")
    assert watched.red() == []


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_a_students_version_fails_at_nothing_but_its_exercises(
    course: Path, lab: Any, watched: Any, name: str
) -> None:
    opened_and_run(lab, watched, f"notebooks/assignments/student/{name}.ipynb", past_errors=True)
    ends = [text.strip().splitlines()[-1] for text in watched.red()]
    assert any("NotImplementedError" in end for end in ends)
    # An exercise whose solution is missing lacks its names, or finds nothing in them.
    assert [end for end in ends if end.partition(":")[0] not in ("NotImplementedError", "NameError")] == []


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("your_questions", {"engine": "scripted"}),
        (
            "your_expert",
            {
                "families": "gcd",
                "budget_tokens": 2000,
                "n_questions": 60,
                "n_held_out": 3,
                "rivals": "Sums, Algebra, Generalist-1",
                "from_folder": str(ROOT / "data" / "pocket"),
                "engine": "scripted",
            },
        ),
    ],
)
def test_a_how_to_runs_through(
    project: Path, lab: Any, watched: Any, name: str, given: dict[str, Any]
) -> None:
    if name == "your_expert" and not (ROOT / "data" / "pocket" / "numbers" / "config.json").is_file():
        pytest.skip("no trained pocket pool in data/pocket")
    path = project / "notebooks" / "studies" / f"{name}.ipynb"
    notebook = parameterize_notebook(load_notebook_node(str(path)), given)
    nbformat.write(notebook, path)
    opened_and_run(lab, watched, f"notebooks/studies/{name}.ipynb")
    assert [text for text in watched.red() if "Error" in text] == []

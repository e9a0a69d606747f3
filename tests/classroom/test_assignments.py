"""The six assignments: every solution scores full points, an untouched or copied version does not."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest

from skillmoe_lib.classroom import course, variant
from skillmoe_lib.classroom.grading import grade
from skillmoe_lib.classroom.sandbox import have_namespaces

SOURCE = Path(__file__).resolve().parents[2] / "notebooks" / "assignments" / "source"
NAMES = [path.stem for path in sorted(SOURCE.glob("*.ipynb"))]
COURSE = course.read_course(SOURCE)


def key_of(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_key", SOURCE / f"{name}_key.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers_of(notebook: Any, student_id: str, *, go_on: bool = False) -> dict[str, Any]:
    """What the notebook submits in the working folder; with `go_on`, a cell that fails does not end it."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        tagged = "parameters" in cell.metadata.get("tags", [])
        source = f"student_id = {student_id!r}" if tagged else cell.source
        try:
            exec(
                compile(source, cell.metadata.get("nbgrader", {}).get("grade_id", "cell"), "exec"), namespace
            )
        except Exception:
            if not go_on:
                raise
    path = Path("answers.json")
    return json.loads(path.read_text(encoding="utf-8"))["answers"] if path.exists() else {}


def points_of(name: str, answers: dict[str, Any], student_id: str) -> dict[str, tuple[float, str]]:
    key, own = key_of(name), variant(student_id, name)
    return {exercise: getattr(key, f"check_{exercise}")(answers[exercise], own) for exercise in answers}


def test_there_are_six_of_ten_points() -> None:
    assert len(NAMES) == 6
    assert {name: COURSE[name].max_points for name in NAMES} == dict.fromkeys(NAMES, 10)
    assert all(COURSE[name].questions for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_scores_full_points(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(SOURCE / f"{name}.ipynb", as_version=4)
    submitted = {}
    for student_id in ("ada", "Zoë 17"):
        folder = tmp_path / student_id
        folder.mkdir()
        monkeypatch.chdir(folder)
        submitted[student_id] = answers_of(notebook, student_id)
        marks = points_of(name, submitted[student_id], student_id)
        full = {exercise: (points, "") for exercise, points in COURSE[name].points.items()}
        assert {exercise: (points, said) for exercise, (points, said) in marks.items()} == full
    copied = points_of(name, submitted["ada"], "Zoë 17")
    assert sum(points for points, _ in copied.values()) <= 3, "another student's answers"


@pytest.mark.parametrize("name", NAMES)
def test_an_untouched_version_scores_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nbgrader")
    monkeypatch.chdir(tmp_path)
    version = course.student_version(SOURCE / f"{name}.ipynb")
    assert answers_of(version, "ada", go_on=True) == {}
    shown = "\n".join(cell.source for cell in version.cells)
    for cell in nbformat.read(SOURCE / f"{name}.ipynb", as_version=4).cells:
        inside = False
        for line in cell.source.splitlines():
            inside = (inside or "BEGIN SOLUTION" in line) and "END SOLUTION" not in line
            if inside and "BEGIN SOLUTION" not in line and len(line.strip()) > 12:
                assert line.strip() not in shown, f"{name}: a line of a solution is shown"


def test_a_solution_is_graded_where_a_submission_can_reach_nothing(tmp_path: Path) -> None:
    """With its own process, limits and scoring: it reads the recorded set, and writes a store of its own."""
    if not have_namespaces():
        pytest.skip("this machine makes no namespaces")
    notebook = nbformat.read(SOURCE / "04_batches.ipynb", as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = 'student_id = "ada"'
    (tmp_path / "submitted" / "ada").mkdir(parents=True)
    nbformat.write(notebook, tmp_path / "submitted" / "ada" / "04_batches.ipynb")
    (mark,) = grade(tmp_path / "submitted", SOURCE, tmp_path / "graded")
    assert (mark.raw_score, mark.reason) == (10, "")

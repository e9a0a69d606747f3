"""The six assignments: every solution scores full points, an untouched or copied version does not."""

import csv
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest

from skillmoe_lib.classroom import course, variant
from skillmoe_lib.classroom.sandbox import have_namespaces
from skillmoe_lib.cli.commands import main

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


def answers_of(notebook: Any, student_id: str) -> dict[str, Any]:
    """What the notebook submits in the working folder."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        tagged = "parameters" in cell.metadata.get("tags", [])
        source = f"student_id = {student_id!r}" if tagged else cell.source
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "cell")
        exec(compile(source, name, "exec"), namespace)
    return dict(json.loads(Path("answers.json").read_text(encoding="utf-8"))["answers"])


def points_of(name: str, answers: dict[str, Any], student_id: str) -> dict[str, tuple[float, str]]:
    key, own = key_of(name), variant(student_id, name)
    return {exercise: getattr(key, f"check_{exercise}")(answers[exercise], own) for exercise in answers}


def test_there_are_six_of_ten_points() -> None:
    assert len(NAMES) == 6
    assert {name: COURSE[name].max_points for name in NAMES} == dict.fromkeys(NAMES, 10)
    assert all(COURSE[name].questions for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_scores_full_points(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    submitted = answers_of(nbformat.read(SOURCE / f"{name}.ipynb", as_version=4), "ada")
    full = {exercise: (points, "") for exercise, points in COURSE[name].points.items()}
    assert {k: tuple(mark) for k, mark in points_of(name, submitted, "ada").items()} == full
    copied = points_of(name, submitted, "Zoë 17")
    assert sum(points for points, _ in copied.values()) <= 3, "another student's answers"


@pytest.mark.parametrize("name", NAMES)
def test_no_line_of_a_solution_is_shown(name: str) -> None:
    pytest.importorskip("nbgrader")
    shown = "\n".join(cell.source for cell in course.student_version(SOURCE / f"{name}.ipynb").cells)
    for cell in nbformat.read(SOURCE / f"{name}.ipynb", as_version=4).cells:
        inside = False
        for line in cell.source.splitlines():
            inside = (inside or "BEGIN SOLUTION" in line) and "END SOLUTION" not in line
            if inside and "BEGIN SOLUTION" not in line and len(line.strip()) > 12:
                assert line.strip() not in shown, f"{name}: a line of a solution is shown"


def test_all_are_graded_in_one_command(tmp_path: Path) -> None:
    """Each solution and each untouched version as a submission, executed where it can reach nothing."""
    pytest.importorskip("nbgrader")
    if not have_namespaces():
        pytest.skip("this machine makes no namespaces")
    for name in NAMES:
        given = {
            "Zoë 17": nbformat.read(SOURCE / f"{name}.ipynb", as_version=4),
            "untouched": course.student_version(SOURCE / f"{name}.ipynb"),
        }
        for student_id, notebook in given.items():
            for cell in notebook.cells:
                if "parameters" in cell.metadata.get("tags", []):
                    cell.source = f"student_id = {student_id!r}"
            folder = tmp_path / "submitted" / student_id
            folder.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, folder / f"{name}.ipynb")
    to = tmp_path / "graded"
    assert main(["grade", str(tmp_path / "submitted"), "--source", str(SOURCE), "--to", str(to)]) == 0
    with (to / "grades.csv").open(encoding="utf-8", newline="") as source:
        rows = list(csv.DictReader(source))
    assert [(row["assignment"], row["student_id"]) for row in rows] == [
        (name, student_id) for name in NAMES for student_id in ("Zoë 17", "untouched")
    ]
    solved, untouched = rows[::2], rows[1::2]
    assert [(row["score"], row["reason"]) for row in solved] == [("10.0", "")] * 6
    assert [row["score"] for row in untouched] == ["0.0"] * 6
    for name, row in zip(NAMES, untouched, strict=True):
        assert row["reason"].count("not submitted: its cell raised") == len(COURSE[name].points)

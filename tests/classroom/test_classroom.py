"""What a student's notebook uses: variants and submit; and how students' versions are made."""

import json
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from hostile import COURSE

from skillmoe_lib.classroom import submit, variant
from skillmoe_lib.classroom.course import build, read_course
from skillmoe_lib.cli.commands import main
from skillmoe_lib.errors import SkillmoeError

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [COURSE, ROOT / "notebooks" / "assignments" / "source"]
NAMES = [f"q{i:02d}" for i in range(40)]


# --- variants ----------------------------------------------------------------------------------------


def test_a_variant_depends_on_student_and_assignment_only() -> None:
    mine = variant("ada", "01_tiny").questions(NAMES, 10)
    assert mine == variant(" ada ", "01_tiny").questions([*reversed(NAMES), "q00"], 10)
    assert len(set(mine)) == 10
    assert mine == sorted(mine)
    assert mine != variant("bob", "01_tiny").questions(NAMES, 10)
    assert mine != variant("ada", "02_other").questions(NAMES, 10)
    assert mine != variant("ada", "01_tiny").pool(NAMES, 10)


def test_a_variant_is_the_same_on_every_machine() -> None:
    assert variant("ada", "01_tiny").questions(NAMES, 3) == ["q10", "q19", "q21"]


def test_a_variant_refuses() -> None:
    with pytest.raises(SkillmoeError, match="student_id must be your id"):
        variant(" ", "01_tiny")
    with pytest.raises(SkillmoeError, match="n must be at most 40"):
        variant("ada", "01_tiny").questions(NAMES, 41)


# --- submit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (3, 3),
        (True, True),
        (None, None),
        ("é", "é"),
        (np.float64(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        ((1, np.array([[1, 2]])), [1, [[1, 2]]]),
        ([{"a": np.int64(1)}], [{"a": 1}]),
    ],
)
def test_submit_keeps_plain_values(
    value: object, kept: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    submit("first", 1)
    submit("first", value)
    submit("second", "x")
    assert json.loads((tmp_path / "answers.json").read_text(encoding="utf-8")) == {
        "answers": {"first": kept, "second": "x"}
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "must be finite"),
        ([np.float32("inf")], "must be finite"),
        ({1: 2}, "keys in the answer to first must be text"),
        (pd.DataFrame({"a": [1]}), r"to_dict\('records'\)"),
        ({1, 2}, "got set"),
        ("x" * 100_001, "at most 100,000 characters"),
    ],
)
def test_submit_refuses(value: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SkillmoeError, match=message):
        submit("first", value)
    assert not (tmp_path / "answers.json").exists()


# --- students' versions ------------------------------------------------------------------------------


def sources() -> list[Path]:
    return sorted(path for folder in SOURCES for path in folder.glob("*.ipynb"))


def solution_lines(path: Path) -> set[str]:
    """Lines of the solutions and hidden tests, but for those too short to give anything away."""
    lines: set[str] = set()
    inside = False
    given: set[str] = set()
    for cell in nbformat.read(path, as_version=4).cells:
        for line in cell.source.splitlines():
            if "BEGIN SOLUTION" in line or "BEGIN HIDDEN TESTS" in line:
                inside = True
            elif "END SOLUTION" in line or "END HIDDEN TESTS" in line:
                inside = False
            elif len(line.strip()) > 10:
                (lines if inside else given).add(line.strip())
    return lines - given


@pytest.mark.parametrize("folder", [s for s in SOURCES if s.is_dir()], ids=lambda path: path.parent.name)
def test_no_solution_is_left_in_a_students_version(folder: Path, tmp_path: Path) -> None:
    for path in build(folder, tmp_path):
        text = path.read_text(encoding="utf-8")
        version = nbformat.reads(text, as_version=4)
        nbformat.validate(version)
        hidden = solution_lines(folder / path.name)
        assert hidden
        written = {line.strip() for cell in version.cells for line in cell.source.splitlines()}
        assert not hidden & written
        assert "BEGIN SOLUTION" not in text
        assert not any(cell.get("outputs") for cell in version.cells)


def test_a_students_version_has_nbgraders_form(tmp_path: Path) -> None:
    assert main(["assignments", "build", "--source", str(COURSE), "--to", str(tmp_path)]) == 0
    version = nbformat.read(tmp_path / "01_tiny.ipynb", as_version=4)
    cells = {cell.metadata.nbgrader.grade_id: cell for cell in version.cells if "nbgrader" in cell.metadata}
    assert cells["total_solution"].source == "# YOUR CODE HERE\nraise NotImplementedError()"
    assert cells["total"].metadata.editable is False
    assert cells["total"].metadata.nbgrader.checksum
    assert "is_even(0)" not in cells["table"].source
    assert cells["reflect"].source == "YOUR ANSWER HERE"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"cell": "total", "source": "pass"},
            r"exercise total must call submit\(\"total\", ...\) once, got 0",
        ),
        ({"cell": "total", "grade_id": "sum"}, r"exercise sum must call submit"),
        ({"cell": "total_solution", "source": "### BEGIN SOLUTION\n1"}, "no end solution statement found"),
        ({"cell": "total_solution", "solution": False}, "Solution region detected in a non-solution cell"),
        ({"key": "check_total"}, "exercise total needs a function check_total in 01_tiny_key.py"),
        ({"key": "def "}, "the key beside the notebook, cannot be read"),
        ({"parameters": None}, "the cell with student_id must have the tag parameters"),
    ],
)
def test_a_faulty_assignment_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    notebook = nbformat.read(COURSE / "01_tiny.ipynb", as_version=4)
    key = (COURSE / "01_tiny_key.py").read_text(encoding="utf-8")
    for cell in notebook.cells:
        if "cell" in change and cell.metadata.get("nbgrader", {}).get("grade_id") == change["cell"]:
            cell.source = change.get("source", cell.source)
            new = {name: value for name, value in change.items() if name in {"grade_id", "solution"}}
            cell.metadata.nbgrader.update(new)
        if "parameters" in change:
            cell.metadata.pop("tags", None)
    if "key" in change:
        key = key.replace(change["key"], "x" if change["key"] != "def " else "def def ")
    nbformat.write(notebook, tmp_path / "01_tiny.ipynb")
    (tmp_path / "01_tiny_key.py").write_text(key, encoding="utf-8")
    with pytest.raises(SkillmoeError, match=message):
        read_course(tmp_path)

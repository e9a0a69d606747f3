"""The assignments of a course: solution notebooks, their keys, and the versions that students get.

A solution notebook is the only source. Its cells carry nbgrader's metadata (schema 3), and students' versions
are made by the preprocessors with which nbgrader 0.9.6 itself generates an assignment, so that a course with
an nbgrader server can use the same files. docs/classroom.md says what a notebook and a key must look like.
"""

import ast
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from skillmoe_lib.errors import SkillmoeError, require
from skillmoe_lib.files import replace_file
from skillmoe_lib.settings import Settings, checked, read_yaml, told_as

_MARKERS = re.compile(r"(BEGIN|END) (SOLUTION|HIDDEN TESTS|MARK SCHEME)")


class Cell(NamedTuple):
    """A cell as grading sees it: its nbgrader id ("" if it has none), its kind and its text."""

    grade_id: str
    cell_type: str
    source: str


@dataclass(frozen=True)
class Assignment:
    """One assignment of the instructor's folder."""

    name: str
    notebook: Path
    key: Path
    points: Mapping[str, float]
    """Exercise -> points that it is worth, in the notebook's order."""
    given: tuple[Cell, ...]
    """The cells as handed out, in order."""
    locked: frozenset[str]
    """Ids of the code cells that students do not write: given code and exercises."""
    questions: tuple[str, ...]
    """Ids of the questions to reflect on, which the instructor reads."""

    @property
    def max_points(self) -> float:
        """Points of all exercises together."""
        return sum(self.points.values())


class _Dates(Settings):
    """`course.yaml` beside the solution notebooks: when assignments are due and what lateness costs."""

    due: dict[str, Annotated[str, told_as('a date and time in quotes, such as "2026-10-12 18:00"')]] = Field(
        default_factory=dict
    )
    late_points_a_day: Annotated[float, Field(ge=0), told_as("a number of at least 0")] = 0.0


def read_dates(source: Path) -> tuple[dict[str, str], float]:
    """Due date and time of each assignment that has one, and the points that each day begun costs."""
    path = source / "course.yaml"
    dates = checked(_Dates, read_yaml(path) or {}, path.name) if path.exists() else _Dates()
    return dict(dates.due), float(dates.late_points_a_day)


def read_course(source: Path) -> dict[str, Assignment]:
    """The assignments of a folder of solution notebooks and keys, by name.

    Raises
    ------
    SkillmoeError
        If there is none, or one does not keep to what docs/classroom.md asks for; names it.
    """
    notebooks = sorted(source.glob("*.ipynb"))
    if not notebooks:
        raise SkillmoeError(f"there is no solution notebook (such as 01_keywords.ipynb) in {source}")
    return {path.stem: _read(path) for path in notebooks}


def build(source: Path, target: Path) -> list[Path]:
    """Write the students' version of each solution notebook, and return their paths.

    Raises
    ------
    SkillmoeError
        If nbgrader is missing, or an assignment is not as docs/classroom.md asks.
    """
    import nbformat

    written = []
    for name, assignment in read_course(source).items():
        version = student_version(assignment.notebook)
        replace_file(target / f"{name}.ipynb", nbformat.writes(version) + "\n")  # type: ignore[no-untyped-call]
        written.append(target / f"{name}.ipynb")
    return written


def student_version(path: Path) -> Any:
    """A solution notebook without its solutions, hidden tests and outputs, as a notebook of nbformat.

    Raises
    ------
    SkillmoeError
        If nbgrader is missing, or refuses the notebook (as for a solution without an end).
    """
    require("making students' versions", "nbgrader", extra="classroom")
    import nbformat
    from nbgrader import preprocessors as step

    logging.getLogger("traitlets").setLevel(logging.CRITICAL)  # what it logs, it raises too
    # The steps of nbgrader's GenerateAssignment in its order, without those that need its database.
    steps = (
        step.LockCells,
        step.ClearSolutions,
        step.ClearOutput,
        step.CheckCellMetadata,
        step.ClearHiddenTests,
        step.ClearMarkScheme,
        step.ComputeChecksums,
        step.CheckCellMetadata,
    )
    try:
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        for kind in steps:
            notebook, _ = kind()(notebook, {})
    except Exception as error:
        raise SkillmoeError(f"{path.name}: nbgrader refuses it: {error}") from error
    for cell in notebook.cells:
        if _MARKERS.search(cell.source):
            raise SkillmoeError(
                f"{path.name}: a marker is left in the students' version: {cell.source[:80]!r}"
            )
    return notebook


def _read(path: Path) -> Assignment:
    import nbformat

    solution = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    cells = [cell for cell in solution.cells if "nbgrader" in cell.metadata]
    tests = [c for c in cells if c.metadata.nbgrader.grade and not c.metadata.nbgrader.solution]
    points = {c.metadata.nbgrader.grade_id: float(c.metadata.nbgrader.points) for c in tests}
    key = path.with_name(f"{path.stem}_key.py")
    checks = _checks(key)
    for cell in tests:
        exercise = cell.metadata.nbgrader.grade_id
        where = f"{path.name}: exercise {exercise}"
        submits = re.findall(rf"""^submit\(\s*["']{re.escape(exercise)}["']""", cell.source, re.MULTILINE)
        if len(submits) != 1:
            raise SkillmoeError(f'{where} must call submit("{exercise}", ...) once, got {len(submits)} calls')
        if exercise not in checks:
            raise SkillmoeError(f"{where} needs a function check_{exercise} in {key.name}")
    if unknown := checks - points.keys():
        raise SkillmoeError(f"{key.name}: there is no exercise for check_{min(unknown)}")
    if not any("parameters" in cell.metadata.get("tags", ()) for cell in solution.cells):
        raise SkillmoeError(f"{path.name}: the cell with student_id must have the tag parameters")
    given = tuple(
        Cell(cell.metadata.get("nbgrader", {}).get("grade_id", ""), cell.cell_type, cell.source)
        for cell in student_version(path).cells
    )
    return Assignment(
        name=path.stem,
        notebook=path,
        key=key,
        points=points,
        given=given,
        locked=frozenset(
            c.metadata.nbgrader.grade_id
            for c in cells
            if c.cell_type == "code"
            and not c.metadata.nbgrader.solution
            and (c.metadata.nbgrader.locked or c.metadata.nbgrader.grade)
        ),
        questions=tuple(
            c.metadata.nbgrader.grade_id
            for c in cells
            if c.metadata.nbgrader.grade and c.metadata.nbgrader.solution
        ),
    )


def _checks(key: Path) -> set[str]:
    """Exercises for which a key has a function, read without running it."""
    try:
        tree = ast.parse(key.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SkillmoeError(f"{key.name}, the key beside the notebook, cannot be read: {reason}") from error
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {name.removeprefix("check_") for name in names if name.startswith("check_")}

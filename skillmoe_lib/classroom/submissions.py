"""Submissions as they lie in a folder: whose, of which assignment, and which cells are run.

A folder holds one folder for each student, named by the student's id, with notebooks in it, or with a folder
for each assignment as nbgrader collects them. Files are read as data: no link is followed, and a notebook is
JSON of limited size that may hold anything.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from skillmoe_lib.classroom.course import Assignment, Cell
from skillmoe_lib.errors import SkillmoeError

_LARGEST_BYTES = 20_000_000
_MOST_CELLS = 1_000
_MOST_FILES = 200
_NO_SUBMISSIONS = {"timestamp.txt", "answers.json"}


class Prepared(NamedTuple):
    """What is run of a submission, what is odd about it, and its texts that the instructor reads."""

    cells: list[dict[str, str]]
    notes: list[str]
    reflections: dict[str, str]


@dataclass(frozen=True)
class Submission:
    """One notebook that a student handed in."""

    student_id: str
    path: Path
    assignment: str
    cells: tuple[Cell, ...]
    handed_in: datetime
    notes: tuple[str, ...] = ()


class Found(NamedTuple):
    """All that a folder holds: students, their submissions, and files that are none (with the reason)."""

    students: list[str]
    submissions: list[Submission]
    refused: dict[str, list[str]]


def find_submissions(folder: Path, course: Mapping[str, Assignment]) -> Found:
    """Read a folder of submissions.

    Raises
    ------
    SkillmoeError
        If it is not a folder with a folder for each student.
    """
    if not folder.is_dir():
        raise SkillmoeError(f"{folder} must be a folder with a folder for each student")
    students = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if not students:
        raise SkillmoeError(f"{folder} must hold a folder for each student, named by the student's id")
    if odd := [name for name in students if not name.isprintable()]:
        raise SkillmoeError(f"a student's folder must be named by the student's id, got {odd[0]!r}")
    submissions: list[Submission] = []
    refused: dict[str, list[str]] = {}
    for student in students:
        files = list(islice(_files(folder / student), _MOST_FILES + 1))
        if len(files) > _MOST_FILES:
            refused[student] = [f"more than {_MOST_FILES} files, of which the first were read"]
        for path in files[:_MOST_FILES]:
            found = _read(student, path, course)
            if isinstance(found, Submission):
                submissions.append(found)
            else:
                refused.setdefault(student, []).append(found)
    return Found(students, submissions, refused)


def _files(folder: Path) -> Iterable[Path]:
    """Files of a student's folder and of the folders in it; not nbgrader's time stamp, not hidden ones."""
    if folder.is_symlink():
        return
    for path in _listed(folder):
        if os.path.isdir(path) and not path.is_symlink():  # noqa: PTH112 - no error for what may not be seen
            yield from (inner for inner in _listed(path) if not os.path.isdir(inner))  # noqa: PTH112
        else:
            yield path


def _listed(folder: Path) -> list[Path]:
    """What a folder holds, by name; nothing if it may not be read."""
    try:
        return sorted(p for p in folder.iterdir() if p.name[0] != "." and p.name not in _NO_SUBMISSIONS)
    except OSError:
        return []


def _read(student: str, path: Path, course: Mapping[str, Assignment]) -> Submission | str:
    """A submission, or why this file is none."""
    name = shown(path.name)
    if path.is_symlink() or not os.path.isfile(path):  # noqa: PTH113 - no error for what may not be seen
        return f"{name} is a link or no file"
    if path.stat().st_size > _LARGEST_BYTES:
        return f"{name} is larger than {_LARGEST_BYTES / 1e6:g} MB"
    if path.suffix.lower() != ".ipynb":
        return f"{name} is not a notebook"
    try:
        cells = _cells(json.loads(path.read_text(encoding="utf-8-sig")))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError):
        return f"{name} is not a readable notebook"
    assignment, notes = path.stem, list[str]()
    if assignment not in course:
        assignment = _by_cells(cells, course)
        if not assignment:
            return f"{name} is of no assignment here"
        notes.append(f"{name} was taken for {assignment} by its cells")
    return Submission(student, path, assignment, cells, _handed_in(path), tuple(notes))


def _cells(notebook: Any) -> tuple[Cell, ...]:
    """The cells of a notebook's JSON; errors of many kinds if it is something else."""
    if len(notebook["cells"]) > _MOST_CELLS:
        raise ValueError
    cells = []
    for cell in notebook["cells"]:
        source = cell["source"]
        grade_id = cell.get("metadata", {}).get("nbgrader", {}).get("grade_id", "")
        cells.append(
            Cell(
                grade_id if isinstance(grade_id, str) else "",
                str(cell["cell_type"]),
                source if isinstance(source, str) else "".join(source),
            )
        )
    return tuple(cells)


def _by_cells(cells: Iterable[Cell], course: Mapping[str, Assignment]) -> str:
    """The assignment with which a notebook shares most cell ids, at least half of its exercises; else ""."""
    ids = {cell.grade_id for cell in cells}
    shared = {name: len(ids & assignment.points.keys()) for name, assignment in course.items()}
    best = max(shared, key=lambda name: (shared[name] / len(course[name].points), name))
    return best if shared[best] * 2 >= len(course[best].points) else ""


def _handed_in(path: Path) -> datetime:
    """When it was handed in: nbgrader's timestamp.txt beside it if there is one, else the file's own time."""
    stamp = path.with_name("timestamp.txt")
    try:
        if stamp.is_symlink() or not stamp.is_file() or stamp.stat().st_size > 100:
            raise OSError
        day, hour, *zone = stamp.read_text(encoding="utf-8").split()
        given = datetime.fromisoformat(f"{day} {hour}").replace(tzinfo=ZoneInfo(zone[0]) if zone else UTC)
        if not 1970 <= given.astimezone(UTC).year < 9999:
            raise ValueError
        return given
    except (OSError, ValueError, KeyError, OverflowError):
        return datetime.fromtimestamp(min(max(path.stat().st_mtime, 0), 2**35), UTC)  # to the year 3058


def prepare(submission: Submission, assignment: Assignment) -> Prepared:
    """The code cells to run: the student's own, with given cells and exercises as they were handed out.

    A given cell that was changed or deleted is put back (a deleted one before the first that came after it);
    a second cell with the same id is run as an ordinary cell.
    """
    handed_out = {cell.grade_id: cell for cell in assignment.given if cell.grade_id}
    notes: list[str] = []
    reflections: dict[str, str] = {}
    kept: list[Cell] = []
    seen: set[str] = set()
    for cell in submission.cells:
        original = handed_out.get(cell.grade_id)
        if original is None or cell.grade_id in seen:
            if original is not None:
                notes.append(f"cell {cell.grade_id} occurs twice")
            kept.append(Cell("", cell.cell_type, cell.source))
            continue
        seen.add(cell.grade_id)
        if cell.grade_id in assignment.locked:
            if cell.source.strip() != original.source.strip() or cell.cell_type != original.cell_type:
                notes.append(f"cell {cell.grade_id} was changed and was put back")
            kept.append(original)
        else:
            if cell.grade_id in assignment.questions and cell.source.strip() != original.source.strip():
                reflections[cell.grade_id] = _text(cell.source[:5_000])
            kept.append(cell)
    order = [cell.grade_id for cell in assignment.given if cell.grade_id]
    for place, name in enumerate(order):
        if name in seen or handed_out[name].cell_type != "code":
            continue
        notes.append(f"cell {name} was missing" + (" and was put back" if name in assignment.locked else ""))
        if name in assignment.locked:
            later = set(order[place:])
            here = next((i for i, cell in enumerate(kept) if cell.grade_id in later), len(kept))
            kept.insert(here, handed_out[name])
            seen.add(name)
    cells = [
        {"id": cell.grade_id, "source": cell.source}
        for cell in kept
        if cell.cell_type == "code" and cell.source.strip()
    ]
    return Prepared(cells, list(dict.fromkeys(notes)), reflections)


def _text(source: str) -> str:
    """Text for a page: lines stay, characters that a page acts on (such as a change of direction) do not."""
    return "".join(c for c in source if c.isprintable() or c.isspace() or "\ud800" <= c <= "\udfff")


def shown(name: str) -> str:
    """A file's name for a line of text."""
    return "".join(c if c.isprintable() else "?" for c in name)[:60]

"""The keys judge answers, not code: right ones that are written differently score full, wrong ones do not.

The answers are in `answers/`, a file for each assignment; its README says how they are written.
"""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest

from skillmoe_lib.classroom import course, variant

ANSWERS = Path(__file__).parent / "answers"
SOURCE = Path(__file__).resolve().parents[2] / "notebooks" / "assignments" / "source"
COURSE = course.read_course(SOURCE)


class Other(NamedTuple):
    """An answer to an exercise: whether it is right, what is special about it, and its code."""

    exercise: str
    right: bool
    said: str
    code: str


def read(name: str) -> list[Other]:
    """The answers of one assignment's file."""
    found, exercise = [], ""
    text = (ANSWERS / f"{name}.md").read_text(encoding="utf-8")
    for head, body in re.findall(r"^##+ (.+)\n((?:```python\n(?:.*\n)*?```)?)", text, flags=re.MULTILINE):
        kind, _, said = head.partition(": ")
        if said:
            code = body.removeprefix("```python\n").removesuffix("```")
            found.append(Other(exercise, {"right": True, "wrong": False}[kind], said, code))
        else:
            exercise = head
    return found


class Sitting:
    """One student with one assignment: what each exercise finds defined, and what an answer is worth."""

    def __init__(self, name: str, student_id: str) -> None:
        spec = importlib.util.spec_from_file_location(f"key_{name}", SOURCE / f"{name}_key.py")
        assert spec and spec.loader
        self.key = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.key)
        self.name, self.student_id = name, student_id
        self.tests: dict[str, str] = {}
        self.defined: dict[str, dict[str, Any]] = {}
        names: dict[str, Any] = {"__name__": "__main__", "student_id": student_id}
        for cell in nbformat.read(SOURCE / f"{name}.ipynb", as_version=4).cells:
            about = cell.metadata.get("nbgrader", {})
            if cell.cell_type == "code" and about and about["grade"]:
                self.tests[about["grade_id"]] = cell.source
                self.defined[about["grade_id"]] = dict(names)
            elif cell.cell_type == "code" and about and about["locked"]:
                exec(compile(cell.source, about["grade_id"], "exec"), names)

    def points(self, exercise: str, code: str) -> tuple[float, str]:
        """Points and the key's remark; none if the cell's own tests fail, as then nothing is submitted."""
        names, given = dict(self.defined[exercise]), dict[str, Any]()
        exec(compile(code, exercise, "exec"), names)
        names["submit"] = submitting(given)
        try:
            exec(compile(self.tests[exercise], exercise, "exec"), names)
        except AssertionError:
            return 0, "the visible test fails"
        whose = variant(self.student_id, self.name)
        try:
            return tuple(getattr(self.key, f"check_{exercise}")(given[exercise], whose))  # type: ignore[return-value]
        except (TypeError, KeyError, AttributeError, ValueError):
            return 0, "not of the form asked for"


def submitting(given: dict[str, Any]) -> Callable[[str, object], None]:
    """`submit`, into a dictionary."""
    from skillmoe_lib.classroom.submission import _plain

    def submit(exercise: str, value: object) -> None:
        given[exercise] = _plain(value, exercise)

    return submit


@pytest.mark.parametrize("name", COURSE)
def test_there_are_two_right_and_three_wrong_answers_to_each_exercise(name: str) -> None:
    others = read(name)
    assert {other.exercise for other in others} == set(COURSE[name].points)
    for exercise in COURSE[name].points:
        assert [other.right for other in others if other.exercise == exercise] == [True] * 2 + [False] * 3


@pytest.mark.parametrize("name", COURSE)
def test_the_key_tells_right_from_wrong(name: str) -> None:
    sitting = Sitting(name, "ada")
    for other in read(name):
        points, remark = sitting.points(other.exercise, other.code)
        full = COURSE[name].points[other.exercise]
        label = f"{other.exercise}, {other.said}: {points} of {full} ({remark})"
        if other.right:
            assert (points, remark) == (full, ""), label
        else:
            assert points < full, label
            assert remark, label

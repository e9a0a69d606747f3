"""Scores the answers of one submission: the process that has the key and runs nothing of the student's.

`score` starts this file with the key and the values of answers.json, which are data to it: JSON of limited
size, one check for each exercise, whatever goes wrong in a check counted against that answer alone.
"""

import contextlib
import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from skillmoe_lib.classroom.variants import variant
from skillmoe_lib.errors import SkillmoeError

if TYPE_CHECKING:  # the process that scores reads no notebooks
    from skillmoe_lib.classroom.course import Assignment

_TIME_S = 60.0
#: Lists in lists; what can be read can also be nested too deep to be passed on.
_DEEPEST = 20


class Score(NamedTuple):
    """Points for one exercise, what the student is told, and what only the instructor is."""

    points: float
    reason: str
    detail: str = ""


def score(
    assignment: "Assignment", student_id: str, answers: str | None, *, time_s: float = _TIME_S
) -> tuple[dict[str, Score], str]:
    """Score what a submission left.

    Parameters
    ----------
    assignment
        Whose key is used.
    student_id
        Whose variant is asked for, not what the submission says.
    answers
        Text of answers.json; None if there is none.
    time_s
        For all checks together; one that takes longer counts as zero, and the others go on.

    Returns
    -------
    dict and str
        A score for each exercise; and what is wrong with the file as a whole, in one line, or "".

    Raises
    ------
    SkillmoeError
        If the key itself cannot be imported, or gives what no key may give.
    """
    values, fault = read_answers(answers, assignment)
    scores = {name: Score(0.0, "not submitted") for name in assignment.points if name not in values}
    waiting = [name for name in assignment.points if name in values]
    while waiting:
        found = _ask(assignment, student_id, {name: values[name] for name in waiting}, time_s)
        scores |= found
        waiting = [name for name in waiting if name not in found]
        if waiting:  # the first one without a score is the one that hung or ended the process
            scores[waiting.pop(0)] = Score(0.0, "not of the form asked for", "its check did not end")
    return {name: scores[name] for name in assignment.points}, fault


def read_answers(text: str | None, assignment: "Assignment") -> tuple[dict[str, Any], str]:
    """The values in answers.json for the assignment's exercises, and what is wrong with it in one line."""
    if text is None:
        return {}, ""
    try:
        given = json.loads(text, parse_constant=_finite, parse_float=_finite)
        values = given["answers"]
        if not isinstance(values, dict) or _depth(values, _DEEPEST + 1) > _DEEPEST:
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}, "answers.json is not what submit writes"
    foreign = sorted({*given} - {"answers"}) + sorted({*values} - {*assignment.points})
    shown = ", ".join(repr(name[:40]) for name in foreign[:3])
    fault = f"answers.json holds {shown}, which counts for nothing" if foreign else ""
    return {name: value for name, value in values.items() if name in assignment.points}, fault


def _finite(text: str) -> float:
    """A number of JSON; not NaN, Infinity, or 1e999, which Python would read as infinite."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no JSON")
    return number


def _depth(value: Any, most: int) -> int:
    """How deep lists and dictionaries are nested; looks no deeper than `most`."""
    if most == 0 or not isinstance(value, list | dict):
        return 0
    inside = value if isinstance(value, list) else value.values()
    return 1 + max((_depth(item, most - 1) for item in inside), default=0)


def _ask(
    assignment: "Assignment", student_id: str, values: Mapping[str, Any], time_s: float
) -> dict[str, Score]:
    """Scores that a process with the key gives before it ends or is ended."""
    job = {
        "key": str(assignment.key),
        "assignment": assignment.name,
        "student_id": student_id,
        "values": values,
        "points": {name: assignment.points[name] for name in values},
    }
    command = [sys.executable, "-P", "-X", "utf8", "-m", "skillmoe_lib.classroom.scoring"]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and this module
            command,
            input=json.dumps(job),
            capture_output=True,
            encoding="utf-8",
            timeout=time_s,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        out = done.stdout
    except subprocess.TimeoutExpired as error:
        out = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
    scores = {}
    for line in out.splitlines():
        with contextlib.suppress(ValueError):  # the last line of a process that was ended
            said = json.loads(line)
            if "fault" in said:
                raise SkillmoeError(f"{assignment.key.name}: {said['fault']}")
            scores[said["exercise"]] = Score(said["points"], said["reason"], said["detail"])
    return scores


def main() -> None:
    """Check each value and print one line of JSON for it, as soon as it is known."""
    job = json.load(sys.stdin)
    out, sys.stdout = sys.stdout, sys.stderr  # what a key prints is in nobody's way

    def say(**line: Any) -> None:
        print(json.dumps(line), file=out, flush=True)

    key = Path(job["key"])
    try:
        spec = importlib.util.spec_from_file_location(f"key_{key.stem}", key)
        assert spec and spec.loader  # noqa: S101 - a .py file has both
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except Exception as error:
        say(fault=f"cannot be imported: {type(error).__name__}: {error}")
        return
    for exercise, value in job["values"].items():
        whose = variant(job["student_id"], job["assignment"])
        try:
            given = getattr(module, f"check_{exercise}")(value, whose)
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"[:200]
            say(exercise=exercise, points=0.0, reason="not of the form asked for", detail=detail)
            continue
        most = job["points"][exercise]
        try:
            points, reason = float(given[0]), str(given[1])
            good = math.isfinite(points) and 0 <= points <= most
        except (TypeError, ValueError, IndexError):
            good = False
        if not good:
            say(fault=f"check_{exercise} must give (points from 0 to {most:g}, reason), got {given!r}")
            return
        say(exercise=exercise, points=points, reason=" ".join(reason.split()), detail="")


if __name__ == "__main__":
    main()

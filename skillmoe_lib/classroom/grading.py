"""Grades a folder of submissions: one table of marks and one page of feedback for each student.

Each submission is executed where it can reach nothing (`sandbox`), leaves only its answers, and is scored by
a process that has the key (`scoring`). Whatever a submission does, it becomes a row with a line of reason,
and the next one is graded.
"""

import csv
import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from skillmoe_lib.classroom import sandbox
from skillmoe_lib.classroom.course import Assignment, read_course, read_dates
from skillmoe_lib.classroom.sandbox import Execution, Limits
from skillmoe_lib.classroom.scoring import Score, score
from skillmoe_lib.classroom.submissions import Found, Submission, find_submissions, prepare, shown
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.files import replace_file
from skillmoe_lib.seeding import digest

#: The columns of nbgrader's own export, in its order.
NBGRADER = (
    "assignment",
    "duedate",
    "timestamp",
    "student_id",
    "last_name",
    "first_name",
    "email",
    "raw_score",
    "late_submission_penalty",
    "score",
    "max_score",
)
_PERSON = ("last_name", "first_name", "email")


@dataclass(frozen=True)
class Mark:
    """One student's result for one assignment."""

    assignment: str
    student_id: str
    max_score: float
    most: Mapping[str, float]
    """Exercise -> points that it is worth."""
    scores: Mapping[str, Score]
    notes: Sequence[str] = ()
    """What is odd about the submission, for the student and the instructor."""
    reflections: Mapping[str, str] = field(default_factory=dict)
    duedate: str = ""
    timestamp: str = ""
    """When it was handed in, UTC; "" if it was not."""
    late_submission_penalty: float = 0.0
    wall_s: float = 0.0
    isolation: str = ""
    """What held the submission: `namespaces`, or `python` where the system offers none; "" if nothing ran."""

    @property
    def raw_score(self) -> float:
        """Points of all exercises, before any penalty."""
        return sum(score.points for score in self.scores.values())

    @property
    def score(self) -> float:
        """Points less the penalty, at least 0."""
        return max(0.0, self.raw_score - self.late_submission_penalty)

    @property
    def reason(self) -> str:
        """All remarks in one line, for the instructor; "" if there is nothing to say."""
        of_exercises = [
            f"{name}: {found.reason}" + (f" ({found.detail})" if found.detail else "")
            for name, found in self.scores.items()
            if found.reason
        ]
        return _line("; ".join([*self.notes, *of_exercises]), 1_000)


def grade(
    folder: Path,
    source: Path,
    target: Path,
    *,
    assignment: str = "",
    limits: Limits | None = None,
    namespaces: bool | None = None,
    n_parallel: int | None = None,
    tell: Callable[[Mark], None] | None = None,
) -> list[Mark]:
    """Grade every submission of a folder, and write `grades.csv` and `feedback/STUDENT.html`.

    Parameters
    ----------
    folder
        Submissions (`submissions` says how they lie). A `students.csv` in it with the columns student_id,
        last_name, first_name and email adds names, and students who handed in nothing.
    source
        Solution notebooks and keys; `course.yaml` there has the dates.
    target
        Where the results are written.
    assignment
        Grade this one only; by default all of which there is a submission.
    limits, namespaces
        As in `sandbox.execute`.
    n_parallel
        Submissions that run at the same time; by default one for each processor.
    tell
        Called with each mark as it is known.

    Returns
    -------
    list of Mark
        Sorted by assignment and student, as the rows of `grades.csv`.

    Raises
    ------
    SkillmoeError
        For a mistake of the instructor's: no submissions, a faulty assignment or key, a wrong date.
    """
    course = read_course(source)
    if assignment and assignment not in course:
        raise unknown("assignment", assignment, course)
    dates, a_day = read_dates(source)
    due = {name: _due(name, text) for name, text in dates.items()}
    if foreign := due.keys() - course.keys():
        raise unknown("assignment in course.yaml", min(foreign), course)
    found = find_submissions(folder, course)
    people = _people(folder / "students.csv")
    asked = [assignment] if assignment else sorted({s.assignment for s in found.submissions}) or [*course]
    students = sorted({*found.students, *people})
    jobs = [(student, course[name]) for name in asked for student in students]

    held = sandbox.have_namespaces() if namespaces is None else namespaces

    def one(job: tuple[str, Assignment]) -> Mark:
        student, of = job
        mark = _mark(student, of, found, (source, folder, target), limits, held)
        mark = _dated(mark, due.get(of.name), a_day)
        if tell:
            tell(mark)
        return mark

    with ThreadPoolExecutor(n_parallel or os.cpu_count() or 1) as pool:
        marks = list(pool.map(one, jobs))
    table = _table(marks, people, [course[name] for name in asked])
    replace_file(target / "grades.csv", table.encode(errors="replace"))  # text of students may be no Unicode
    for student in students:
        mine = [mark for mark in marks if mark.student_id == student]
        page = _page(student, mine).encode(errors="replace")
        replace_file(target / "feedback" / f"{_file_name(student)}.html", page)
    return marks


def _mark(
    student: str,
    assignment: Assignment,
    found: Found,
    hidden: Sequence[Path],
    limits: Limits | None,
    namespaces: bool,
) -> Mark:
    """Execute and score what a student handed in for an assignment."""
    mine = [s for s in found.submissions if (s.student_id, s.assignment) == (student, assignment.name)]
    if not mine:
        notes = ["nothing handed in", *found.refused.get(student, ())]
        nothing = {name: Score(0.0, "") for name in assignment.points}
        return Mark(assignment.name, student, assignment.max_points, assignment.points, nothing, notes)
    chosen = max(mine, key=lambda s: (s.path.stem == assignment.name, s.handed_in))
    prepared = prepare(chosen, assignment)
    execution = sandbox.execute(prepared.cells, limits=limits, hidden=hidden, namespaces=namespaces)
    scores, fault = score(assignment, student, execution.answers)
    notes = [
        *([f"{len(mine)} notebooks, of which {shown(chosen.path.name)} was graded"] if len(mine) > 1 else ()),
        *chosen.notes,
        *prepared.notes,
        *([execution.stopped] if execution.stopped else ()),
        *([fault] if fault else ()),
        *_identity(execution, student),
        *execution.noted,
        *_raised(execution, assignment),
    ]
    return Mark(
        assignment=assignment.name,
        student_id=student,
        max_score=assignment.max_points,
        most=assignment.points,
        scores=_explained(scores, execution, assignment),
        notes=[_line(note, 300) for note in notes],
        reflections=prepared.reflections,
        timestamp=_stamp(chosen),
        wall_s=execution.wall_s,
        isolation="namespaces" if namespaces else "python",
    )


def _line(text: str, most: int) -> str:
    """Text as one line, without what a terminal or a page acts on: escapes, changes of direction."""
    words = " ".join(text.encode(errors="replace").decode().split())
    return "".join(c for c in words if c.isprintable())[:most]


def _identity(execution: Execution, student: str) -> list[str]:
    given = execution.student_id
    if given is None or given == student:
        return []
    return [f"the notebook's student_id is {given!r}, the folder's {student!r}, whose variant counts"]


def _raised(execution: Execution, assignment: Assignment) -> list[str]:
    """The student's own cells that raised, but for those left as they were; at most three."""
    own = [r for r in execution.raised if r.id not in assignment.locked and r.error != "NotImplementedError"]
    return [f"{r.id or f'code cell {r.number}'} raised {r.error}" for r in own[:3]]


def _explained(scores: Mapping[str, Score], execution: Execution, assignment: Assignment) -> dict[str, Score]:
    """Scores in which an exercise that was not submitted says what its cell raised."""
    raised = {r.id: r for r in execution.raised if r.id in assignment.points}
    return {
        name: Score(0.0, f"not submitted: its cell raised {raised[name].error}", raised[name].said)
        if found.reason == "not submitted" and name in raised
        else Score(found.points, _line(found.reason, 300), found.detail)
        for name, found in scores.items()
    }


# --- dates -------------------------------------------------------------------------------------------


def _due(name: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        raise SkillmoeError(
            f'course.yaml: due: {name}: it must be a date and time such as "2026-10-12 18:00"; got {text!r}'
        ) from error


def _stamp(submission: Submission) -> str:
    return submission.handed_in.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _dated(mark: Mark, due: datetime | None, a_day: float) -> Mark:
    """The mark with its due date and the penalty for each day begun after it."""
    if due is None:
        return mark
    late_s = 0.0
    if mark.timestamp:
        handed_in = datetime.strptime(mark.timestamp, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        late_s = max(0.0, (handed_in - due).total_seconds())
    return Mark(
        **{
            **vars(mark),
            "duedate": due.strftime("%Y-%m-%d %H:%M:%S"),
            "late_submission_penalty": a_day * math.ceil(late_s / 86_400),
        }
    )


# --- what is written ---------------------------------------------------------------------------------


def _people(path: Path) -> dict[str, dict[str, str]]:
    """Names and addresses by student id, from a table that the instructor made."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8-sig", newline="") as source:
        rows = list(csv.DictReader(source))
    if not rows or "student_id" not in rows[0]:
        raise SkillmoeError(
            f"{path.name} must have the column student_id (and may have {', '.join(_PERSON)})"
        )
    return {row["student_id"]: {name: row.get(name) or "" for name in _PERSON} for row in rows}


def _table(
    marks: Sequence[Mark], people: Mapping[str, Mapping[str, str]], assignments: Sequence[Assignment]
) -> str:
    """`grades.csv`: nbgrader's columns, one ASSIGNMENT:EXERCISE for each exercise, isolation and reason."""
    exercises = [f"{assignment.name}:{name}" for assignment in assignments for name in assignment.points]
    sink = io.StringIO()
    writer = csv.DictWriter(sink, [*NBGRADER, *exercises, "isolation", "reason"], lineterminator="\n")
    writer.writeheader()
    for mark in marks:
        row = {name: getattr(mark, name, "") for name in NBGRADER} | dict(people.get(mark.student_id, {}))
        row |= {f"{mark.assignment}:{name}": found.points for name, found in mark.scores.items()}
        row |= {"isolation": mark.isolation, "reason": mark.reason}
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return sink.getvalue()


def _cell(value: object) -> str:
    """A value as a cell of a table that a spreadsheet does not take for a formula."""
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t")) else text


def _file_name(student: str) -> str:
    """The student's id if it is a plain name, with a piece of its hash if not."""
    plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in student)[:80]
    return plain if plain == student else f"{plain}-{digest(student)[:8]}"


def _page(student: str, marks: Sequence[Mark]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("feedback.html.jinja").render(student_id=student, marks=marks)

"""Grading: honest and hostile submissions in one folder, and each part of it on its own."""

import contextlib
import csv
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from hostile import COURSE, HOSTILE, KEY, OUTSIDE, STAYS, Attack, before, solution, write

from skillmoe_lib.classroom import grading, sandbox, submissions
from skillmoe_lib.classroom.course import Assignment, build, read_course
from skillmoe_lib.classroom.grading import NBGRADER, Mark, grade
from skillmoe_lib.classroom.sandbox import Execution, Limits, execute, have_namespaces
from skillmoe_lib.classroom.scoring import Score, read_answers, score
from skillmoe_lib.classroom.submissions import find_submissions, prepare
from skillmoe_lib.classroom.variants import variant
from skillmoe_lib.cli.commands import main
from skillmoe_lib.errors import SkillmoeError

#: The others are in benchmarks/classroom.py; each takes about three seconds.
TESTED = {name: HOSTILE[name] for name in HOSTILE if name not in {"hoards", "kills", "retests", "copies"}}
SCRIPT = "<script>alert(1)</script>"


def reflecting(notebook: dict[str, object]) -> dict[str, object]:
    for cell in notebook["cells"]:  # type: ignore[attr-defined]
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "reflect":
            cell["source"] = SCRIPT
    return notebook


# --- a whole folder ----------------------------------------------------------------------------------


class Graded:
    """What grading one folder gave."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.target = target
        for name, attack in TESTED.items():
            write(folder, name, attack)
        write(folder, "honest")
        write(folder, "writer", Attack(reflecting, "", 5))
        version = build(COURSE, folder / "untouched")[0]
        text = version.read_text(encoding="utf-8").replace('\\"student\\"', '\\"untouched\\"')
        version.write_text(text, encoding="utf-8")
        (folder / "empty").mkdir()
        (folder / "students.csv").write_text(
            "student_id,last_name,first_name,email\nhonest,Lovelace,Ada,ada@example.org\nabsent,=1+1,Bob,\n"
        )
        limits = Limits(time_s=10)
        self.marks = {m.student_id: m for m in grade(folder, COURSE, target, limits=limits)}
        with (target / "grades.csv").open(encoding="utf-8", newline="") as source:
            self.rows = {row["student_id"]: row for row in csv.DictReader(source)}

    def page(self, student: str) -> str:
        return (self.target / "feedback" / f"{student}.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Graded:
    if not have_namespaces():
        pytest.skip("this machine makes no namespaces")
    folder = tmp_path_factory.mktemp("classroom")
    return Graded(folder / "submitted", folder / "graded")


@pytest.mark.parametrize("name", TESTED)
def test_hostile_submission_is_graded_as_such(graded: Graded, name: str) -> None:
    mark = graded.marks[name]
    assert HOSTILE[name].reason in mark.reason
    assert "\n" not in mark.reason
    assert mark.raw_score == HOSTILE[name].points, mark.reason


def test_nothing_was_written_outside(graded: Graded) -> None:
    assert not OUTSIDE.exists()
    assert {path.name for path in graded.target.iterdir()} == {"grades.csv", "feedback"}


def test_nothing_stays_behind(graded: Graded) -> None:
    assert graded.marks["stays"].wall_s < 10
    running = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            running.append((process / "cmdline").read_bytes())
    assert not [line for line in running if f"sleep\0{STAYS}".encode() in line]


@pytest.mark.parametrize("name", ["honest", "writer"])
def test_honest_submission_has_full_points(graded: Graded, name: str) -> None:
    assert (graded.marks[name].raw_score, graded.marks[name].reason) == (5, "")


def test_untouched_version_has_no_points(graded: Graded) -> None:
    assert graded.marks["untouched"].raw_score == 0
    assert graded.marks["untouched"].reason == (
        "total: not submitted: its cell raised NameError (name 'total' is not defined); "
        "table: not submitted: its cell raised NotImplementedError"
    )


def test_table_has_nbgraders_columns_and_one_for_each_exercise(graded: Graded) -> None:
    row = graded.rows["honest"]
    assert list(row) == [*NBGRADER, "01_tiny:total", "01_tiny:table", "isolation", "reason"]
    assert [graded.rows[name]["isolation"] for name in ("honest", "absent")] == ["namespaces", ""]
    assert (row["last_name"], row["score"], row["max_score"], row["01_tiny:table"]) == (
        "Lovelace", "5.0", "5.0", "3.0",
    )  # fmt: skip
    assert list(graded.rows) == sorted(graded.rows)
    assert graded.rows["absent"]["reason"] == "nothing handed in"
    assert graded.rows["absent"]["timestamp"] == ""
    assert graded.rows["absent"]["last_name"] == "'=1+1"  # no formula
    assert graded.rows["empty"]["score"] == "0.0"


def test_each_student_has_a_page_without_hidden_tests(graded: Graded) -> None:
    assert {path.stem for path in (graded.target / "feedback").iterdir()} == set(graded.rows)
    for student in graded.rows:
        page = graded.page(student)
        assert "is_even(0)" not in page
        assert "check_" not in page
        assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in graded.page("writer")
    assert "is_even is wrong" not in graded.page("honest")


# --- the sandbox -------------------------------------------------------------------------------------


def run(*sources: str, namespaces: bool, time_s: float = 60, output_bytes: int = 2**20) -> Execution:
    cells = [{"id": "", "source": source} for source in sources]
    limits = Limits(time_s=time_s, output_bytes=output_bytes)
    return execute(cells, limits=limits, hidden=[COURSE], namespaces=namespaces)


def test_a_submission_sees_only_its_own(tmp_path: Path) -> None:
    if not have_namespaces():
        pytest.skip("this machine makes no namespaces")
    (tmp_path / "secret").write_text("x")
    seen = run(
        "import ctypes, os\nfrom skillmoe_lib.classroom import submit\n"
        f"submit('seen', {{'tmp': os.listdir('/tmp'), 'here': os.path.exists({str(tmp_path)!r}),\n"
        f" 'key': os.path.exists({str(KEY)!r}), 'own': os.getcwd(), 'environment': sorted(os.environ),\n"
        " 'processes': sum(name.isdigit() for name in os.listdir('/proc')), 'root': os.getuid() == 0,\n"
        " 'own_namespace': ctypes.CDLL(None).unshare(0x10000000) == 0,\n"
        " 'interfaces': sorted(os.listdir('/sys/class/net')) if os.path.exists('/sys') else []})",
        namespaces=True,
    )
    assert seen.answers, seen
    answer = json.loads(seen.answers)["answers"]["seen"]
    assert not [name for name in answer["tmp"] if name.startswith(("pytest", "skillmoe"))]
    assert not any(answer[name] for name in ("here", "key", "root", "own_namespace"))
    assert answer["own"] == "/submission"
    assert (answer["processes"], answer["interfaces"]) == (2, [])
    assert not [name for name in answer["environment"] if name.startswith(("PYTEST", "AWS", "USER"))]


_MEMFD = """
import os, time
hoard = []
for _ in range(200):
    hoard.append(os.memfd_create("x"))
    os.write(hoard[-1], bytes(15 * 2**20))
time.sleep(20)
"""
_SEGMENTS = """
import ctypes, time
library, size = ctypes.CDLL(None), 20 * 2**20
library.shmat.restype = ctypes.c_void_p
for _ in range(40):
    place = ctypes.c_void_p(library.shmat(library.shmget(0, size, 0o1666), None, 0))
    ctypes.memset(place, 1, size)
    library.shmdt(place)
time.sleep(20)
"""


@pytest.mark.parametrize("source", [_MEMFD, _SEGMENTS], ids=["nameless files", "segments"])
def test_memory_that_no_process_has_mapped_counts(source: str) -> None:
    if not have_namespaces():
        pytest.skip("this machine makes no namespaces")
    limits = Limits(time_s=15, memory_bytes=400 * 2**20)
    found = execute([{"id": "", "source": source}], limits=limits, namespaces=True)
    assert found.stopped == "used more than 0.390625 GB of memory in code cell 1"


def test_submissions_side_by_side_are_of_different_users() -> None:
    """Else one that starts many threads keeps the others from starting any: the limit counts per user."""
    assert sandbox._job(True)["user"] != sandbox._job(True)["user"]


@pytest.mark.skipif(os.name != "posix", reason="paths of POSIX")
def test_without_namespaces_python_refuses() -> None:
    tried = {
        f"open({str(KEY)!r})": "looked into the instructor's folders",
        "import socket\nsocket.create_connection(('127.0.0.1', 22), 1)": "used the network",
        f"open({str(OUTSIDE)!r}, 'w')": "opened a file for writing outside its folder",
        "import os\nos.fork()": "started a process",
    }
    after = "from skillmoe_lib.classroom import submit\nsubmit('after', 1)"
    found = run(*tried, after, namespaces=False)
    assert (found.noted, found.stopped) == ([*tried.values()], "")
    assert [r.error for r in found.raised] == ["PermissionError"] * len(tried)
    assert found.answers
    assert json.loads(found.answers) == {"answers": {"after": 1}}
    assert not OUTSIDE.exists()


def test_without_namespaces_the_limits_hold() -> None:
    assert (
        run("while True: pass", namespaces=False, time_s=4).stopped == "did not end within 4 s in code cell 1"
    )
    printed = run("while True: print('x' * 100_000)", namespaces=False)
    assert printed.stopped == "printed more than 1 MB in code cell 1"


def test_the_weak_guard_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sandbox, "have_namespaces", lambda: False)
    (tmp_path / "in" / "ada").mkdir(parents=True)
    arguments = ["grade", str(tmp_path / "in"), "--source", str(COURSE), "--to", str(tmp_path / "out")]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert "warning: this machine makes no namespaces" in shown.err
    assert shown.out.startswith("01_tiny  ada  0/5  nothing handed in\n1 marks in ")


# --- scoring -----------------------------------------------------------------------------------------


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A copy of the tiny course that a test may change."""
    return Path(shutil.copytree(COURSE, tmp_path / "course", ignore=shutil.ignore_patterns("__pycache__")))


def tiny(course: Path, **changes: str) -> Assignment:
    key = course / "01_tiny_key.py"
    text = key.read_text(encoding="utf-8")
    for name, body in changes.items():
        text += f"\n\ndef check_{name}(value, variant):\n    {body}\n"
    key.write_text(text, encoding="utf-8")
    return read_course(course)["01_tiny"]


def answers(**values: object) -> str:
    return json.dumps({"answers": values})


def test_the_folders_name_decides_whose_variant_counts(course: Path) -> None:
    assignment = tiny(course)
    names = [f"q{i:02d}" for i in range(20)]
    total = sum(int(name[1:]) for name in variant("ada", "01_tiny").questions(names, 5))
    for student, points in (("ada", 2), ("bob", 0)):
        scores, fault = score(assignment, student, answers(total=total))
        assert (scores["total"].points, scores["table"].reason, fault) == (points, "not submitted", "")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, ""),
        ("", "answers.json is not what submit writes"),
        ("[" * 50_000, "answers.json is not what submit writes"),
        ('{"answers": {"total": NaN}}', "answers.json is not what submit writes"),
        ('{"answers": [1]}', "answers.json is not what submit writes"),
        ('{"answers": {"total": ' + "9" * 5_000 + "}}", "answers.json is not what submit writes"),
        ('{"answers": {"total": -1e999}}', "answers.json is not what submit writes"),
        ('{"answers": {"points": 5}}', "answers.json holds 'points', which counts for nothing"),
        (
            '{"answers": {"' + "x" * 99 + '": 5}}',
            f"answers.json holds '{'x' * 40}', which counts for nothing",
        ),
    ],
)
def test_a_faulty_file_of_answers_scores_nothing(text: str | None, fault: str) -> None:
    scores, said = score(read_course(COURSE)["01_tiny"], "ada", text)
    assert said == fault
    assert [found.reason for found in scores.values()] == ["not submitted"] * 2


def test_values_nested_too_deep_to_be_passed_on_score_nothing() -> None:
    """Python reads a few levels more than it writes, so reading is no proof."""
    assignment = read_course(COURSE)["01_tiny"]
    for depth in (19, 20, *range(900, 1000)):
        text = '{"answers": {"total": ' + "[" * depth + "]" * depth + "}}"
        values, fault = read_answers(text, assignment)
        assert bool(values) == (depth < 20)
        assert fault == ("" if values else "answers.json is not what submit writes")


def test_a_value_of_another_form_costs_its_exercise_only(course: Path) -> None:
    assignment = tiny(course, total="return 1, 'half'")
    scores, _ = score(assignment, "ada", answers(total=0, table=[{"question": 3}]))
    assert scores["total"] == (1, "half", "")
    assert scores["table"] == (0, "not of the form asked for", "KeyError: 'question_id'")


def test_a_check_that_hangs_costs_its_exercise_only(course: Path) -> None:
    assignment = tiny(course, total="while True: pass", table="print('x'); return 3, ''")
    scores, _ = score(assignment, "ada", answers(total=0, table=[]), time_s=4)
    assert scores["total"] == (0, "not of the form asked for", "its check did not end")
    assert scores["table"].points == 3


@pytest.mark.parametrize("body", ["return 6, ''", "return -1, ''", "return float('nan'), ''", "return None"])
def test_a_faulty_key_is_the_instructors_error(course: Path, body: str) -> None:
    with pytest.raises(SkillmoeError, match=r"01_tiny_key.py: check_total must give \(points from 0 to 2"):
        score(tiny(course, total=body), "ada", answers(total=0))


# --- submissions -------------------------------------------------------------------------------------


def sources(folder: Path) -> tuple[list[str], list[str]]:
    """Ids of the cells that would be run, and the notes."""
    course = read_course(COURSE)
    (submission,) = find_submissions(folder, course).submissions
    prepared = prepare(submission, course["01_tiny"])
    return [cell["id"] for cell in prepared.cells], [*submission.notes, *prepared.notes]


def test_cells_run_in_the_order_of_the_submission(tmp_path: Path) -> None:
    write(tmp_path, "ada", HOSTILE["deletes"])
    ids, notes = sources(tmp_path)
    assert ids == ["", "load", "total_solution", "total", "table_solution", "table"]
    assert notes == ["cell load was missing and was put back", "cell total was missing and was put back"]


def test_nbgraders_layout_and_time_stamp_are_read(tmp_path: Path) -> None:
    write(tmp_path / "ada", "01_tiny")
    (tmp_path / "ada" / "01_tiny" / "timestamp.txt").write_text("2026-10-12 18:30:00.5 Europe/Berlin\n")
    (submission,) = find_submissions(tmp_path, read_course(COURSE)).submissions
    assert submission.student_id == "ada"
    assert submission.handed_in.isoformat() == "2026-10-12T18:30:00.500000+02:00"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[1, 2]", "x.ipynb is not a readable notebook"),
        (b'{"cells": [{"cell_type": "code"}]}', "x.ipynb is not a readable notebook"),
        (b"[" * 100_000, "x.ipynb is not a readable notebook"),
        (b'{"cells": []}', "x.ipynb is of no assignment here"),
        (b"\xff\xfe\x00", "x.ipynb is not a readable notebook"),
    ],
)
def test_what_is_no_notebook_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "x.ipynb").write_bytes(content)
    found = find_submissions(tmp_path, read_course(COURSE))
    assert (found.submissions, found.refused) == ([], {"ada": [reason]})


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in" / "ada").mkdir(parents=True)
    (tmp_path / "in" / "ada" / "01_tiny.ipynb").symlink_to(COURSE / "01_tiny.ipynb")
    (tmp_path / "in" / "bob").symlink_to(COURSE)
    found = find_submissions(tmp_path / "in", read_course(COURSE))
    assert (found.submissions, found.refused) == ([], {"ada": ["01_tiny.ipynb is a link or no file"]})


@pytest.mark.skipif(os.name != "posix", reason="pipes and rights of POSIX")
def test_a_folder_that_is_no_plain_one_holds_nothing_up(tmp_path: Path) -> None:
    """Folders in folders, too many files, a pipe as the time stamp, and times that no calendar has."""
    for name in ("ada", "bob", "eve", "joe"):
        write(tmp_path, name)
    (tmp_path / "ada" / Path(*["a"] * 600)).mkdir(parents=True)
    for number in range(250):
        (tmp_path / "bob" / f"z{number}.txt").touch()
    os.mkfifo(tmp_path / "eve" / "timestamp.txt")
    os.utime(tmp_path / "eve" / "01_tiny.ipynb", (0, -5))
    (tmp_path / "joe" / "timestamp.txt").write_text("0001-01-01 00:00:00 Asia/Tokyo")
    (tmp_path / "kim" / "locked").mkdir(parents=True)
    (tmp_path / "kim" / "locked").chmod(0)
    found = find_submissions(tmp_path, read_course(COURSE))
    assert [s.student_id for s in found.submissions] == ["ada", "bob", "eve", "joe"]
    assert found.refused["bob"][0] == "more than 200 files, of which the first were read"
    assert found.submissions[2].handed_in.year == 1970
    assert found.submissions[3].handed_in.year > 2000
    assert {"ada", "eve", "joe", "kim"}.isdisjoint(found.refused)


def test_what_a_student_writes_is_text() -> None:
    """No terminal escape, no change of direction, no markup: in the table, the page and what is printed."""
    written = "\x1b[2J\u202e<img src=x>\n=1+1\x07\ud800"
    score_of = Score(0.0, grading._line(written, 300), written)
    notes = [grading._line(written, 300)]
    reflections = {"reflect": submissions._text(written)}
    mark = Mark("01_tiny", "ada", 5, {"total": 2}, {"total": score_of}, notes, reflections)
    table = grading._table([mark], {}, [read_course(COURSE)["01_tiny"]])
    page = grading._page("ada", [mark])
    assert mark.reason == "[2J<img src=x> =1+1?; total: [2J<img src=x> =1+1? ([2J<img src=x> =1+1?)"
    for text in (mark.reason, table, page):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert "<img" not in page
    assert page.count("&lt;img src=x&gt;") == 3


# --- dates (without running anything) ----------------------------------------------------------------


def marks_of(
    folder: Path, course: Path, monkeypatch: pytest.MonkeyPatch, *, namespaces: bool = True
) -> Mapping[str, Mark]:
    names = [f"q{i:02d}" for i in range(20)]

    def executed(cells: object, **rest: object) -> Execution:
        mine = variant("ada", "01_tiny").questions(names, 5)
        rows = [{"question_id": name, "even": int(name[1:]) % 2 == 0} for name in mine]
        return Execution(answers(total=sum(int(name[1:]) for name in mine), table=rows), "")

    monkeypatch.setattr(grading.sandbox, "execute", executed)
    marks = grade(folder, course, folder.parent / "out", namespaces=namespaces)
    return {mark.student_id: mark for mark in marks}


@pytest.mark.parametrize(
    ("handed_in", "penalty"),
    [("2026-10-12 18:00:00 UTC", 0), ("2026-10-12 18:00:01 UTC", 1.5), ("2026-10-14 18:00:01 UTC", 4.5),
     ("2026-11-12 18:00:01 UTC", 48)],
)  # fmt: skip
def test_late_days_cost(
    handed_in: str, penalty: float, course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in" / "ada", "01_tiny")
    (tmp_path / "in" / "ada" / "01_tiny" / "timestamp.txt").write_text(handed_in)
    (course / "course.yaml").write_text(
        'due:\n  01_tiny: "2026-10-12 18:00+00:00"\nlate_points_a_day: 1.5\n', encoding="utf-8"
    )
    mark = marks_of(tmp_path / "in", course, monkeypatch)["ada"]
    assert (mark.raw_score, mark.late_submission_penalty, mark.score) == (5, penalty, max(0, 5 - penalty))
    assert (mark.duedate, mark.timestamp) == ("2026-10-12 18:00:00", handed_in[:19])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("due: {01_tiny: 2026-10-12}", "a date and time in quotes"),
        ('due: {01_tiny: "soon"}', "course.yaml: due: 01_tiny: it must be a date and time"),
        ('due: {02_none: "2026-10-12"}', "unknown assignment in course.yaml '02_none'"),
        ("late_points_a_day: -1.0", "a number of at least 0"),
    ],
)
def test_faulty_dates_are_named(
    text: str, message: str, course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in", "ada")
    (course / "course.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SkillmoeError, match=message):
        marks_of(tmp_path / "in", course, monkeypatch)


def test_a_mark_that_weaker_means_held_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in", "ada")
    assert marks_of(tmp_path / "in", COURSE, monkeypatch, namespaces=False)["ada"].isolation == "python"
    with (tmp_path / "out" / "grades.csv").open(encoding="utf-8", newline="") as source:
        assert next(csv.DictReader(source))["isolation"] == "python"


def test_the_newest_of_two_notebooks_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in", "ada")
    write(tmp_path / "in", "ada", Attack(before("total", "1"), "", 5, "copy.ipynb"))
    mark = marks_of(tmp_path / "in", COURSE, monkeypatch)["ada"]
    assert mark.reason == "2 notebooks, of which 01_tiny.ipynb was graded"
    assert mark.score == 5


def test_a_folder_must_hold_students(tmp_path: Path) -> None:
    with pytest.raises(SkillmoeError, match="a folder for each student"):
        grade(tmp_path / "none", COURSE, tmp_path / "out")
    with pytest.raises(SkillmoeError, match="named by the student's id"):
        grade(tmp_path, COURSE, tmp_path / "out")
    (tmp_path / "ada").mkdir()
    with pytest.raises(SkillmoeError, match="unknown assignment '02_none'"):
        grade(tmp_path, COURSE, tmp_path / "out", assignment="02_none")


def test_the_solution_names_its_student() -> None:
    assert any('"ada"' in cell["source"] for cell in solution("ada")["cells"])

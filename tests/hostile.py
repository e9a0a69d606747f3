"""Submissions that try something, for tests and for benchmarks/classroom.py: each changes a solved notebook.

`HOSTILE` says for each what its line of reason must contain and how many of the tiny assignment's five points
it gets: what was done honestly before or beside the attack counts, the attack does not.
"""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

COURSE = Path(__file__).parent / "classroom" / "course"
KEY = COURSE / "01_tiny_key.py"
#: Files that the submissions of this module try to write outside their folders.
OUTSIDE = Path("/written_by_a_submission.txt")

Notebook = dict[str, Any]


class Attack(NamedTuple):
    """What is done to a notebook, what the reason says, and the points."""

    change: Callable[[Notebook], Notebook | bytes | None]
    reason: str
    points: float
    file: str = "01_tiny.ipynb"


def solution(student_id: str) -> Notebook:
    """The tiny assignment solved by a student."""
    notebook = json.loads((COURSE / "01_tiny.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        text = "".join(cell["source"]).replace('"student"', json.dumps(student_id))
        cell["source"] = re.sub("### BEGIN HIDDEN.*?END HIDDEN TESTS\n", "", text, flags=re.DOTALL)
    return notebook


def write(folder: Path, student_id: str, attack: Attack | None = None) -> None:
    """Write a student's submission into a folder of submissions."""
    notebook: Notebook | bytes = solution(student_id)
    if attack:
        changed = attack.change(copy.deepcopy(notebook))
        notebook = changed if changed is not None else notebook
    path = folder / student_id / (attack.file if attack else "01_tiny.ipynb")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode())


def before(name: str, source: str) -> Callable[[Notebook], Notebook]:
    """A cell of the student's own, put before the cell `name`."""

    def change(notebook: Notebook) -> Notebook:
        place = index(notebook, name)
        cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
        notebook["cells"].insert(place, cell)
        return notebook

    return change


def index(notebook: Notebook, name: str) -> int:
    """Place of the cell with an nbgrader id."""
    ids = [cell["metadata"].get("nbgrader", {}).get("grade_id") for cell in notebook["cells"]]
    return ids.index(name)


def without(*names: str) -> Callable[[Notebook], Notebook]:
    """The notebook without some cells."""

    def change(notebook: Notebook) -> Notebook:
        for name in names:
            del notebook["cells"][index(notebook, name)]
        return notebook

    return change


def _twice(notebook: Notebook) -> Notebook:
    place = index(notebook, "table_solution")
    second = copy.deepcopy(notebook["cells"][place])
    second["source"] = "def is_even(number):\n    return True"
    notebook["cells"].insert(place + 1, second)
    return notebook


def _more_points(notebook: Notebook) -> Notebook:
    for cell in notebook["cells"]:
        if about := cell["metadata"].get("nbgrader"):
            about |= {"points": 1000, "grade": True, "solution": True, "locked": False, "schema_version": "x"}
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "1000 points\n" * 20_000}]
        cell["id"] = "the same"
    return notebook


def _other_test(notebook: Notebook) -> Notebook:
    notebook["cells"][index(notebook, "total")]["source"] = 'submit("total", 10**9)'
    return notebook


_READ_THE_KEY = f"""
import os
found = []
pids = [name for name in os.listdir("/proc") if name.isdigit()]
roots = ["", "/old", "/in", "/proc/self/cwd/../../..", *(f"/proc/{{pid}}/root" for pid in pids)]
for place in [*(root + {str(KEY)!r} for root in roots), {str(COURSE)!r}]:
    try:
        found.append(open(place).read() if place.endswith(".py") else os.listdir(place))
    except OSError:
        pass
for pid in pids:
    try:
        links = [os.readlink(f"/proc/{{pid}}/fd/{{name}}") for name in os.listdir(f"/proc/{{pid}}/fd")]
        found += [link for link in links if "key" in link]
        found += [open(f"/proc/{{pid}}/environ").read()] if pid == "1" else []
    except OSError:
        pass
for top, inner, names in os.walk("/"):
    if top in ("/proc", "/sys", "/in") or top.endswith(("-packages", "/share", "/include")):
        inner.clear()
        continue
    found += [os.path.join(top, name) for name in names if name == "01_tiny_key.py"]
if found:
    total = "the key was read"
"""
_FORGE = """
import json
open("answers.json", "w").write(json.dumps({"answers": {"total": 1, "bonus": 100}, "score": 100}))
open("grades.csv", "w").write("student_id,score\\n")
"""
_KILL = """
import os, signal
for victim in (os.getppid(), 1, -1, os.getpid()):
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            if victim > 0 or number == signal.SIGKILL:
                os.kill(victim, number)
        except OSError:
            pass
"""
_PATCH = """
import json, skillmoe_lib.classroom as room, skillmoe_lib.classroom.submission as inner
dumps = json.dumps
json.dumps = lambda value, **options: dumps(value, **options).replace('"total": ', '"total": 1000')
inner.MAX_CHARACTERS = 10**12
room.check_total = room.check_table = lambda value, variant: (100, "")
class Anything(int):
    __eq__ = lambda self, other: True
    __hash__ = int.__hash__
total = Anything(7)
"""

#: What a process that stays behind is known by.
STAYS = "98765"
_STAY = f"""
import atexit, signal, subprocess, threading, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
subprocess.Popen(["setsid", "sleep", "{STAYS}"], start_new_session=True)
threading.Thread(target=time.sleep, args=(1000,)).start()
atexit.register(lambda: open("answers.json", "w").write("changed at exit"))
"""
_FILL = """
for place in (".", "/tmp", "/dev/shm"):
    try:
        for number in range(10**6):
            open(f"{place}/.{number}", "w").close()
    except OSError:
        pass
"""

HOSTILE = {
    "loops": Attack(before("table_solution", "while True: pass"), "did not end within", 2),
    "crashes": Attack(
        before("table_solution", "import ctypes\nctypes.string_at(0)"), "its process ended in code cell", 2
    ),
    "deletes": Attack(without("total", "load"), "cell load was missing and was put back", 5),
    "duplicates": Attack(_twice, "cell table_solution occurs twice", 2),
    "prints": Attack(
        before("table_solution", "while True: print('x' * 100_000)"), "printed more than 4 MB", 2
    ),
    "forks": Attack(before("table_solution", "import os\nwhile True: os.fork()"), "started more than 32", 2),
    "writes": Attack(
        before("total", f"try: open({str(OUTSIDE)!r}, 'w').write('x')\nexcept OSError: pass"),
        "opened a file for writing outside its folder",
        5,
    ),
    "connects": Attack(
        before(
            "total",
            "import socket\ntry: socket.create_connection(('127.0.0.1', 22), 2)\nexcept OSError: pass",
        ),
        "used the network",
        5,
    ),
    "reads": Attack(before("total", _READ_THE_KEY), "looked into the instructor's folders", 5),
    "forges": Attack(before("reflect", _FORGE), "answers.json holds 'score', 'bonus'", 0),
    "patches": Attack(before("total", _PATCH), "total: not the sum over your five questions", 3),
    "garbles": Attack(
        lambda n: json.dumps(n).replace("Because their", "\\ud800 \\u0000 =1+1").encode(), "", 5
    ),
    "renames": Attack(lambda n: n, "homework (2).ipynb was taken for 01_tiny", 5, "homework (2).ipynb"),
    "zips": Attack(lambda n: b"PK\x03\x04 no notebook", "01_tiny.ipynb is not a readable notebook", 0),
    "retests": Attack(_other_test, "cell total was changed and was put back", 5),
    "omits": Attack(without("table_solution"), "table: not submitted: its cell raised NameError", 2),
    "links": Attack(
        before("reflect", f"import os\nos.remove('answers.json')\nos.symlink({str(KEY)!r}, 'answers.json')"),
        "answers.json could not be taken",
        0,
    ),
    "nests": Attack(
        before("reflect", "open('answers.json', 'w').write('[' * 100_000)"),
        "answers.json is not what submit writes",
        0,
    ),
    "hoards": Attack(
        before("table_solution", "hoard = bytearray(16 * 2**30)\nhoard[:] = b'x' * len(hoard)"),
        "raised MemoryError",
        5,
    ),
    "kills": Attack(before("table_solution", _KILL), "its process ended in code cell", 2),
    "stays": Attack(before("table_solution", _STAY), "", 5),
    "fills": Attack(
        before("table_solution", _FILL),
        "table: not submitted: its cell raised SkillmoeError (cannot write answers.json",
        2,
    ),
    "tampers": Attack(_more_points, "", 5),
    "copies": Attack(
        lambda n: json.loads(json.dumps(n).replace("copies", "honest")),
        "the notebook's student_id is 'honest'",
        0,
    ),
}

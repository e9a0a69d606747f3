"""Grade a class of thirty, more than twelve of them hostile, in one command; print the time and the reasons.

    python benchmarks/classroom.py

The submissions are those of tests/hostile.py; the rest of the thirty are honest.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
N_STUDENTS = 30


def main() -> int:
    """Write the folder and grade it."""
    from hostile import COURSE, HOSTILE, write

    from skillmoe_lib.cli.commands import main as skillmoe

    with tempfile.TemporaryDirectory() as folder:
        submitted = Path(folder) / "submitted"
        for name, attack in HOSTILE.items():
            write(submitted, name, attack)
        for number in range(N_STUDENTS - len(HOSTILE)):
            write(submitted, f"student{number:02d}")
        to = str(Path(folder) / "graded")
        return skillmoe(["grade", str(submitted), "--source", str(COURSE), "--to", to, "--time-limit", "30"])


if __name__ == "__main__":
    sys.exit(main())

"""The classroom: assignments with a variant for each student, and their grading (docs/classroom.md).

In a student's notebook: `variants` draws the student's questions and pool from the recorded answers that
`recording` reads; `submission` keeps the answers. In a key: `checks` compares them with the truth.
With the instructor: `course` reads solution notebooks and makes students' versions; `submissions` finds what
was handed in; `sandbox` executes it, by way of `warden` (limits) and `runner` (cells); `scoring` has the key;
`grading` puts these together and writes the marks.
"""

from skillmoe_lib.classroom.submission import submit
from skillmoe_lib.classroom.variants import Variant, variant

__all__ = ["Variant", "submit", "variant"]

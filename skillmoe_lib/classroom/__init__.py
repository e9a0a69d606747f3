"""The classroom: assignments with a variant for each student, and their grading (docs/classroom.md).

`variants` draws each student's questions and pool; `submission` keeps what a notebook answers.
"""

from skillmoe_lib.classroom.submission import submit
from skillmoe_lib.classroom.variants import Variant, variant

__all__ = ["Variant", "submit", "variant"]

"""From a generated text to an answer, and whether it is right.

`extraction` finds the answer in a text; `equivalence` decides whether two answers are the same (`notation`
reads numbers and removes layout, `math_process` runs math-verify in a process that can be stopped);
`grading` compares answers with gold.
"""

from skillmoe_lib.answers.equivalence import canonical, equivalent, equivalent_many, first_equal
from skillmoe_lib.answers.extraction import (
    Answer,
    extract_boxed,
    extract_choice,
    extract_released,
    extract_text,
    find_choice,
    first_turn,
    read,
    strip_think,
)
from skillmoe_lib.answers.grading import grade, grade_many

__all__ = [
    "Answer",
    "canonical",
    "equivalent",
    "equivalent_many",
    "extract_boxed",
    "extract_choice",
    "extract_released",
    "extract_text",
    "find_choice",
    "first_equal",
    "first_turn",
    "grade",
    "grade_many",
    "read",
    "strip_think",
]

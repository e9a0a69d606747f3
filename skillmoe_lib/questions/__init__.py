"""Questions and where they come from: the Questions table of a benchmark.

`benchmark` reads a benchmark's YAML file, whose keys are in `keys`; `sources` are the places questions come
from (made offline, files, the hub); `files` reads files in the formats that people share; `rows` turns the
rows of a source into the table's columns, and `choices` does this for choices and gold answers; `overlaps`
finds questions that occur twice.
"""

from skillmoe_lib.questions.benchmark import Question, as_questions, families, load
from skillmoe_lib.questions.overlaps import drop_overlaps, overlaps
from skillmoe_lib.questions.rows import normalised

__all__ = ["Question", "as_questions", "drop_overlaps", "families", "load", "normalised", "overlaps"]

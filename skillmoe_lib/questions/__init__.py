"""Questions and where they come from: the Questions table of a benchmark.

`benchmark` reads a benchmark's YAML file, whose keys are in `keys`; `sources` are the places questions come
from (made offline, files, the hub); `files` reads files as people share them; `rows` turns what a source
holds into the table's columns, `choices` the shapes of choices and golds; `overlaps` finds questions that
stand twice.
"""

from skillmoe_lib.questions.benchmark import Question, as_questions, families, load
from skillmoe_lib.questions.overlaps import drop_overlaps, overlaps
from skillmoe_lib.questions.rows import normalised

__all__ = ["Question", "as_questions", "drop_overlaps", "families", "load", "normalised", "overlaps"]

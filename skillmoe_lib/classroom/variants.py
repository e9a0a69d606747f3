"""A variant for each student: other questions and another pool, drawn from the student's id.

The student's notebook and the grader's key draw the same variant, so the key knows each student's truth, and
an answer copied from somebody else is the answer to other questions.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.seeding import generator


@dataclass(frozen=True)
class Variant:
    """What one student works on in one assignment; equal on every machine."""

    student_id: str
    assignment: str

    def generator(self, *what: object) -> np.random.Generator:
        """A random generator for one purpose, such as `variant.generator("bootstrap")`."""
        return generator("classroom", self.student_id, self.assignment, *what)

    def choose(self, items: Iterable[str], n: int, *what: object) -> list[str]:
        """Draw `n` different items, sorted; their order and repetitions in `items` do not matter.

        Parameters
        ----------
        items
            Names to draw from.
        n
            How many; at most the number of different items.
        what
            What is drawn. Draws of the same items for different purposes are independent.

        Raises
        ------
        SkillmoeError
            If there are fewer than `n` items.
        """
        names = sorted(set(items))
        if not 0 <= n <= len(names):
            raise SkillmoeError(f"n must be at most {len(names)}, the number of items, got {n}")
        return sorted(self.generator(*what).permutation(names)[:n].tolist())

    def questions(self, question_ids: Iterable[str], n: int) -> list[str]:
        """The student's questions: `n` of the ids, sorted."""
        return self.choose(question_ids, n, "questions")

    def pool(self, experts: Iterable[str], n: int) -> list[str]:
        """The student's pool: `n` of the experts' names, sorted."""
        return self.choose(experts, n, "pool")


def variant(student_id: str, assignment: str) -> Variant:
    """The variant of a student, such as `variant("ada", "01_keywords")`.

    Raises
    ------
    SkillmoeError
        If the id is empty.
    """
    if not student_id.strip():
        raise SkillmoeError('student_id must be your id, as your instructor gave it to you, got ""')
    return Variant(student_id.strip(), assignment)

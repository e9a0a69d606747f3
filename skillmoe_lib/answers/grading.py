"""Whether an answer is right: by letter, by mathematical equivalence, or by the benchmark's own checker."""

from collections.abc import Sequence
from typing import Literal

from skillmoe_lib.answers.equivalence import canonical, equal_as_released, equivalent_many
from skillmoe_lib.answers.extraction import Answer
from skillmoe_lib.answers.notation import plain_text
from skillmoe_lib.questions import Question
from skillmoe_lib.questions.sources import checker_correct


def grade(question: Question, answer: Answer) -> bool:
    """Whether the answer is right; without an answer it is not. See `grade_many`."""
    return grade_many([(question, answer)])[0]


def grade_many(
    pairs: Sequence[tuple[Question, Answer]], *, equality: Literal["ours", "released"] = "ours"
) -> list[bool]:
    """Grade answers, all mathematics in one batch; `equality` as in `presets.Conventions`.

    Choices by letter; mathematics by `equivalent_many`; text by its canonical form, or else by the
    benchmark's own checker if the question has one.
    """
    grades = [False] * len(pairs)
    mathematics: dict[int, tuple[str, str]] = {}
    for i, (question, answer) in enumerate(pairs):
        if answer.value is None:
            continue
        if question.kind == "math":
            mathematics[i] = (question.gold, answer.value)
        else:
            same = canonical(question.kind, answer.value) == canonical(question.kind, question.gold)
            grades[i] = same or _checked(question, answer.value)
    compared = equal_as_released if equality == "released" else equivalent_many
    for i, equal in zip(mathematics, compared(list(mathematics.values())), strict=True):
        grades[i] = equal
    return grades


def _checked(question: Question, value: str) -> bool:
    if question.checker == "{}":
        return False
    plain = plain_text(value)
    return checker_correct(question.checker, value) or (
        plain != value and checker_correct(question.checker, plain)
    )

"""Votes: what an expert answered, which part of its text others see, and which answer has the most votes.

docs/method.md 1.7: only the text after the last `</think>` is shown.
"""

from collections.abc import Sequence

from skillmoe_lib import answers
from skillmoe_lib.answers.equivalence import first_equal
from skillmoe_lib.answers.extraction import Answer
from skillmoe_lib.experts.pool import Expert
from skillmoe_lib.generation import Generation
from skillmoe_lib.questions.benchmark import Question


def read_answer(question: Question, expert: Expert, generation: Generation) -> Answer:
    """The answer in the text that this expert wrote."""
    plain, conventions = expert.model.template == "plain", expert.conventions
    return answers.read(
        question,
        generation,
        reasoning=expert.reasoning,
        plain=plain,
        cut_thinking=conventions.cut_thinking_shown,
        extractor=conventions.extractor,
    )


def visible_text(expert: Expert, generation: Generation) -> str:
    """The part that others see: no think text, no further question; "" if nothing is left."""
    text = answers.strip_think(generation.text, reasoning=expert.reasoning) or ""
    if not text and expert.conventions.cut_thinking_shown:
        text = generation.text
    return (answers.first_turn(text) if expert.model.template == "plain" else text).strip()


def vote(question: Question, ballots: Sequence[Answer], weights: Sequence[float] | None = None) -> Answer:
    """The answer with the most votes (or weight); a tie goes to the one that was given first.

    This is the project's only rule for ties: the order is that of `ballots`, which callers give in slot
    order (complexity-based voting: the longest chain first). Code that counts recorded answers without
    calling this follows the same rule (`routing.committee`, `studies.routers`).

    Ballots with the same answer, by the definition that grading uses, vote together, and the first of them is
    returned. Ballots without an answer do not vote. If none has one, the status is that of the first
    ballot that was run: a vote counts as not run only if no ballot was run.
    """
    weighed = list(zip(ballots, weights or [1.0] * len(ballots), strict=True))
    given = [(ballot, weight) for ballot, weight in weighed if ballot.value is not None]
    groups = first_equal(question.kind, [ballot.value for ballot, _ in given if ballot.value is not None])
    sums: dict[int, float] = {}
    for first, (_, weight) in zip(groups, given, strict=True):
        sums[first] = sums.get(first, 0.0) + weight
    if sums:
        return given[max(sums, key=sums.__getitem__)][0]
    return next((ballot for ballot in ballots if ballot.status != "not_run"), ballots[0])

"""Votes: what an expert answered, what others are shown of it, and which answer has the most votes.

METHOD 1.7: only the text after the last `</think>` is shown.
"""

from collections.abc import Sequence

from skillmoe_lib import answers
from skillmoe_lib.answers.equivalence import canonical
from skillmoe_lib.answers.extraction import Answer
from skillmoe_lib.experts.pool import Expert
from skillmoe_lib.generation import Generation
from skillmoe_lib.questions.benchmark import Question


def read_answer(question: Question, expert: Expert, generation: Generation) -> Answer:
    """The answer in what this expert wrote."""
    plain = expert.model.template == "plain"
    return answers.read(question, generation, reasoning=expert.reasoning, plain=plain)


def visible_text(expert: Expert, generation: Generation) -> str:
    """What others are shown of it: no think text, no run-on; "" where nothing is left."""
    text = answers.strip_think(generation.text, reasoning=expert.reasoning) or ""
    return (answers.first_turn(text) if expert.model.template == "plain" else text).strip()


def vote(question: Question, ballots: Sequence[Answer], weights: Sequence[float] | None = None) -> Answer:
    """The answer with the most (weight of) votes; a tie goes to the one that was given first.

    This is the one rule for ties in the project: the order is that of `ballots`, which callers give in slot
    order (of complexity-based voting: the longest chain first). What counts recorded answers without
    calling this follows it (`routing.committee`, `studies.routers`).

    Ballots without an answer do not vote. If none has one, the status is that of the first ballot that
    was run: a vote counts as not run only where no ballot was.
    """
    sums: dict[str, float] = {}
    first: dict[str, Answer] = {}
    for ballot, weight in zip(ballots, weights or [1.0] * len(ballots), strict=True):
        if ballot.value is not None:
            key = canonical(question.kind, ballot.value)
            sums[key] = sums.get(key, 0.0) + weight
            first.setdefault(key, ballot)
    if sums:
        return first[max(sums, key=sums.__getitem__)]
    return next((ballot for ballot in ballots if ballot.status != "not_run"), ballots[0])

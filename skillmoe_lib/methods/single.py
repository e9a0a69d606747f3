"""One answer of one expert to one question: the building block of methods and profiles."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from skillmoe_lib import prompts
from skillmoe_lib.aggregation import read_answer
from skillmoe_lib.answers import Answer
from skillmoe_lib.experts import Expert
from skillmoe_lib.generation import Generation, Program, Request
from skillmoe_lib.questions import Question


def ask(question: Question, experts: Sequence[Expert], *, seed: int) -> list[Request]:
    """One chain of thought for each slot; an expert with several slots gives independent samples."""
    earlier: Counter[str] = Counter()
    requests = []
    for expert in experts:
        requests.append(prompts.solve(question, expert, seed=seed, sample=earlier[expert.name]))
        earlier[expert.name] += 1
    return requests


class Run(NamedTuple):
    """What identifies a program of the main table."""

    method: str
    seed: int
    question_id: str


class Single(NamedTuple):
    """What identifies one expert's answer to one question."""

    question_id: str
    expert: str
    sample: int


class Reply(NamedTuple):
    """What is kept of one expert's text: its answer, and whether it was cut. The text is in the store."""

    answer: Answer
    truncated: bool


def read_reply(question: Question, expert: Expert, generation: Generation) -> Reply:
    """What is kept of a text."""
    return Reply(read_answer(question, expert, generation), generation.finish_reason == "length")


def single(question: Question, expert: Expert, *, seed: int, sample: int = 0) -> Program:
    """One answer of one expert (docs/method.md 1.2)."""
    (generation,) = yield [prompts.solve(question, expert, seed=seed, sample=sample)]
    return read_reply(question, expert, generation)


def every_expert(
    questions: Sequence[Question], experts: Mapping[str, Expert], *, seed: int
) -> Iterator[tuple[Single, Program]]:
    """Every expert answers every question once. A program is made when its turn comes, as there are many."""
    for question in questions:
        for name, expert in experts.items():
            yield Single(question.question_id, name, 0), single(question, expert, seed=seed)

"""Choosing the aggregator: a test made of validation answers (docs/method.md 1.8).

The aggregator is the expert that most often finds the right answer among one right and two wrong chains.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from skillmoe_lib import prompts
from skillmoe_lib.aggregation.votes import read_answer, visible_text
from skillmoe_lib.experts import Expert
from skillmoe_lib.generation import Generation, Program
from skillmoe_lib.questions import Question
from skillmoe_lib.seeding import generator

N_RIGHT, N_WRONG = 1, 2


class Item(NamedTuple):
    """A test item for aggregators: a validation question with one right and two wrong chains, shuffled."""

    question: Question
    chains: tuple[str, ...]


def make_items(
    questions: Sequence[Question],
    experts: Mapping[str, Expert],
    generations: Mapping[str, Mapping[str, Generation]],
    correct: Mapping[str, Mapping[str, bool]],
    *,
    seed: int = 0,
    whole_texts: bool = False,
) -> tuple[list[Item], int]:
    """The items that these validation answers allow, and the number of questions that allow none.

    `generations` and `correct` are question_id -> expert -> value. A chain without visible text is not used.
    With `whole_texts` (the released code) chains are shown as generated, with think text, empty ones too.
    """
    made = []
    for question in questions:
        draw = generator("aggregator item", seed, question.question_id)
        chains: dict[bool, list[str]] = {True: [], False: []}
        for name, generation in generations[question.question_id].items():
            text = generation.text if whole_texts else visible_text(experts[name], generation)
            if text or whole_texts:
                chains[correct[question.question_id][name]].append(text)
        if len(chains[True]) >= N_RIGHT and len(chains[False]) >= N_WRONG:
            right = draw.choice(len(chains[True]), N_RIGHT, replace=False)
            wrong = draw.choice(len(chains[False]), N_WRONG, replace=False)
            mixed = [chains[True][i] for i in right] + [chains[False][i] for i in wrong]
            made.append(Item(question, tuple(mixed[i] for i in draw.permutation(len(mixed)))))
    return made, len(questions) - len(made)


def examine_candidate(item: Item, aggregator: Expert, *, seed: int) -> Program:
    """Let a candidate aggregate an item, with the prompt that is used on test.

    The first round is empty, because this prompt contains generated text: if it is too long for one
    candidate, that item counts against this candidate ("overflow") and the run goes on (see `schedule.run`).
    """
    yield []
    (generation,) = yield [prompts.aggregate(item.question, aggregator, item.chains, seed=seed)]
    return read_answer(item.question, aggregator, generation)


def best_candidate(examined: pd.DataFrame) -> str:
    """The most accurate candidate of a frame with columns expert, status, correct; ties go to the first by
    name. What was not run does not count; a prompt that did not fit a candidate counts as wrong."""
    ran = examined[examined["status"] != "not_run"]
    accuracy = ran.groupby("expert")["correct"].mean().sort_index()
    return str(accuracy.idxmax())

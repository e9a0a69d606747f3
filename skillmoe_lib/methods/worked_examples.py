"""Baselines that show an expert worked examples before the question, chosen by its skills (docs/method.md 4).

They ask the most accurate expert that takes examples, once. Where no example is shown the request is that of
one chain of thought. An expert takes examples if its pool file says `takes_examples: true`; one that was
trained on a single form of prompt does not.
"""

from collections.abc import Sequence

from skillmoe_lib import prompts
from skillmoe_lib.aggregation import read_answer
from skillmoe_lib.experts import Expert
from skillmoe_lib.generation import Program
from skillmoe_lib.methods.example_bank import Example, ExampleBank
from skillmoe_lib.methods.method import Method
from skillmoe_lib.questions import Question


def adaptmi(question: Question, expert: Expert, bank: ExampleBank, *, seed: int) -> Program:
    """Examples of the question's skills only where the expert is weak on them (He et al. 2025). 1 call.

    On other questions they add load and can do harm. AdaptMI finds out by a process reward model that reads
    a first answer, and its examples are solutions of the training set. Here validation says where the expert
    is weak (`ExampleBank.weak`), and the examples are right answers of the pool.
    """
    examples = bank.alike(question, expert, bank.solved) if bank.weak(question, expert) else []
    return (yield from _after(examples, question, expert, seed=seed))


def own_examples(question: Question, expert: Expert, bank: ExampleBank, *, seed: int) -> Program:
    """The expert's own right validation answers as examples, of shared skills (Sarukkai et al. 2025). 1 call.

    Theirs are an agent's successful trajectories, found by similarity of the task.
    """
    examples = bank.alike(question, expert, bank.own.get(expert.name, ()))
    return (yield from _after(examples, question, expert, seed=seed))


def _after(examples: Sequence[Example], question: Question, expert: Expert, *, seed: int) -> Program:
    if examples:
        yield []  # this prompt contains generated text: if it does not fit, the run goes on (`schedule.run`)
    worked = [(example.question, example.text) for example in examples]
    (generation,) = yield [prompts.solve(question, expert, seed=seed, worked=worked)]
    return read_answer(question, expert, generation)


ADAPTMI = Method(
    "adaptmi",
    "Examples where weak (AdaptMI)",
    "baseline",
    about="One answer of the most accurate expert that takes examples; where it is weak on the question's "
    "skills, after right validation answers of the pool with these skills.",
    calls="1",
    citation="He et al. 2025, arXiv 2505.00147",
    program=lambda question, team, seed: adaptmi(question, team.taught, team.bank, seed=seed),
    shows_examples=True,
)
OWN_EXAMPLES = Method(
    "own_examples",
    "Own right answers as examples",
    "baseline",
    about="One answer of the most accurate expert that takes examples, after its own right validation "
    "answers with the question's skills.",
    calls="1",
    citation="Sarukkai et al. 2025, arXiv 2505.00234",
    program=lambda question, team, seed: own_examples(question, team.taught, team.bank, seed=seed),
    shows_examples=True,
)

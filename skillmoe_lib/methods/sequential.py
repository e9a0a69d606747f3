"""Sequential recruiting: ask experts one after the other, best first, and stop when the answer is sure.

docs/method.md 5; ours. The order and the accuracies come from `routing.belief.BestBySkill`; the probability
at which to stop (`Team.threshold`) is chosen on validation for an average number of calls.
"""

from collections.abc import Sequence

from skillmoe_lib import prompts
from skillmoe_lib.aggregation import read_answer, vote
from skillmoe_lib.answers.equivalence import first_equal
from skillmoe_lib.answers.extraction import Answer
from skillmoe_lib.generation import Program
from skillmoe_lib.methods.method import Method, Slot, Team
from skillmoe_lib.questions import Question
from skillmoe_lib.routing import belief


def sequential(
    question: Question, slots: Sequence[Slot], *, threshold: float, n_answers: float, seed: int
) -> Program:
    """Ask in the order of the slots until one answer is believed with probability `threshold`. 1 to k calls.

    A slot's suitability is its expert's accuracy on the question's skills. Answers are the same if grading
    calls them equal. An expert that gives no answer changes nothing, and the next is asked.
    """
    answers, believed = list[Answer](), belief.Belief(n_answers)
    for slot in slots:
        (generation,) = yield [prompts.solve(question, slot.expert, seed=seed)]
        answers.append(read_answer(question, slot.expert, generation))
        believed.update(_group(question, answers), slot.suitability)
        if believed.reaches(threshold):
            break
    if believed.answer is None:
        return vote(question, answers)  # no expert answered: the vote has the right status
    return answers[int(believed.answer)]


def _group(question: Question, answers: Sequence[Answer]) -> str | None:
    """Position of the first answer that is the same as the last one; None if the last is no answer."""
    if answers[-1].value is None:
        return None
    given = [i for i, answer in enumerate(answers) if answer.value is not None]
    values = [answer.value for answer in answers if answer.value is not None]
    return str(given[first_equal(question.kind, values)[-1]])


def _program(question: Question, team: Team, seed: int) -> Program:
    n_answers = len(question.choices) or team.open_answers
    return sequential(question, team.slots, threshold=team.threshold, n_answers=n_answers, seed=seed)


SEQUENTIAL = Method(
    "sequential",
    "Sequential recruiting",
    "method",
    about="Experts are asked one after the other, best on the question's skills first, until the "
    "answer is sure enough.",
    calls="1 to n",
    program=_program,
    citation="ours; kin to Wald 1945, Dawid and Skene 1979",
    route="sequential",
    router=belief.BY_SKILL,
)
SEQUENTIAL_WITHOUT_SKILLS = Method(
    "sequential_without_skills",
    "Sequential, without skills",
    "control",
    about="As sequential recruiting, with the same order of experts for every question.",
    calls="1 to n",
    program=_program,
    citation="ours",
    route="sequential_without_skills",
    router=belief.OVERALL,
)

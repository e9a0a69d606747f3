"""Question -> request: all prompts, in our own words, one function for each stage.

All methods share these, so that a difference between methods is never a difference in wording.
docs/method.md 2: zero-shot chain of thought, no system prompt, and a fixed last line:
`The answer is (X)` for choices, `The answer is \\boxed{X}` otherwise. An expert that has worked examples
gets them as earlier turns, without the instruction of `solve`: the examples show the form.
"""

from collections.abc import Sequence
from dataclasses import replace
from string import ascii_uppercase

from skillmoe_lib.experts.pool import Expert
from skillmoe_lib.generation import Message, Request
from skillmoe_lib.questions.benchmark import Question

NO_SOLUTION = "(no solution)"
CHOICE_LINE = "The answer is (X)"
CONFIDENCE_LINE = "Confidence: a number from 0 to 1"


def answer_line(question: Question) -> str:
    """The last line that the prompt asks for."""
    return CHOICE_LINE if question.kind == "choice" else "The answer is \\boxed{X}"


def statement(question: Question) -> str:
    """The question with its lettered choices, one per line."""
    choices = [f"({letter}) {text}" for letter, text in zip(ascii_uppercase, question.choices, strict=False)]
    return "\n".join([question.text.strip(), *choices])


def numbered(solutions: Sequence[str]) -> str:
    """Solutions as `[1] ...`, `[2] ...`; an empty one is shown as missing, never left out."""
    return "\n".join(f"[{i}] {text.strip() or NO_SOLUTION}" for i, text in enumerate(solutions, start=1))


def solve(
    question: Question,
    expert: Expert,
    *,
    seed: int,
    sample: int = 0,
    worked: Sequence[tuple[Question, str]] = (),
) -> Request:
    """Zero-shot chain of thought (docs/method.md 1.2).

    `worked`: questions with solutions, shown as earlier turns in the same words instead of the expert's own
    examples.
    """
    text = _to_solve(question, expert)
    if worked:
        turns = tuple((_to_solve(other, expert), solution) for other, solution in worked)
        expert = replace(expert, examples=turns)
    return _request("solve", question, expert, text, seed=seed, sample=sample)


def _to_solve(question: Question, expert: Expert) -> str:
    ask = "" if expert.examples else f"\n\nThink step by step. End with the line: {answer_line(question)}"
    if expert.conventions.prompt_wrapped_twice and question.split == "test":
        ask += ask
    return statement(question) + ask


def keywords(question: Question, expert: Expert, *, seed: int, sample: int = 0) -> Request:
    """Ask for the question's core skills (docs/method.md 1.1)."""
    ask = "\n\nDo not solve this. Name the 2 to 5 skills that it takes, as short keywords: Keywords: a, b, c"
    ask = "" if expert.examples else ask
    return _request("keywords", question, expert, statement(question) + ask, seed=seed, sample=sample)


def aggregate(
    question: Question, expert: Expert, solutions: Sequence[str], *, seed: int, sample: int = 0
) -> Request:
    """Turn several chains of thought into one answer (docs/method.md 1.7); also MoA's and Fusion-of-N's."""
    ask = "Some solutions may be wrong. Decide what is right and give the final solution."
    last_line = CHOICE_LINE if expert.conventions.letter_asked_of_aggregator else ""
    return _discuss(
        "aggregate", question, expert, solutions, ask, seed=seed, sample=sample, last_line=last_line
    )


def revise(
    question: Question, expert: Expert, own: str, others: Sequence[str], *, seed: int, sample: int = 0
) -> Request:
    """Answer again after seeing the other agents' solutions (debate); the expert's own comes first."""
    ask = "Solution [1] is yours. Compare it with the others and solve the question again."
    return _discuss("revise", question, expert, [own, *others], ask, seed=seed, sample=sample)


def propose(
    question: Question, expert: Expert, solutions: Sequence[str], *, seed: int, sample: int = 0
) -> Request:
    """A later layer of Mixture-of-Agents: answer after seeing the previous layer's answers."""
    ask = "These solutions are from others. Use what is right in them and solve the question."
    return _discuss("propose", question, expert, solutions, ask, seed=seed, sample=sample)


def feedback(question: Question, expert: Expert, draft: str, *, seed: int, sample: int = 0) -> Request:
    """Self-Refine: criticise a draft, or say that it is correct."""
    text = (
        f"{statement(question)}\n\nProposed solutions:\n{numbered([draft])}\n\n"
        'Check solution [1]. Write "It is correct." if it is, or say what is wrong.'
    )
    return _request("feedback", question, expert, text, seed=seed, sample=sample)


def refine(
    question: Question, expert: Expert, draft: str, criticism: str, *, seed: int, sample: int = 0
) -> Request:
    """Self-Refine: answer again after reading the criticism of the draft."""
    ask = f"Criticism of solution [1]: {criticism.strip()}\nSolve the question again."
    return _discuss("refine", question, expert, [draft], ask, seed=seed, sample=sample)


def solve_with_confidence(question: Question, expert: Expert, *, seed: int, sample: int = 0) -> Request:
    """ReConcile's first round: an answer and how sure the model is of it."""
    ask = f"\n\nThink step by step. End with the two lines:\n{answer_line(question)}\n{CONFIDENCE_LINE}"
    return _request(
        "solve_with_confidence", question, expert, statement(question) + ask, seed=seed, sample=sample
    )


def reconcile(
    question: Question, expert: Expert, solutions: Sequence[str], tally: str, *, seed: int, sample: int = 0
) -> Request:
    """ReConcile's discussion: all solutions and the answers grouped with their confidences."""
    text = (
        f"{statement(question)}\n\nProposed solutions:\n{numbered(solutions)}\n\nAnswers so far: {tally}\n"
        f"Solve the question again. End with the two lines:\n{answer_line(question)}\n{CONFIDENCE_LINE}"
    )
    return _request("reconcile", question, expert, text, seed=seed, sample=sample)


def pick(
    question: Question, expert: Expert, solutions: Sequence[str], *, seed: int, sample: int = 0
) -> Request:
    """Best-of-N: name the best solution by its number."""
    text = (
        f"{statement(question)}\n\nProposed solutions:\n{numbered(solutions)}\n\n"
        "Which solution is the best? End with the line: The best is [N]"
    )
    return _request("pick", question, expert, text, seed=seed, sample=sample)


def _discuss(
    stage: str,
    question: Question,
    expert: Expert,
    solutions: Sequence[str],
    ask: str,
    *,
    seed: int,
    sample: int,
    last_line: str = "",
) -> Request:
    text = (
        f"{statement(question)}\n\nProposed solutions:\n{numbered(solutions)}\n\n"
        f"{ask} End with the line: {last_line or answer_line(question)}"
    )
    return _request(stage, question, expert, text, seed=seed, sample=sample)


def _request(stage: str, question: Question, expert: Expert, text: str, *, seed: int, sample: int) -> Request:
    turns = [
        Message(role, content)
        for example in expert.examples
        for role, content in zip(("user", "assistant"), example, strict=True)
    ]
    sampling = replace(expert.sampling, seed=seed if expert.conventions.seed_reaches_engine else 0)
    messages = (*turns, Message("user", text))
    return Request(stage, question.question_id, expert.name, expert.model, messages, sampling, sample)

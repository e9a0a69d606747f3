"""Baselines in which answers are discussed: debate, ReConcile, Mixture-of-Agents (docs/method.md 4).

Experts see only the text after the others' think blocks; every turn is a separate request.
"""

import re
from collections.abc import Sequence

from skillmoe_lib import prompts
from skillmoe_lib.aggregation import read_answer, visible_text, vote
from skillmoe_lib.answers import Answer, canonical, first_equal
from skillmoe_lib.experts import Expert
from skillmoe_lib.generation import Program
from skillmoe_lib.methods.method import N_TOP, Method
from skillmoe_lib.methods.single import ask
from skillmoe_lib.questions import Question


def debate(question: Question, expert: Expert, *, seed: int, n_agents: int = 3, rounds: int = 2) -> Program:
    """Copies of one expert see each other's solutions and answer again; majority (Du et al. 2024).

    n_agents * rounds calls. Every turn is a separate sample, even if it sees nothing new.
    """
    turns = yield ask(question, [expert] * n_agents, seed=seed)
    for done in range(rounds - 1):
        texts = [visible_text(expert, turn) for turn in turns]
        turns = yield [
            prompts.revise(
                question, expert, own, texts[:i] + texts[i + 1 :], seed=seed, sample=done * n_agents + i
            )
            for i, own in enumerate(texts)
        ]
    return vote(question, [read_answer(question, expert, turn) for turn in turns])


DEBATE = Method(
    "debate",
    "Multi-agent debate",
    "baseline",
    about="Three copies of the most accurate expert read one another's solutions and answer again; "
    "majority vote.",
    calls="6",
    citation="Du et al. 2024",
    program=lambda question, team, seed: debate(question, team.best, seed=seed),
)


def reconcile(question: Question, experts: Sequence[Expert], *, seed: int, rounds: int = 2) -> Program:
    """Different experts discuss with their confidences; weighted vote (Chen et al. 2024).

    n to n * (1 + rounds) calls: another round takes place only while answers differ.
    """
    turns = yield [prompts.solve_with_confidence(question, e, seed=seed) for e in experts]
    for i in range(rounds):
        ballots = [read_answer(question, e, turn) for e, turn in zip(experts, turns, strict=True)]
        keys = _shown_answers(question, ballots)
        if len(set(keys)) == 1:
            break
        texts = [visible_text(e, turn) for e, turn in zip(experts, turns, strict=True)]
        groups = {
            key: [str(confidence(text)) for text, k in zip(texts, keys, strict=True) if k == key]
            for key in keys
        }
        tally = "; ".join(f"{key} (confidence {', '.join(values)})" for key, values in groups.items())
        turns = yield [prompts.reconcile(question, e, texts, tally, seed=seed, sample=i) for e in experts]
    ballots = [read_answer(question, e, turn) for e, turn in zip(experts, turns, strict=True)]
    sure = [confidence(visible_text(e, turn)) for e, turn in zip(experts, turns, strict=True)]
    return vote(question, ballots, [rescaled(p) for p in sure])


def _shown_answers(question: Question, ballots: Sequence[Answer]) -> list[str]:
    """How each answer is shown; those that votes and grading call equal are shown alike, as the first one."""
    values = [ballot.value for ballot in ballots if ballot.value is not None]
    shown = iter([canonical(question.kind, values[i]) for i in first_equal(question.kind, values)])
    return ["no answer" if ballot.value is None else next(shown) for ballot in ballots]


RECONCILE = Method(
    "reconcile",
    "ReConcile",
    "baseline",
    about="The three most accurate experts discuss for up to two rounds; votes are weighted by "
    "stated confidence.",
    calls="3 to 9",
    citation="Chen et al. 2024",
    program=lambda question, team, seed: reconcile(question, team.top, seed=seed),
    n_experts=N_TOP,
)


_NUMBER = r"(?:[0-9]{1,9}(?:[.,][0-9]{1,9})?|[.,][0-9]{1,9})"
_CONFIDENCE = re.compile(
    rf"""
    \bconfidence\b
    (?: \s* \( \s* {_NUMBER} \s* (?:-|–|to) \s* {_NUMBER} %? \s* \) )?  # the scale: (0-1), (0 to 100)
    (?: [\s:：=*`_~≈$()\[\]] | \\boxed\{{ | \\\(
      | (?:is|was|of|level|score|rating|value|about|around|approximately|roughly) \b
      | (?:very|high|medium|moderate|low) \b | in \s (?:my|this|the) \s (?:final\s)?answer \b ){{0,20}}
    (?P<number> {_NUMBER} (?:e[-+]?[0-9]{{1,2}})? )
    (?P<scale> \s* \\?% | \s* percent\b | \s* (?: / | out \s of | of ) \s* (?P<most> {_NUMBER} ) )?
    """,
    re.IGNORECASE | re.VERBOSE,
)


def confidence(text: str) -> float:
    """The last confidence that a text states, from 0 to 1; 0 if it states none.

    A number with a scale is divided by it: "85%", "8/10", "85 out of 100". Without a scale, numbers up to 1
    are used unchanged, above 1 and up to 10 divided by ten ("7" is .7, "10" is 1), above 10 by a hundred. A
    decimal comma is read as a point. Numbers above their scale give 1. Words ("high") are not numbers.
    """
    stated = list(_CONFIDENCE.finditer(text))
    if not stated:
        return 0.0
    number, most = _value(stated[-1]["number"]), stated[-1]["most"]
    if most:
        scale = _value(most)
    elif stated[-1]["scale"]:
        scale = 100.0
    else:
        scale = 1.0 if number <= 1 else 10.0 if number <= 10 else 100.0
    return min(number / scale, 1.0) if scale > 0 else 0.0


def _value(number: str) -> float:
    return float(number.replace(",", "."))


def rescaled(p: float) -> float:
    """ReConcile's weight of a vote given with confidence p (docs/method.md 4)."""
    if p >= 1:
        return 1.0
    steps = [(0.6, 0.1), (0.8, 0.3)]
    return next((weight for limit, weight in steps if p <= limit), 0.5 if p < 0.9 else 0.8)


def moa(
    question: Question, experts: Sequence[Expert], aggregator: Expert, *, seed: int, layers: int = 2
) -> Program:
    """Mixture-of-Agents (Wang et al. 2025): layers of proposers, then one aggregator.

    n * layers + 1 calls.
    """
    turns = yield ask(question, experts, seed=seed)
    for i in range(layers - 1):
        texts = [visible_text(e, turn) for e, turn in zip(experts, turns, strict=True)]
        turns = yield [prompts.propose(question, e, texts, seed=seed, sample=i) for e in experts]
    texts = [visible_text(e, turn) for e, turn in zip(experts, turns, strict=True)]
    (final,) = yield [prompts.aggregate(question, aggregator, texts, seed=seed)]
    return read_answer(question, aggregator, final)


MOA = Method(
    "moa",
    "Mixture-of-Agents",
    "baseline",
    about="The three most accurate experts answer in two layers; the aggregator writes the final answer.",
    calls="7",
    citation="Wang et al. 2025",
    program=lambda question, team, seed: moa(question, team.top, team.aggregator, seed=seed),
    n_experts=N_TOP,
)

"""Baselines that ask one model, once or several times (docs/method.md 4).

The model is Task-Best, the expert that is most accurate on validation, unless a program says otherwise.
"""

import re

from skillmoe_lib import prompts
from skillmoe_lib.aggregation import read_answer, visible_text, vote
from skillmoe_lib.answers import Answer
from skillmoe_lib.experts import Expert
from skillmoe_lib.generation import Program
from skillmoe_lib.methods.method import Method
from skillmoe_lib.methods.single import ask
from skillmoe_lib.methods.symbolic_moe import symbolic_moe
from skillmoe_lib.methods.voting import majority_vote
from skillmoe_lib.questions import Question


def cot(question: Question, expert: Expert, *, seed: int) -> Program:
    """One zero-shot chain of thought (Wei et al. 2022). 1 call."""
    (generation,) = yield ask(question, [expert], seed=seed)
    return read_answer(question, expert, generation)


COT_TASK_BEST = Method(
    "cot_task_best",
    "Chain of thought (Task-Best)",
    "baseline",
    about="One answer of the expert that is most accurate on validation.",
    calls="1",
    citation="Wei et al. 2022",
    program=lambda question, team, seed: cot(question, team.best, seed=seed),
)
BEST_SINGLE = Method(
    "best_single",
    "Chain of thought (Best-Single)",
    "control",
    about="One answer of the expert that is most accurate over all benchmarks validated.",
    calls="1",
    program=lambda question, team, seed: cot(question, team.best_single, seed=seed),
)
SELF_CONSISTENCY = Method(
    "self_consistency",
    "Self-Consistency (5)",
    "baseline",
    about="Five answers of the most accurate expert; the most frequent one.",
    calls="5",
    citation="Wang et al. 2023",
    program=lambda question, team, seed: majority_vote(question, [team.best] * 5, seed=seed),
)


def self_refine(question: Question, expert: Expert, *, seed: int, rounds: int = 3) -> Program:
    """Answer, criticise, answer again until nothing is wrong (Madaan et al. 2023).

    1 + 2r calls for r revisions, if all `rounds` are used. A criticism whose verdict is that the answer is
    correct (`finds_it_correct`) ends it sooner and is itself a call: 2 + 2r, with r < `rounds`. So never
    more than 1 + 2 * `rounds`.
    """
    (draft,) = yield ask(question, [expert], seed=seed)
    for i in range(rounds):
        (criticism,) = yield [
            prompts.feedback(question, expert, visible_text(expert, draft), seed=seed, sample=i)
        ]
        text = visible_text(expert, criticism)  # without the think block
        if finds_it_correct(text):
            break
        (draft,) = yield [
            prompts.refine(question, expert, visible_text(expert, draft), text, seed=seed, sample=i)
        ]
    return read_answer(question, expert, draft)


_VERDICT = re.compile(
    r"(?:(?:final )?(?:verdict|conclusion): ?)?(?:so|therefore|thus|overall)?,? ?"
    r"(?:it|this|solution \[?1\]?|(?:the|this) (?:proposed )?(?:solution|answer)) is "
    r"(?:indeed |entirely |completely |fully |all )?correct",
    re.IGNORECASE,
)


def finds_it_correct(criticism: str) -> bool:
    """Whether a criticism ends in the verdict that was asked for, "It is correct."

    The verdict is a separate sentence, and the last one except for a repeated "The answer is ...". So
    neither "Step 1: it is correct. Step 2 is wrong." nor "It is correct that ..." ends Self-Refine, nor
    does a criticism that continues after its verdict: the rest may withdraw it.
    """
    plain = re.sub(r"[*_`\"'“”#]", "", criticism)
    sentences = [part.strip(" .!") for part in re.split(r"\n+|(?<=[.!?])\s+", plain)]
    sentences = [part for part in sentences if part]
    while sentences and re.match(
        r"(?i)(?:so |therefore |thus )?,? ?the (?:final )?answer is\b", sentences[-1]
    ):
        if _VERDICT.fullmatch(sentences[-1]):
            break
        sentences.pop()
    return bool(sentences and _VERDICT.fullmatch(sentences[-1]))


SELF_REFINE = Method(
    "self_refine",
    "Self-Refine",
    "baseline",
    about="The most accurate expert criticises and revises its own answer, up to three times.",
    calls="2 to 7",
    citation="Madaan et al. 2023",
    program=lambda question, team, seed: self_refine(question, team.best, seed=seed),
)


def fusion_of_n(
    question: Question, expert: Expert, judge: Expert, *, seed: int, n_samples: int = 5
) -> Program:
    """n samples of one expert, fused by a judge into one answer. n + 1 calls.

    With the expert as its own judge and three samples this is Self-MoA (Li et al. 2025).
    """
    return (yield from symbolic_moe(question, [expert] * n_samples, judge, seed=seed))


SELF_MOA = Method(
    "self_moa",
    "Self-MoA (3)",
    "baseline",
    about="Three answers of the most accurate expert, which then writes one answer from them.",
    calls="4",
    citation="Li et al. 2025",
    program=lambda question, team, seed: fusion_of_n(question, team.best, team.best, seed=seed, n_samples=3),
)
FUSION_OF_N = Method(
    "fusion_of_n",
    "Fusion-of-N (5)",
    "baseline",
    about="Five answers of the most accurate expert; the aggregator writes one answer from them.",
    calls="6",
    program=lambda question, team, seed: fusion_of_n(question, team.best, team.aggregator, seed=seed),
)


def best_of_n(question: Question, expert: Expert, judge: Expert, *, seed: int, n_samples: int = 5) -> Program:
    """n samples of one expert; the judge picks one by its number. n + 1 calls.

    A judge that names no sample leaves the question without an answer.
    """
    turns = yield ask(question, [expert] * n_samples, seed=seed)
    (verdict,) = yield [
        prompts.pick(question, judge, [visible_text(expert, turn) for turn in turns], seed=seed)
    ]
    if verdict.finish_reason in ("not_run", "overflow"):
        return Answer(None, verdict.finish_reason)
    number = picked(visible_text(judge, verdict))
    if number is None or not 1 <= number <= n_samples:
        return Answer(None, "cut" if verdict.finish_reason == "length" else "unparsed")
    return read_answer(question, expert, turns[number - 1])


def picked(verdict: str) -> int | None:
    """The number in the last "best is [N]", or in a verdict that is only "[N]"; null otherwise."""
    named = re.findall(r"(?i)\bbest\b[^\[\]\n]{0,40}\[\s*(\d+)\s*\]", verdict)
    named = named or re.findall(r"\A\W*\[\s*(\d+)\s*\]\W*\Z", verdict)
    return int(named[-1]) if named else None


BEST_OF_N = Method(
    "best_of_n",
    "Best-of-N (5)",
    "baseline",
    about="Five answers of the most accurate expert; the aggregator picks one by its number.",
    calls="6",
    program=lambda question, team, seed: best_of_n(question, team.best, team.aggregator, seed=seed),
)


def complexity_vote(
    question: Question, expert: Expert, *, seed: int, n_samples: int = 5, n_kept: int = 3
) -> Program:
    """Majority among the chains with the most reasoning steps (Fu et al. 2023). n calls.

    A step is a line or sentence of the chain; ties in length go to the earlier sample.
    """
    turns = yield ask(question, [expert] * n_samples, seed=seed)
    longest = sorted(turns, key=lambda turn: -n_steps(visible_text(expert, turn)))[:n_kept]
    return vote(question, [read_answer(question, expert, turn) for turn in longest])


def n_steps(chain: str) -> int:
    """Lines and sentences of a chain of thought."""
    return sum(1 for step in re.split(r"\n+|(?<=[.!?])\s+", chain) if step.strip())


COMPLEXITY_VOTE = Method(
    "complexity_vote",
    "Complexity-based voting (5)",
    "baseline",
    about="Five answers of the most accurate expert; majority vote of the three longest chains.",
    calls="5",
    citation="Fu et al. 2023",
    program=lambda question, team, seed: complexity_vote(question, team.best, seed=seed),
)

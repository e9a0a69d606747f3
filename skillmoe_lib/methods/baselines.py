"""Symbolic-MoE and every baseline, each a short program for ONE question (METHOD sections 1 and 4).

A method yields the requests it needs next and receives their generations; it knows nothing of batches,
engines, stores or other methods. All share prompts, extractor and sampling. The number of yielded
requests is the method's calls a question.
"""

import re
from collections.abc import Sequence

from skillmoe_lib import prompts
from skillmoe_lib.aggregation.votes import read_answer, visible_text, vote
from skillmoe_lib.answers.equivalence import canonical
from skillmoe_lib.answers.extraction import Answer
from skillmoe_lib.experts.pool import Expert
from skillmoe_lib.generation import Program
from skillmoe_lib.methods.single import ask
from skillmoe_lib.methods.symbolic_moe import symbolic_moe
from skillmoe_lib.questions.benchmark import Question


def cot(question: Question, expert: Expert, *, seed: int) -> Program:
    """One zero-shot chain of thought (Wei et al. 2022). 1 call."""
    (generation,) = yield ask(question, [expert], seed=seed)
    return read_answer(question, expert, generation)


def majority_vote(
    question: Question, recruited: Sequence[Expert], *, seed: int, weights: Sequence[float] | None = None
) -> Program:
    """Vote of the recruited experts, weighted or not, without an aggregator. k calls.

    With five slots of one expert this is Self-Consistency (Wang et al. 2023).
    """
    generations = yield ask(question, recruited, seed=seed)
    ballots = [read_answer(question, expert, g) for expert, g in zip(recruited, generations, strict=True)]
    return vote(question, ballots, weights)


def self_refine(question: Question, expert: Expert, *, seed: int, rounds: int = 3) -> Program:
    """Answer, criticise, answer again until nothing is wrong (Madaan et al. 2023).

    1 + 2r calls, where r counts the revisions that were made, if all `rounds` are used. A criticism that
    finds the answer correct ends it sooner and is itself a call: 2 + 2r, with r < `rounds`. So never more
    than 1 + 2 * `rounds`.
    """
    (draft,) = yield ask(question, [expert], seed=seed)
    for i in range(rounds):
        (criticism,) = yield [
            prompts.feedback(question, expert, visible_text(expert, draft), seed=seed, sample=i)
        ]
        said = visible_text(expert, criticism)  # not what was thought on the way to it
        if re.search(r"\bit is correct\b", said, flags=re.IGNORECASE):
            break
        (draft,) = yield [
            prompts.refine(question, expert, visible_text(expert, draft), said, seed=seed, sample=i)
        ]
    return read_answer(question, expert, draft)


def debate(question: Question, expert: Expert, *, seed: int, n_agents: int = 3, rounds: int = 2) -> Program:
    """Copies of one expert see each other's solutions and answer again; majority (Du et al. 2024).

    n_agents * rounds calls. Every turn is a sample of its own, also where nothing new is in view.
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


def reconcile(question: Question, experts: Sequence[Expert], *, seed: int, rounds: int = 2) -> Program:
    """Different experts discuss with their confidences; weighted vote (Chen et al. 2024).

    n to n * (1 + rounds) calls: a round is held only while answers differ.
    """
    turns = yield [prompts.solve_with_confidence(question, e, seed=seed) for e in experts]
    for i in range(rounds):
        ballots = [read_answer(question, e, turn) for e, turn in zip(experts, turns, strict=True)]
        keys = [canonical(question.kind, b.value) if b.value is not None else "no answer" for b in ballots]
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


def fusion_of_n(
    question: Question, expert: Expert, judge: Expert, *, seed: int, n_samples: int = 5
) -> Program:
    """n samples of one expert, fused by a judge into one answer. n + 1 calls.

    With the expert as its own judge and three samples this is Self-MoA (Li et al. 2025).
    """
    return (yield from symbolic_moe(question, [expert] * n_samples, judge, seed=seed))


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
    """The number in the last "best is [N]", or in a verdict that is nothing but "[N]"; null otherwise."""
    named = re.findall(r"(?i)\bbest\b[^\[\]\n]{0,40}\[\s*(\d+)\s*\]", verdict)
    named = named or re.findall(r"\A\W*\[\s*(\d+)\s*\]\W*\Z", verdict)
    return int(named[-1]) if named else None


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


def confidence(text: str) -> float:
    """The last `Confidence: p` (or `p%`) of a text, at most 1; 0 where there is none."""
    named = re.findall(r"(?i)\bconfidence[\s:=*`]{0,9}(\d{0,9}\.?\d{1,9})(\\?%)?", text)
    return min(float(named[-1][0]) / (100 if named[-1][1] else 1), 1.0) if named else 0.0


def rescaled(p: float) -> float:
    """ReConcile's weight of a vote given with confidence p (METHOD section 4)."""
    if p >= 1:
        return 1.0
    steps = [(0.6, 0.1), (0.8, 0.3)]
    return next((weight for limit, weight in steps if p <= limit), 0.5 if p < 0.9 else 0.8)

"""Symbolic-MoE: the recruited experts reason, one aggregator decides (docs/method.md 1.6, 1.7)."""

from collections.abc import Sequence

from skillmoe_lib import prompts
from skillmoe_lib.aggregation import read_answer, visible_text
from skillmoe_lib.experts import Expert
from skillmoe_lib.generation import Program
from skillmoe_lib.methods.method import Method
from skillmoe_lib.methods.single import ask
from skillmoe_lib.questions import Question


def symbolic_moe(
    question: Question, recruited: Sequence[Expert], aggregator: Expert, *, seed: int
) -> Program:
    """The recruited experts reason, one aggregator decides (docs/method.md 1.6, 1.7). k + 1 calls.

    If the aggregator gives no answer, the question has none; there is no vote instead.
    """
    generations = yield ask(question, recruited, seed=seed)
    chains = [visible_text(expert, g) for expert, g in zip(recruited, generations, strict=True)]
    (final,) = yield [prompts.aggregate(question, aggregator, chains, seed=seed)]
    return read_answer(question, aggregator, final)


SYMBOLIC_MOE = Method(
    "symbolic_moe",
    "Symbolic-MoE",
    "method",
    about="Experts recruited by the question's skills answer; an aggregator chosen on validation "
    "reads their chains and decides.",
    calls="k + 1",
    citation="Chen et al. 2025, arXiv 2503.05641",
    program=lambda question, team, seed: symbolic_moe(question, team.recruited, team.aggregator, seed=seed),
    route="symbolic_moe",
)

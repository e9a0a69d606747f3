"""What the rest of the project knows of a method: one entry, defined next to its program.

The line-up (`lineup.METHODS`) is a tuple of these entries. All code that runs, counts, draws or names methods
reads it, so a new method is its own file and one line of the line-up.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from skillmoe_lib.experts import Expert, Pool
from skillmoe_lib.generation import Program
from skillmoe_lib.methods.example_bank import ExampleBank
from skillmoe_lib.questions import Question
from skillmoe_lib.routing.entry import RouterEntry

N_TOP = 3  # experts of the multi-agent baselines
Kind = Literal["method", "baseline", "control"]


class Slot(NamedTuple):
    """An expert that a router gave to a question; suitability and probability are NaN if it has none."""

    expert: Expert
    suitability: float
    probability: float


@dataclass(frozen=True)
class Team:
    """The experts that a method may ask about one question: what validation chose, and its route's slots.

    `best` is the most accurate expert on this benchmark's validation questions, `top` the `N_TOP` most
    accurate from the best down (fewer in a small pool), `best_single` the most accurate over all
    benchmarks that were validated. `slots` are in slot order; () for a method without a route.
    `threshold` is how sure sequential recruiting must be to stop; `open_answers` replaces the number of
    possible answers if a question has no choices (`routing.belief.open_answers`). `taught` is the most
    accurate expert that takes worked examples (`best` if none does), `bank` what they are chosen from.
    """

    best: Expert
    top: tuple[Expert, ...]
    best_single: Expert
    aggregator: Expert
    taught: Expert
    slots: tuple[Slot, ...] = ()
    threshold: float = 1.0
    open_answers: float = 1001.0
    bank: ExampleBank = field(default_factory=ExampleBank)

    @property
    def recruited(self) -> list[Expert]:
        """The experts of the slots; one that holds two slots occurs twice."""
        return [slot.expert for slot in self.slots]


@dataclass(frozen=True)
class Method:
    """A method of the main table.

    Parameters
    ----------
    name
        Identifier in tables and on the command line.
    label
        Name in tables and figures for readers.
    kind
        "method" (the paper's and ours), "baseline", or "control" (of routing).
    about
        What it does, in one line for readers of a report.
    calls
        Calls per question, as text; k is the number of slots.
    program
        (question, team, seed) -> the program of that question.
    citation
        Source of the method; "" for common knowledge.
    route
        The method whose slots it is given: "" for none, "symbolic_moe", or its own name.
    router
        How the routes of its own name are made; None if it has none of its own.
    n_experts
        The smallest pool that it can be run with; "k" for as many as there are slots.
    shows_examples
        Whether it shows worked examples, for which the pool needs an expert that takes them.
    """

    name: str
    label: str
    kind: Kind
    calls: str
    program: Callable[[Question, Team, int], Program]
    about: str = ""
    citation: str = ""
    route: str = ""
    router: RouterEntry | None = None
    n_experts: int | Literal["k"] = 1
    shows_examples: bool = False

    def left_out(self, pool: Pool, *, k: int) -> str:
        """Why a pool cannot run it with k slots; "" if it can."""
        needed = k if self.n_experts == "k" else self.n_experts
        if len(pool.experts) < needed:
            return f"needs {needed} experts; the pool has {len(pool.experts)}"
        if self.shows_examples and not any(expert.takes_examples for expert in pool.experts.values()):
            return "needs an expert with `takes_examples: true` in the pool's file; the pool has none"
        return ""


class Bound(NamedTuple):
    """An accuracy that no method can reach by choosing on validation; computed from the experts' answers."""

    name: str
    label: str
    about: str
    kind: Literal["bound"] = "bound"

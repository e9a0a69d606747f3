"""Small worlds for tests: questions, experts that answer by rule, and ways to run a method on them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from skillmoe_lib import tables
from skillmoe_lib.evaluation import results
from skillmoe_lib.experts.pool import Expert, Pool
from skillmoe_lib.generation import Failure, Generation, Model, Program, Request, Sampling
from skillmoe_lib.inference import ledger, schedule
from skillmoe_lib.inference.engines.scripted import ScriptedEngine
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods.single import Run
from skillmoe_lib.questions.benchmark import Question

Reply = Callable[[Request], Any]


def question(
    name: str = "q",
    gold: str = "B",
    *,
    kind: str = "choice",
    split: str = "test",
    text: str = "",
    subject: str = "s",
    benchmark: str = "b",
) -> Question:
    """A question with three choices, or of another kind."""
    choices = ("one", "two", "three") if kind == "choice" else ()
    return Question(name, benchmark, split, text or f"What of {name}?", choices, gold, subject, kind)


def frame(asked: Sequence[Question]) -> pd.DataFrame:
    """The Questions table of these questions."""
    rows = [{**vars(q), "choices": json.dumps(q.choices)} for q in asked]
    return tables.check(pd.DataFrame(rows, columns=list(tables.QUESTIONS.columns)), tables.QUESTIONS)


def expert(
    name: str = "ann",
    *,
    source: str = "",
    template: Any = "chat",
    reasoning: bool = False,
    examples: tuple[tuple[str, str], ...] = (),
    context: int = 4096,
    takes_examples: bool = True,
) -> Expert:
    """An expert with a model of its own, or sharing the one named `source`."""
    model = Model(f"folder:{source or name}", "0", template, context)
    return Expert(name, model, Sampling(), examples, reasoning, takes_examples=takes_examples)


def pool(*names: str, aggregators: tuple[str, ...] | None = None) -> Pool:
    """A pool of such experts; all aggregate unless told otherwise."""
    members = {name: expert(name) for name in names}
    return Pool("scripted", members, expert("namer"), names if aggregators is None else aggregators)


def generation(text: str, finish: Any = "stop", request_id: str = "r") -> Generation:
    """What a model wrote."""
    return Generation(request_id, text, finish, 1, len(text.split()))


def says(value: object, *, sure: float | None = None) -> str:
    """A chain of thought that ends in this answer (a letter, or else a boxed value)."""
    marked = f"({value})" if str(value) in ("A", "B", "C") else f"\\boxed{{{value}}}"
    return f"So it is. The answer is {marked}" + ("" if sure is None else f"\nConfidence: {sure}")


class Driven(NamedTuple):
    """What a program returned, and what it asked in each round."""

    result: Any
    rounds: list[list[Request]]

    @property
    def calls(self) -> int:
        """Requests in all."""
        return sum(len(asked) for asked in self.rounds)


def drive(program: Program, reply: Reply) -> Driven:
    """Run one program by itself. `reply` gives a text, a `Generation` or a `Failure` for a request."""
    rounds: list[list[Request]] = []
    answers = None
    while True:
        try:
            asked = next(program) if answers is None else program.send(answers)
        except StopIteration as end:
            return Driven(end.value, rounds)
        rounds.append(list(asked))
        answers = [_answered(request, reply(request)) for request in asked]


def _answered(request: Request, said: Any) -> Generation:
    if isinstance(said, Failure):
        return Generation(request.id, "", "not_run", 0, 0)
    if isinstance(said, Generation):
        return Generation(request.id, said.text, said.finish_reason, 1, 1)
    return Generation(request.id, said, "stop", 1, 1)


def shown_to(request: Request) -> str:
    """The last message: what the model is asked."""
    return request.messages[-1].content


class Played(NamedTuple):
    """Programs run by the scheduler: outcomes, their cost, and the engine that was asked."""

    outcomes: Mapping[Run, schedule.Outcome]
    costs: pd.DataFrame
    engine: ScriptedEngine
    store: GenerationStore


def play(programs: Mapping[Run, Program], reply: Reply, root: Any) -> Played:
    """Run programs through the scheduler with a scripted engine and count them by the ledger."""
    engine, store = ScriptedEngine(reply), GenerationStore(root)
    outcomes = schedule.run(programs, engine, store, skip=True)
    return Played(outcomes, ledger.cost_by_question(results.used_requests(outcomes), store), engine, store)


def calls(program: Program, reply: Reply, root: Any) -> int:
    """Calls that one method takes for one question, by the ledger."""
    costs = play({Run("method", 0, "q"): program}, reply, root).costs
    return int(costs["calls"].item())

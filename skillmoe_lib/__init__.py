"""Symbolic Mixture-of-Experts (arXiv 2503.05641) for studying pools of language-model experts.

The folders in the order of the flow; each imports only those before it:

`questions` and `experts` -> `answers` -> `inference` (grouped batches, store of generations) ->
`profiling` (skills and profiles) -> `aggregation` -> `routing` -> `methods` (programs) -> `evaluation`
(results, intervals, figures). `recorded` reads outputs that others recorded. `pipeline` has each step as
notebooks call it; `studies` examine the whole pipeline. At the base, `tables` has the schema of each table
and `settings` reads YAML files. The names below are loaded when they are first used; `docs/architecture.md`
says which file to open to change what.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skillmoe_lib.errors import SkillmoeError
    from skillmoe_lib.experts import Expert, Pool, load_pool
    from skillmoe_lib.generation import (
        Engine,
        Failure,
        Generation,
        Message,
        Model,
        Program,
        Request,
        Sampling,
    )
    from skillmoe_lib.inference import GenerationStore, Outcome, run
    from skillmoe_lib.methods.lineup import Choice
    from skillmoe_lib.questions import Question, as_questions
    from skillmoe_lib.routing import SkillRouter

__version__ = "0.2.0"

_HOME = {
    "Choice": "methods.lineup",
    "Engine": "generation",
    "Expert": "experts",
    "Failure": "generation",
    "Generation": "generation",
    "GenerationStore": "inference",
    "Message": "generation",
    "Model": "generation",
    "Outcome": "inference",
    "Pool": "experts",
    "Program": "generation",
    "Question": "questions",
    "Request": "generation",
    "Sampling": "generation",
    "SkillRouter": "routing",
    "SkillmoeError": "errors",
    "as_questions": "questions",
    "load_pool": "experts",
    "run": "inference",
}
__all__ = [
    "Choice",
    "Engine",
    "Expert",
    "Failure",
    "Generation",
    "GenerationStore",
    "Message",
    "Model",
    "Outcome",
    "Pool",
    "Program",
    "Question",
    "Request",
    "Sampling",
    "SkillRouter",
    "SkillmoeError",
    "as_questions",
    "load_pool",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""How the router of a routed method is made and what it reads: one entry, defined next to the router.

A method names the entry of its router (`methods.method.Method.router`); `pipeline.recruit` uses it.
"""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, Protocol

import pandas as pd

from skillmoe_lib.routing.skill_router import SkillRouter


class Router(Protocol):
    """A scikit-learn estimator: fitted on validation, it assigns experts to the slots of test questions."""

    def fit(self, X: pd.DataFrame, scores: pd.DataFrame, /) -> "Router":
        """Learn from a Skills or an embeddings frame and the Scores of validation."""
        ...

    def route(
        self, X: pd.DataFrame, /, *, seed: int, question_ids: Iterable[str] | None, method: str
    ) -> pd.DataFrame:
        """Routes frame of the questions."""
        ...


class Settings(NamedTuple):
    """What a run tells every router: k slots, the number of scored validation questions, the unfitted
    router of Symbolic-MoE, and the summed probability at which `confidence_sized` stops."""

    k: int
    n_scored: int
    skill_router: SkillRouter
    mass: float


class RouterEntry(NamedTuple):
    """What a router reads of the questions (skills, sentence embeddings, or only their ids), and how it is
    made."""

    reads: Literal["skills", "embeddings", "ids"]
    make: Callable[[Settings], Router]

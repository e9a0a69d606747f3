"""The engine that never generates: analyses run from the store alone, wherever it is copied to."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.generation import LoadedModel, Model, Request


@dataclass(frozen=True)
class ReplayEngine:
    """Refuses every request that the store does not have."""

    name: str = "replay"

    def describe(self) -> Mapping[str, Any]:
        """No devices, no versions."""
        return {"devices": 0, "versions": {}}

    def check(self, model: Model) -> None:
        """Raise: something is asked of `model` that is not stored."""
        raise SkillmoeError(
            f"the store lacks generations of {model.source!r}: engine 'replay' cannot make them"
        )

    def prompt_tokens(self, requests: Sequence[Request]) -> list[int]:
        """Not measured."""
        return [0 for _ in requests]

    def load(self, model: Model) -> AbstractContextManager[LoadedModel]:
        """Raise, as `check` does."""
        self.check(model)
        raise AssertionError

    def start(self) -> None:
        """Nothing is started."""

    def release(self) -> None:
        """Nothing is kept."""

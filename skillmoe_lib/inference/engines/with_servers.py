"""Local models and models on servers in one run: each request goes to the engine that holds its model."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from skillmoe_lib.experts.servers import PREFIX
from skillmoe_lib.generation import Engine, LoadedModel, Model, Request


@dataclass
class WithServers:
    """A local engine, and one that asks servers. Its generations are stored as the local engine's."""

    local: Engine
    served: Engine
    _any_local: bool = field(default=False, init=False, repr=False)

    @property
    def name(self) -> str:
        """The local engine's."""
        return self.local.name

    def describe(self) -> Mapping[str, Any]:
        """The local engine's; a batch of a server describes itself."""
        return self.local.describe()

    def check(self, model: Model) -> None:
        """As the engine that holds the model."""
        self._any_local |= self._of(model) is self.local
        self._of(model).check(model)

    def prompt_tokens(self, requests: Sequence[Request]) -> list[int]:
        """As the engine that holds each model."""
        return [self._of(request.model).prompt_tokens([request])[0] for request in requests]

    def layout(self, model: Model) -> str:
        """As the engine that holds the model."""
        return self._of(model).layout(model)

    def rendered(self, requests: Sequence[Request]) -> list[str]:
        """As the engine that holds each model."""
        return [self._of(request.model).rendered([request])[0] for request in requests]

    def load(self, model: Model) -> AbstractContextManager[LoadedModel]:
        """As the engine that holds the model."""
        return self._of(model).load(model)

    def expect(self, model: Model) -> None:
        """As the engine that holds the model, if it wants to know."""
        if hasattr(engine := self._of(model), "expect"):
            engine.expect(model)

    def start(self) -> None:
        """Start the local engine, unless all models are on servers."""
        if self._any_local:
            self.local.start()

    def release(self) -> None:
        """Release both."""
        self.local.release()
        self.served.release()

    def _of(self, model: Model) -> Engine:
        return self.served if model.path.startswith(PREFIX) else self.local

"""The engine that never generates: analyses run from the store alone, on any machine.

It needs no weights, tokenizers or hub: which prompts were too long is recorded among the store's failures,
and revisions that only the models' files would give are taken from the store (`as_stored`).
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts.pool import DEFAULT_CONTEXT, Expert, Pool
from skillmoe_lib.generation import LoadedModel, Model, Request
from skillmoe_lib.inference.store import GenerationStore


@dataclass(frozen=True)
class ReplayEngine:
    """Refuses every request that the store does not have."""

    name: str = "replay"

    def describe(self) -> Mapping[str, Any]:
        """No devices, no versions."""
        return {"devices": 0, "versions": {}}

    def check(self, model: Model) -> None:
        """Raise: a request to `model` is not in the store."""
        raise SkillmoeError(
            f"the store lacks generations of {model.source!r}: engine 'replay' cannot make them"
        )

    def prompt_tokens(self, requests: Sequence[Request]) -> list[int]:
        """Not measured."""
        return [0 for _ in requests]

    def layout(self, model: Model) -> str:  # noqa: ARG002 - the protocol's
        """None: prompts are not laid out."""
        return ""

    def rendered(self, requests: Sequence[Request]) -> list[str]:
        """Not known."""
        return ["" for _ in requests]

    def load(self, model: Model) -> AbstractContextManager[LoadedModel]:
        """Raise, as `check` does."""
        self.check(model)
        raise AssertionError

    def start(self) -> None:
        """Nothing is started."""

    def release(self) -> None:
        """Nothing is kept."""


def as_stored(pool: Pool, store: GenerationStore) -> Pool:
    """The pool with revisions, contexts and number formats of the store instead of the models' files.

    Parameters
    ----------
    pool
        Read with `locate=False`: a model that is neither pinned nor given a revision has the revision "",
        `DEFAULT_CONTEXT` if its pool names no length, and the number format "auto" if it names none.

    Raises
    ------
    SkillmoeError
        If a model is stored in more than one revision or format: the pool must say which is meant.
    """
    stored = store.models()

    def known(expert: Expert) -> Expert:
        model = expert.model
        alike = {m for m in stored if m.source == model.source and model.dtype in ("auto", m.dtype)}
        alike = {m for m in alike if model.revision in ("", m.revision)}
        alike = {m for m in alike if (m.quantization, m.options) == (model.quantization, model.options)}
        alike = {m for m in alike if model.adapter in (m.adapter, m.adapter.rpartition("@")[0])}
        same = {m for m in alike if m.max_model_len == model.max_model_len}
        if not same and model.max_model_len == DEFAULT_CONTEXT:
            same = alike
        found = sorted({(m.revision, m.max_model_len, m.dtype, m.adapter) for m in same})
        if len(found) > 1:
            several = ", ".join(
                f"{revision} ({length} tokens, {kind}{adapter and ', '}{adapter})"
                for revision, length, kind, adapter in found
            )
            raise SkillmoeError(
                f"{len(found)} revisions of {model.source!r} are stored: {several}; give the one "
                f"that is meant as `revision` and `dtype` of expert {expert.name!r} in the pool"
            )
        for revision, length, kind, adapter in found:
            model = replace(model, revision=revision, max_model_len=length, dtype=kind, adapter=adapter)
        return replace(expert, model=model)

    def all_known(experts: Mapping[str, Expert]) -> dict[str, Expert]:
        return {name: known(expert) for name, expert in experts.items()}

    return replace(
        pool,
        experts=all_known(pool.experts),
        keyword_expert=known(pool.keyword_expert),
        baselines=all_known(pool.baselines),
    )

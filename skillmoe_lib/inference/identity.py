"""Whether a stored text still answers its request: what the engine got then, and what it would get now.

A request's id is a hash of messages, so that it can be computed anywhere. What the model reads is decided
later, by the tokenizer, the chat template and the versions of the libraries that apply them. So every part of
the store names what laid its prompts out (`layout`) and every generation the digest of what the engine got
(`rendered`). While the layout is the same nothing is rendered; if it is another, the prompts that are asked
for are rendered again and compared. See docs/decisions/0008-request-identity.md.
"""

import json
from collections.abc import Iterable

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.generation import Engine, Model, Request
from skillmoe_lib.inference.store import GenerationStore

#: `rendered` of a generation whose prompt is known to differ from what the model's files give today.
ANOTHER = "another prompt"


class Prompts:
    """Compares the prompts of stored generations with those of now, for one run."""

    def __init__(self, engine: Engine, store: GenerationStore) -> None:
        self.engine, self.store = engine, store
        self._layouts: dict[Model, str] = {}

    def layout(self, model: Model) -> str:
        """What lays out prompts to the model now (`Engine.layout`)."""
        if model not in self._layouts:
            self._layouts[model] = self.engine.layout(model)
        return self._layouts[model]

    def compare(self, requests: Iterable[Request]) -> None:
        """Raise `SkillmoeError` if a stored answer to one of these belongs to a prompt of another layout.

        Answers of which it is not known what the engine got (`migration`) are used as they are.
        """
        suspects = {}
        for request in requests:
            today = self.layout(request.model)
            if today and self.store.layout_of(request.id) not in ("", today):
                suspects[request.id] = request
        if not suspects:
            return
        then = self.store.rendered(suspects)
        known = [request for key, request in suspects.items() if key in then]
        pairs = zip(known, self._rendered(known), strict=True)
        if other := [request for request, now in pairs if now != then[request.id]]:
            raise SkillmoeError(self._line(other))

    def _rendered(self, requests: list[Request]) -> list[str]:
        try:
            return self.engine.rendered(requests)
        except SkillmoeError:
            raise
        except Exception as error:  # a chat template that refuses these messages now
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise SkillmoeError(
                f"prompts of stored answers of {requests[0].model.source!r} cannot be laid out now "
                f"({reason}): take another store, or engine=replay to use what is stored"
            ) from error

    def _line(self, other: list[Request]) -> str:
        first = other[0]
        rows = self.store.generations(["request_id", "batch_id"]).set_index("request_id")["batch_id"]
        batches = self.store.batches().set_index("batch_id")["versions"]
        then = _versions(json.loads(batches[rows[first.id]]))
        now = _versions(self.engine.describe()["versions"])
        return (
            f"{len(other)} stored answer(s) of {first.model.source!r} were given to a prompt that would be "
            f"another one now, first to question {first.question_id!r} of expert {first.expert!r} (stored "
            f"with {then}; now {now}): take another store, or engine=replay to use what is stored"
        )


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or "versions not recorded"

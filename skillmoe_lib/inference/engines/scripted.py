"""An engine that answers by a rule instead of a model, for tests and for trying out notebooks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from skillmoe_lib.generation import Failure, Generation, Model, Request
from skillmoe_lib.seeding import generator


@dataclass
class ScriptedEngine:
    """`reply(request)` gives the text, or a `Failure`; lengths are counted in words.

    `loads` and `requests` record what was asked, in order.
    """

    reply: Callable[[Request], str | Failure]
    name: str = "scripted"
    loads: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def describe(self) -> Mapping[str, Any]:
        """One device, no versions."""
        return {"devices": 1, "versions": {}}

    def check(self, model: Model) -> None:
        """Everything can be served."""

    def prompt_tokens(self, requests: Sequence[Request]) -> list[int]:
        """Words of all messages."""
        return [sum(len(content.split()) for _, content in request.messages) for request in requests]

    def layout(self, model: Model) -> str:  # noqa: ARG002 - the protocol's
        """None: prompts are not laid out."""
        return ""

    def rendered(self, requests: Sequence[Request]) -> list[str]:
        """Not known."""
        return ["" for _ in requests]

    @contextmanager
    def load(self, model: Model) -> Iterator[Self]:
        """Record the load."""
        self.loads.append(model.source)
        yield self

    def start(self) -> None:
        """Nothing is started."""

    def release(self) -> None:
        """Nothing is kept."""

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation | Failure]:
        """Answer each request by the rule, cut at `max_tokens` words."""
        for request, n_prompt in zip(requests, self.prompt_tokens(requests), strict=True):
            self.requests.append(request)
            reply = self.reply(request)
            if isinstance(reply, Failure):
                yield reply
                continue
            words = reply.split(" ")
            limit = request.sampling.max_tokens
            cut = len(words) > limit
            yield Generation(
                request.id,
                " ".join(words[:limit]),
                "length" if cut else "stop",
                n_prompt,
                min(len(words), limit),
            )


def demo() -> ScriptedEngine:
    """An engine whose texts have the right form but no meaning, to try out a notebook in seconds."""

    def reply(request: Request) -> str:
        draw = generator("demo", request.id)
        if request.stage == "keywords":
            return (
                f"Keywords: {', '.join(draw.choice(['counting', 'algebra', 'spelling'], 2, replace=False))}"
            )
        if request.stage == "pick":
            return f"The best is [{draw.integers(1, 4)}]"
        if request.stage == "feedback":
            return "It is correct." if draw.random() < 0.5 else "There is a slip."
        answer = (
            draw.choice(["A", "B", "C"]) if "(X)" in request.messages[-1].content else draw.integers(1, 4)
        )
        marked = f"({answer})" if isinstance(answer, str) else f"\\boxed{{{answer}}}"
        return f"One step. Another step. The answer is {marked}\nConfidence: {draw.random():.2f}"

    return ScriptedEngine(reply)

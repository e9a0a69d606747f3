"""What is asked of a model and what comes back: the types that every engine and method shares.

A `Request` is one call of one model. Its `id` is a hash of every field that can change the text, so
equal requests of different methods are one request, and two samples of a question are always two. The id
is computed without tokenizers; what the engine got for it stands beside each stored generation, in
`Generation.rendered` (docs/decisions/0008-request-identity.md).
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

from skillmoe_lib.seeding import digest

#: How a generation ended: by itself, at its token limit, not started because its prompt leaves no room in
#: the context, or not run (tried and failed, see `Failure`).
FinishReason = Literal["stop", "length", "overflow", "not_run"]


#: What a load is known by (`Model.load_key`).
LoadKey = tuple[str | int | float, ...]


class Message(NamedTuple):
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Model:
    """A set of weights and how text is laid out for it.

    `source` is a hub id, `package:NAME` or `folder:NAME`; `revision` a commit, package version or
    content digest. `quantization` is how the engine quantises the weights while it loads them, `adapter` the
    LoRA weights put on top (`folder:NAME@digest`), `options` those of the engine that can change a text
    (JSON).

    Not part of the identity is how this machine holds the model: where the files of weights and adapter lie,
    the adapter's rank, and, if not the engine's own settings (0), the GPUs that share the model and the share
    of each one's memory that it may take.
    """

    source: str
    revision: str
    template: Literal["chat", "plain"] = "chat"
    max_model_len: int = 4096
    dtype: str = "auto"
    quantization: str = ""
    adapter: str = ""
    options: str = ""
    path: str = field(default="", compare=False)
    adapter_path: str = field(default="", compare=False)
    adapter_rank: int = field(default=0, compare=False)
    tensor_parallel_size: int = field(default=0, compare=False)
    memory_share: float = field(default=0.0, compare=False)

    @property
    def identity(self) -> dict[str, str | int]:
        """What can change a text, by name. Names that came later are left out where they say nothing, so that
        stored requests keep their ids."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.compare}
        return {name: value for name, value in named.items() if value or name not in _LATER}

    @property
    def load_key(self) -> LoadKey:
        """Models with equal keys are served by one load, whatever their template.

        So are all adapters of one size on one base; the base without an adapter is a load of its own, as in
        one batch vLLM on a CPU (0.32.0) gives requests without an adapter that of another request.
        """
        what = (self.source, self.revision, self.max_model_len, self.dtype, self.quantization, self.options)
        return (*what, self.lora_rank, self.tensor_parallel_size, self.memory_share)

    @property
    def lora_rank(self) -> int:
        """The smallest of `LORA_RANKS` that holds the adapter; 0 without an adapter."""
        return next((rank for rank in LORA_RANKS if rank >= self.adapter_rank), 0) if self.adapter else 0


_LATER = {"quantization", "adapter", "options"}
#: The sizes for which vLLM reserves room for adapters.
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class Sampling:
    """Decoding settings (docs/method.md 2); `max_tokens` counts new tokens only."""

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 4096
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Request:
    """One call of one model. `stage`, `question_id` and `expert` are labels: they are not in the id."""

    stage: str
    question_id: str
    expert: str
    model: Model
    messages: tuple[Message, ...]
    sampling: Sampling
    sample: int = 0

    @cached_property
    def id(self) -> str:
        """Hash of all that can change the text: model, messages, sampling, seed, sample index."""
        # 1 in one pool and 1.0 in another are the same request.
        numbers = {"temperature": float(self.sampling.temperature), "top_p": float(self.sampling.top_p)}
        sampling = {**vars(self.sampling), **numbers}
        return digest(self.model.identity, [list(m) for m in self.messages], sampling, self.sample)[:32]

    @property
    def engine_seed(self) -> int:
        """The seed given to the engine, in [0, 2**31): its own for every request."""
        return int(self.id[:8], 16) & 0x7FFFFFFF


@dataclass(frozen=True)
class Generation:
    """What a model wrote for a request. One that failed has the text "" and `not_run` or `overflow`.

    `cached_tokens` of the prompt were not computed again (an engine's prefix cache). `rendered` is the digest
    of what the engine got (`Engine.rendered`), "" if it does not render prompts or did not record it.
    """

    request_id: str
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    rendered: str = ""


class Failure(NamedTuple):
    """A request that could not be answered: recorded with the failures, never with the generations.

    `status` is "overflow" if the prompt does not fit the model's context; trying again cannot help.
    """

    request_id: str
    reason: str
    status: Literal["overflow", "not_run"] = "not_run"


class LoadedModel(Protocol):
    """A model in memory.

    One that takes requests while it generates has a second method, `stream(requests, joining)`: as
    `generate`, but it also answers what is put in the deque `joining` between two of its outcomes, and may
    yield None as a sign of life.
    """

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation | Failure]:
        """Yield an outcome for each request as it finishes, in any order."""
        ...


class Engine(Protocol):
    """Something that can load a model and generate with it.

    One that can prepare a load while a model generates has also `expect(model)`: it is told which model would
    be loaded next if the choice were made now.
    """

    @property
    def name(self) -> str:
        """The family of engine, e.g. vllm; generations of different families are stored apart."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """`{"devices": number of devices, "versions": {library: version}}`, for the Batches table."""
        ...

    def check(self, model: Model) -> None:
        """Raise a `SkillmoeError` if the model cannot be served here; loads no weights."""
        ...

    def prompt_tokens(self, requests: Sequence[Request]) -> list[int]:
        """Length of each request's rendered prompt in tokens, without loading any weights."""
        ...

    def layout(self, model: Model) -> str:
        """Digest of all that decides how prompts to the model are laid out; "" if this engine does not
        lay them out itself. While it stays the same, so does `rendered` of every request."""
        ...

    def rendered(self, requests: Sequence[Request]) -> list[str]:
        """Digest of what each request would give the engine now, as `Generation.rendered`; "" as above."""
        ...

    def start(self) -> None:
        """Start what the whole run needs, before the first load; its time does not count as a load's."""
        ...

    def load(self, model: Model) -> AbstractContextManager[LoadedModel]:
        """Load a model; leaving the context frees its memory, at once or in `release`."""
        ...

    def release(self) -> None:
        """Free what is kept between loads; called when a run ends, however it ends."""
        ...


class Wave(list[Request]):
    """Requests of a program that also says which models it will ask later.

    `later`: for each wave after this one the models that are asked then, as far as that is known. The
    scheduler may use it to load a model when no program will come back to it (`policies.look_ahead`).
    """

    def __init__(self, requests: Iterable[Request], later: Iterable[Iterable[Model]] = ()) -> None:
        super().__init__(requests)
        self.later = tuple(frozenset(model.load_key for model in wave) for wave in later)


# A method for ONE question: yields the requests it needs next, receives their generations in the
# same order, and returns its result.
Program = Generator[Sequence[Request], Sequence[Generation], Any]

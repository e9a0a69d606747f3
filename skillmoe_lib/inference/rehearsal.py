"""Rehearsing a run: the real scheduler, programs and prompts, and an engine that only stands in.

`StandIn` takes the place of an engine. It counts prompts as that engine does, and answers with texts of
earlier runs instead of loading a model: the stored answer to the same request or, where there is none, to the
same question, or any of the same expert at that stage, of that stage, or of that expert; or else one of the
right form and of an assumed length. What the rehearsal asked is afterwards in its own store, for `forecast`
to read.
"""

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillmoe_lib.experts.servers import PREFIX
from skillmoe_lib.generation import Engine, Failure, Generation, Model, Request
from skillmoe_lib.inference.engines.scripted import ScriptedEngine, demo
from skillmoe_lib.inference.store import GenerationStore

#: A guess, for an expert at a stage of which no text is stored: an answer takes this share of `max_tokens`.
ASSUMED_SHARE = 0.5
#: A guess, for models whose tokenizer is not here: characters for a token, and tokens that mark a turn.
CHARS_PER_TOKEN, TURN_TOKENS = 4.0, 5


def mirror(folder: Path, into: Path) -> None:
    """Make `into` a copy of a store in which parts are links: what happens to it does not reach the store."""
    into.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir() if folder.is_dir() else ():
        target = into / entry.name
        if entry.is_dir():
            mirror(entry, target)
        else:
            _link_or_copy(entry.resolve(), target)


def _link_or_copy(file: Path, target: Path) -> None:
    try:
        if file.suffix != ".parquet":
            raise OSError  # a journal would be locked while it is read
        target.symlink_to(file)
    except OSError:  # or Windows, for users without the right to make links
        shutil.copy2(file, target)


@dataclass
class StandIn:
    """Stands in for `engine`; `past` has what was generated before.

    `answered` counts how the texts were found: "stored" (for the same request), "question", "expert",
    "stage" (a stored text of these), "other" (of the expert at another stage), "assumed", or "rule" (the
    scripted engine's own). A copy (`dataclasses.replace`) shares what was counted and read.
    """

    engine: Engine
    past: GenerationStore
    swap_weights: bool = True
    answered: Counter[str] = field(default_factory=Counter)
    estimated: set[str] = field(default_factory=set)  # sources of models whose prompts were not tokenised
    texts: "list[_Texts]" = field(default_factory=list, repr=False)  # one, once it is needed
    layouts: dict[Model, str] = field(default_factory=dict, repr=False)
    lengths: dict[tuple[Any, ...], int] = field(default_factory=dict, repr=False)
    _held: str = field(default="", init=False, repr=False)

    @property
    def name(self) -> str:
        """The engine's."""
        return self.engine.name

    def describe(self) -> Mapping[str, Any]:
        """As the engine."""
        return self.engine.describe()

    def check(self, model: Model) -> None:
        """Everything can be rehearsed."""

    def prompt_tokens(self, requests: Sequence[Request]) -> list[int]:
        """As the engine counts them, each prompt once for all models that lay it out alike.

        Where the engine cannot count (no files of the model here, a server), estimated from the characters.
        """
        keys = [(self.layout(r.model) or r.model.source, r.model.template, r.messages) for r in requests]
        new = {key: r for key, r in zip(keys, requests, strict=True) if key not in self.lengths}
        counted = {key: r for key, r in new.items() if self._counts(r.model)}
        self.lengths |= zip(counted, self.engine.prompt_tokens([*counted.values()]), strict=True)
        for key, request in new.items():
            if not self.lengths.get(key):
                self.lengths[key] = estimated_tokens(request)
                self.estimated.add(request.model.source)
        return [self.lengths[key] for key in keys]

    def _counts(self, model: Model) -> bool:
        return self.name != "vllm" or bool(model.path and not model.path.startswith(PREFIX))

    def layout(self, model: Model) -> str:
        """As the engine."""
        if model not in self.layouts:
            self.layouts[model] = self.engine.layout(model) if self._counts(model) else ""
        return self.layouts[model]

    def rendered(self, requests: Sequence[Request]) -> list[str]:
        """As the engine."""
        return self.engine.rendered(requests)

    @contextmanager
    def load(self, model: Model) -> Iterator["_Standing"]:
        """Nothing is loaded; weights count as swapped where the engine would swap them."""
        local: Any = getattr(self.engine, "local", self.engine)
        kind = local.kind(model) if self.swap_weights and model.path and hasattr(local, "kind") else ""
        swapped, self._held = bool(kind) and kind == self._held, kind
        yield _Standing(self, swapped)

    def start(self) -> None:
        """Nothing is started."""

    def release(self) -> None:
        """Nothing is kept."""
        self._held = ""

    def answer(self, requests: Sequence[Request]) -> Iterator[Generation | Failure]:
        """A text for each request."""
        if isinstance(self.engine, ScriptedEngine):
            self.answered["rule"] += len(requests)
            yield from ScriptedEngine(self.engine.reply).generate(requests)
            return
        if not self.texts:
            self.texts.append(_Texts(self.past))
        found = self.texts[0].find(requests, self.answered)
        lengths = self.prompt_tokens(requests)
        for request, text, n_prompt in zip(requests, found, lengths, strict=True):
            yield _as_answer(request, text or _assumed(request), n_prompt)


@dataclass
class _Standing:
    """A model that would be in memory."""

    stand_in: StandIn
    swapped: bool

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation | Failure]:
        """A text for each request."""
        return self.stand_in.answer(requests)


def estimated_tokens(request: Request) -> int:
    """Tokens of a prompt, by its characters."""
    return sum(round(len(content) / CHARS_PER_TOKEN) + TURN_TOKENS for _, content in request.messages)


def _assumed(request: Request) -> Generation:
    """A text that can be read, as the scripted engine writes it, of the assumed length."""
    n_tokens = max(1, round(ASSUMED_SHARE * request.sampling.max_tokens))
    filling = "so " * (n_tokens if request.stage not in ("keywords", "pick") else 0)
    return Generation(request.id, filling + _FORM.reply(request), "stop", 0, n_tokens)  # type: ignore[operator]


_FORM = demo()


def _as_answer(request: Request, text: Generation, n_prompt: int) -> Generation:
    limit = min(request.sampling.max_tokens, max(1, request.model.max_model_len - n_prompt))
    return Generation(
        request.id,
        text.text,
        "length" if text.output_tokens > limit else text.finish_reason,
        prompt_tokens=n_prompt,
        output_tokens=min(text.output_tokens, limit),
        cached_tokens=min(text.cached_tokens, n_prompt - 1),
    )


class _Texts:
    """Stored texts, to be found by how near their request is to another."""

    def __init__(self, past: GenerationStore) -> None:
        self.past, self.ids = past, set[str]()
        self.near: dict[tuple[str, ...], list[str]] = {}
        rows = past.generations(["request_id", "stage", "expert", "source", "question_id"])
        for request_id, *about in rows.itertuples(index=False):
            self.ids.add(request_id)
            for key in _keys(*about).values():
                self.near.setdefault(key, []).append(request_id)

    def find(self, requests: Sequence[Request], count: Counter[str]) -> list[Generation | None]:
        """A stored generation for each request; None if the stage has none."""
        picked = [self._pick(request, count) for request in requests]
        found = self.past.get({request_id for request_id in picked if request_id})
        return [found.get(request_id) for request_id in picked]

    def _pick(self, request: Request, count: Counter[str]) -> str:
        if request.id in self.ids:
            count["stored"] += 1
            return request.id
        keys = _keys(request.stage, request.expert, request.model.source, request.question_id)
        for name, key in keys.items():
            if ids := self.near.get(key):
                count[name] += 1
                return ids[int(request.id[:8], 16) % len(ids)]
        count["assumed"] += 1
        return ""


def _keys(stage: str, expert: str, source: str, question_id: str) -> dict[str, tuple[str, ...]]:
    """Groups of texts that may stand in for each other, the nearest first."""
    return {
        "question": (stage, expert, source, question_id),
        "expert": (stage, expert, source),
        "stage": (stage,),
        "other": (expert, source),
    }

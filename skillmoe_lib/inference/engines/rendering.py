"""Messages -> token ids, in one place, so that no engine renders prompts in its own way.

`identity` is the digest of what an engine gets for a request, and `layout` of all that decides it for a model
(docs/decisions/0008-request-identity.md).
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from skillmoe_lib.errors import SkillmoeError, require
from skillmoe_lib.experts import devices
from skillmoe_lib.generation import Message, Model, Request
from skillmoe_lib.seeding import digest

PLAIN_STOP = "\nQuestion:"  # a base model continues with a question of its own
#: What every chat template takes for now (the date that Llama's own template falls back on): with the real
#: date a prompt, and so the text, would be another one every day.
TODAY = datetime(2024, 7, 26)
_DECIDE_LAYOUT = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "vocab.json",
    "added_tokens.json", "merges.txt", "chat_template.json", "generation_config.json", "config.json",
    "*.jinja", "*/*.jinja",
)  # fmt: skip


@lru_cache(maxsize=32)
def tokenizer(path: str) -> Any:
    """The model folder's tokenizer (weights are not touched)."""
    require("rendering prompts", "transformers", extra="models")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path)


def plain_text(messages: Sequence[Message]) -> str:
    """A conversation as plain text, for models without a chat template; ends where the model continues."""
    labels = {"user": "Question", "assistant": "Answer", "system": "Note"}
    return "\n\n".join(f"{labels[role]}: {content.strip()}" for role, content in messages) + "\n\nAnswer:"


def token_ids(model: Model, messages: Sequence[Message]) -> list[int]:
    """The prompt as the model reads it.

    Template "chat" uses the tokenizer's own chat template, without a default system prompt of ours, and with
    the date `TODAY`; "plain" is `plain_text` after the tokenizer's beginning-of-sequence token, if it has
    one.
    """
    tokens = _tokenizer_of(model)
    if model.template == "plain":
        start = [] if tokens.bos_token_id is None else [tokens.bos_token_id]
        return [*start, *tokens(plain_text(messages), add_special_tokens=False)["input_ids"]]
    if not tokens.chat_template:
        raise SkillmoeError(f"model {model.source!r} has no chat template: set `template: plain` in the pool")
    turns = [{"role": role, "content": content} for role, content in messages]
    clock = {"strftime_now": TODAY.strftime} if inserts_date(model) else {}
    return list(tokens.apply_chat_template(turns, add_generation_prompt=True, return_dict=False, **clock))


def _tokenizer_of(model: Model) -> Any:
    try:
        return tokenizer(model.path)
    except Exception as error:  # a damaged tokenizer.json raises a bare Exception
        reason = " ".join(str(error).split())[:200]
        raise SkillmoeError(f"the tokenizer of {model.source!r} cannot be read: {reason}") from error


def render(requests: Sequence[Request]) -> list[list[int]]:
    """Token ids of each request's prompt."""
    return [token_ids(request.model, request.messages) for request in requests]


# -- what an engine gets ---------------------------------------------------------------------------


def inserts_date(model: Model) -> bool:
    """Whether the model's chat template asks for the date."""
    return model.template == "chat" and "strftime_now" in str(_tokenizer_of(model).chat_template)


def stops(request: Request) -> list[str]:
    """Strings at which a text ends."""
    return [*request.sampling.stop, *([PLAIN_STOP] if request.model.template == "plain" else [])]


@lru_cache(maxsize=32)
def end_tokens(path: str) -> tuple[Any, ...]:
    """Tokens at which a text ends: the ids in generation_config.json, and the tokenizer's own by its name."""
    names = ("tokenizer_config.json", "special_tokens_map.json")
    return (
        _json(path, "generation_config.json").get("eos_token_id"),
        *(_json(path, name).get("eos_token") for name in names),
    )


def number_format(model: Model) -> str:
    """The number format of the weights: the one named, or that of the files for a model without a name.

    Models of a pool have one: `devices.number_format` has resolved "auto" for this machine.
    """
    return (model.dtype if model.dtype != "auto" else devices.stored_format(model.path)) or "auto"


def identity(request: Request, ids: Sequence[int]) -> str:
    """Digest of what an engine gets for a request whose prompt is `ids`: equal digests, equal texts.

    Sampling settings and seed are not in it: they are in the request's id, to which it belongs.
    """
    model = request.model
    return digest(list(ids), stops(request), end_tokens(model.path), number_format(model))[:32]


def layout(model: Model) -> str:
    """Digest of all that decides `identity` for a model's requests; "" for a model without files here.

    The model's small files, the versions of what renders, and this file itself.
    """
    if not model.path:
        return ""
    folder = Path(model.path)
    files = {path for name in _DECIDE_LAYOUT for path in folder.glob(name)}
    contents = {p.relative_to(folder).as_posix(): _sha256(p) for p in sorted(files)}
    versions = {name: devices.version(name) for name in ("transformers", "tokenizers", "jinja2")}
    return digest(contents, versions, _sha256(Path(__file__)))[:32]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _json(path: str, name: str) -> dict[str, Any]:
    try:
        found = json.loads((Path(path) / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # it may have none; a damaged one is refused by `check`
    return found if isinstance(found, dict) else {}

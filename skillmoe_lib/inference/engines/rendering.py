"""Messages -> token ids, in one place, so that no engine renders prompts in its own way."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from skillmoe_lib.errors import SkillmoeError, require
from skillmoe_lib.generation import Message, Model, Request

PLAIN_STOP = "\nQuestion:"  # a base model continues with a question of its own


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

    Template "chat" uses the tokenizer's own chat template, without a default system prompt of ours;
    "plain" is `plain_text` after the tokenizer's beginning-of-sequence token, if it has one.
    """
    try:
        tokens = tokenizer(model.path)
    except Exception as error:  # a damaged tokenizer.json raises a bare Exception
        reason = " ".join(str(error).split())[:200]
        raise SkillmoeError(f"the tokenizer of {model.source!r} cannot be read: {reason}") from error
    if model.template == "plain":
        start = [] if tokens.bos_token_id is None else [tokens.bos_token_id]
        return [*start, *tokens(plain_text(messages), add_special_tokens=False)["input_ids"]]
    if not tokens.chat_template:
        raise SkillmoeError(f"model {model.source!r} has no chat template: set `template: plain` in the pool")
    turns = [{"role": role, "content": content} for role, content in messages]
    return list(tokens.apply_chat_template(turns, add_generation_prompt=True, return_dict=False))


def render(requests: Sequence[Request]) -> list[list[int]]:
    """Token ids of each request's prompt."""
    return [token_ids(request.model, request.messages) for request in requests]

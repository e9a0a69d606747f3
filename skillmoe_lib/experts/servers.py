"""Servers that speak OpenAI's protocol, as a pool file names them under `servers`.

A key is never written in a file: `key` is the name of the environment variable that holds it.
"""

import os
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.settings import Count, Settings, WholeNumber, told_as

Url = Annotated[
    str,
    Field(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$"),
    told_as("an address such as http://127.0.0.1:8000/v1, without a name, a password or a query in it"),
]
KeyName = Annotated[
    str,
    Field(pattern=r"^[A-Z_][A-Z0-9_]*$", max_length=64),
    told_as("the name of an environment variable in capitals, such as OPENAI_API_KEY, never a key itself"),
]
Money = Annotated[float, Field(gt=0, allow_inf_nan=False), told_as("a number above 0")]


class Server(Settings):
    """One entry of `servers`.

    `concurrency` requests are under way at a time, at most `requests_per_minute` begin in a minute;
    one that takes `timeout_s` seconds is given up and tried again, `retries` times in all.
    `spending_cap` is the most that a run may spend, in the currency of the models' prices.
    `token_limit` is what the service calls the limit of new tokens.
    """

    url: Url
    key: KeyName | None = None
    concurrency: Count = 16
    requests_per_minute: Count | None = None
    timeout_s: Count = 600
    retries: WholeNumber = 6
    spending_cap: Money | None = None
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"  # noqa: S105 - no secret

    def secret(self) -> str:
        """The key, from the environment; empty if the server needs none.

        Raises
        ------
        SkillmoeError
            If the variable is not set.
        """
        if not self.key:
            return ""
        if not (secret := os.environ.get(self.key, "").strip()):
            raise SkillmoeError(
                f"the key of the server at {self.url} must be in the environment variable {self.key}: "
                "it is not set"
            )
        return secret


#: Names that a pool may use without an entry of its own: the service of that name, and a vLLM server started
#: on this machine with its default port.
KNOWN: Mapping[str, Server] = {
    "openai": Server(url="https://api.openai.com/v1", key="OPENAI_API_KEY"),
    "vllm": Server(url="http://127.0.0.1:8000/v1"),
}
PREFIX = "server:"  # of `Model.path`, for a model that a server holds


def find_server(name: str, servers: Mapping[str, Server]) -> Server:
    """The server of that name."""
    if name not in servers:
        raise unknown("server", name, servers)
    return servers[name]


def is_named(model: str, named: str) -> bool:
    """Whether a service means this model by a name: the same, a tag, or a snapshot (`-` and a digit)."""
    return named == model or bool(re.match(rf"{re.escape(model)}([:@]|-\d|-latest$)", named))


def without_secrets(text: str, secret: str) -> str:
    """A message of a server or a library without the key, or anything that looks like one."""
    if secret:
        text = text.replace(secret, "[key]")
    return re.sub(r"\b(?:sk|pk|key|gsk|xai)-[A-Za-z0-9_\-*]{4,}|(?i:bearer) +\S+", "[key]", text)

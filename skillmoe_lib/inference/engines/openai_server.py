"""Any server that speaks OpenAI's protocol: a vLLM server, llama.cpp, Ollama, or a paid service.

Requests are sent side by side, as many as the server's entry allows. What may pass (no connection, a
time-out, 429, 5xx, an answer cut in half) is tried again with growing pauses, or after the time that the
server names; anything else is not. Tokens are the response's own `usage`; a response of another model than
the one asked is refused. With a `spending_cap` a request is sent only if its largest possible price still
fits, so the cap is never crossed. A key comes from the environment, and is removed from every message.
"""

import asyncio
import contextlib
import importlib.metadata
import json
import queue
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from skillmoe_lib.errors import SkillmoeError, require
from skillmoe_lib.experts.servers import PREFIX, Server, find_server, is_named, without_secrets
from skillmoe_lib.generation import Failure, Generation, Model, Request
from skillmoe_lib.inference import prices
from skillmoe_lib.inference.engines.rendering import PLAIN_STOP, plain_text

MAY_PASS = (408, 409, 425, 429)  # and all from 500 on
LONGEST_PAUSE_S = 60.0
#: Tokens of a prompt besides its text, at most: roles and marks of a chat template.
MARKUP_TOKENS = 64


@dataclass
class OpenAIEngine:
    """Generation by servers; `servers` are the pool's, by name."""

    servers: Mapping[str, Server]
    name: str = "openai"
    first_pause_s: float = 1.0
    _purses: dict[str, "_Purse"] = field(default_factory=dict, init=False, repr=False)
    _listed: dict[str, list[str] | None] = field(default_factory=dict, init=False, repr=False)

    def describe(self) -> Mapping[str, Any]:
        """One connection counts as one device; the version of the client."""
        return _about()

    def check(self, model: Model) -> None:
        """Refuse before anything is sent: no key, a server that is away or lacks the model, no price."""
        require("a model on a server", "openai", extra="openai")
        name, server = self._server(model)
        if name not in self._listed:
            self._listed[name] = _models_of(server)
        listed = self._listed[name]
        if listed is not None and not any(is_named(model.source, other) for other in listed):
            raise SkillmoeError(
                f"the server {name!r} at {server.url} has no model {model.source!r}: it has "
                f"{', '.join(sorted(listed)[:8]) or 'none'}"
            )
        if server.spending_cap and prices.price_of(model.source) is None:
            raise SkillmoeError(
                f"server {name!r} has a spending_cap, but data/prices/ has no price of {model.source!r}: "
                "add one, or leave the cap out"
            )

    def prompt_tokens(self, requests: Sequence[Request]) -> list[int]:
        """0 for each: the server counts, and says when a prompt is too long."""
        return [0 for _ in requests]

    def layout(self, model: Model) -> str:  # noqa: ARG002 - the same for every model
        """Empty: the server lays prompts out."""
        return ""

    def rendered(self, requests: Sequence[Request]) -> list[str]:
        """Empty for each: the server lays prompts out."""
        return ["" for _ in requests]

    @contextmanager
    def load(self, model: Model) -> Iterator["_Served"]:
        """Nothing is loaded here."""
        name, server = self._server(model)
        purse = self._purses.setdefault(name, _Purse(server.spending_cap))
        yield _Served(model, server, server.secret(), purse, self.first_pause_s)

    def start(self) -> None:
        """Nothing is started."""

    def release(self) -> None:
        """Nothing is kept."""

    def _server(self, model: Model) -> tuple[str, Server]:
        if not model.path.startswith(PREFIX):
            raise SkillmoeError(
                f"engine 'openai' serves models that name a server in the pool (served_by): "
                f"{model.source!r} does not"
            )
        name = model.path.removeprefix(PREFIX)
        return name, find_server(name, self.servers)


@dataclass
class _Purse:
    """Money that may still be spent. `held` is the largest price of the `n_open` requests under way."""

    cap: float | None
    spent: float = 0.0
    held: float = 0.0
    n_open: int = 0

    def hold(self, amount: float) -> bool:
        """Reserve an amount; False if the cap might be crossed."""
        if self.cap is not None and self.spent + self.held + amount > self.cap:
            return False
        self.held, self.n_open = self.held + amount, self.n_open + 1
        return True

    def pay(self, held: float, amount: float) -> None:
        """Settle what was reserved."""
        self.n_open -= 1
        self.held = self.held - held if self.n_open else 0.0  # no rounding is left over
        self.spent += amount


class _Pass(Exception):
    """A fault that may pass; `after` is how many seconds the server asks to wait. `refused`: the server has
    said so with a status, and charges nothing."""

    def __init__(self, reason: str, after: float | None = None, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.after, self.refused = after, refused


@dataclass
class _Served:
    """A model on a server."""

    model: Model
    server: Server
    secret: str = field(repr=False)
    purse: _Purse
    first_pause_s: float
    refused: str = ""  # why the server, or the cap, refuses all further requests
    named: set[str] = field(default_factory=set)  # the models that the responses named
    _next_start: float = 0.0  # of a request: no earlier than this (rate limit, Retry-After)

    @property
    def engine(self) -> str:
        """The name of the engine, for the Batches table."""
        return "openai"

    def describe(self) -> Mapping[str, Any]:
        """As `OpenAIEngine.describe`."""
        return _about()

    @property
    def versions(self) -> Mapping[str, str]:
        """The model's name in the responses, for the Batches table."""
        return {"served": " ".join(sorted(self.named))} if self.named else {}

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation | Failure]:
        """Ask for all requests side by side, and yield each result when it is there."""
        results: queue.SimpleQueue[Generation | Failure | BaseException] = queue.SimpleQueue()
        stop = threading.Event()

        def work() -> None:
            try:
                asyncio.run(self._ask_all(requests, results, stop))
            except BaseException as error:  # handed to the caller's thread
                results.put(error)

        thread = threading.Thread(target=work, name="openai", daemon=True)
        thread.start()
        try:
            for _ in requests:
                if isinstance(result := results.get(), BaseException):
                    raise result
                yield result
        finally:
            stop.set()
            thread.join(timeout=5)

    async def _ask_all(
        self,
        requests: Sequence[Request],
        results: "queue.SimpleQueue[Generation | Failure | BaseException]",
        stop: threading.Event,
    ) -> None:
        places = asyncio.Semaphore(self.server.concurrency)
        async with _client(self.server, self.secret) as client:

            async def one(request: Request) -> None:
                async with places:
                    results.put(await self._ask(client, request))

            tasks = [asyncio.create_task(one(request)) for request in requests]
            waiting = asyncio.gather(*tasks)
            while not waiting.done():
                await asyncio.wait([waiting], timeout=0.2)
                if stop.is_set():
                    waiting.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await waiting
                    return
            await waiting

    async def _ask(self, client: Any, request: Request) -> Generation | Failure:
        """One request with its retries. Each attempt holds money: one without an answer may be charged."""
        price = prices.price_of(self.model.source) if self.purse.cap is not None else None
        most = 0.0
        if price:
            most = price.of(prompt_tokens=_most_tokens(request), output_tokens=request.sampling.max_tokens)
        reason = ""
        for attempt in range(self.server.retries + 1):
            if not await self._may_spend(most, price):
                return Failure(request.id, self.refused)
            paid = most  # what it cost is not known, unless a response says so
            try:
                await self._wait_for_turn()
                response = await self._send(client, request)
                outcome = response if isinstance(response, Failure) else self._outcome(request, response)
                if isinstance(response, Failure):
                    paid = 0.0
                elif price and isinstance(outcome, Generation):
                    paid = price.of(
                        prompt_tokens=outcome.prompt_tokens,
                        output_tokens=outcome.output_tokens,
                        cached_tokens=outcome.cached_tokens,
                    )
                return outcome
            except _Pass as fault:
                reason, paid = str(fault), 0.0 if fault.refused else most
                spread = random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
                pause = min(self.first_pause_s * 2**attempt, LONGEST_PAUSE_S) * spread
                if fault.after is not None:  # it holds for all requests to this server
                    self._next_start = max(self._next_start, time.monotonic() + fault.after)
                    pause = 0.0
            finally:
                self.purse.pay(most, paid)
            if attempt < self.server.retries:
                await asyncio.sleep(pause)
        return Failure(request.id, f"given up after {self.server.retries + 1} attempts: {reason}")

    async def _may_spend(self, most: float, price: prices.Price | None) -> bool:
        """Hold this much money, waiting for others to settle; False if everything more is refused."""
        while not self.refused and not self.purse.hold(most):
            if price and not self.purse.n_open:
                self.refused = (
                    f"the spending cap of {self.purse.cap:g} {price.currency} does not allow another "
                    f"request: {self.purse.spent:.4g} are spent"
                )
                return False
            await asyncio.sleep(0.02)  # requests under way cost less than was held for them
        return not self.refused

    async def _wait_for_turn(self) -> None:
        """Wait until the server may be asked again: after its Retry-After, and so often a minute."""
        while (left := self._next_start - time.monotonic()) > 0:
            await asyncio.sleep(left)
        if self.server.requests_per_minute:
            self._next_start = time.monotonic() + 60 / self.server.requests_per_minute

    async def _send(self, client: Any, request: Request) -> Any:
        """The response, or a `Failure` that trying again cannot mend; raises `_Pass` for what may pass."""
        import openai

        sampling = request.sampling
        stop = [*sampling.stop, *([PLAIN_STOP] if request.model.template == "plain" else [])]
        settings = {
            "model": self.model.source,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.engine_seed,
            **({"stop": stop} if stop else {}),
        }
        try:
            if request.model.template == "plain":
                text = plain_text(request.messages)
                return await client.completions.create(
                    prompt=text, max_tokens=sampling.max_tokens, **settings
                )
            turns = [{"role": role, "content": content} for role, content in request.messages]
            limit = {self.server.token_limit: sampling.max_tokens}
            return await client.chat.completions.create(messages=turns, **limit, **settings)
        except openai.APIStatusError as error:
            return self._refusal(request, error)
        except (openai.APIConnectionError, openai.APIResponseValidationError, json.JSONDecodeError) as error:
            raise _Pass(self._told(error)) from error

    def _refusal(self, request: Request, error: Any) -> Failure:
        status, reason = error.status_code, self._told(error)
        code = str(getattr(error, "code", "") or "")
        if status == 429 and "insufficient_quota" in (code, str(getattr(error, "type", ""))):
            self.refused = f"the server at {self.server.url} has no quota left: {reason}"
            return Failure(request.id, self.refused)
        if status in MAY_PASS or status >= 500:
            raise _Pass(
                f"{status}: {reason}", _seconds(error.response.headers.get("retry-after")), refused=True
            ) from error
        if status in (401, 403):
            self.refused = (
                f"the server at {self.server.url} refuses the key in {self.server.key}: {status} {reason}"
            )
            return Failure(request.id, self.refused)
        if code == "context_length_exceeded" or ("context" in reason and "length" in reason):
            return Failure(request.id, reason, "overflow")
        return Failure(request.id, f"the server refuses it: {status} {reason}")

    def _outcome(self, request: Request, response: Any) -> Generation | Failure:
        """The generation in a response, with the tokens that the server counted."""
        named, usage = getattr(response, "model", None), getattr(response, "usage", None)
        if not isinstance(named, str) or not is_named(self.model.source, named):
            return Failure(request.id, f"asked for {self.model.source!r}, the server answered with {named!r}")
        if not getattr(response, "choices", None):
            return Failure(request.id, "the server sent no answer")
        if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
            return Failure(request.id, "the server does not say how many tokens it read and wrote (usage)")
        choice = response.choices[0]
        if request.model.template == "plain":
            text = choice.text or ""
        else:
            thought = getattr(choice.message, "reasoning_content", None)
            text = (f"<think>{thought}</think>\n" if thought else "") + (choice.message.content or "")
        if choice.finish_reason not in ("stop", "length"):
            return Failure(request.id, f"the server ended it with {choice.finish_reason!r}")
        self.named.add(named)
        details = getattr(usage, "prompt_tokens_details", None)
        cached = getattr(details, "cached_tokens", None) or 0
        return Generation(
            request.id, text, choice.finish_reason, usage.prompt_tokens, usage.completion_tokens, int(cached)
        )

    def _told(self, error: Exception) -> str:
        """An error in one line, without the key."""
        said = getattr(error, "message", "") or str(error)
        cause = f" ({error.__cause__})" if error.__cause__ and str(error.__cause__) else ""
        return " ".join(without_secrets(f"{type(error).__name__}: {said}{cause}", self.secret).split())[:300]


def _about() -> Mapping[str, Any]:
    return {"devices": 1, "versions": {"openai": importlib.metadata.version("openai")}}


def _client(server: Server, secret: str) -> Any:
    import openai

    client: dict[str, Any] = {}
    with contextlib.suppress(ImportError, RuntimeError):  # the faster transport, where it is installed
        import httpx_aiohttp  # noqa: F401

        client = {"http_client": openai.DefaultAioHttpClient()}
    return openai.AsyncOpenAI(
        base_url=server.url, api_key=secret or "none", timeout=server.timeout_s, max_retries=0, **client
    )


def _models_of(server: Server) -> list[str] | None:
    """The models that a server lists; None if it has no such list.

    Raises
    ------
    SkillmoeError
        If it cannot be reached or refuses the key.
    """
    import openai

    secret = server.secret()
    with openai.OpenAI(base_url=server.url, api_key=secret or "none", timeout=30, max_retries=1) as client:
        try:
            return [model.id for model in client.models.list()]
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            where = f"in the environment variable {server.key}" if server.key else "(the pool names none)"
            raise SkillmoeError(
                f"the server at {server.url} refuses the key {where}: {error.status_code}"
            ) from None
        except openai.APIStatusError:
            return None
        except openai.APIConnectionError as error:
            reason = without_secrets(str(error.__cause__ or error), secret)
            raise SkillmoeError(f"the server at {server.url} cannot be reached: {reason}") from None


def _most_tokens(request: Request) -> int:
    """More tokens than the prompt can have: one for each byte, and the marks of the turns."""
    return sum(len(content.encode()) + MARKUP_TOKENS for _, content in request.messages)


def _seconds(header: str | None) -> float | None:
    """Retry-After, in seconds (at most ten minutes); None if it is missing or a date."""
    try:
        return min(max(float(header or ""), 0.0), 600.0)
    except ValueError:
        return None

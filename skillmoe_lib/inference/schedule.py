"""Grouped batch inference (METHOD 1.6), for every method at once.

`run` advances all programs together: what the store has is answered from it; the rest is grouped by
the model it needs; a model is loaded once, stays loaded until no program waits for it, and each
finished generation is appended to the store. A killed run is resumed by starting it again.
"""

import time
import uuid
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from skillmoe_lib import progress
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.generation import Engine, Failure, Generation, Model, Program, Request
from skillmoe_lib.inference.store import Batch, GenerationStore

Key = TypeVar("Key", bound=Hashable)
LoadKey = tuple[str, str, int, str]
FLUSH_S = 5.0


class Outcome(NamedTuple):
    """What a program returned, every request that it used, in the order asked, and how many at a time."""

    result: Any
    request_ids: tuple[str, ...]
    round_sizes: tuple[int, ...] = ()


def most_waiting(waiting: Mapping[LoadKey, Sequence[Request]], *, last: Collection[LoadKey] = ()) -> LoadKey:
    """Load the model that the most requests wait for; ties go to the one asked first.

    Models in `last` (an aggregator's, say, which others' answers will need) wait until no other model
    has requests, so that their own answers and what they aggregate are served by one load.
    """
    return max(waiting, key=lambda key: (key not in last, len(waiting[key])))


def run(
    programs: Mapping[Key, Program],
    engine: Engine,
    store: GenerationStore,
    *,
    policy: Callable[[Mapping[LoadKey, Sequence[Request]]], LoadKey] = most_waiting,
    description: str = "generating",
) -> dict[Key, Outcome]:
    """Run every program to its end and return their outcomes, in the order given.

    Raises
    ------
    SkillmoeError
        Before any model is loaded: a model that cannot be served here, a question that does not fit its
        model's context. (In later rounds, where prompts hold what models wrote, such a request goes on
        the ledger of failures and counts as not run instead.)
    """
    states = {key: _State(program) for key, program in programs.items()}
    answered: dict[str, Generation] = {}
    first_round = {request.id for request in _waiting(states.values(), answered)}
    _advance(states.values(), answered, store)
    _refuse_what_cannot_run(_waiting(states.values(), answered), first_round, engine)
    try:
        while waiting := _by_load(_waiting(states.values(), answered)):
            load_key = policy(waiting)
            if fitting := _fitting(load_key, states.values(), answered, engine, store):
                _serve(fitting, list(states.values()), answered, engine, store, description)
    finally:
        engine.release()
    return {
        key: Outcome(state.result, tuple(state.request_ids), tuple(state.round_sizes))
        for key, state in states.items()
    }


class _State:
    """A program under way: what it waits for, what it has used, what it returned."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.request_ids: list[str] = []
        self.round_sizes: list[int] = []
        self.result: Any = None
        self.pending: Sequence[Request] | None = ()
        self.resume(None)

    def resume(self, generations: Sequence[Generation] | None) -> None:
        try:
            self.pending = next(self.program) if generations is None else self.program.send(generations)
            self.request_ids += [request.id for request in self.pending]
            self.round_sizes.append(len(self.pending))
        except StopIteration as end:
            self.pending, self.result = None, end.value


def _advance(states: Iterable[_State], answered: dict[str, Generation], store: GenerationStore) -> None:
    """Resume every program whose requests are answered, from the store where it can, until none moves."""
    moving = [state for state in states if state.pending is not None]
    while moving:
        unknown = {r.id for state in moving for r in state.pending or () if r.id not in answered}
        answered.update(store.get(unknown))
        moving = [s for s in moving if s.pending is not None and all(r.id in answered for r in s.pending)]
        for state in moving:
            state.resume([answered[request.id] for request in state.pending or ()])


def _waiting(states: Iterable[_State], answered: Mapping[str, Generation]) -> list[Request]:
    """The requests that programs wait for, each once."""
    waiting = {r.id: r for state in states for r in state.pending or () if r.id not in answered}
    return list(waiting.values())


def _by_load(requests: Sequence[Request]) -> dict[LoadKey, list[Request]]:
    groups: dict[LoadKey, list[Request]] = {}
    for request in requests:
        groups.setdefault(request.model.load_key, []).append(request)
    return groups


def _too_long(requests: Sequence[Request], engine: Engine) -> list[Failure]:
    """Requests whose prompt leaves no room for a single new token."""
    return [
        Failure(request.id, f"the prompt has {n} tokens; the context of {request.model.source} has {limit}")
        for request, n in zip(requests, engine.prompt_tokens(requests), strict=True)
        if n >= (limit := request.model.max_model_len)
    ]


def _fitting(
    load_key: LoadKey,
    states: Collection[_State],
    answered: dict[str, Generation],
    engine: Engine,
    store: GenerationStore,
) -> list[Request]:
    """What waits for a model and fits its context; what does not is answered as not run, without a load."""
    while requests := _by_load(_waiting(states, answered)).get(load_key, []):
        failures = _too_long(requests, engine)
        if not failures:
            return requests
        by_id = {request.id: request for request in requests}
        store.append_failures([(by_id[failure.request_id], failure) for failure in failures], batch_id="")
        answered.update({failure.request_id: _not_run(failure) for failure in failures})
        _advance(states, answered, store)
    return []


def _not_run(failure: Failure) -> Generation:
    return Generation(failure.request_id, "", "not_run", 0, 0)


def _refuse_what_cannot_run(
    requests: Sequence[Request], first_round: Collection[str], engine: Engine
) -> None:
    for group in _by_load(requests).values():
        engine.check(group[0].model)
    if failures := _too_long([request for request in requests if request.id in first_round], engine):
        request = next(r for r in requests if r.id == failures[0].request_id)
        raise SkillmoeError(
            f"question {request.question_id!r} does not fit expert {request.expert!r}: {failures[0].reason} "
            f"({len(failures)} such request(s)); raise max_model_len or leave the question out"
        )


def _serve(
    requests: Sequence[Request],
    states: Sequence[_State],
    answered: dict[str, Generation],
    engine: Engine,
    store: GenerationStore,
    description: str,
) -> None:
    """Load the requests' model and answer them, and what comes to wait for it meanwhile."""
    model = requests[0].model
    engine.check(model)  # a model that only later rounds need is first seen here
    engine.start()
    recorder, start = _Recorder(store, model, engine), time.perf_counter()
    with (
        progress.bar(0, f"{description}: loading {model.source}") as bar,
        engine.load(model) as loaded,
        recorder,  # inside the load: what is finished is stored before the model goes
    ):
        recorder.start(time.perf_counter() - start, swapped=getattr(loaded, "swapped", False))
        bar.set_description(f"{description}: {model.source}")
        while requests:
            bar.total = (bar.total or 0) + len(requests)
            by_id = {request.id: request for request in requests}
            for outcome in loaded.generate(requests):
                answered[outcome.request_id] = recorder.take(by_id.pop(outcome.request_id), outcome)
                bar.update(1)
            if by_id:
                raise SkillmoeError(
                    f"engine {engine.name!r} left {len(by_id)} of {len(requests)} requests unanswered"
                )
            _advance(states, answered, store)
            requests = _fitting(model.load_key, states, answered, engine, store)


class _Recorder:
    """Appends what one load of a model produces to the store, every few seconds and at the end."""

    def __init__(self, store: GenerationStore, model: Model, engine: Engine) -> None:
        self.store, self.model, self.engine, self.about = store, model, engine, engine.describe()
        self.batch_id, self.started_at = uuid.uuid4().hex, datetime.now(UTC).isoformat(timespec="seconds")
        self.load_s, self.swapped, self.since = 0.0, False, time.perf_counter()
        self.generations: list[tuple[Request, Generation]] = []
        self.failures: list[tuple[Request, Failure]] = []

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, *_: object) -> None:
        self.flush()

    def start(self, load_s: float, *, swapped: bool) -> None:
        """The model is in memory: generation begins."""
        self.load_s, self.swapped, self.since = load_s, swapped, time.perf_counter()

    def take(self, request: Request, outcome: Generation | Failure) -> Generation:
        """Keep an outcome; a failure goes on the ledger and reads as a generation that was not run."""
        if isinstance(outcome, Failure):
            self.failures.append((request, outcome))
            return _not_run(outcome)
        self.generations.append((request, outcome))
        if time.perf_counter() - self.since > FLUSH_S:
            self.flush()
        return outcome

    def flush(self) -> None:
        """Append what is held, with the seconds since the last append."""
        now = time.perf_counter()
        batch = Batch(
            batch_id=self.batch_id,
            model=self.model.source,
            engine=self.engine.name,
            load_s=self.load_s,
            generate_s=now - self.since,
            devices=self.about["devices"],
            versions=self.about["versions"],
            started_at=self.started_at,
            swapped=self.swapped,
        )
        generations, failures, self.generations, self.failures = self.generations, self.failures, [], []
        if generations:
            self.store.append(generations, batch)
        if failures:
            self.store.append_failures(failures, self.batch_id)
        self.since = now

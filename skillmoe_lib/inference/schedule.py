"""Grouped batch inference (docs/method.md 1.6), for every method at once.

`run` advances all programs together. Requests that the store can answer are answered from it; the rest are
grouped by the model they need; a model is loaded once, stays loaded until no program waits for it, and each
finished generation is on disk before the next is taken. Programs go on while the model generates, and what
they ask of it next joins what is under way. A killed run is resumed by starting it again.

If an engine raises, dies or hangs, the model is loaded again and the unanswered requests are tried once
more, then in halves, until the requests that cause the failure are found. These are recorded as failures,
all others are served, and the run ends with an error that names them. Texts stay in memory only until a
program has received them: of an answered request only the id is kept.
"""

import contextlib
import itertools
import time
import uuid
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from skillmoe_lib import progress
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.generation import (
    Engine,
    Failure,
    Generation,
    LoadedModel,
    LoadKey,
    Model,
    Program,
    Request,
    Wave,
)
from skillmoe_lib.inference.identity import Prompts
from skillmoe_lib.inference.policies import Policy, Waiting, Waves, most_waiting, naive
from skillmoe_lib.inference.store import Batch, GenerationStore

Key = TypeVar("Key", bound=Hashable)
FLUSH_S = 30.0  # a part holds the generations finished in this many seconds,
FLUSH_BYTES = 32 * 2**20  # or this many bytes of them
AT_ONCE = 20_000  # requests in one call of an engine, and programs resumed with one query of the store
WAITING = 100_000  # requests that wait at a time: in a larger run the later programs begin when these end
FAULTS_IN_A_ROW = 12  # with nothing answered between them, after which a model is not tried again
TURN_S = 0.1  # programs go on this long after they last did, if answers have come,
TURN_SHARE = 0.1  # and take no more than this share of the time that a model generates
EXPECT_S = 5.0  # seconds after which the engine is told again which model comes next


class Outcome(NamedTuple):
    """What a program returned, every request that it used, in order, and how many it asked at a time."""

    result: Any
    request_ids: tuple[str, ...]
    round_sizes: tuple[int, ...] = ()


def run(
    programs: Mapping[Key, Program] | Iterable[tuple[Key, Program]],
    engine: Engine,
    store: GenerationStore,
    *,
    policy: Policy = most_waiting,
    description: str = "generating",
    skip: bool = False,
) -> dict[Key, Outcome]:
    """Run every program to its end and return their outcomes, in the order given.

    A request that cannot be answered gives a generation without text: `overflow` if its prompt does not
    fit the model's context, `not_run` if the engine failed on it. Both are recorded as failures. Engine
    `replay` returns the recorded failures and tries nothing again.

    Parameters
    ----------
    programs
        Or (key, program) pairs, which are then taken only as programs begin, some ten thousand at a time.
    policy
        Which model is loaded next (`policies`). With `naive` one program runs at a time.
    skip
        Leave out what cannot be run, including models that cannot be served, and return without an error.

    Raises
    ------
    SkillmoeError
        Before any model is loaded: a model that cannot be served here, a store that cannot be written
        to. When a request is stored whose prompt would be another one now (`identity`). At
        the end, when everything else is served and stored: the requests that could not be run.
    """
    scheduled = _Run(engine, store, policy, description, skip)
    outcomes: dict[Key, Outcome] = {}
    try:
        pairs = programs.items() if isinstance(programs, Mapping) else programs
        queue = ((key, _State(program)) for key, program in pairs)
        while begun := scheduled.begin(queue):
            scheduled.finish()
            outcomes |= {
                key: Outcome(state.result, tuple(state.request_ids), tuple(state.round_sizes))
                for key, state in begun
            }
    finally:
        engine.release()
    if scheduled.culprits and not skip:
        raise SkillmoeError(_named(scheduled.culprits)) from scheduled.fault
    return outcomes


class _State:
    """A running program: what it waits for, what it has used, what it returned."""

    __slots__ = ("later", "n_open", "pending", "program", "request_ids", "result", "round_sizes")

    def __init__(self, program: Program) -> None:
        self.program = program
        self.request_ids: list[str] = []
        self.round_sizes: list[int] = []
        self.result: Any = None
        self.pending: Sequence[Request] = ()
        self.later: Waves = ()  # what it has said it will ask after these
        self.n_open = 0  # of the pending requests, each counted once

    def resume(self, generations: Sequence[Generation] | None) -> bool:
        """Give the program its answers; False if it has ended."""
        try:
            self.pending = next(self.program) if generations is None else self.program.send(generations)
        except StopIteration as end:
            self.pending, self.result = (), end.value
            return False
        self.later = self.pending.later if isinstance(self.pending, Wave) else ()
        self.request_ids += [request.id for request in self.pending]
        self.round_sizes.append(len(self.pending))
        return True


class _Fault(Exception):
    """The engine raised, died or hung; the request that caused it is not known yet."""

    def __init__(self, error: Exception, *, loading: bool) -> None:
        super().__init__(_reason(error))
        self.loading = loading


class _Prompt(Exception):
    """A prompt that the engine cannot render."""


class _Group(NamedTuple):
    """Requests that an engine gets at once; `again`: if that fails, retry them all before halving."""

    requests: list[Request]
    again: bool


class _Run:
    """One scheduled run: which programs wait for which requests, and how these are served."""

    def __init__(
        self,
        engine: Engine,
        store: GenerationStore,
        policy: Policy,
        description: str,
        skip: bool,
    ) -> None:
        self.engine, self.store, self.policy = engine, store, policy
        self.description, self.skip = description, skip
        self.replaying = engine.name == "replay"
        self.prompts = Prompts(engine, store)
        self.waiting: dict[LoadKey, dict[str, Request]] = {}
        self.waiters: dict[str, list[_State]] = {}  # request id -> the programs that wait for it
        self.arrived: list[Request] = []  # what has begun to wait since the last turn
        self.ready: deque[_State] = deque()  # programs whose requests are all answered
        self.unanswerable: dict[str, Generation] = {}
        self.unusable: dict[LoadKey, str] = {}  # models that could not be loaded, and why
        self.culprits: list[tuple[Request, Failure]] = []
        self.fault: Exception | None = None
        self.n_answered = 0
        self.recorder: _Recorder | None = None
        try:
            store.recover()
        except SkillmoeError:
            if not self.replaying:  # a read-only store is enough for replaying
                raise
        self.ledger = store.failed()

    # -- programs --------------------------------------------------------------------------------

    def begin(self, programs: Iterator[tuple[Key, _State]]) -> list[tuple[Key, _State]]:
        """Start programs until enough requests wait; none if all have begun."""
        begun: list[tuple[Key, _State]] = []
        at_once, enough = (1, 1) if self.policy is naive else (AT_ONCE, WAITING)
        while len(self.waiters) < enough and (some := list(itertools.islice(programs, at_once))):
            begun += some
            self._wait([state for _, state in some if state.resume(None)])
            self.advance()
        return begun

    def finish(self) -> None:
        """Serve models until no program waits."""
        if self.waiting:
            self._refuse_what_cannot_be_served()
        while self.waiting:
            self._serve(self._choice())

    def _choice(self, *, but: LoadKey | None = None) -> LoadKey:
        """The model to load next, as the policy would have it now."""
        groups = {key: group.values() for key, group in self.waiting.items() if key != but}
        return self.policy(Waiting(groups, self._needs))

    def _needs(self) -> Counter[Waves]:
        """What the waiting programs need, as far as they have said."""
        states = {id(state): state for states in self.waiters.values() for state in states}
        return Counter(
            (frozenset(r.model.load_key for r in s.pending if r.id in self.waiters), *s.later)
            for s in states.values()
        )

    def advance(self) -> None:
        """Resume every program whose requests are answered, until none can go on."""
        while self.ready:
            some = [self.ready.popleft() for _ in range(min(AT_ONCE, len(self.ready)))]
            answers = self._answers({r.id for state in some for r in state.pending})
            moving = []
            for state in some:
                if all(request.id in answers for request in state.pending):
                    if state.resume([answers[request.id] for request in state.pending]):
                        moving.append(state)
                else:
                    moving.append(state)  # a part was damaged since: its requests are generated again
            self._wait(moving)

    def _answers(self, request_ids: set[str]) -> dict[str, Generation]:
        answers = {key: self.unanswerable[key] for key in request_ids & self.unanswerable.keys()}
        if self.recorder:
            answers |= {key: self.recorder.held[key] for key in request_ids & self.recorder.held.keys()}
        return answers | self.store.get(request_ids - answers.keys())

    def _wait(self, states: Sequence[_State]) -> None:
        """Make programs wait for unanswered requests; those without any are ready."""
        asked = {request.id for state in states for request in state.pending}
        held = self.recorder.held.keys() if self.recorder else set()
        stored = self.store.known(asked)
        done = stored | (asked & held) | (asked & self.unanswerable.keys())
        if not self.replaying:
            self.prompts.compare(r for state in states for r in state.pending if r.id in stored)
        refused = []
        for state in states:
            missing = {request.id: request for request in state.pending if request.id not in done}
            state.n_open = len(missing)
            if not missing:
                self.ready.append(state)
            for key, request in missing.items():
                if key not in self.waiters:
                    self.arrived.append(request)
                self.waiters.setdefault(key, []).append(state)
                self.waiting.setdefault(request.model.load_key, {})[key] = request
        for group in [list(group.values()) for group in self.waiting.values()] if self.replaying else []:
            refused += [(request, self.ledger[request.id]) for request in group if request.id in self.ledger]
        for load_key in self.unusable.keys() & self.waiting.keys():
            reason = self.unusable[load_key]
            refused += [(r, Failure(r.id, reason)) for r in self.waiting[load_key].values()]
        self._fail(refused)

    def _answered(self, request: Request) -> None:
        group = self.waiting[request.model.load_key]
        del group[request.id]
        if not group:
            del self.waiting[request.model.load_key]
        for state in self.waiters.pop(request.id):
            state.n_open -= 1
            if not state.n_open:
                self.ready.append(state)

    def _fail(self, failures: Sequence[tuple[Request, Failure]], batch_id: str = "") -> None:
        """Record failed requests, unless recorded for the same reason already; their programs go on."""
        if new := [pair for pair in failures if self.ledger.get(pair[0].id) != pair[1]]:
            self.store.append_failures(new, batch_id)
        for request, failure in failures:
            self.ledger[request.id] = failure
            self.unanswerable[request.id] = Generation(request.id, "", failure.status, 0, 0)
            if failure.status == "not_run" and not self.replaying:
                self.culprits.append((request, failure))
            self._answered(request)

    # -- models ----------------------------------------------------------------------------------

    def _refuse_what_cannot_be_served(self) -> None:
        """Check every model that programs wait for, and the disk, before the first load."""
        for request in [next(iter(group.values())) for group in self.waiting.values()]:
            try:
                self.engine.check(request.model)
                with contextlib.suppress(_Prompt):
                    self._n_tokens([request])  # an unreadable tokenizer, a missing template
            except SkillmoeError as error:
                if self.replaying or not self.skip:
                    raise
                self._give_up(request.model, error)
        if self.waiting and not self.replaying:
            self.store.probe()

    def _give_up(self, model: Model, error: Exception) -> None:
        """Fail all requests to this model in this run."""
        self.fault, self.unusable[model.load_key] = error, str(error)
        waiting = list(self.waiting.get(model.load_key, {}).values())
        self._fail([(request, Failure(request.id, str(error))) for request in waiting])
        self.advance()

    def _serve(self, load_key: LoadKey) -> None:
        """Answer all requests that wait for a model, in as few loads as possible."""
        model = next(iter(self.waiting[load_key].values())).model
        try:
            self.engine.check(model)  # a model needed only in later rounds is first seen here
        except SkillmoeError as error:
            if self.replaying:
                raise
            self._give_up(model, error)
            return
        retry: deque[_Group] = deque()
        n_faults = n_failed_loads = 0
        while group := self._next(load_key, retry):
            at_work, n_before = [group], self.n_answered
            try:
                self._load_and_answer(model, at_work, retry)
            except _Fault as fault:
                self.fault, group = fault, at_work[0]
                self._take_up(load_key)
                rest = [request for request in group.requests if request.id in self.waiting.get(load_key, {})]
                n_failed_loads = n_failed_loads + 1 if fault.loading else 0
                n_faults = n_faults + 1 if self.n_answered == n_before else 1
                if n_failed_loads > 1 or n_faults > FAULTS_IN_A_ROW:
                    self._give_up(model, fault)
                elif fault.loading:
                    retry.appendleft(group)
                elif group.again and rest:
                    retry.appendleft(_Group(rest, again=False))
                elif len(rest) == 1:
                    self._fail([(rest[0], Failure(rest[0].id, str(fault)))])
                elif rest:
                    half = len(rest) // 2
                    retry += [_Group(rest[:half], again=False), _Group(rest[half:], again=False)]
                self.advance()

    def _take_up(self, load_key: LoadKey) -> None:
        """What the engine's process had finished, but not handed over when it failed, counts as answered."""
        self.store.recover()
        waiting = self.waiting.get(load_key, {})
        for request_id in self.store.known(waiting):
            self.n_answered += 1
            self._answered(waiting[request_id])

    def _next(self, load_key: LoadKey, retry: deque[_Group]) -> _Group | None:
        """The next of a model's requests for the engine.

        New ones first; then those that failed in this run; then those that failed in earlier runs.
        """
        while waiting := self.waiting.get(load_key):
            held_back = {request.id for group in retry for request in group.requests}
            fresh = (r for key, r in waiting.items() if key not in self.ledger and key not in held_back)
            some = list(itertools.islice(fresh, AT_ONCE))
            if some or not retry:
                known = not some
                if fitting := self._fitting(some or list(itertools.islice(waiting.values(), AT_ONCE))):
                    return _Group(fitting, again=not known)
                self.advance()
            else:
                group = retry.popleft()
                if left := [request for request in group.requests if request.id in waiting]:
                    return group._replace(requests=left)
        return None

    def _fitting(self, requests: Sequence[Request]) -> list[Request]:
        """The requests whose prompt leaves room for a new token; the others are answered as `overflow`."""
        try:
            lengths: list[int | _Prompt] = list(self._n_tokens(requests))
        except _Prompt:
            lengths = []
            for request in requests:
                try:
                    lengths += self._n_tokens([request])
                except _Prompt as error:
                    lengths.append(error)
        fitting, failures = [], []
        for request, n in zip(requests, lengths, strict=True):
            limit = request.model.max_model_len
            if isinstance(n, _Prompt):
                failures.append((request, Failure(request.id, str(n))))
            elif n >= limit:
                reason = f"the prompt has {n} tokens; the context of {request.model.source} has {limit}"
                failures.append((request, Failure(request.id, reason, "overflow")))
            else:
                fitting.append(request)
        self._fail(failures)
        return fitting

    def _n_tokens(self, requests: Sequence[Request]) -> list[int]:
        try:
            return self.engine.prompt_tokens(requests)
        except SkillmoeError:
            raise
        except Exception as error:
            raise _Prompt(f"the prompt cannot be laid out: {_reason(error)}") from error

    def _load_and_answer(self, model: Model, at_work: list[_Group], retry: deque[_Group]) -> None:
        """Load a model, answer this group, and whatever else starts to wait for the model in the meantime."""
        with ExitStack() as load:
            bar = load.enter_context(progress.bar(0, f"{self.description}: loading {model.source}"))
            try:
                self.engine.start()
                start = time.perf_counter()
                loaded = load.enter_context(self.engine.load(model))
            except Exception as error:
                raise _Fault(error, loading=True) from error
            load.callback(setattr, self, "recorder", None)
            # Inside the load: finished generations are stored before the model is released.
            self.recorder = load.enter_context(
                _Recorder(self.store, model, self.engine, start, self.prompts.layout(model), loaded)
            )
            if hasattr(loaded, "journal"):  # an engine with a process of its own, which keeps one too
                loaded.journal = self.recorder.journal
            bar.set_description(f"{self.description}: {model.source}")
            group: _Group | None = at_work[0]
            while group:
                at_work[0] = group
                bar.total = (bar.total or 0) + len(group.requests)
                self._generate(loaded, group, self.recorder, bar)
                self.advance()
                group = self._next(model.load_key, retry)

    def _generate(self, loaded: LoadedModel, group: _Group, recorder: "_Recorder", bar: Any) -> None:
        """Answer a group, and what joins it if it is not one that has failed before."""
        load_key = group.requests[0].model.load_key
        by_id = {request.id: request for request in group.requests}
        failures: list[tuple[Request, Failure]] = []
        joining: deque[Request] = deque()
        open_to_more = group.again and hasattr(loaded, "stream")
        next_turn, next_told = time.monotonic() + TURN_S, 0.0
        self.arrived.clear()
        try:
            for outcome in _outcomes(loaded, group.requests, joining):
                if outcome is not None:
                    request = by_id.pop(outcome.request_id)
                    if isinstance(outcome, Failure):
                        failures.append((request, outcome))
                    else:
                        recorder.take(request, outcome)
                        self.n_answered += 1
                        self._answered(request)
                    bar.update(1)
                began = time.monotonic()
                if began > next_told:
                    self._announce(load_key)
                    next_told = time.monotonic() + EXPECT_S
                if open_to_more and (not by_id or began > next_turn):
                    settled, failures = failures, []
                    self._fail(settled, recorder.batch.batch_id)
                    new = self._joining(load_key, AT_ONCE - len(group.requests))
                    group.requests.extend(new)  # in the group, in case of a fault
                    by_id |= {request.id: request for request in new}
                    joining.extend(new)
                    bar.total += len(new)
                    ended = time.monotonic()
                    next_turn = ended + max(TURN_S, (ended - began) * (1 / TURN_SHARE - 1))
        finally:
            self._fail(failures, recorder.batch.batch_id)
        if by_id:
            left = (
                f"engine {self.engine.name!r} left {len(by_id)} of {len(group.requests)} requests unanswered"
            )
            raise _Fault(SkillmoeError(left), loading=False)

    def _announce(self, load_key: LoadKey) -> None:
        """Tell the engine which model would be loaded after this one."""
        if hasattr(self.engine, "expect") and self.waiting.keys() - {load_key}:
            group = self.waiting[self._choice(but=load_key)]
            self.engine.expect(next(iter(group.values())).model)

    def _joining(self, load_key: LoadKey, limit: int) -> list[Request]:
        """Let programs go on; at most `limit` of the requests that they now ask of the loaded model.

        What failed in an earlier run comes later, by itself; what does not fit is answered here.
        """
        found: list[Request] = []
        while self.ready:
            self.advance()
            new = [r for r in self.arrived if r.model.load_key == load_key and r.id not in self.ledger]
            self.arrived.clear()
            found += self._fitting(new[: limit - len(found)]) if new else []
        return found


def _outcomes(
    loaded: LoadedModel, requests: Sequence[Request], joining: deque[Request]
) -> Iterator[Generation | Failure | None]:
    """What the engine yields; what it raises becomes a `_Fault`, distinct from errors of the disk."""
    try:
        streams = getattr(loaded, "stream", None)
        outcomes = streams(list(requests), joining) if streams else iter(loaded.generate(requests))
    except Exception as error:
        raise _Fault(error, loading=False) from error
    while True:
        try:
            outcome = next(outcomes)
        except StopIteration:
            return
        except Exception as error:
            raise _Fault(error, loading=False) from error
        yield outcome


def _reason(error: Exception) -> str:
    """An error in one line."""
    kind = "" if isinstance(error, SkillmoeError) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())[:300]}"


def _named(culprits: Sequence[tuple[Request, Failure]]) -> str:
    """One line that names what could not be run: the first question of each expert and reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for request, failure in culprits:
        groups.setdefault((request.expert, failure.reason), []).append(request.question_id)
    told = [
        f"question {ids[0]!r}{f' and {len(ids) - 1} more' * (len(ids) > 1)} of expert {expert!r} ({reason})"
        for (expert, reason), ids in itertools.islice(groups.items(), 3)
    ]
    more = f"; and {len(groups) - 3} more reason(s)" if len(groups) > 3 else ""
    return (
        f"{len(culprits)} request(s) could not be run, all others are stored: {'; '.join(told)}{more}. "
        "The next run tries them once more; with `skip` it leaves them out"
    )


class _Recorder:
    """Stores what one load of a model produces: in its journal at once, in a part at intervals."""

    def __init__(
        self,
        store: GenerationStore,
        model: Model,
        engine: Engine,
        start: float,
        layout: str,
        loaded: LoadedModel,
    ) -> None:
        # What was loaded may know more than its engine: a model on a server, swapped weights.
        self.since, self.loaded = time.perf_counter(), loaded
        about = getattr(loaded, "describe", engine.describe)()
        self.last = self.since
        self.batch = Batch(
            batch_id=uuid.uuid4().hex,
            model=model.source,
            engine=getattr(loaded, "engine", engine.name),
            load_s=self.since - start,
            generate_s=0.0,
            devices=about["devices"],
            versions=about["versions"],
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            swapped=getattr(loaded, "swapped", False),
            dtype=getattr(loaded, "dtype", ""),
            layout=layout,
        )
        self.journal = store.journal(self.batch)
        self.held: dict[str, Generation] = {}  # not in a part yet

    def __enter__(self) -> "_Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.flush()
        finally:
            self.journal.close()

    def take(self, request: Request, generation: Generation) -> None:
        """Put a generation on disk."""
        now = time.perf_counter()
        self.journal.write(request, generation, now - self.last)
        self.last = now
        self.held[request.id] = generation
        if now - self.since > FLUSH_S or self.journal.file.size > FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Turn the journal into a part, with the seconds since the last one."""
        now = time.perf_counter()
        versions = {**self.batch.versions, **getattr(self.loaded, "versions", {})}
        peak = getattr(self.loaded, "peak_bytes", 0)
        self.journal.seal(
            replace(self.batch, generate_s=now - self.since, versions=versions, peak_bytes=peak)
        )
        self.held.clear()
        self.since = self.last = now

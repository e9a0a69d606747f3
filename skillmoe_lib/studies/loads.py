"""How often models are loaded: the run of a report, a lower bound, and what other policies would load.

The paper's sequential loading and its grouped batches (its efficiency table) are two policies of
`inference.policies`. Each is run here by the real scheduler, on the requests of a finished report: a program
asks again what it asked then, wave by wave, and an engine answers at once and only counts the seconds, those
of the report's own store. Generation takes the same under each policy, so what differs is loading. (Really,
requests that are asked one at a time also take longer to generate: `run_time` measures that.)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple, Self

import pandas as pd

from skillmoe_lib import progress
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.generation import (
    Failure,
    Generation,
    LoadKey,
    Message,
    Model,
    Program,
    Request,
    Sampling,
    Wave,
)
from skillmoe_lib.inference import ledger, schedule
from skillmoe_lib.inference.engines.scripted import ScriptedEngine
from skillmoe_lib.inference.policies import Policy, fewest_loads, find_policy, most_waiting
from skillmoe_lib.inference.store import Batch, GenerationStore
from skillmoe_lib.seeding import digest

_OF_A_LOAD = ["source", "revision", "max_model_len", "dtype", "quantization", "adapter", "options"]
#: Seconds without a load after which the next one belongs to another run.
PAUSE_S = 300.0
LONGEST = 5.0
#: The policy of the chain: the aggregator's model waits until no other model has requests.
AGGREGATOR_LAST = "most_waiting, aggregator last"


def asked(used: pd.DataFrame, scores: pd.DataFrame, store: GenerationStore) -> pd.DataFrame:
    """What the programs of a test run asked, as far as it was generated.

    Parameters
    ----------
    used, scores
        The tables Used and Scores of the notebook 06_methods: the requests of each method, and those of
        every expert on every test question.

    Returns
    -------
    One row for each request of each program: program, question_id, round, request_id, the columns that a
    load depends on, batch_id, generate_s (an equal share of the seconds of its batch).
    """
    names = used["method"] + " " + used["seed"].astype(str) + " " + used["question_id"]
    of_methods = used.assign(program=names)[["program", "question_id", "round", "request_id"]]
    panel = scores.assign(program=scores["expert"] + " " + scores["question_id"], round=0)
    rows = pd.concat([of_methods, panel[of_methods.columns]], ignore_index=True)
    stored = store.generations(["request_id", *_OF_A_LOAD, "batch_id"])
    stored[_OF_A_LOAD[4:]] = stored[_OF_A_LOAD[4:]].fillna("")  # columns that came later
    batches = store.batches().set_index("batch_id")
    share = batches["generate_s"] / batches["n_requests"]
    return rows.merge(stored.assign(generate_s=stored["batch_id"].map(share)), on="request_id")


def some(rows: pd.DataFrame, n_questions: int) -> pd.DataFrame:
    """The rows of so many questions, drawn by their ids; all for 0."""
    ids = sorted(rows["question_id"].unique(), key=lambda name: digest("loads", name))
    return rows[rows["question_id"].isin(ids[:n_questions])] if n_questions else rows


def bound(rows: pd.DataFrame) -> int:
    """No order of loads could have served these programs with fewer loads (`policies.fewest_loads`).

    In waves after a program's first only requests count that no other program asks: those might have
    been generated for that other program before.
    """
    first = rows.drop_duplicates(["program", "request_id"])  # asked again it is answered from the store
    n_programs = first.groupby("request_id")["program"].transform("size")
    shared = (n_programs > 1) & (first["round"] > first.groupby("program")["round"].transform("min"))
    needs: dict[str, dict[int, set[LoadKey]]] = {}
    for program, number, key in zip(
        first["program"].where(~shared, ""), first["round"], _keys(first), strict=True
    ):
        needs.setdefault(program, {}).setdefault(number, set()).add(key)
    others = {frozenset([key]) for wave in needs.pop("", {}).values() for key in wave}
    waves = {tuple(frozenset(of[number]) for number in sorted(of)) for of in needs.values()}
    return fewest_loads(waves | {(one,) for one in others})


def _keys(rows: pd.DataFrame) -> list[LoadKey]:
    """What each row's request needs loaded."""
    return [model.load_key for model in _models(rows)]


def _models(rows: pd.DataFrame) -> list[Model]:
    known = {
        about: Model(**dict(zip(_OF_A_LOAD, about, strict=True)))
        for about in rows[_OF_A_LOAD].drop_duplicates().itertuples(index=False, name=None)
    }
    return [known[about] for about in rows[_OF_A_LOAD].itertuples(index=False, name=None)]


class Ran(NamedTuple):
    """Loads in the order run, in the columns of the Batches table; and seconds until each program ended."""

    batches: pd.DataFrame
    ended_s: pd.Series


def as_run(rows: pd.DataFrame, store: GenerationStore) -> pd.DataFrame:
    """The loads of the real run that generated these requests."""
    table = ledger.batches_table(store)
    return table[table["batch_id"].isin(set(rows["batch_id"]))].reset_index(drop=True)


def cold_load_s(store: GenerationStore) -> dict[str, float]:
    """Seconds of a load of each model (by source) in a new process, from the store's ledger."""
    rates = ledger.rates(store)["load_s"]
    return {str(weights).rpartition("@")[0]: float(seconds) for weights, seconds in rates.items()}


def simulated(rows: pd.DataFrame, policy: Policy, load_s: Mapping[str, float]) -> Ran:
    """The programs of `asked`, run by the scheduler under a policy; `load_s` by source."""
    once = rows.drop_duplicates("request_id")
    engine = _Clock(load_s, dict(zip(once["request_id"], once["generate_s"], strict=True)))
    waves: dict[str, dict[int, list[Request]]] = {}
    columns = (rows["program"], rows["round"], rows["question_id"], rows["request_id"], _models(rows))
    for program, number, question_id, request_id, model in zip(*columns, strict=True):
        said = (Message("user", request_id),)
        asked_again = Request("again", question_id, model.source, model, said, Sampling())
        waves.setdefault(program, {}).setdefault(number, []).append(asked_again)
    ended: dict[str, float] = {}
    programs = {
        name: _again(name, [of[number] for number in sorted(of)], engine, ended) for name, of in waves.items()
    }
    with progress.silent():  # a loop over questions would draw a bar for each of its many loads
        schedule.run(programs, engine, _Memory(), policy=policy)
    return Ran(pd.DataFrame(engine.batches), pd.Series(ended, dtype=float))


def _again(
    name: str, waves: Sequence[Sequence[Request]], engine: "_Clock", ended: dict[str, float]
) -> Program:
    """A program that asks what was asked, and says so beforehand."""
    models = [{request.model for request in wave} for wave in waves]
    for i, wave in enumerate(waves):
        yield Wave(wave, models[i + 1 :])
    ended[name] = engine.now


class _Clock(ScriptedEngine):
    """Answers at once, and counts the seconds that it would take."""

    def __init__(self, load_s: Mapping[str, float], seconds: Mapping[str, float]) -> None:
        super().__init__(lambda _: "an answer")
        self.load_s, self.seconds, self.now = load_s, seconds, 0.0
        self.batches: list[dict[str, Any]] = []

    @contextmanager
    def load(self, model: Model) -> Iterator[Self]:
        """A load takes its seconds."""
        took = self.load_s[model.source]
        self.now += took
        loaded = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now)
        about = {"model": model.source, "engine": "simulated", "started_at": loaded.isoformat()}
        self.batches.append({**about, "load_s": took, "generate_s": 0.0, "n_requests": 0, "devices": 1})
        with super().load(model) as here:
            yield here

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation | Failure]:
        """Each request takes its seconds."""
        for request, outcome in zip(requests, super().generate(requests), strict=True):
            took = self.seconds[request.messages[0].content]
            self.now += took
            self.batches[-1]["generate_s"] += took
            self.batches[-1]["n_requests"] += 1
            yield outcome


class _Memory(GenerationStore):
    """A store that writes nothing."""

    def __init__(self) -> None:
        super().__init__("")
        self.kept: dict[str, Generation] = {}
        self.file = SimpleNamespace(size=0)

    def known(self, request_ids: Iterable[str]) -> set[str]:
        return self.kept.keys() & request_ids

    def get(self, request_ids: Iterable[str]) -> dict[str, Generation]:
        return {request_id: self.kept[request_id] for request_id in self.known(request_ids)}

    def failed(self) -> dict[str, Failure]:
        return {}

    def recover(self) -> None: ...

    def probe(self) -> None: ...

    def journal(self, batch: Batch) -> Any:  # noqa: ARG002 - the store's
        return self

    def write(self, request: Request, generation: Generation, generate_s: float) -> None:  # noqa: ARG002
        self.kept[request.id] = generation

    def seal(self, batch: Batch) -> None: ...

    def close(self) -> None: ...


def compared(
    rows: pd.DataFrame, policies: str, load_s: Mapping[str, float], *, aggregator: str
) -> dict[str, Ran]:
    """Each policy named in `policies` (separated by commas), simulated; and the chain's own.

    `aggregator` is the source of the aggregator's model.
    """
    if rows.empty:
        raise SkillmoeError("nothing to run: the store has no requests of this report")
    last = {key for key in set(_keys(rows)) if key[0] == aggregator}
    named: dict[str, Policy] = {}
    for name in filter(None, (part.strip() for part in policies.split(","))):
        named[name] = find_policy(name)
        if named[name] is most_waiting:
            named[AGGREGATOR_LAST] = partial(most_waiting, last=last)
    return {name: simulated(rows, policy, load_s) for name, policy in named.items()}


def table(ran: Mapping[str, Ran], fewest: int) -> pd.DataFrame:
    """One row for each policy.

    Columns: policy, loads, bound, load_s, generate_s, total_s, mean_end_s (the mean over programs of the
    seconds until a program ended).
    """
    return pd.DataFrame(
        [
            {"policy": name, **_counted(found.batches, fewest), "mean_end_s": found.ended_s.mean()}
            for name, found in ran.items()
        ]
    )


def _counted(batches: pd.DataFrame, fewest: int) -> dict[str, Any]:
    load_s, generate_s = float(batches["load_s"].sum()), float(batches["generate_s"].sum())
    counts = {"loads": len(batches), "bound": fewest, "load_s": load_s, "generate_s": generate_s}
    return {**counts, "total_s": load_s + generate_s}


def real_runs(rows: pd.DataFrame, batches: pd.DataFrame) -> pd.DataFrame:
    """Each real run's loads against the bound, for what it generated.

    What an earlier run had stored needs no load in a later one, so each has a bound of its own. Runs are told
    apart by pauses of more than `PAUSE_S`. Columns: started_at, loads, bound, load_s, generate_s, total_s,
    within (the loads are at most one more than the bound).
    """
    loaded = pd.to_datetime(batches["started_at"], utc=True, format="ISO8601")
    order = loaded.sort_values(kind="stable").index
    batches, loaded = batches.loc[order], loaded.loc[order]
    ended = (loaded + pd.to_timedelta(batches["generate_s"], unit="s")).shift()
    pause_s = (loaded - ended).dt.total_seconds() - batches["load_s"]
    counts = []
    for _, run in batches.groupby((pause_s > PAUSE_S).cumsum()):
        counted = _counted(run, bound(rows[rows["batch_id"].isin(set(run["batch_id"]))]))
        within = counted["loads"] <= counted["bound"] + 1
        counts.append({"started_at": run["started_at"].iloc[0], **counted, "within": within})
    return pd.DataFrame(counts)


def repeated(batches: pd.DataFrame) -> pd.DataFrame:
    """How often each model was loaded: model, loads."""
    counts = batches["model"].value_counts()
    return pd.DataFrame({"model": counts.index, "loads": counts.to_numpy()})


def lanes(ran: Mapping[str, Ran]) -> pd.DataFrame:
    """The loads of policies, with the policy in place of the model, for `diagrams.schedule`.

    A policy that takes more than `LONGEST` times as long as the shortest is left out: beside it nothing could
    be told of the others.
    """
    took = {name: float(found.batches[["load_s", "generate_s"]].sum().sum()) for name, found in ran.items()}
    drawn = [name for name in ran if took[name] <= LONGEST * min(took.values())]
    return pd.concat([ran[name].batches.assign(model=name) for name in drawn], ignore_index=True)

"""How often models are loaded: the run of a report, a lower bound, and what other policies would load.

The paper's sequential loading and its grouped batches (its efficiency table) are two policies of
`inference.policies`. Each is run here by the real scheduler, on the requests of a finished report: a program
asks again what it asked then, wave by wave, and an engine answers at once and only counts the seconds, those
of the report's own store. Generation takes the same under each policy, so what differs is loading. (Really,
requests that are asked one at a time also take longer to generate: `run_time` measures that.)
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import pandas as pd

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.generation import Failure, Generation, Message, Model, Program, Request, Sampling, Wave
from skillmoe_lib.inference import ledger, schedule
from skillmoe_lib.inference.engines.scripted import ScriptedEngine
from skillmoe_lib.inference.policies import LoadKey, Policy, Waves, fewest_loads, find_policy, most_waiting
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.seeding import digest

_OF_A_LOAD = ["source", "revision", "max_model_len", "dtype"]
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
    One row for each request of each program: program, question_id, round, request_id, the four columns
    that a load depends on, batch_id, generate_s (an equal share of the seconds of its batch).
    """
    names = used["method"] + " " + used["seed"].astype(str) + " " + used["question_id"]
    of_methods = used.assign(program=names)[["program", "question_id", "round", "request_id"]]
    panel = scores.assign(program=scores["expert"] + " " + scores["question_id"], round=0)
    rows = pd.concat([of_methods, panel[of_methods.columns]], ignore_index=True)
    stored = store.generations(["request_id", *_OF_A_LOAD, "batch_id"])
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
    shared = (n_programs > 1) & (first["round"] > 0)
    needs = {_waves(part) for _, part in first[~shared].groupby("program")}
    return fewest_loads(needs | {(frozenset([key]),) for key in _keys(first[shared])})


def _keys(rows: pd.DataFrame) -> set[LoadKey]:
    return {model.load_key for model in _models(rows.drop_duplicates(_OF_A_LOAD))}


def _models(rows: pd.DataFrame) -> list[Model]:
    return [
        Model(source, revision, max_model_len=int(length), dtype=dtype)
        for source, revision, length, dtype in rows[_OF_A_LOAD].itertuples(index=False)
    ]


def _waves(part: pd.DataFrame) -> Waves:
    return tuple(frozenset(_keys(wave)) for _, wave in part.groupby("round"))


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
    ended: dict[str, float] = {}
    programs = {
        str(name): _again(str(name), part, engine, ended)
        for name, part in rows.groupby("program", sort=False)
    }
    with tempfile.TemporaryDirectory() as folder:
        schedule.run(programs, engine, GenerationStore(Path(folder)), policy=policy, description="loads")
    return Ran(pd.DataFrame(engine.batches), pd.Series(ended, dtype=float))


def _again(name: str, part: pd.DataFrame, engine: "_Clock", ended: dict[str, float]) -> Program:
    """A program that asks what was asked, and says so beforehand."""
    waves = [wave for _, wave in part.groupby("round")]
    models = [_models(wave) for wave in waves]
    for i, wave in enumerate(waves):
        requests = [
            Request("again", question_id, model.source, model, (Message("user", request_id),), Sampling())
            for question_id, request_id, model in zip(
                wave["question_id"], wave["request_id"], models[i], strict=True
            )
        ]
        yield Wave(requests, models[i + 1 :])
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


def compared(
    rows: pd.DataFrame, policies: str, load_s: Mapping[str, float], *, aggregator: str
) -> dict[str, Ran]:
    """Each policy named in `policies` (separated by commas), simulated; and the chain's own.

    `aggregator` is the source of the aggregator's model.
    """
    if rows.empty:
        raise SkillmoeError("nothing to run: the store has no requests of this report")
    last = {key for key in _keys(rows) if key[0] == aggregator}
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


def real_run(batches: pd.DataFrame, fewest: int) -> pd.DataFrame:
    """The loads of the report's own run against the bound: loads, bound, load_s, generate_s, total_s, and
    within (the loads are at most one more than the bound)."""
    counted = _counted(batches, fewest)
    return pd.DataFrame([{**counted, "within": counted["loads"] <= fewest + 1}])


def repeated(batches: pd.DataFrame) -> pd.DataFrame:
    """How often each model was loaded: model, loads."""
    counts = Counter(batches["model"])
    return pd.DataFrame(sorted(counts.items(), key=lambda item: -item[1]), columns=["model", "loads"])


def lanes(ran: Mapping[str, Ran]) -> pd.DataFrame:
    """The loads of all policies, with the policy in place of the model, for `diagrams.schedule`."""
    return pd.concat([found.batches.assign(model=name) for name, found in ran.items()], ignore_index=True)

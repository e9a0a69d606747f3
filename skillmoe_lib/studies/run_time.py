"""Run time (the paper's efficiency table): grouped batches, MoA, and one question after another.

Device seconds of `measured` come from batches that were run for this purpose, in separate stores and with
every load cold; `charged_against_measured` compares the ledger's charges with them (docs/cost.md).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from skillmoe_lib import pipeline
from skillmoe_lib.evaluation import published, results
from skillmoe_lib.evaluation.intervals import Interval
from skillmoe_lib.inference import ledger, policies, schedule
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods import lineup
from skillmoe_lib.methods.lineup import Choice
from skillmoe_lib.methods.single import Run
from skillmoe_lib.pipeline import Session
from skillmoe_lib.seeding import digest
from skillmoe_lib.studies.paper_tables import against_published

_COSTS = ["calls", "prompt_tokens", "output_tokens", "device_seconds"]


def seconds(used: pd.DataFrame, store: GenerationStore, *, way: str) -> pd.DataFrame:
    """What each question really took, from a store that holds nothing else: way, question_id, calls,
    prompt_tokens, output_tokens, device_seconds (null if a request was not run), model_loads.

    `used` holds the requests of one method and seed; `model_loads` is each question's share of the loads.
    """
    costs = ledger.cost_by_question(used, store)
    really = ledger.ran(used, store).set_index("question_id")["ran_device_s"]
    costs["device_seconds"] = costs["question_id"].map(really).where(costs["device_seconds"].notna())
    frame = costs[["question_id", *_COSTS]].astype(dict.fromkeys(_COSTS, float))
    return frame.assign(way=way, model_loads=len(store.batches()) / len(costs))


def seconds_from_results(
    table: pd.DataFrame, loads: pd.DataFrame, ways: Sequence[str], *, seed: int = 0
) -> pd.DataFrame:
    """The frame of `seconds` for methods of one scheduled run, from its Results and their loads."""
    frames = []
    for way in ways:
        part = table[(table["method"] == way) & (table["seed"] == seed)]
        n_loads = loads.loc[(loads["method"] == way) & (loads["seed"] == seed), "model_loads"].sum()
        frame = part[["question_id", *_COSTS]].astype(dict.fromkeys(_COSTS, float))
        frames.append(frame.assign(way=way, model_loads=n_loads / max(len(part), 1)))
    return pd.concat(frames, ignore_index=True)


def measured(
    session: Session,
    questions: pd.DataFrame,
    routes: pd.DataFrame,
    choice: Choice,
    methods: Sequence[str],
    *,
    n_one_by_one: int,
    seed: int = 0,
) -> pd.DataFrame:
    """Methods on all test questions in grouped batches, and Symbolic-MoE on a few of them one by one.

    Each way of running has its own store, `run_time/WAY` in the session's, so that no way reuses what another
    has generated, and a second run measures nothing again. "one by one" loads every model that a question
    needs for that question, as a system without grouped batches does; its questions are a sample by seed and
    id. No engine swaps weights here: every load is cold. Frame as `seconds`; a way is a method's name or "one
    by one".
    """
    engine: Any = session.engine
    if hasattr(engine, "swap_weights"):
        engine = replace(engine, swap_weights=False)
    asked = sorted(pipeline.split(questions, "test"), key=lambda q: digest("arrival", seed, q.question_id))
    few = [[question] for question in asked[:n_one_by_one]]
    last = {session.pool.experts[choice.aggregator].model.load_key}
    policy, frames = partial(policies.most_waiting, last=last), []
    ways = [(name, name, [asked]) for name in methods] + [("one by one", "symbolic_moe", few)]
    for way, method, waves in ways:
        store, outcomes = store_of(session, way), dict[Run, schedule.Outcome]()
        for wave in waves:
            programs = lineup.programs([method], wave, session.pool, routes, choice, seeds=[seed])
            outcomes |= schedule.run(
                programs, engine, store, policy=policy, skip=session.skip, description=way
            )
        if outcomes:
            frames.append(seconds(results.used_requests(outcomes), store, way=way))
    return pd.concat(frames, ignore_index=True)


def store_of(session: Session, way: str) -> GenerationStore:
    """The store of one way of running, for `measured`."""
    return GenerationStore(session.store.root / "run_time" / way.replace(" ", "_"))


def charged_against_measured(
    session: Session, loads: pd.DataFrame, methods: Sequence[str], *, seed: int = 0, within: float = 0.15
) -> pd.DataFrame:
    """What methods are charged in the scheduled run of all, beside what each took alone in `measured`.

    `loads` is `ledger.loads_by_method` of the run of all. Columns: method, charged_load_s,
    measured_load_s, n_loads, n_measured_loads, charged_generate_s, measured_generate_s, charged_s,
    measured_s, ratio (charged to measured), close (the ratio lies from 1 - `within` to 1 + `within`);
    device seconds of a whole pass over the test questions. A method that was not measured is left out.
    """
    charged = loads[loads["seed"] == seed].set_index("method")
    rows = []
    for method in methods:
        batches = store_of(session, method).batches()
        if method not in charged.index or batches.empty:
            continue
        load_s, generate_s = (
            float((batches[name] * batches["devices"]).sum()) for name in ("load_s", "generate_s")
        )
        ours: Any = charged.loc[method]
        both = float(ours["load_device_s"] + ours["generate_device_s"]), load_s + generate_s
        ratio = both[0] / both[1]
        row = {"method": method, "charged_load_s": ours["load_device_s"], "measured_load_s": load_s}
        row |= {"n_loads": int(ours["model_loads"]), "n_measured_loads": len(batches)}
        row |= {"charged_generate_s": ours["generate_device_s"], "measured_generate_s": generate_s}
        row |= {"charged_s": both[0], "measured_s": both[1], "ratio": ratio}
        rows.append(row | {"close": abs(ratio - 1) <= within})
    return pd.DataFrame(rows)


def run_times(per_question: pd.DataFrame) -> pd.DataFrame:
    """Means for one question of each way, device seconds with a 95% t-interval over questions.

    Columns: way, n_questions (that were run), calls, prompt_tokens, output_tokens, device_seconds, low,
    high, model_loads (in total). The interval shows how questions differ; only another run shows how the
    machine varies.
    """
    rows: list[dict[str, Any]] = []
    for way, part in per_question.groupby("way", sort=False):
        known = part["device_seconds"].dropna()  # null if a request was not run
        mean = ratio_of_sums(known, pd.Series(1.0, known.index))
        row = {"way": way, "n_questions": mean.n, **part[_COSTS].mean(), "low": mean.low, "high": mean.high}
        rows.append(row | {"model_loads": round(part["model_loads"].sum())})
    return pd.DataFrame(rows)


def ratio_of_sums(a: pd.Series, b: pd.Series, *, level: float = 0.95) -> Interval:
    """sum(a) / sum(b) of aligned rows, with the t-interval of the linearised ratio (Cochran 1977, 6.4).

    One row gives no interval (null): how much rows differ is then unknown.
    """
    x, y = a.to_numpy(float), b.to_numpy(float)
    n = len(x)
    if n < 2:
        return Interval(float(x[0] / y[0]), n=1) if n else Interval()
    ratio = float(x.sum() / y.sum())
    error = float(np.sqrt(n / (n - 1) * np.square(x - ratio * y).sum()) / y.sum())
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    return Interval(ratio, max(0.0, ratio - half), ratio + half, n)


def ratios(per_question: pd.DataFrame, *, margin: float = 0.1) -> pd.DataFrame:
    """How many times slower other ways are than grouped Symbolic-MoE, beside the published run times.

    Each ratio is paired: both ways on the same questions (for questions that were run one by one, their
    share of the grouped run of all). Columns: ratio_of, to, ratio, low, high, n_questions, published (1
    GPU), difference, difference_low, difference_high, verdict. The published ratio has no interval; `margin`
    is a share of it. Machines and models differ, so ratios are compared, not seconds.
    """
    frame = published.load("runtime").query("n_devices == 1")
    theirs = frame.set_index(frame["method"] + " " + frame["schedule"].fillna(""))["question_s"]
    base = float(theirs["symbolic_moe grouped"])
    pairs = [
        ("one by one", "symbolic_moe", float(theirs["symbolic_moe sequential"]) / base),
        ("moa", "symbolic_moe", float(theirs["moa "]) / base),
    ]
    wide = per_question.pivot_table(index="question_id", columns="way", values="device_seconds")
    rows = []
    for way, to, claimed in pairs:
        ours = Interval()
        if {way, to} <= set(wide):
            both = wide[[way, to]].dropna()
            ours = ratio_of_sums(both[way], both[to])
        row = {"ratio_of": way, "to": to, "ratio": ours.estimate, "low": ours.low, "high": ours.high}
        row |= {"n_questions": ours.n, "published": claimed}
        rows.append(row | against_published(ours, claimed, margin=margin * claimed))
    return pd.DataFrame(rows)

"""The paper's tables: the whole experiment in one call, and comparisons with the published figures.

Main table and aggregators of arXiv 2503.05641 (docs/method.md 3; `data/published`). Run time is in
`run_time`; recruiting and discussion x aggregator are variants of one pipeline: see `variants`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import hypot
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from skillmoe_lib import pipeline
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import intervals, published
from skillmoe_lib.evaluation.intervals import Interval
from skillmoe_lib.inference import ledger
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods import lineup
from skillmoe_lib.methods.lineup import Choice
from skillmoe_lib.pipeline import Competed, Examined, Session
from skillmoe_lib.questions import benchmark as questions_of


class Learned(NamedTuple):
    """Everything known before the test questions are answered: their skills, and what validation decides."""

    skills: pd.DataFrame
    scores: pd.DataFrame
    examined: Examined
    choice: Choice
    test_skills: pd.DataFrame

    @property
    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """All skills, matched test skills and validation scores: what `pipeline.recruit` takes."""
        return self.skills, self.test_skills, self.scores


def learn_from_validation(
    session: Session, questions: pd.DataFrame, *, seed: int = 0, votes: int = 5
) -> Learned:
    """The steps before recruiting, in order; with a single pass every keyword counts."""
    named = pipeline.annotate(session, questions, seed=seed, votes=votes, min_votes=min(2, votes))
    scores = pipeline.validate(session, questions, seed=seed)
    examined = pipeline.examine(session, questions, scores, seed=seed)
    choice = pipeline.choose(scores, examined)
    return Learned(named, scores, examined, choice, pipeline.matched(named, questions))


class Experiment(NamedTuple):
    """A whole experiment: what was learned before test, the routes, and the methods' results on test."""

    ready: Learned
    routes: pd.DataFrame
    done: Competed


def full_experiment(
    session: Session,
    questions: pd.DataFrame,
    names: Sequence[str],
    *,
    seeds: Sequence[int],
    seed: int = 0,
    votes: int = 5,
    budget: float = 3.0,
    **recruiting: Any,
) -> Experiment:
    """Every step of the method and the methods `names` on test, in one scheduled run.

    Everything before recruiting uses `seed`; recruiting and test are repeated for `seeds`. `budget` is for
    sequential recruiting; `recruiting` goes to `pipeline.choose_router` (preset, k ...).
    """
    ready = learn_from_validation(session, questions, seed=seed, votes=votes)
    return _on_test(session, questions, ready, names, seeds=seeds, budget=budget, recruiting=recruiting)


def _on_test(
    session: Session,
    questions: pd.DataFrame,
    ready: Learned,
    names: Sequence[str],
    *,
    seeds: Sequence[int],
    budget: float,
    recruiting: Mapping[str, Any],
) -> Experiment:
    preset = recruiting.get("preset", "paper")
    others = {name: value for name, value in recruiting.items() if name != "preset"}
    others.setdefault("pool_trim", session.pool.trim)
    router = pipeline.choose_router(preset, questions, ready.skills, ready.scores, **others).router
    if set(names) & {"sequential", "sequential_without_skills"}:
        stopping = pipeline.choose_stopping(
            ready.choice, questions, ready.skills, ready.scores, budget=budget
        )
        ready = ready._replace(choice=stopping.choice)
    routes = pipeline.recruit(names, router, questions, *ready.tables, seeds=seeds)
    bank = None
    if lineup.shows_examples(names):
        bank = pipeline.example_bank(session, questions, *ready.tables)
    done = pipeline.compete(session, names, questions, routes, ready.choice, seeds=seeds, bank=bank)
    return Experiment(ready, routes, done)


def of_preset(beside: pd.DataFrame, preset: str) -> pd.DataFrame:
    """Results beside published figures; verdicts are kept only for the preset "paper"."""
    return beside if preset == "paper" else beside.assign(verdict="another preset")


# -- several benchmarks ---------------------------------------------------------------------------


def load_benchmarks(names: str, *, limit: int = 0) -> dict[str, pd.DataFrame]:
    """Benchmark -> its Questions table; `names` are names or paths of YAML files, separated by commas.

    Raises
    ------
    SkillmoeError
        Two benchmarks of one name, or with a question id in common: results could not be told apart.
    """
    found: dict[str, pd.DataFrame] = {}
    known: dict[str, str] = {}
    for given in [name.strip() for name in names.split(",") if name.strip()]:
        frame = questions_of.load(given, limit=limit)
        name = str(frame["benchmark"].iloc[0])
        if name in found:
            raise SkillmoeError(f"benchmarks must have different names, given {name!r} twice")
        if shared := [question_id for question_id in frame["question_id"] if question_id in known]:
            raise SkillmoeError(
                f"benchmarks {known[shared[0]]!r} and {name!r} share the question id {shared[0]!r}: "
                "ids must be unique over all benchmarks of a run"
            )
        found[name] = frame
        known |= dict.fromkeys(frame["question_id"], name)
    if not found:
        raise SkillmoeError("at least one benchmark is needed, given none")
    return found


def several_benchmarks(
    session: Session,
    benchmarks: Mapping[str, pd.DataFrame],
    names: Sequence[str],
    *,
    seeds: Sequence[int],
    seed: int = 0,
    votes: int = 5,
    budget: float = 3.0,
    **recruiting: Any,
) -> dict[str, Experiment]:
    """`full_experiment` on each benchmark (its Questions table), with one `best_single` for them all.

    All of validation comes first, because only then is the best expert over the benchmarks known. Each
    benchmark keeps its own profiles, aggregator and ranking.
    """
    learned = {
        name: learn_from_validation(session, questions, seed=seed, votes=votes)
        for name, questions in benchmarks.items()
    }
    best = lineup.best_over_benchmarks({name: ready.scores for name, ready in learned.items()})
    found = {}
    for name, ready in learned.items():
        ready = ready._replace(choice=replace(ready.choice, best_single=best))
        found[name] = _on_test(
            session, benchmarks[name], ready, names, seeds=seeds, budget=budget, recruiting=recruiting
        )
    return found


class Together(NamedTuple):
    """The tables of several experiments, one below the other; `loads` of `ledger.loads_by_method`, with the
    benchmark that each row is of."""

    questions: pd.DataFrame
    results: pd.DataFrame
    scores: pd.DataFrame
    used: pd.DataFrame
    routes: pd.DataFrame
    loads: pd.DataFrame


def together(
    found: Mapping[str, Experiment], benchmarks: Mapping[str, pd.DataFrame], store: GenerationStore
) -> Together:
    """What `several_benchmarks` found on `benchmarks`, as one set of tables."""
    each = list(found.values())
    loads = [ledger.loads_by_method(e.done.used, store).assign(benchmark=name) for name, e in found.items()]
    frames = (
        [benchmarks[name] for name in found],
        [experiment.done.results for experiment in each],
        [experiment.done.scores for experiment in each],
        [experiment.done.used for experiment in each],
        [experiment.routes for experiment in each],
        loads,
    )
    return Together(*(pd.concat(parts, ignore_index=True) for parts in frames))


def choices(found: Mapping[str, Experiment]) -> pd.DataFrame:
    """What validation decided on each benchmark: benchmark, task_best, best_single (over them all),
    aggregator, ranking (most accurate first)."""
    rows = [
        (name, c.task_best, c.best_single or c.task_best, c.aggregator, ", ".join(c.ranking))
        for name, c in ((name, experiment.ready.choice) for name, experiment in found.items())
    ]
    return pd.DataFrame(rows, columns=["benchmark", "task_best", "best_single", "aggregator", "ranking"])


def side_by_side(accuracy: pd.DataFrame) -> pd.DataFrame:
    """The paper's main table: one row per method, one column per benchmark, and the average.

    `accuracy` holds the rows of `intervals.accuracy_table` of all benchmarks. Columns: method, label, then
    accuracy of each benchmark in the order given, average, average_low, average_high, n_benchmarks;
    fractions, in the order of the methods in `accuracy`. As in the paper every benchmark has the same weight
    in the average; it is null if a method lacks a benchmark. The interval adds the squares of the
    benchmarks' distances (their questions are different), as `intervals.verdict_against` does.
    """
    names = list(dict.fromkeys(accuracy["benchmark"]))
    if accuracy.duplicated(["method", "benchmark"]).any():
        raise SkillmoeError("accuracies must have one row a method and benchmark, given more")
    each, low, high = (
        accuracy.pivot_table(index="method", columns="benchmark", values=value, aggfunc="first").reindex(
            index=list(dict.fromkeys(accuracy["method"])), columns=names
        )
        for value in ("accuracy", "low", "high")
    )
    average = each.mean(axis=1, skipna=False)
    below = np.sqrt(((each - low) ** 2).sum(axis=1, skipna=False)) / len(names)
    above = np.sqrt(((high - each) ** 2).sum(axis=1, skipna=False)) / len(names)
    table = each.assign(
        average=average,
        average_low=average - below,
        average_high=average + above,
        n_benchmarks=each.notna().sum(axis=1),
    )
    table.columns.name = None
    return lineup.labelled(table.reset_index())


# -- main table -----------------------------------------------------------------------------------


def headline(
    table: pd.DataFrame, against: Sequence[str] = ("self_moa", "self_consistency"), *, margin: float = 0.02
) -> pd.DataFrame:
    """The gain of Symbolic-MoE over a baseline, ours (paired) beside the published one.

    `table` is a Results table of one benchmark. Columns: against, benchmark, gain, gain_low, gain_high,
    n_questions, published (on this benchmark), published_average (over the paper's four: the headline),
    difference (of the two gains), difference_low, difference_high, verdict; fractions. The answers
    behind the published gain are not available, so it is treated as unpaired and its interval (Wilson at the
    published n, and the published standard deviation over seeds, as in `intervals.verdict_against`) is too
    wide rather than too narrow. Verdicts as in `published.beside`.
    """
    main, rows = published.load("main_table"), []
    (benchmark,) = set(table["benchmark"])
    claims = published.load("headline").query("benchmark == 'average'").set_index("against")["difference"]
    for other in [name for name in against if name in set(table["method"])]:
        pair = table[table["method"].isin(["symbolic_moe", other])]
        ours = intervals.compare(pair, baseline=other).iloc[0]
        row = {"against": other, "benchmark": benchmark, "gain": ours["difference"]}
        row |= {"gain_low": ours["low"], "gain_high": ours["high"], "n_questions": ours["n_questions"]}
        row |= {"published": np.nan, "published_average": claims.get(other, np.nan) / 100}
        two = main[(main["benchmark"] == benchmark) & main["method"].isin(["symbolic_moe", other])]
        theirs = two.set_index("method")
        gain, half = Interval(), 0.0
        if len(theirs) == 2:
            accuracy = theirs["accuracy"] / 100
            spans = [
                intervals.wilson(accuracy[m] * theirs.loc[m, "n_test"], theirs.loc[m, "n_test"])
                for m in theirs.index
            ]
            seeds = [intervals.seed_spread(std / 100) for std in theirs["std"].fillna(0.0)]
            half = hypot(*((span.high - span.low) / 2 for span in spans), *seeds)
            row["published"] = float(accuracy["symbolic_moe"] - accuracy[other])
            gain = Interval(row["gain"], row["gain_low"], row["gain_high"], int(row["n_questions"]))
        rows.append(row | against_published(gain, row["published"], half=half, margin=margin))
    return pd.DataFrame(rows)


def headlines(
    table: pd.DataFrame, against: Sequence[str] = ("self_moa", "self_consistency"), *, margin: float = 0.02
) -> pd.DataFrame:
    """`headline` of each benchmark of a Results table and, if there are several, of their average.

    The average gives every benchmark the same weight, ours and the published one; it is null if one of them
    is. Its intervals add the squares of the benchmarks' distances, as `side_by_side` does.
    """
    parts = [part for _, part in table.groupby("benchmark", sort=False)]
    rows = pd.concat([headline(part, against, margin=margin) for part in parts], ignore_index=True)
    if len(parts) == 1 or rows.empty:
        return rows
    averages = []
    for other, own in rows.groupby("against", sort=False):
        row: dict[str, Any] = {"against": other, "benchmark": "average"}
        row |= {
            "n_questions": own["n_questions"].sum(),
            "published_average": own["published_average"].iloc[0],
        }
        row["published"] = own["published"].mean(skipna=False)
        for value in ("gain", "difference"):
            row[value] = own[value].mean(skipna=False)
            for side in ("low", "high"):
                distance = np.sqrt(((own[value] - own[f"{value}_{side}"]) ** 2).sum(skipna=False)) / len(own)
                row[f"{value}_{side}"] = row[value] + (distance if side == "high" else -distance)
        row["verdict"] = _verdict(row["difference_low"], row["difference_high"], margin=margin)
        if np.isnan(row["difference"]):
            row["verdict"] = "not published" if np.isnan(row["published"]) else "not run"
        averages.append(row)
    return pd.concat([rows, pd.DataFrame(averages, columns=rows.columns)], ignore_index=True)


def against_published(ours: Interval, theirs: float, *, half: float = 0.0, margin: float) -> dict[str, Any]:
    """Our figure minus a published one with a half-width: the difference, its interval, and a verdict.

    The squares of the distances are added (as `intervals.verdict_against` does for accuracies). "differs":
    the interval excludes 0; "agrees": it lies within -margin to margin; "not published" if `theirs` is
    null, "not run" if ours is.
    """
    names = ["difference", "difference_low", "difference_high", "verdict"]
    if np.isnan(theirs) or np.isnan(ours.estimate):
        missing = "not published" if np.isnan(theirs) else "not run"
        return dict(zip(names, (np.nan, np.nan, np.nan, missing), strict=True))
    difference = ours.estimate - theirs
    low = difference - hypot(ours.estimate - ours.low, half)
    high = difference + hypot(ours.high - ours.estimate, half)
    return dict(zip(names, (difference, low, high, _verdict(low, high, margin=margin)), strict=True))


def _verdict(low: float, high: float, *, margin: float) -> str:
    """A null bound (too few questions for an interval) neither agrees nor differs."""
    inside, outside = -margin <= low and high <= margin, low > 0 or high < 0
    return "differs" if outside else "agrees" if inside else "cannot tell"


# -- aggregators ----------------------------------------------------------------------------------


def on_items(examined: Examined, benchmark: str) -> pd.DataFrame:
    """The candidates' answers on items, with the columns of Results that `intervals` reads."""
    rows = examined.rows.rename(columns={"expert": "method"})
    return rows.assign(benchmark=benchmark, seed=0)


def candidates(examined: Examined, pipeline: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    """Each candidate on items and as the aggregator of the whole pipeline.

    `pipeline` is a Results table whose methods are the candidates' names. Columns: expert, item_accuracy,
    item_low, item_high, n_items (null, null, null and 0 without an item), accuracy, low, high,
    n_questions, chosen, published_choice; best on items first.
    """
    (benchmark,) = set(pipeline["benchmark"])
    table = intervals.accuracy_table(pipeline).rename(columns={"method": "expert"})
    names = {"accuracy": "item_accuracy", "low": "item_low", "high": "item_high", "n_questions": "n_items"}
    columns = ["expert", *names.values()]
    items = pd.DataFrame(columns=columns)
    if len(examined.rows):
        judged = intervals.accuracy_table(on_items(examined, benchmark))
        items = judged.rename(columns={"method": "expert", **names})[columns]
    merged = items.merge(
        table[["expert", "accuracy", "low", "high", "n_questions"]], on="expert", how="right"
    )
    merged = merged.astype(dict.fromkeys(columns[1:4], float)).fillna({"n_items": 0})
    merged = merged.assign(
        chosen=merged["expert"] == choice.aggregator,
        published_choice=merged["expert"].isin(published_aggregators(benchmark)),
    )
    order = ["item_accuracy", "accuracy"]
    return merged.astype({"n_items": int}).sort_values(
        order, ascending=False, kind="stable", ignore_index=True
    )


def published_aggregators(benchmark: str) -> list[str]:
    """The paper's aggregator for a benchmark (a name of the pool paper16); [] if it has none."""
    table = published.load("aggregators")
    return table.loc[table["benchmark"] == benchmark, "aggregator"].tolist()


def choice_beside(examined: Examined, choice: Choice, benchmark: str) -> pd.DataFrame:
    """Our aggregator beside the published one, compared on the same items (paired).

    Columns: benchmark, chosen, published, difference (ours minus theirs), low, high, n_items, verdict:
    "agrees" if it is the same expert, "differs" if ours is certainly better, "cannot tell" if these items
    do not decide between the two; "not published", or "not in this pool".
    """
    theirs = next(iter(published_aggregators(benchmark)), None)
    row: dict[str, Any] = {"benchmark": benchmark, "chosen": choice.aggregator, "published": theirs}
    row |= {"difference": np.nan, "low": np.nan, "high": np.nan, "n_items": 0}
    rows = on_items(examined, benchmark)
    if theirs is None:
        verdict = "not published"
    elif theirs == choice.aggregator:
        verdict = "agrees"
    elif theirs not in set(rows["method"]):
        verdict = "cannot tell" if rows.empty else "not in this pool"
    else:
        pair = intervals.compare(rows[rows["method"].isin([theirs, choice.aggregator])], baseline=theirs)
        first = pair.iloc[0]
        row |= {"n_items": first["n_questions"], **first[["difference", "low", "high"]]}
        verdict = "differs" if first["verdict"] == "better" else "cannot tell"
    return pd.DataFrame([row | {"verdict": verdict}])

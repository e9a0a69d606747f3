"""The tables and figures that most reports have, one call each: accuracy and cost, paired differences, costs.

Each call computes, writes into the report, and returns what a notebook shows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from skillmoe_lib.evaluation import figures, intervals
from skillmoe_lib.evaluation.figures import Chart
from skillmoe_lib.evaluation.report_folder import ReportFolder
from skillmoe_lib.experts.pool import Pool
from skillmoe_lib.inference import ledger
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods import lineup

#: Methods that figures draw apart: bounds, which no choice on validation can reach, and controls.
GROUPS = lineup.groups()
_COSTS = ["calls", "prompt_tokens", "output_tokens", "device_seconds"]


class Accuracy(NamedTuple):
    """Accuracy of each method with its interval, the same with costs, and the figure."""

    accuracy: pd.DataFrame
    summary: pd.DataFrame
    chart: Chart


def accuracy_and_cost(
    folder: ReportFolder,
    results: pd.DataFrame,
    loads: pd.DataFrame,
    *,
    prepared: pd.DataFrame | None = None,
    seed: int = 0,
) -> Accuracy:
    """Write `accuracy.csv`, `summary.csv` and the figure `accuracy` of a Results table.

    `loads` comes from `ledger.loads_by_method`; `prepared` from `ledger.preparation` (without it the cost
    of keywords is unknown); `seed` is that of the bootstrap.
    """
    accuracy = folder.write(intervals.accuracy_table(results, seed=seed), "accuracy")
    table = ledger.summary(accuracy, results, loads, prepared=prepared, skill_routed=lineup.SKILL_ROUTED)
    summary = folder.write(table, "summary")
    chart = folder.draw(figures.accuracy_bars(accuracy, groups=GROUPS), accuracy, "accuracy")
    return Accuracy(accuracy, summary, chart)


class Compared(NamedTuple):
    """Every method against the baseline, and the figure; an empty frame and None if there is no pair."""

    table: pd.DataFrame
    chart: Chart | None


def differences(folder: ReportFolder, results: pd.DataFrame, *, baseline: str, seed: int = 0) -> Compared:
    """Write `differences.csv` and its figure: each method minus the baseline, paired by question and seed.

    If the baseline or every other method was not run, the report says so and has neither.
    """
    methods = list(dict.fromkeys(results["method"]))
    if baseline not in methods or len(methods) < 2:
        other = "the baseline" if baseline not in methods else "any other method"
        folder.remove("differences")
        reason = f"({other} was not run; there is {', '.join(methods)})"
        folder.leave_out({f"differences to {baseline}": reason})
        return Compared(pd.DataFrame(columns=["method", "benchmark", "difference", "verdict"]), None)
    table = folder.write(intervals.compare(results, baseline=baseline, seed=seed), "differences")
    chart = folder.draw(figures.differences(table, groups=GROUPS), table, "differences")
    return Compared(table, chart)


def below_one_answer(folder: ReportFolder, results: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Write `below_one_answer.csv`: methods certain to be worse than one answer of the best expert.

    Columns: method, difference, low, high. Without `cot_task_best` it is empty and reported as left out.
    """
    columns, baseline = ["method", "difference", "low", "high"], "cot_task_best"
    if baseline not in set(results["method"]) or results["method"].nunique() < 2:
        folder.remove("below_one_answer")
        folder.leave_out({f"comparison with {baseline}": "(it was not run together with other methods)"})
        return pd.DataFrame(columns=columns)
    compared = intervals.compare(results, baseline=baseline, seed=seed)
    return folder.write(compared.loc[compared["verdict"] == "worse", columns], "below_one_answer")


def not_run(names: Sequence[str], pool: Pool, methods: str) -> dict[str, str]:
    """Method -> why it is not among `names`, for `ReportFolder.leave_out`; `methods` is the parameter.

    With "all" only methods that the pool is too small for: an earlier notebook chose the routed methods.
    """
    asked = f"(not among methods={methods})"
    reasons = {name: reason or asked for name, reason in lineup.available(pool, k=1).items()}
    return {
        name: reason
        for name, reason in reasons.items()
        if name not in names and not (methods.strip() == "all" and reason == asked)
    }


class Costs(NamedTuple):
    """Costs per question, and two figures of them."""

    per_question: pd.DataFrame
    accuracy_cost: Chart
    calls_tokens: Chart


def costs(folder: ReportFolder, summary: pd.DataFrame) -> Costs:
    """Draw accuracy against device seconds, and calls, tokens and seconds, all for one question.

    Bounds are left out: they cannot be run.
    """
    table = folder.named(summary[~summary["method"].isin(lineup.BOUNDS)].copy())
    table[_COSTS] = table[_COSTS].astype(float).div(table["n_questions"], axis=0)
    against = folder.draw(figures.accuracy_cost(table, groups=GROUPS), table, "accuracy_cost")
    return Costs(table, against, folder.draw(figures.calls_tokens(table), table, "calls_tokens"))


def batches(
    folder: ReportFolder,
    store: GenerationStore,
    questions: pd.DataFrame,
    used: pd.DataFrame,
    scores: pd.DataFrame,
) -> pd.DataFrame:
    """Write `batches.csv`, one row per load, and print how many requests were asked and how many generated.

    `used` and `scores` are those of `Competed`. A store that several experiments share holds loads of others
    too: the column `this_run` is true if a load generated a request of this run's methods or experts on
    test, or a keyword, answer or item on its validation questions.
    """
    shared = ledger.sharing(used["request_id"].tolist())
    print(f"{shared.n_asked} requests asked, {shared.n_generated} different ones generated")
    stored = store.generations(["request_id", "stage", "question_id", "batch_id"])
    validation = questions.loc[questions["split"] == "validation", "question_id"]
    ours = stored["request_id"].isin({*used["request_id"], *scores["request_id"]})
    ours |= stored["question_id"].isin(set(validation))
    ours |= stored["question_id"].isin(set(questions["question_id"])) & (stored["stage"] == "keywords")
    table = ledger.batches_table(store)
    table["this_run"] = table["batch_id"].isin(set(stored.loc[ours, "batch_id"]))
    return folder.write(table, "batches")

"""The tables and figures that most reports have, one call each: accuracy and cost, paired differences, costs.

Each call computes, writes into the report, and returns what a notebook shows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import comparisons, diagrams, figures, heatmaps, intervals
from skillmoe_lib.evaluation.figures import Chart
from skillmoe_lib.evaluation.report_folder import ReportFolder
from skillmoe_lib.experts.pool import Pool
from skillmoe_lib.inference import ledger, money
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods import lineup
from skillmoe_lib.questions import Question

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
    """Costs per question, two figures of them, and our methods at equal cost (None: nothing to compare)."""

    per_question: pd.DataFrame
    accuracy_cost: Chart
    calls_tokens: Chart
    equal_cost: Chart | None


def costs(folder: ReportFolder, summary: pd.DataFrame, results: pd.DataFrame | None = None) -> Costs:
    """Draw accuracy against device seconds, and calls, tokens and seconds, all for one question.

    Keyword calls are included where they are known. Bounds are left out: they cannot be run. With `results`,
    `equal_cost.csv` compares our methods with the best baseline that costs no more (one benchmark only).
    """
    table = folder.named(summary[~summary["method"].isin(lineup.BOUNDS)].copy())
    for name in _COSTS:
        keywords = table.get(f"keyword_{name}", pd.Series(0.0, table.index)).astype(float).fillna(0.0)
        table[name] = (table[name].astype(float) + keywords) / table["n_questions"]
    against = folder.draw(figures.accuracy_cost(table, groups=GROUPS), table, "accuracy_cost")
    tokens = folder.draw(figures.calls_tokens(table), table, "calls_tokens")
    equal = None
    if results is not None and len(set(table["benchmark"])) == 1:
        compared = folder.named(comparisons.at_equal_cost(table, results))
        if len(compared):
            folder.write(compared, "equal_cost")
            equal = folder.draw(figures.equal_cost(compared), compared, "equal_cost")
        else:
            folder.remove("equal_cost")
    return Costs(table, against, tokens, equal)


def gap_closed(folder: ReportFolder, results: pd.DataFrame, *, seed: int = 0) -> Chart | None:
    """Write `gap_closed.csv` and its figure: how much of the gap from random experts to the oracle is closed.

    None, and said in the report, if one of the two was not run or there is no gap.
    """
    try:
        table = comparisons.gap_closed(results, seed=seed)
    except SkillmoeError as error:
        folder.remove("gap_closed")
        folder.leave_out({"gap closed": f"({error})"})
        return None
    if table.empty:
        return None
    folder.write(table, "gap_closed")
    return folder.draw(figures.gap_closed(folder.named(table), groups=GROUPS), table, "gap_closed")


class Recruiting(NamedTuple):
    """How skills led to experts, whether these were as accurate as expected (None: no such router was run),
    and which experts answer alike."""

    flow: Chart
    calibration: Chart | None
    agreement: Chart


def recruiting(folder: ReportFolder, test: Sequence[Question], *, seed: int = 0) -> Recruiting:
    """Draw the flow from skills to experts, the calibration of sequential recruiting, and who answers alike.

    From the report's routes, skills and test scores; `test` are the test questions.
    """
    routes, skills, scores = (folder.read(name) for name in ("routes", "skills_test", "scores_test"))
    flow = comparisons.skill_flow(routes, skills)
    found = comparisons.calibration(routes, scores, seed=seed)
    alike = comparisons.agreement(scores, test)
    calibration = None
    if len(found):
        found["benchmark"] = test[0].benchmark
        folder.write(found, "calibration")
        chart = figures.learning_curve(folder.named(found), x="predicted", diagonal=True)
        calibration = folder.draw(chart, found, "calibration")
    return Recruiting(
        folder.draw(diagrams.recruitment_flow(flow), flow, "recruitment_flow"),
        calibration,
        folder.draw(heatmaps.agreement_matrix(alike), alike, "agreement"),
    )


def schedule(folder: ReportFolder) -> Chart:
    """Draw what ran when, from `batches.csv`."""
    batches = folder.read("batches")
    return folder.draw(diagrams.schedule(batches), batches, "schedule")


def paid(folder: ReportFolder, used: pd.DataFrame, store: GenerationStore) -> pd.DataFrame:
    """Write `money.csv`: what each method would pay served models alone; no table without such models."""
    table = money.by_method(used, store)
    if table.empty:
        folder.remove("money")
        return table
    return folder.write(table, "money")


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

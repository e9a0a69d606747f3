"""Tables behind the figures of a report: equal cost, the gap to the oracle, agreement, calibration, flow.

Each takes tables of the flow and returns a tidy frame; `figures`, `heatmaps` and `diagrams` draw them.
Fractions throughout; intervals are 95% over questions.
"""

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import intervals, results
from skillmoe_lib.methods import lineup
from skillmoe_lib.questions import Question
from skillmoe_lib.seeding import generator


def front(table: pd.DataFrame, *, cost: str = "device_seconds") -> list[bool]:
    """Whether each row is on the Pareto front: no other row is as accurate and cheaper, or more accurate
    and no more expensive. Rows without a cost or an accuracy are not."""
    price, accuracy = (
        table[name].astype("Float64").to_numpy(float, na_value=np.nan) for name in (cost, "accuracy")
    )
    known = ~(np.isnan(price) | np.isnan(accuracy))
    beaten = [
        bool((known & (price <= p) & (accuracy >= a) & ((price < p) | (accuracy > a))).any())
        for p, a in zip(price, accuracy, strict=True)
    ]
    return [bool(k and not b) for k, b in zip(known, beaten, strict=True)]


def at_equal_cost(
    table: pd.DataFrame, found: pd.DataFrame, *, cost: str = "device_seconds", seed: int = 0
) -> pd.DataFrame:
    """Each of the project's and the paper's own methods against the best baseline for its budget.

    Parameters
    ----------
    table
        method, accuracy and `cost`, one row per method of one benchmark (costs in any one unit).
    found
        The Results behind it.

    Returns
    -------
    method, rival (the most accurate baseline that costs no more), cost_of_method, cost_of_rival, difference
    (method minus rival, paired), low, high, n_questions. The rival is chosen on these very questions, which
    favours it: a gain that is left is not owed to the choice. A method for whose budget nothing can be run
    has no row.
    """
    kinds = {method.name: method.kind for method in lineup.METHODS}
    known = table.dropna(subset=["accuracy", cost]).set_index("method")
    rivals = known[[kinds.get(str(name)) == "baseline" for name in known.index]]
    rows = []
    for name in [name for name in known.index if kinds.get(str(name)) == "method"]:
        budget = float(known.loc[name, cost])
        affordable = rivals[rivals[cost] <= budget * (1 + 1e-9)]
        if affordable.empty:
            continue
        rival = str(affordable["accuracy"].astype(float).idxmax())
        pair = found[found["method"].isin([name, rival])]
        told = intervals.compare(pair, baseline=rival, seed=seed).iloc[0]
        row = {
            "method": name,
            "rival": rival,
            "cost_of_method": budget,
            "cost_of_rival": float(rivals[cost].to_dict()[rival]),
        }
        rows.append(row | told[["difference", "low", "high", "n_questions"]].to_dict())
    columns = [
        "method",
        "rival",
        "cost_of_method",
        "cost_of_rival",
        "difference",
        "low",
        "high",
        "n_questions",
    ]
    return pd.DataFrame(rows, columns=columns)


def gap_closed(
    found: pd.DataFrame,
    *,
    floor: str = "random_k",
    ceiling: str = "instance_oracle",
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """How much of the gap from random experts to the oracle each method closes.

    (accuracy - floor) / (ceiling - floor), 0 for `floor` and 1 for `ceiling`; below 0 a method does worse
    than random experts. Questions are resampled with all methods and seeds together, so the interval
    includes the uncertainty of both ends. Only questions that all methods ran; the ceiling's one answer
    serves every seed.

    Returns
    -------
    method, benchmark, gap_closed, low, high, n_questions; without the two ends.

    Raises
    ------
    SkillmoeError
        If one of the ends was not run, or the oracle is no better than random experts.
    """
    rows = []
    for benchmark, part in found.groupby("benchmark", sort=False):
        ran = part[part["status"] != "not_run"]
        wide = ran.pivot_table(
            index="question_id", columns="method", values="correct", aggfunc="mean", sort=False
        )
        for end in (floor, ceiling):
            if end not in wide:
                raise SkillmoeError(
                    f"the gap needs {floor!r} and {ceiling!r}, and {end!r} was not run on {benchmark}"
                )
        wide = wide.astype(float).dropna().sort_index()
        if wide.empty or wide[ceiling].mean() <= wide[floor].mean():
            raise SkillmoeError(
                f"{ceiling!r} is no better than {floor!r} on {benchmark}: there is no gap to close"
            )
        random = generator("gap", seed)
        drawn = random.integers(len(wide), size=(n_boot, len(wide)))
        counts = np.stack([np.bincount(row, minlength=len(wide)) for row in drawn])
        means = pd.DataFrame(counts @ wide.to_numpy() / len(wide), columns=wide.columns)
        gaps = (means[ceiling] - means[floor]).where(lambda gap: gap > 0)
        whole = wide.mean()
        for method in [
            name for name in dict.fromkeys(part["method"]) if name not in (floor, ceiling) and name in wide
        ]:
            shares = (means[method] - means[floor]) / gaps
            low, high = shares.quantile([(1 - level) / 2, (1 + level) / 2])
            estimate = (whole[method] - whole[floor]) / (whole[ceiling] - whole[floor])
            rows.append((method, benchmark, float(estimate), float(low), float(high), len(wide)))
    return pd.DataFrame(rows, columns=["method", "benchmark", "gap_closed", "low", "high", "n_questions"])


def agreement(scores: pd.DataFrame, questions: Sequence[Question]) -> pd.DataFrame:
    """How often two experts give the same answer, and the same wrong answer.

    Columns: expert_a, expert_b (both orders and the diagonal), agreement (share of the questions that both
    answered), n, wrong_alike (share of same answers among the questions that both have wrong; null without
    one), n_wrong. Answers are the same if grading calls them equal. Experts that are wrong alike add nothing
    to each other's vote.
    """
    keyed = results.answer_groups(scores, questions).drop_duplicates(["question_id", "expert"])
    by_cell = keyed.set_index(["question_id", "expert"])
    answers = by_cell["answer"].unstack()  # noqa: PD010 - texts have no mean
    right = by_cell["correct"].astype(float).unstack()  # noqa: PD010
    given, text = answers.notna(), answers.fillna("")
    rows = []
    for a, b in combinations_with_replacement(answers.columns, 2):
        both = given[a] & given[b]
        same = both & (text[a] == text[b])
        wrong = both & (right[a] == 0) & (right[b] == 0)
        n, n_wrong = int(both.sum()), int(wrong.sum())
        agree = same.sum() / n if n else np.nan
        alike = (same & wrong).sum() / n_wrong if n_wrong else np.nan
        rows += [(x, y, agree, n, alike, n_wrong) for x, y in dict.fromkeys([(a, b), (b, a)])]
    return pd.DataFrame(rows, columns=["expert_a", "expert_b", "agreement", "n", "wrong_alike", "n_wrong"])


def calibration(
    routes: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    methods: Sequence[str] = ("sequential", "sequential_without_skills"),
    n_bins: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """Whether experts are right as often as a router expected: one row per method and bin of expectations.

    For routers whose suitability is an expected accuracy (`routing.Ranked`). Every slot of a route is judged
    by the stored single answer of its expert. Bins hold about equally many slots. Columns: method, predicted
    (mean expectation of the bin), accuracy, low, high (questions resampled: slots of one question are not
    independent), n_slots, n_questions.
    """
    graded = scores[scores["status"] != "not_run"].drop_duplicates(["question_id", "expert"])
    mine = routes[routes["method"].isin(methods) & routes["suitability"].notna()]
    judged = mine.merge(graded[["question_id", "expert", "correct"]], on=["question_id", "expert"])
    rows = []
    for method, part in judged.groupby("method", sort=False):
        expected = part["suitability"].astype(float)
        bins = pd.qcut(expected.rank(method="first"), min(n_bins, len(part)), labels=False)
        for _, cell in part.assign(expected=expected).groupby(bins.to_numpy()):
            right = cell["correct"].to_numpy(float)
            span = intervals.paired_bootstrap(
                right, np.zeros_like(right), groups=cell["question_id"].to_numpy(), seed=seed
            )
            row = (method, cell["expected"].mean(), span.estimate, max(0.0, span.low), min(1.0, span.high))
            rows.append((*row, len(cell), span.n))
    columns = ["method", "predicted", "accuracy", "low", "high", "n_slots", "n_questions"]
    return pd.DataFrame(rows, columns=columns)


def skill_flow(routes: pd.DataFrame, skills: pd.DataFrame, *, method: str = "symbolic_moe") -> pd.DataFrame:
    """How many slots each skill sent to each expert: skill, expert, slots.

    A slot counts once for its question, divided equally among the question's skills (matched to the
    profiles); questions without a skill are `(no skill)`.
    """
    mine = routes.loc[routes["method"] == method, ["question_id", "expert"]]
    named = skills[["question_id", "skill"]].drop_duplicates()
    joined = mine.reset_index(names="row").merge(named, on="question_id", how="left")
    joined["skill"] = joined["skill"].fillna("(no skill)")
    joined["slots"] = 1 / joined.groupby("row")["skill"].transform("size")
    return joined.groupby(["skill", "expert"])["slots"].sum().reset_index()

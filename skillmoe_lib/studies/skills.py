"""Skills: how sure a profile is, what each expert lacks, which skills go together, how hard questions are.

A profile is learnt on a few hundred validation questions, so most of its cells rest on a handful of answers.
Every figure here carries the number of questions behind it and an interval, so that noise shows as noise.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from scipy import stats

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.intervals import holm, paired_bootstrap, wilson
from skillmoe_lib.studies.outcomes import Floats, Outcomes
from skillmoe_lib.studies.what_if import plurality

#: How two skills' accuracies could combine into that of a question that needs both.
COMBINED: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "weaker": np.minimum,
    "product": np.multiply,
    "mean": lambda one, other: (one + other) / 2,
    "stronger": np.maximum,
}


def profile_cells(outcomes: Outcomes, *, split: str = "validation", level: float = 0.95) -> pd.DataFrame:
    """Accuracy of every expert on the questions that carry a skill.

    Columns: expert, skill, n (questions answered), n_right, accuracy, low, high (Wilson), score (right minus
    wrong, as in the Profiles table), overall (the expert's accuracy on all questions of the split), certain
    (the interval excludes `overall`: this cell says more than the expert's overall accuracy does).
    """
    answers = _answers(outcomes, split)
    overall = answers.groupby("expert")["correct"].mean()
    carried = _carried(outcomes, split).merge(answers, on="question_id")
    cells = carried.groupby(["expert", "skill"])["correct"].agg(n="size", n_right="sum").reset_index()
    spans = [wilson(float(r), int(n), level) for r, n in zip(cells["n_right"], cells["n"], strict=True)]
    cells["accuracy"] = [span.estimate for span in spans]
    cells["low"], cells["high"] = [span.low for span in spans], [span.high for span in spans]
    cells["score"] = 2 * cells["n_right"] - cells["n"]
    cells["overall"] = cells["expert"].map(overall)
    cells["certain"] = (cells["overall"] < cells["low"]) | (cells["overall"] > cells["high"])
    return cells


def missing_skills(outcomes: Outcomes, *, split: str = "validation", alpha: float = 0.05) -> pd.DataFrame:
    """Skills that an expert lacks: those on which it is right less often than on all other questions.

    After STAT ("Skill-Targeted Adaptive Training", He et al. 2025), which profiles the skills that a model's
    answers lack; we go by right and wrong answers instead of a judge's reading of them.

    Columns: expert, skill, n, accuracy, elsewhere (accuracy on its other questions), difference, p (Fisher's
    exact test, one-sided), p_holm (over the skills of the expert), missing (p_holm below `alpha`). Largest
    lack first. A skill that is not missing may be one with too few questions to tell.
    """
    answers = _answers(outcomes, split)
    carried = _carried(outcomes, split).merge(answers, on="question_id")
    rows = []
    for expert, own in answers.groupby("expert"):
        n_all, right_all = len(own), int(own["correct"].sum())
        for skill, part in carried[carried["expert"] == expert].groupby("skill"):
            n, right = len(part), int(part["correct"].sum())
            if n == n_all:
                continue  # there is no elsewhere
            table = [[right, n - right], [right_all - right, n_all - n - right_all + right]]
            p = float(stats.fisher_exact(table, alternative="less").pvalue)
            elsewhere = (right_all - right) / (n_all - n)
            rows.append((expert, skill, n, right / n, elsewhere, right / n - elsewhere, p))
    columns = ["expert", "skill", "n", "accuracy", "elsewhere", "difference", "p"]
    frame = pd.DataFrame(rows, columns=columns)
    adjusted = [pd.Series(holm(part["p"].to_dict())) for _, part in frame.groupby("expert")]
    frame["p_holm"] = pd.concat(adjusted) if adjusted else math.nan
    frame["missing"] = frame["p_holm"] < alpha
    return frame.sort_values(["p_holm", "difference", "expert", "skill"]).reset_index(drop=True)


def skill_graph(skills: pd.DataFrame, *, min_questions: int = 2) -> pd.DataFrame:
    """Skills that occur together, as the edges of a graph: one row for each pair.

    Columns: skill, other, n_both (questions that carry both; at least `min_questions`), n_skill, n_other,
    expected (how many would, if skills were independent), lift (n_both over expected). Most questions first.
    """
    named = skills[["question_id", "skill"]].drop_duplicates()
    n = named["question_id"].nunique()
    count = named["skill"].value_counts()
    pairs = named.merge(named, on="question_id", suffixes=("", "_other"))
    pairs = pairs[pairs["skill"] < pairs["skill_other"]]
    edges = pairs.groupby(["skill", "skill_other"]).size().rename("n_both").reset_index()
    edges = edges[edges["n_both"] >= min_questions].rename(columns={"skill_other": "other"})
    for name, end in (("n_skill", "skill"), ("n_other", "other")):
        edges[name] = count.reindex(edges[end]).to_numpy(int)
    edges["expected"] = edges["n_skill"] * edges["n_other"] / max(n, 1)
    edges["lift"] = edges["n_both"] / edges["expected"]
    order = edges.sort_values(["n_both", "lift", "skill", "other"], ascending=[False, False, True, True])
    return order.reset_index(drop=True)


def weakest_link(
    outcomes: Outcomes, *, prior: float = 10.0, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Does accuracy on questions of two skills follow the weaker of them?

    Each expert's accuracy on a skill is estimated on validation, with `prior` imagined answers of its overall
    accuracy. On test questions of exactly two known skills, each rule of `COMBINED` predicts the expert's
    answers from the two estimates.

    Columns: rule, predicted (mean), observed (mean accuracy), brier (mean squared error of the prediction),
    difference (of brier to that of the expert's overall accuracy; negative is better), low, high (paired by
    question), n_questions, n_answers. The rule "overall" is that reference.
    """
    answers, carried = _answers(outcomes, "validation"), _carried(outcomes, "validation")
    overall = answers.groupby("expert")["correct"].mean()
    cells = (
        carried.merge(answers, on="question_id").groupby(["expert", "skill"])["correct"].agg(["size", "sum"])
    )
    base = cells.index.get_level_values("expert").map(overall.to_dict())
    known = (cells["sum"] + prior * base) / (cells["size"] + prior)
    named = _carried(outcomes, "test")
    named = named[named["skill"].isin(set(cells.index.get_level_values("skill")))]
    two = (
        named.groupby("question_id").filter(lambda part: len(part) == 2).sort_values(["question_id", "skill"])
    )
    if two.empty:
        raise SkillmoeError("no test question has exactly two skills that validation questions carry too")
    pairs = two.groupby("question_id")["skill"].agg(["first", "last"]).reset_index()
    rows = _answers(outcomes, "test").merge(pairs, on="question_id")
    found = [
        known.reindex(pd.MultiIndex.from_frame(rows[["expert", side]])).to_numpy(float)
        for side in ("first", "last")
    ]
    own = rows["expert"].map(overall).to_numpy(float)
    one, other = (np.where(np.isnan(side), own, side) for side in found)
    right, ids = rows["correct"].to_numpy(float), rows["question_id"].to_numpy()
    reference = (own - right) ** 2
    table = []
    for rule, predicted in {**{name: f(one, other) for name, f in COMBINED.items()}, "overall": own}.items():
        error = (predicted - right) ** 2
        value = paired_bootstrap(error, reference, groups=ids, level=level, seed=seed)
        gap = value if rule != "overall" else value._replace(low=0.0, high=0.0)
        table.append((rule, predicted.mean(), right.mean(), error.mean(), *gap, len(rows)))
    columns = [
        "rule",
        "predicted",
        "observed",
        "brier",
        "difference",
        "low",
        "high",
        "n_questions",
        "n_answers",
    ]
    return pd.DataFrame(table, columns=columns)


def difficulty(outcomes: Outcomes, *, split: str = "test", level: float = 0.95) -> pd.DataFrame:
    """How hard each question is for the pool: question_id, subject, difficulty (share of experts that are
    wrong), low, high (Wilson over the experts that ran, as if they were drawn from many), n_experts,
    n_answers (different answers), majority (whether the vote of all is right). Hardest first."""
    rows = outcomes.rows(split)
    rows = rows[outcomes.ran[rows].any(axis=1)]
    ran, right = outcomes.ran[rows], outcomes.correct[rows] & outcomes.ran[rows]
    given = np.where(ran, outcomes.answer[rows], -1)
    vote = plurality(given)
    easy = [
        wilson(int(hits), int(n), level) for hits, n in zip(right.sum(axis=1), ran.sum(axis=1), strict=True)
    ]
    frame = pd.DataFrame(
        {
            "question_id": outcomes.questions.index[rows],
            "subject": outcomes.questions["subject"].to_numpy()[rows],
            "difficulty": [1 - span.estimate for span in easy],
            "low": [1 - span.high for span in easy],
            "high": [1 - span.low for span in easy],
            "n_experts": ran.sum(axis=1),
            "n_answers": [len(set(numbers) - {-1}) for numbers in given.tolist()],
            "majority": (right & (given == vote[:, None])).any(axis=1),
        }
    )
    return frame.sort_values(["difficulty", "question_id"], ascending=[False, True]).reset_index(drop=True)


def _answers(outcomes: Outcomes, split: str) -> pd.DataFrame:
    """question_id, expert, correct of what was run on one split."""
    rows, n = outcomes.rows(split), len(outcomes.experts)
    frame = pd.DataFrame(
        {
            "question_id": np.repeat(outcomes.questions.index[rows].to_numpy(object), n),
            "expert": np.tile(np.array(outcomes.experts, dtype=object), len(rows)),
            "correct": outcomes.correct[rows].ravel(),
        }
    )
    return frame[outcomes.ran[rows].ravel()]


def _carried(outcomes: Outcomes, split: str) -> pd.DataFrame:
    """question_id and skill of one split; a skill that a question carries twice counts once."""
    here = outcomes.skills["question_id"].isin(outcomes.ids(split))
    return outcomes.skills.loc[here, ["question_id", "skill"]].drop_duplicates().astype(object)

"""Key of 02_profiles: profiles and intervals by the library, the learning curve by running sums."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from skillmoe_lib.classroom import Variant, recording
from skillmoe_lib.classroom.checks import check_table, check_values
from skillmoe_lib.evaluation.intervals import wilson
from skillmoe_lib.profiling import outcomes
from skillmoe_lib.profiling import profile as profile_of


class Own(NamedTuple):
    """A student's data: questions by id, skills, and the answers of the student's pool."""

    questions: pd.DataFrame
    skills: pd.DataFrame
    answers: pd.DataFrame


def own(variant: Variant) -> Own:
    """What the student's notebook loads."""
    asked = recording.load("questions").set_index("question_id")
    ids = variant.questions(asked.index[asked["split"] == "validation"], 160)
    answers = recording.load("answers")
    pool = variant.pool(answers["expert"], 8)
    answers = answers[answers["question_id"].isin(ids) & answers["expert"].isin(pool)]
    return Own(asked.loc[ids], recording.skills(ids), answers)


def common(skills: pd.DataFrame) -> pd.DataFrame:
    """The rows of skills that at least ten questions have."""
    return skills[skills.groupby("skill")["question_id"].transform("size") >= 10]


def check_profile(value: list[dict[str, object]], variant: Variant) -> tuple[float, str]:
    """Three points: two for the scores, one for the counts."""
    data = own(variant)
    truth = profile_of(common(data.skills), data.answers)
    key = ["expert", "skill"]
    scored = check_table(value, truth[[*key, "score"]], key=key, points=2)
    counted = check_table(value, truth[[*key, "n"]], key=key, points=1)
    return scored[0] + counted[0], scored[1] or counted[1]


def check_wilson(value: list[dict[str, object]], variant: Variant) -> tuple[float, str]:
    """Two points in three parts."""
    grid = outcomes(own(variant).answers)
    spans = {name: wilson(grid[name].sum(), len(grid)) for name in grid}
    rows = [(name, span.estimate, span.low, span.high) for name, span in spans.items()]
    truth = pd.DataFrame(rows, columns=["expert", "accuracy", "low", "high"])
    return check_table(value, truth, key=["expert"], points=2, tolerance=1e-3)


def check_clear(value: dict[str, object], variant: Variant) -> tuple[float, str]:
    """Two points, one for each way to group."""
    data = own(variant)
    grid = outcomes(data.answers)
    by_skill = common(data.skills).groupby("skill")["question_id"].apply(list)
    by_family = data.questions.groupby("family").apply(lambda part: list(part.index))
    truth = {
        "n_skills": sum(clear(grid.loc[ids]) for ids in by_skill),
        "n_families": sum(clear(grid.loc[ids]) for ids in by_family),
    }
    return check_values(value, truth, points=2)


def clear(grid: pd.DataFrame) -> bool:
    """Whether the interval of the best expert lies above that of the second."""
    second, best = grid.sum().sort_values().iloc[-2:]
    return wilson(best, len(grid)).low > wilson(second, len(grid)).high


def check_learning_curve(value: list[dict[str, object]], variant: Variant) -> tuple[float, str]:
    """Three points, in equal parts for both columns."""
    table = outcomes(own(variant).answers).to_numpy()
    draws = variant.generator("draws").permuted(np.tile(np.arange(len(table)), (200, 1)), axis=1)
    running = table[draws].cumsum(axis=1)  # draw x question x expert
    n_right = table.sum(axis=0)
    rows = []
    for n in (5, 10, 20, 40, 80):
        lost = n_right.max() - n_right[running[:, n - 1].argmax(axis=1)]
        rows.append((n, np.mean(lost == 0), lost.mean() / len(table)))
    truth = pd.DataFrame(rows, columns=["n", "found", "regret"])
    return check_table(value, truth, key=["n"], points=3, tolerance=1e-3)

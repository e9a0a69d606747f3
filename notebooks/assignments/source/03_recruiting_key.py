"""Key of 03_recruiting: the formulas by the library, the spread by counting all triples."""

from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

from skillmoe_lib.classroom import Variant, recording
from skillmoe_lib.classroom.checks import check_table, check_values
from skillmoe_lib.profiling import profile, totals
from skillmoe_lib.routing import SkillRouter
from skillmoe_lib.routing.skill_router import competency, softmax

NAMES = ["A", "B", "C", "D"]
TEMPERATURES = (0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)


def by_hand(variant: Variant) -> tuple[np.ndarray, np.ndarray]:
    """Totals and suitabilities of the student's four experts."""
    draw = variant.generator("by hand")
    total = [*draw.integers([12, 5, 1], [22, 11, 5]), -draw.integers(5, 11)]
    local = [*draw.integers([4, 2, 1], [8, 5, 3]), -draw.integers(2, 5)]
    return np.array(total, dtype=float), np.array(local, dtype=float)


def check_published(value: list[dict[str, object]], variant: Variant) -> tuple[float, str]:
    """Two points in three parts."""
    total, local = by_hand(variant)
    gamma = competency(total, "published")
    truth = pd.DataFrame({"expert": NAMES, "gamma": gamma, "w": gamma * local})
    truth["p"] = softmax(truth["w"].to_numpy() / 0.5)
    return check_table(value, truth, key=["expert"], points=2, tolerance=1e-5)


def check_released(value: list[dict[str, object]], variant: Variant) -> tuple[float, str]:
    """Two points in two parts."""
    total, local = by_hand(variant)
    gamma = competency(total, "released")
    weights = gamma * np.where(local > 0, local, 0)
    truth = pd.DataFrame({"expert": NAMES, "gamma": gamma, "p": weights / weights.sum()})
    return check_table(value, truth, key=["expert"], points=2, tolerance=1e-5)


class Own(NamedTuple):
    """A student's recorded data: what profiles are learnt from, and the questions to recruit for."""

    skills: pd.DataFrame
    answers: pd.DataFrame
    asked: list[str]
    asked_skills: pd.DataFrame


def own(variant: Variant) -> Own:
    """What the student's notebook loads."""
    questions = recording.load("questions")
    chosen = variant.questions(questions.loc[questions["split"] == "validation", "question_id"], 280)
    asked = variant.choose(chosen, 40, "asked")
    known = sorted(set(chosen) - set(asked))
    answers = recording.load("answers")
    pool = variant.pool(answers["expert"], 8)
    answers = answers[answers["expert"].isin(pool) & answers["question_id"].isin(known)]
    return Own(recording.skills(known), answers, asked, recording.skills(asked))


def check_reversed_order(value: dict[str, object], variant: Variant) -> tuple[float, str]:
    """Two points, one each."""
    data = own(variant)
    learned = profile(data.skills, data.answers)
    total = totals(learned)
    scores = {(row.expert, row.skill): int(row.score) for row in learned.itertuples()}
    n_worse = 0
    for question_id in data.asked:
        named = data.asked_skills.loc[data.asked_skills["question_id"] == question_id, "skill"]
        local = {name: sum(scores.get((name, skill), 0) for skill in named) for name in total.index}
        # Whole numbers: total * S has the order of gamma * S, reversed if the sum is negative.
        sign = 1 if total.sum() > 0 else -1
        relevance = {name: sign * int(total[name]) * s for name, s in local.items()}
        top = [name for name in local if relevance[name] == max(relevance.values())]
        n_worse += all(local[name] < max(local.values()) for name in top)
    truth = {"sum_of_totals": int(total.sum()), "n_worse": n_worse}
    return check_values(value, truth, points=2)


def check_fixed(value: list[dict[str, object]], variant: Variant) -> tuple[float, str]:
    """Two points, in parts for the experts' columns."""
    data = own(variant)
    router = SkillRouter(formula="fixed", temperature=0.5, prior=10).fit(data.skills, data.answers)
    truth = router.probabilities(data.asked_skills, question_ids=data.asked).reset_index()
    return check_table(value, truth, key=["question_id"], points=2, tolerance=1e-4)


def check_mixture(value: list[dict[str, object]], variant: Variant) -> tuple[float, str]:
    """Two points, one a column."""
    data = own(variant)
    triples = np.array(list(product(range(8), repeat=3)))
    n_different = np.array([len(set(triple)) for triple in triples.tolist()])
    rows = []
    for temperature in TEMPERATURES:
        router = SkillRouter(formula="fixed", temperature=temperature).fit(data.skills, data.answers)
        chances = router.probabilities(data.asked_skills, question_ids=data.asked).to_numpy()
        expected = chances[:, triples].prod(axis=2) @ n_different
        rows.append((temperature, expected.mean(), np.mean(expected < 1.5)))
    truth = pd.DataFrame(rows, columns=["temperature", "n_distinct", "alone"])
    return check_table(value, truth, key=["temperature"], points=2, tolerance=1e-3)

"""Key of 05_aggregation: votes by the library, the choice by its exact test, beliefs by Bayes' rule."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from skillmoe_lib.classroom import Variant, recording
from skillmoe_lib.classroom.checks import check_table, check_values
from skillmoe_lib.evaluation.intervals import mcnemar_exact
from skillmoe_lib.routing import SkillRouter, belief

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


class Own(NamedTuple):
    """A student's data: questions asked, and answers and skills of those and of the known ones."""

    asked: list[str]
    known: pd.DataFrame
    tested: pd.DataFrame
    known_skills: pd.DataFrame
    asked_skills: pd.DataFrame


def own(variant: Variant) -> Own:
    """What the student's notebook loads."""
    questions = recording.load("questions")
    chosen = variant.questions(questions.loc[questions["split"] == "validation", "question_id"], 280)
    asked = variant.choose(chosen, 80, "asked")
    answers = recording.load("answers")
    pool = variant.pool(answers["expert"], 8)
    answers = answers[answers["expert"].isin(pool) & answers["question_id"].isin(chosen)]
    skills = recording.skills(chosen)
    now, skilled = answers["question_id"].isin(asked), skills["question_id"].isin(asked)
    return Own(asked, answers[~now], answers[now], skills[~skilled], skills[skilled])


def ballots(data: Own) -> dict[str, list[str | None]]:
    """Question -> what its three recruits answered, in slot order."""
    router = SkillRouter(3, temperature=1.0, trim=0).fit(data.known_skills, data.known)
    routes = router.route(data.asked_skills, question_ids=data.asked)
    said = {(row.question_id, row.expert): row.answer for row in data.tested.itertuples()}
    found: dict[str, list[str | None]] = {name: [] for name in data.asked}
    for row in routes.sort_values(["question_id", "slot"]).itertuples():
        answer = said[row.question_id, row.expert]
        found[row.question_id].append(None if pd.isna(answer) else answer)
    return found


def winner(given: list[str | None]) -> str | None:
    """The plurality of a list; a tie goes to the answer that was given first."""
    votes: dict[str, float] = {}
    for at, answer in enumerate(given):
        if answer is not None:
            votes[answer] = votes.get(answer, -at / 100) + 1  # the earlier, the more
    return max(votes, key=lambda answer: votes[answer]) if votes else None


def right(data: Own) -> dict[str, set[str]]:
    """Question -> its right answers."""
    found: dict[str, set[str]] = {name: set() for name in data.asked}
    for row in data.tested[data.tested["correct"]].itertuples():
        found[row.question_id].add(row.answer)
    return found


def check_votes(value: list[dict[str, object]], variant: Variant) -> tuple[float, str]:
    """Two points."""
    rows = [(name, winner(given)) for name, given in ballots(own(variant)).items()]
    truth = pd.DataFrame(rows, columns=["question_id", "answer"])
    return check_table(value, truth, key=["question_id"], points=2)


def check_ceiling(value: dict[str, object], variant: Variant) -> tuple[float, str]:
    """One point in three parts."""
    data = own(variant)
    given, good = ballots(data), right(data)
    truth = {
        "vote": np.mean([winner(given[name]) in good[name] for name in data.asked]),
        "any_recruit": np.mean([bool(good[name].intersection(given[name])) for name in data.asked]),
        "any_expert": data.tested.groupby("question_id")["correct"].any().mean(),
    }
    return check_values(value, truth, points=1, tolerance=1e-3)


def check_choice(value: dict[str, object], variant: Variant) -> tuple[float, str]:
    """Two points in four parts."""
    items = recording.load("items")
    drawn = variant.choose(items["question_id"], 60, "items")
    choosing = items[items["question_id"].isin(drawn)].groupby("expert")["correct"].sum()
    first, second = sorted(choosing.index, key=lambda name: (-choosing[name], name))[:2]
    rest = items[~items["question_id"].isin(drawn)].sort_values("question_id")
    a, b = (rest.loc[rest["expert"] == name, "correct"].to_numpy() for name in (first, second))
    truth = {"chosen": first, "second": second, "accuracy": a.mean(), "p": mcnemar_exact(a, b)}
    return check_values(value, truth, points=2, tolerance=1e-3)


def check_by_hand(value: list[dict[str, object]], variant: Variant) -> tuple[float, str]:
    """Two points in two parts: Bayes' rule with equally likely answers, turn by turn."""
    draw = variant.generator("by hand")
    accuracies = draw.choice(range(35, 86), 4, replace=False) / 100
    said = draw.choice(["A", "B"], 4)
    posterior = np.full(5, 1 / 5)
    rows = []
    named = {row["turn"]: row["leading"] for row in value}
    for turn, (accuracy, answer) in enumerate(zip(accuracies, said, strict=True), start=1):
        likelihood = np.full(5, (1 - accuracy) / 4)
        likelihood["ABCDE".index(answer)] = accuracy
        posterior = posterior * likelihood / (posterior * likelihood).sum()
        leading = ["ABCDE"[i] for i in np.flatnonzero(posterior > posterior.max() - 1e-9)]
        mine = named.get(turn)  # of answers that are equally probable any may be named
        rows.append((turn, mine if mine in leading else leading[0], posterior.max()))
    truth = pd.DataFrame(rows, columns=["turn", "leading", "belief"])
    return check_table(value, truth, key=["turn"], points=2, tolerance=1e-4)


def check_in_turn(value: list[dict[str, object]], variant: Variant) -> tuple[float, str]:
    """Three points, in parts for calls and accuracy."""
    data = own(variant)
    router = belief.BestBySkill().fit(data.known_skills, data.known)
    turns = belief.recorded_turns(router.route(data.asked_skills, question_ids=data.asked), data.tested)
    m = dict.fromkeys(data.asked, belief.open_answers(data.known))
    tried = belief.try_thresholds(turns, right(data), m, thresholds=THRESHOLDS)
    truth = tried[["threshold", "calls", "accuracy"]]
    return check_table(value, truth, key=["threshold"], points=3, tolerance=1e-3)

"""Accuracy against calls: sequential recruiting at every threshold, beside the fixed top k at every k.

Every expert has answered every test question once, and sequential recruiting makes the same requests, so the
whole curve is computed from these answers and nothing is generated. The curve is only shown: the threshold in
use was chosen on validation (`pipeline.choose_stopping`).
"""

from collections.abc import Sequence

import pandas as pd

from skillmoe_lib import pipeline
from skillmoe_lib.evaluation import results
from skillmoe_lib.evaluation.intervals import accuracy_table
from skillmoe_lib.evaluation.report_folder import ReportFolder
from skillmoe_lib.questions import Question
from skillmoe_lib.routing import GlobalTopK, belief

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99)


def of_report(folder: ReportFolder) -> pd.DataFrame:
    """The `curves` of a report, computed from its tables."""
    asked = folder.read("questions")
    return curves(
        pipeline.split(asked, "test"),
        folder.read("skills_test"),
        pipeline.split_of(asked, folder.read("skills"))["validation"],
        folder.read("scores_validation"),
        folder.read("scores_test"),
        open_answers=folder.read_choice("decided").open_answers,
    )


def curves(
    questions: Sequence[Question],
    skills: pd.DataFrame,
    validation_skills: pd.DataFrame,
    validation: pd.DataFrame,
    test: pd.DataFrame,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    open_answers: float = 1001.0,
) -> pd.DataFrame:
    """Accuracy and mean calls on test questions: method, at, calls, accuracy, low, high, n_questions.

    Parameters
    ----------
    questions
        The test questions.
    skills, validation_skills
        Skills of the test questions, matched to those of the validation questions; and the latter.
    validation, test
        Scores of every expert on the two splits.

    `at` is the threshold, or k for `top_k` (the majority vote of the k most accurate experts on validation).
    Intervals are Wilson's, 95%.
    """
    outcomes = outcomes_by_question(
        questions,
        skills,
        validation_skills,
        validation,
        test,
        thresholds=thresholds,
        open_answers=open_answers,
    )
    named = outcomes.assign(method=outcomes["method"] + " " + outcomes["at"].astype(str))
    table = accuracy_table(named.assign(seed=0, status="answered", benchmark=questions[0].benchmark))
    keys = ["method", "at"]
    calls = outcomes.groupby(keys, sort=False)["calls"].mean().reset_index()
    calls["row"] = calls["method"] + " " + calls["at"].astype(str)
    merged = calls.merge(table.rename(columns={"method": "row"}), on="row").drop(columns="row")
    return merged[[*keys, "benchmark", "calls", "accuracy", "low", "high", "n_questions"]]


def outcomes_by_question(
    questions: Sequence[Question],
    skills: pd.DataFrame,
    validation_skills: pd.DataFrame,
    validation: pd.DataFrame,
    test: pd.DataFrame,
    *,
    thresholds: Sequence[float],
    open_answers: float,
) -> pd.DataFrame:
    """The outcomes behind the curves: method, at, question_id, correct, calls."""
    keyed = results.answer_groups(test, questions)
    right = {name: set(part["answer"]) for name, part in keyed[keyed["correct"]].groupby("question_id")}
    n_answers = {q.question_id: len(q.choices) or open_answers for q in questions}
    ids = list(n_answers)
    rows = []
    for name, use_skills in (("sequential", True), ("sequential_without_skills", False)):
        router = belief.BestBySkill(use_skills=use_skills).fit(validation_skills, validation)
        turns = belief.recorded_turns(router.route(skills, question_ids=ids, method=name), keyed)
        for threshold in thresholds:
            for question_id, (answers, accuracies) in turns.items():
                end = belief.ask_in_turn(
                    answers, accuracies, n_answers=n_answers[question_id], threshold=threshold
                )
                rows.append(
                    (name, threshold, question_id, end.answer in right.get(question_id, ()), end.calls)
                )
    n_experts = validation["expert"].nunique()
    fixed = GlobalTopK(n_experts).fit(validation_skills, validation)
    turns = belief.recorded_turns(fixed.route(skills, question_ids=ids), keyed)
    for k in range(1, n_experts + 1):
        for question_id, (answers, _) in turns.items():
            won = plurality(answers[:k])
            rows.append(("top_k", float(k), question_id, won in right.get(question_id, ()), k))
    return pd.DataFrame(rows, columns=["method", "at", "question_id", "correct", "calls"])


def plurality(answers: Sequence[str | None]) -> str | None:
    """The answer given most often; ties go to the first; None if there is none."""
    given = [answer for answer in answers if answer is not None]
    return max(given, key=given.count) if given else None

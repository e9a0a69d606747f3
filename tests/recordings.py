"""A made-up pool of recorded answers, of any size: experts that know some skills and not others."""

from pathlib import Path

import numpy as np
import pandas as pd

from skillmoe_lib import tables
from skillmoe_lib.studies import outcomes

SKILLS = ("spelling", "algebra", "calendar", "geometry", "logic", "sorting", "counting", "bases")


def questions(n_validation: int = 40, n_test: int = 60) -> pd.DataFrame:
    """Open questions, each of one skill, in turn."""
    n = n_validation + n_test
    skill = np.array(SKILLS, dtype=object)[np.arange(n) % len(SKILLS)]
    return pd.DataFrame(
        {
            "question_id": [f"q{i:04}" for i in range(n)],
            "benchmark": "made up",
            "split": np.where(np.arange(n) < n_validation, "validation", "test"),
            "text": [f"Question {i} of {s}?" for i, s in enumerate(skill)],
            "choices": "[]",
            "gold": [f"g{i}" for i in range(n)],
            "subject": skill,
            "kind": "text",
            "checker": "{}",
        }
    )


def scores(asked: pd.DataFrame, n_experts: int = 4, *, seed: int = 0) -> pd.DataFrame:
    """One answer of each expert to each question: expert i knows skill i (modulo their number) well."""
    draw = np.random.default_rng(seed)
    frames = []
    for i in range(n_experts):
        knows = (asked["subject"] == SKILLS[i % len(SKILLS)]).to_numpy()
        right = draw.random(len(asked)) < np.where(knows, 0.9, 0.15 + 0.02 * i)
        wrong = asked["question_id"] + "-" + pd.Series(draw.integers(0, 3, len(asked))).astype(str)
        answer = asked["gold"].where(right, wrong)
        frames.append(
            pd.DataFrame(
                {
                    "request_id": [f"e{i}-{name}" for name in asked["question_id"]],
                    "question_id": asked["question_id"],
                    "expert": f"expert-{i:02}",
                    "sample": 0,
                    "answer": answer,
                    "status": "answered",
                    "correct": right,
                    "truncated": False,
                    "output_tokens": draw.integers(5, 60, len(asked)).astype(float),
                    "device_seconds": draw.random(len(asked)) / 50,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def pool(n_validation: int = 40, n_test: int = 60, n_experts: int = 4, *, seed: int = 0) -> outcomes.Outcomes:
    """Their outcomes."""
    asked = questions(n_validation, n_test)
    return outcomes.from_recorded(asked, scores(asked, n_experts, seed=seed))


def write_report(project: Path, n_validation: int = 40, n_test: int = 60, n_experts: int = 4) -> None:
    """`reports/pocket` of a finished chain: those of its tables that `outcomes.from_report` reads."""
    asked = questions(n_validation, n_test)
    answers = scores(asked, n_experts)
    named = asked[["question_id"]].assign(skill=asked["subject"], votes=5, matched_from=asked["subject"])
    named = named.assign(similarity=1.0)
    test = set(asked.loc[asked["split"] == "test", "question_id"])
    parts = {
        "questions": (asked, tables.QUESTIONS),
        "skills": (named, tables.SKILLS),
        "skills_test": (named[named["question_id"].isin(test)], tables.SKILLS),
        "scores_validation": (answers[~answers["question_id"].isin(test)], tables.SCORES),
        "scores_test": (answers[answers["question_id"].isin(test)], tables.SCORES),
    }
    for name, (frame, schema) in parts.items():
        columns = [column for column in schema.columns if column in frame]
        tables.write(
            frame[columns], project / "reports" / "pocket" / "tables" / f"{name}.parquet", schema, {}
        )

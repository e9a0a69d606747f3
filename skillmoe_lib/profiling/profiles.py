"""Profiles: how often each expert was right and wrong on validation, skill by skill (docs/method.md 1.2)."""

import pandas as pd

from skillmoe_lib import tables
from skillmoe_lib.errors import SkillmoeError

_NEEDED = ["question_id", "expert", "correct", "status"]


def outcomes(scores: pd.DataFrame) -> pd.DataFrame:
    """Right (1), wrong (0) or not run (null) as a question x expert frame.

    Needs the Scores columns question_id, expert, correct and status. Unparsed and cut answers and prompts
    that do not fit are wrong; several samples of a question are averaged. Rows and columns are sorted by
    name. Raises `SkillmoeError` if there are no answers, or none of some expert.
    """
    ran = answers_run(scores)
    grid = ran.assign(correct=ran["correct"].astype(float)).pivot_table(
        index="question_id", columns="expert", values="correct", aggfunc="mean"
    )
    return grid.sort_index().sort_index(axis=1)


def answers_run(scores: pd.DataFrame) -> pd.DataFrame:
    """The answers that were run; raises as `outcomes` does."""
    if absent := [name for name in _NEEDED if name not in scores]:
        raise SkillmoeError(f"scores lack the column {absent[0]!r}: they need {', '.join(_NEEDED)}")
    ran = scores[scores["status"] != "not_run"]
    if ran.empty:
        raise SkillmoeError("the pool has no validation scores: run the validation questions first")
    if idle := sorted(set(scores["expert"]) - set(ran["expert"])):
        raise SkillmoeError(f"experts without a validation score: {', '.join(idle)}")
    return ran


def profile(skills: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Profiles frame: for each expert and skill, right minus wrong answers and their number.

    Each answer counts +1 or -1 for every skill of its question. Unparsed and cut answers and prompts
    that do not fit are wrong; what was not run is not counted. Raises `SkillmoeError` if no scored
    question has a skill.
    """
    ran = scores.loc[scores["status"] != "not_run", ["question_id", "expert", "correct"]]
    carried = skills[["question_id", "skill"]].merge(ran, on="question_id")
    if carried.empty:
        raise SkillmoeError(
            f"no profile: none of {ran['question_id'].nunique()} scored questions is among the "
            f"{skills['question_id'].nunique()} that have skills"
        )
    carried["score"] = carried["correct"].map({True: 1, False: -1})
    found = carried.groupby(["expert", "skill"])["score"].agg(["sum", "size"]).reset_index()
    return tables.check(found.rename(columns={"sum": "score", "size": "n"}), tables.PROFILES)


def totals(profiles: pd.DataFrame) -> pd.Series:
    """Sum of each expert's profile scores, from which global competency is computed (docs/method.md 1.4)."""
    return profiles.groupby("expert")["score"].sum().rename("total")

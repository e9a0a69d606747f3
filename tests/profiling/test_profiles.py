import pandas as pd
import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.profiling import profiles, skills

SKILLS = skills.skills_table({"q1": {"sums": 2, "logic": 3}, "q2": {"sums": 5}, "q3": {}})
SCORES = pd.DataFrame(
    [
        ("q1", "A", True, "answered"),
        ("q2", "A", False, "answered"),
        ("q3", "A", True, "answered"),
        ("q1", "B", False, "unparsed"),
        ("q2", "B", False, "cut"),
        ("q3", "B", False, "not_run"),
        ("q1", "C", True, "answered"),
        ("q2", "C", False, "not_run"),
    ],
    columns=["question_id", "expert", "correct", "status"],
)


def test_profile_is_right_minus_wrong():
    rows = profiles.profile(SKILLS, SCORES).set_index(["expert", "skill"])
    assert rows["score"].to_dict() == {
        ("A", "logic"): 1, ("A", "sums"): 0, ("B", "logic"): -1, ("B", "sums"): -2,
        ("C", "logic"): 1, ("C", "sums"): 1,
    }  # fmt: skip
    assert rows["n"].to_dict()[("A", "sums")] == 2
    assert rows["n"].to_dict()[("C", "sums")] == 1  # q2 was not run: missing, not wrong


def test_a_prompt_that_does_not_fit_counts_against_an_expert():
    too_long = SCORES.assign(status=SCORES["status"].replace("not_run", "overflow"))
    rows = profiles.profile(SKILLS, too_long).set_index(["expert", "skill"])
    assert (rows.loc[("C", "sums"), "score"], rows.loc[("C", "sums"), "n"]) == (0, 2)
    assert profiles.outcomes(too_long).loc["q2", "C"] == 0


def test_totals_add_up():
    assert profiles.totals(profiles.profile(SKILLS, SCORES)).to_dict() == {"A": 1, "B": -3, "C": 2}


def test_outcomes_keeps_missing_missing():
    grid = profiles.outcomes(SCORES)
    assert grid.loc["q1"].tolist() == [1, 0, 1]
    assert pd.isna(grid.loc["q2", "C"])
    assert grid["A"].mean() == pytest.approx(2 / 3)


def test_outcomes_averages_samples():
    twice = pd.concat([SCORES, SCORES[:1].assign(correct=False)])
    assert profiles.outcomes(twice).loc["q1", "A"] == 0.5


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (SCORES[:0], "no validation scores"),
        (SCORES.assign(status="not_run"), "no validation scores"),
        (SCORES.assign(status=["answered"] * 6 + ["not_run"] * 2), "without a validation score: C"),
        (SCORES.drop(columns="status"), "lack the column 'status'"),
    ],
)
def test_outcomes_refuses(scores, says):
    with pytest.raises(SkillmoeError, match=says):
        profiles.outcomes(scores)


def test_profile_needs_scored_questions_with_skills():
    with pytest.raises(SkillmoeError, match="none of 3 scored questions"):
        profiles.profile(SKILLS.assign(question_id="elsewhere"), SCORES)

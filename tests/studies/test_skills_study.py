"""Skills: cells with their intervals, missing skills, the graph, the weakest link, difficulty."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from recorded_pool import made_up, write_recordings

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.intervals import wilson
from skillmoe_lib.profiling.profiles import profile
from skillmoe_lib.studies import skills as study
from skillmoe_lib.studies.outcomes import from_recorded

ROOT = Path(__file__).resolve().parents[2]
POOL = made_up(200, 4, n_validation=100, none=0.0)


def skills_of(named):
    rows = [(q, s, 1, None, None) for q, found in named.items() for s in found]
    return pd.DataFrame(rows, columns=["question_id", "skill", "votes", "matched_from", "similarity"])


def test_cells_have_the_profiles_scores_and_an_interval():
    cells = study.profile_cells(POOL).set_index(["expert", "skill"])
    known = POOL.skills[POOL.skills["question_id"].isin(POOL.ids("validation"))]
    learned = profile(known, POOL.validation_scores).set_index(["expert", "skill"])
    assert cells["score"].to_dict() == learned["score"].to_dict()
    assert cells["n"].to_dict() == learned["n"].to_dict()
    cell = cells.loc[("e00", "law")]
    assert (cell["low"], cell["high"]) == wilson(cell["n_right"], cell["n"])[1:3]
    assert cells["certain"].all()  # fifty questions each tell 80% from 35%


def test_missing_skills_are_those_of_the_other_subject():
    found = study.missing_skills(POOL).set_index(["expert", "skill"])
    assert found["missing"].to_dict() == {
        (f"e0{e}", subject): (e % 2 == 0) == (subject == "optics")
        for e in range(4)
        for subject in ("law", "optics")
    }
    row = found.loc[("e00", "optics")]
    assert row["difference"] == pytest.approx(row["accuracy"] - row["elsewhere"])
    assert (found["p_holm"] >= found["p"]).all()


def test_an_expert_with_one_skill_lacks_nothing():
    asked = pd.DataFrame({"question_id": ["a", "b"], "split": ["validation", "test"], "subject": "s"})
    rows = pd.DataFrame({"question_id": ["a", "b"], "expert": "e", "answer": "1", "correct": [False, True]})
    assert study.missing_skills(from_recorded(asked, rows)).empty


def test_skills_that_occur_together():
    """sums with logic in 2 of 4 questions: 3 x 2 / 4 = 1.5 expected, so a lift of 4/3."""
    named = skills_of({"a": ["sums", "logic"], "b": ["sums", "logic", "maps"], "c": ["sums"], "d": ["maps"]})
    edges = study.skill_graph(pd.concat([named, named[:1]]))
    assert edges[["skill", "other", "n_both"]].to_numpy().tolist() == [["logic", "sums", 2]]
    assert edges.loc[0, "expected"] == 1.5
    assert edges.loc[0, "lift"] == pytest.approx(4 / 3)
    assert len(study.skill_graph(named, min_questions=1)) == 3


def two_skill_pool(rule, n=900):
    """An expert of accuracy .9 on x and .3 on y; test questions need both, and are answered by the rule."""
    random = np.random.default_rng(0)
    asked, rows, named = [], [], {}
    for i in range(n):
        test = i >= n // 2
        named[f"q{i}"] = ["x", "y"] if test else ["xy"[i % 2]]
        accuracy = {"x": 0.9, "y": 0.3}
        right = random.random() < (rule(0.9, 0.3) if test else accuracy["xy"[i % 2]])
        asked.append((f"q{i}", "test" if test else "validation"))
        rows.append((f"q{i}", "e", "A" if right else "B", bool(right)))
    questions = pd.DataFrame(asked, columns=["question_id", "split"])
    answers = pd.DataFrame(rows, columns=["question_id", "expert", "answer", "correct"])
    return from_recorded(questions, answers, skills=skills_of(named))


@pytest.mark.parametrize("rule", ["weaker", "stronger"])
def test_the_rule_by_which_answers_were_made_predicts_best(rule):
    """Predicted is the estimate on 225 questions of the skill, observed the share on 450: with accuracy p
    each differs from p by about sqrt(p (1 - p) / n), and the prior moves the estimate 10 / 235 of the way to
    the overall accuracy. Three standard errors of the difference and that step bound it."""
    found = study.weakest_link(two_skill_pool(study.COMBINED[rule])).set_index("rule")
    assert found["brier"].idxmin() == rule
    assert found.loc[rule, "high"] < 0
    p = {"weaker": 0.3, "stronger": 0.9}[rule]
    error = 3 * np.sqrt(p * (1 - p) * (1 / 225 + 1 / 450)) + 10 / 235 * abs(p - 0.6)
    assert abs(found.loc[rule, "predicted"] - found.loc[rule, "observed"]) < error
    assert found["n_questions"].eq(450).all()


def test_the_weakest_link_by_hand():
    """Right on 3 of 4 questions of x and 0 of 2 of y: overall 1/2. With two imagined answers of that accuracy
    x is (3 + 1) / 6 = 2/3 and y (0 + 1) / 4 = 1/4. Of two test questions of both one is answered right: the
    mean squared error of a prediction p is ((1 - p)^2 + p^2) / 2."""
    named = {**{q: ["x"] for q in "abcd"}, **{q: ["y"] for q in "ef"}, "s": ["y", "x"], "t": ["x", "y"]}
    right = dict.fromkeys("abcs", True)
    asked = pd.DataFrame(
        {"question_id": list(named), "split": ["test" if q in "st" else "validation" for q in named]}
    )
    rows = [(q, "e", "A" if right.get(q) else "B", right.get(q, False)) for q in named]
    answered = pd.DataFrame(rows, columns=["question_id", "expert", "answer", "correct"])
    pool = from_recorded(asked, answered, skills=skills_of(named))
    found = study.weakest_link(pool, prior=2.0).set_index("rule")
    predicted = {"weaker": 1 / 4, "product": 1 / 6, "mean": 11 / 24, "stronger": 2 / 3, "overall": 1 / 2}
    assert found["predicted"].to_dict() == pytest.approx(predicted)
    error = {rule: ((1 - p) ** 2 + p**2) / 2 for rule, p in predicted.items()}
    assert found["brier"].to_dict() == pytest.approx(error)
    assert found["difference"].to_dict() == pytest.approx({rule: e - 1 / 4 for rule, e in error.items()})
    assert found["observed"].eq(1 / 2).all()
    assert found[["n_questions", "n_answers"]].eq(2).all(axis=None)


def test_the_weakest_link_needs_questions_of_two_skills():
    with pytest.raises(SkillmoeError, match="no test question has exactly two skills"):
        study.weakest_link(POOL)


def test_difficulty_is_the_share_that_is_wrong():
    found = study.difficulty(POOL).set_index("question_id")
    at = list(POOL.questions.index).index("q150")
    right = POOL.correct[at]
    row = found.loc["q150"]
    assert row["difficulty"] == pytest.approx(1 - right.mean())
    assert row["low"] <= row["difficulty"] <= row["high"]
    assert row["n_answers"] == len(set(POOL.answer[at]))
    assert found["difficulty"].is_monotonic_decreasing
    assert bool(found.loc[found["difficulty"] == 0, "majority"].all())
    assert not found.loc[found["difficulty"] == 1, "majority"].any()


def test_the_notebook_runs_on_recordings(tmp_path, monkeypatch):
    papermill = pytest.importorskip("papermill")
    folder = write_recordings(tmp_path / "recorded", made_up(60, 4, n_validation=30))
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    papermill.execute_notebook(
        ROOT / "notebooks" / "studies" / "study_skills.ipynb",
        tmp_path / "out.ipynb",
        {"data_dir": str(folder), "experts": ""},
        cwd=ROOT,
        progress_bar=False,
    )
    tables = tmp_path / "reports" / "skills" / "tables"
    assert len(pd.read_csv(tables / "profile_cells.csv")) == 8
    assert len(pd.read_csv(tables / "difficulty.csv")) == 30

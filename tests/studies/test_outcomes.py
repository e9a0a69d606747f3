"""Outcomes from tidy tables and from a report, and what-if against the routers that the pipeline runs."""

import numpy as np
import pandas as pd
import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.studies import outcomes as study
from skillmoe_lib.studies.outcomes import from_recorded


def questions_of(n=4, **more):
    ids = [f"q{i}" for i in range(n)]
    split = ["validation" if i < n // 2 else "test" for i in range(n)]
    frame = pd.DataFrame({"question_id": ids, "split": split, "gold": "A", "kind": "choice", "subject": "s"})
    return frame.assign(n_choices=4, **more)


def answers_of(rows):
    return pd.DataFrame(rows, columns=["question_id", "expert", "answer", "correct"])


PLAIN = answers_of(
    [
        ("q0", "ann", "A", True), ("q0", "bob", "a", True), ("q1", "ann", "B", False),
        ("q1", "bob", None, False), ("q2", "ann", "A", True), ("q2", "bob", "(A)", True),
        ("q3", "ann", "C", False), ("q3", "bob", "B", False),
    ]
)  # fmt: skip


def test_equal_answers_have_equal_numbers():
    made = from_recorded(questions_of(), PLAIN)
    assert made.experts == ("ann", "bob")
    assert made.answer.tolist() == [[0, 0], [0, -1], [0, 0], [0, 1]]  # "A", "a" and "(A)" are one letter
    assert made.said[0].tolist() == ["A", "a"]
    assert made.said[1, 1] is None
    assert made.status[1].tolist() == ["answered", "unparsed"]
    assert made.correct.tolist() == [[True, True], [False, False], [True, True], [False, False]]
    assert made.left_out == ()
    assert np.isnan(made.output_tokens).all()


def test_skills_are_subjects_where_there_are_none():
    made = from_recorded(questions_of(), PLAIN)
    assert made.skill_matrix["s"].tolist() == [1, 1, 1, 1]


def test_costs_are_kept_and_what_is_unknown_is_nan():
    given = PLAIN.assign(output_tokens=[10, 20, 30, None, 50, 60, 70, 80])
    made = from_recorded(questions_of(), given)
    assert made.output_tokens[0].tolist() == [10, 20]
    assert np.isnan(made.output_tokens[1, 1])
    assert np.isnan(made.money).all()


def test_a_test_question_without_an_answer_of_everyone_is_left_out_and_said():
    made = from_recorded(questions_of(), PLAIN.drop(index=[1, 5]))
    assert list(made.questions.index) == ["q0", "q1", "q3"]
    assert made.status[0].tolist() == ["answered", "not_run"]  # on validation it stays missing
    assert made.left_out == ("1 test questions that not every expert was run on (not run somewhere: bob)",)


def test_further_samples_ungraded_answers_and_strangers_are_counted():
    more = pd.concat([PLAIN.assign(sample=0), PLAIN[:2].assign(sample=1, correct=False)])
    more = pd.concat([more, answers_of([("q9", "ann", "A", True)])], ignore_index=True)
    more["correct"] = more["correct"].astype(object)
    more.loc[3, "correct"] = None
    made = from_recorded(questions_of(), more)
    assert made.correct[0].tolist() == [True, True]
    assert made.status[1, 1] == "not_run"
    assert made.left_out == (
        "1 answers to questions that are not there",
        "2 further samples: the first of each question and expert is used",
        "1 answers that were not graded: they count as not run",
    )


def test_without_texts_right_answers_agree_and_wrong_ones_agree():
    made = from_recorded(questions_of(), PLAIN.drop(columns="answer"))
    assert made.answer[:2].tolist() == [[0, 0], [0, 0]]
    assert made.status[1, 1] == "answered"
    assert "8 answers without a text" in made.left_out[0]


def test_answers_of_mathematics_are_compared_as_mathematics():
    asked = questions_of().assign(kind="math", gold="1/2", n_choices=0)
    given = PLAIN.assign(answer=["0.5", r"\frac{1}{2}", "2", "3", "0.5", "0.50", "1", "2"])
    assert from_recorded(asked, given).answer.tolist() == [[0, 0], [0, 1], [0, 0], [0, 1]]


def test_questions_are_split_anew():
    asked = questions_of(10).drop(columns="split")
    rows = [(q, e, "A", True) for q in asked["question_id"] for e in ("ann", "bob")]
    made = from_recorded(asked, answers_of(rows), n_validation=4)
    assert len(made.rows("validation")) == 4
    other = from_recorded(asked[::-1], answers_of(rows), n_validation=4)
    assert set(made.ids("validation")) == set(other.ids("validation"))
    with pytest.raises(SkillmoeError, match=r"need validation and test questions, given \{'test': 10\}"):
        from_recorded(asked, answers_of(rows))


def test_limited_validation_is_nested():
    asked = questions_of(20)
    rows = [(q, "ann", "A", True) for q in asked["question_id"]]
    made = from_recorded(asked, answers_of(rows))
    few, more = (set(made.limited(n, seed=3).ids("validation")) for n in (3, 6))
    assert few < more
    assert len(made.limited(3).ids("test")) == 10
    with pytest.raises(SkillmoeError, match="n_validation must be from 1 to 10, given 11"):
        made.limited(11)


@pytest.mark.parametrize(
    ("asked", "given", "message"),
    [
        (questions_of(), PLAIN.drop(columns="expert"), "answers lack the column 'expert'"),
        (questions_of().drop(columns="question_id"), PLAIN, "questions need the column question_id"),
        (pd.concat([questions_of()] * 2), PLAIN, "given 'q0' twice"),
        (questions_of(), PLAIN.assign(question_id="x"), "none of the answers is to one of the questions"),
    ],
)
def test_refused(asked, given, message):
    with pytest.raises(SkillmoeError, match=message):
        from_recorded(asked, given)


def test_subset_keeps_the_pools_order():
    made = from_recorded(questions_of(), PLAIN)
    assert made.subset({"bob"}).answer.tolist() == [[0], [-1], [0], [1]]
    with pytest.raises(SkillmoeError, match="unknown expert 'eve'"):
        made.subset(["eve"])
    with pytest.raises(SkillmoeError, match="at least one expert"):
        made.subset([])


def test_of_a_report_is_what_the_chain_wrote(tmp_path):
    """Every expert's answers to both splits, with the tokens of the store."""
    import scenes
    import world

    from skillmoe_lib import pipeline, tables

    session = world.session_at(tmp_path / "store")
    skills = pipeline.annotate(session, world.QUESTIONS)
    validation = pipeline.validate(session, world.QUESTIONS)
    test = pipeline.validate(session, world.QUESTIONS.assign(split=_other(world.QUESTIONS["split"])))
    known = pipeline.split_of(world.QUESTIONS, skills)
    folder = tmp_path / "reports" / "small"
    for frame, name, schema in (
        (world.QUESTIONS, "questions", tables.QUESTIONS),
        (skills, "skills", tables.SKILLS),
        (known["test"], "skills_test", tables.SKILLS),
        (validation, "scores_validation", tables.SCORES),
        (test[test["expert"] != "dee"], "scores_test", tables.SCORES),
    ):
        tables.write(frame, folder / "tables" / f"{name}.parquet", schema, {})
    made = study.from_report(folder, session.store)
    assert made.experts == ("ann", "bob", "cid")
    assert made.left_out == ("dee: not run on both splits",)
    assert np.isfinite(made.output_tokens).all()
    assert np.isfinite(made.device_seconds).all()
    at = list(made.questions.index).index("t-sums-1")
    assert made.correct[at].tolist() == [True, False, False]
    assert set(made.skills.loc[made.skills["question_id"] == "t-sums-1", "skill"]) == {"sums", "reading"}
    assert scenes.frame  # the world's questions are those of scenes
    with pytest.raises(SkillmoeError, match="no table 'questions'"):
        study.from_report(tmp_path / "reports")


def _other(split):
    return split.map({"validation": "test", "test": "validation"})

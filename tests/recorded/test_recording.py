"""One recording of many rows and files: what they disagree on is settled by rules that are said."""

from pathlib import Path

import pandas as pd
import pytest

from skillmoe_lib import questions, recorded, tables
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.recorded import Row, build, join, recording


def row(question_id: str = "q1", expert: str = "ann", **known) -> Row:
    known = {"gold": "B", "kind": "choice", "question": f"Text of {question_id}?", "answer": "B", **known}
    return Row(question_id, expert, "bench", **known)


def cells(found: recorded.Recorded, *columns: str) -> list[tuple]:
    table = found.answers[list(columns)].astype(object)
    return [tuple(None if pd.isna(cell) else cell for cell in line) for line in table.to_numpy()]


def said(found: recorded.Recorded, about: str) -> str:
    (line,) = [line for line in found.missing if line.startswith(f"{about}: ")]
    return line.removeprefix(f"{about}: ")


def test_what_is_recorded_is_kept_and_what_is_not_is_null() -> None:
    known = row(
        text="It is B.", prompt_tokens=7, output_tokens=3, money=0.5, finish_reason="stop", correct=1.0
    )
    found = build([known, row("q2", correct=0.0, answer="C")])
    assert cells(found, "question_id", "expert", "sample", "answer", "status", "correct") == [
        ("q1", "ann", 0, "B", "answered", True),
        ("q2", "ann", 0, "C", "answered", False),
    ]
    assert cells(found, "text", "prompt_tokens", "output_tokens", "money", "finish_reason") == [
        ("It is B.", 7, 3, 0.5, "stop"),
        (None, None, None, None, None),
    ]
    assert said(found, "texts") == "missing for 1 of 2 answers"
    assert said(found, "subjects") == "not recorded"
    assert said(found, "repeats") == "one answer for each question and expert"
    assert said(found, "validation split") == "not recorded"
    assert said(found, "choices") == "not recorded as such (they may stand in the questions' texts)"
    assert "cannot stand in a generation store" in said(found, "requests")


def test_nothing_is_said_to_lack_where_all_is_there() -> None:
    known = {
        "text": "B", "prompt_tokens": 1, "output_tokens": 1, "money": 0.1, "finish_reason": "stop",
        "choices": ("x", "y"), "subject": "s", "correct": 1.0,
    }  # fmt: skip
    rows = [
        row(f"q{i}", split=split, sample=s, **known)
        for i, split in enumerate(["validation", "test"])
        for s in (0, 1)
    ]
    found = build(rows)
    assert [line.partition(":")[0] for line in found.missing] == ["requests"]
    assert len(questions.as_questions(found.questions)) == 2


@pytest.mark.parametrize(
    ("known", "status", "correct"),
    [
        ({"answer": "b"}, "answered", True),
        ({"answer": "C"}, "answered", False),
        ({"answer": None}, "unparsed", False),
        ({"answer": None, "finish_reason": "length"}, "cut", False),
        ({"answer": None, "status": "overflow"}, "overflow", False),
        ({"answer": None, "correct": 1.0}, "answered", True),
        ({"answer": None, "correct": 0.0, "answer_known": False}, "answered", False),
        ({"answer": "1/2", "gold": "0.5", "kind": "math"}, "answered", True),
        ({"answer": " A Dog ", "gold": "a dog", "kind": "text"}, "answered", True),
        ({"answer": "B", "correct": 0.75}, "answered", False),
        ({"ran": False}, "not_run", False),
        ({"ran": False, "correct": 1.0}, "not_run", False),
    ],
)
def test_status_and_correctness(known: dict, status: str, correct: bool) -> None:
    assert cells(build([row(**known)]), "status", "correct") == [(status, correct)]


def test_scores_failures_and_grades_that_differ_are_counted() -> None:
    found = build([row(correct=0.75), row("q2", correct=0.0), row("q3", ran=False)])
    assert said(found, "scores") == "1 between 0 and 1 count as wrong (right is full marks)"
    assert said(found, "failures") == "1 calls failed when they were recorded; they are not_run"
    assert said(found, "grades") == "1 recorded grades of choices differ from answer against gold"


def test_neither_correct_nor_gold_is_an_error() -> None:
    with pytest.raises(SkillmoeError, match="'ann' answered 'q1' right is not known: it needs a column"):
        build([row(gold=None)])
    with pytest.raises(SkillmoeError, match="nothing is recorded there"):
        build([])


def test_unequal_question_sets_are_kept_as_not_run() -> None:
    found = build([row("q1"), row("q2"), row("q3"), row("q1", "bob", answer="A")])
    assert cells(found, "question_id", "expert", "status", "correct") == [
        ("q1", "ann", "answered", True),
        ("q1", "bob", "answered", False),
        ("q2", "ann", "answered", True),
        ("q2", "bob", "not_run", False),
        ("q3", "ann", "answered", True),
        ("q3", "bob", "not_run", False),
    ]
    expected = "1 of 2 experts lack some of the 3 questions; kept as not_run (bob 2)"
    assert said(found, "question sets") == expected


@pytest.mark.parametrize("in_files", [False, True], ids=["one file", "a file for each expert"])
@pytest.mark.parametrize("other", [{"question": "Another?"}, {"gold": "C"}, {"choices": ("x", "y")}])
def test_the_version_that_most_experts_answered_counts(other: dict, in_files: bool) -> None:
    names = ["q1", "q2", "q3"]
    rows = [row(q, expert) for expert in ("ann", "bob") for q in names]
    rows = [row("q1", "eve", **other), *[row(q, "eve") for q in names[1:]], *rows]
    if in_files:
        found = join([build([r for r in rows if r.expert == e]) for e in ("eve", "ann", "bob")])
    else:
        found = build(rows)
    assert list(found.questions["text"]) == ["Text of q1?", "Text of q2?", "Text of q3?"]
    by_id = found.questions.set_index("question_id")
    assert by_id.loc["q1", ["text", "gold", "choices"]].tolist() == ["Text of q1?", "B", "[]"]
    eve = found.answers[found.answers["expert"] == "eve"].set_index("question_id")["status"]
    assert eve.to_dict() == {"q1": "not_run", "q2": "answered", "q3": "answered"}
    assert "1 questions were recorded with different texts, choices or gold" in said(found, "versions")
    assert said(found, "versions").endswith("(eve 1)")


def test_an_expert_with_other_questions_under_the_same_ids_is_refused() -> None:
    rows = [row(f"q{i}", expert) for expert in ("ann", "bob") for i in range(3)]
    rows += [row(f"q{i}", "eve", question="Another?") for i in range(2)]
    with pytest.raises(SkillmoeError, match="2 of 2 questions of 'eve' have another text"):
        build(rows)


def test_equal_rows_count_once_and_different_ones_are_an_error() -> None:
    found = build([row(), row()])
    assert len(found.answers) == 1
    assert said(found, "repeated rows") == "1 rows occurred twice and are kept once"
    with pytest.raises(SkillmoeError, match=r"1 answers .* differ, the first of 'ann' to 'q1' \(sample 0\)"):
        build([row(), row(answer="C")])
    with pytest.raises(SkillmoeError, match="recorded twice and differ"):
        join([build([row()]), build([row(answer="C")])])


def test_repeats_are_numbered_in_their_order_over_files_too() -> None:
    rows = [row(), row(answer="C"), row("q2"), row(answer="B")]
    expected = [("q1", 0, "B"), ("q1", 1, "C"), ("q1", 2, "B"), ("q2", 0, "B")]
    assert cells(build(rows, repeats=True), "question_id", "sample", "answer") == expected
    parts = [build(rows[:3], repeats=True), build(rows[3:], repeats=True)]
    assert cells(join(parts, repeats=True), "question_id", "sample", "answer") == expected


def test_joining_files_says_each_thing_once_and_of_the_whole() -> None:
    one, two = build([row(correct=0.5, money=1.0)]), build([row(expert="bob", text="B")], notes=["x: y"])
    found = join([one, two])
    assert said(found, "texts") == "missing for 1 of 2 answers"
    assert said(found, "money") == "missing for 1 of 2 answers"
    assert said(found, "x") == "y"
    assert len(found.missing) == len({line.partition(":")[0] for line in found.missing})


def test_counts_of_several_files_are_added() -> None:
    parts = [build([row(expert=name, correct=0.5), row("q2", name, ran=False)]) for name in ("ann", "bob")]
    found = join(parts)
    assert said(found, "scores") == "2 between 0 and 1 count as wrong (right is full marks)"
    assert said(found, "failures") == "2 calls failed when they were recorded; they are not_run"
    assert said(found, "question sets").startswith("2 of 2 experts lack some of the 2 questions")
    assert found.questions["question_id"].tolist() == ["q1", "q2"]


def test_zeros_everywhere_are_not_recorded() -> None:
    found = build([row(money=0.0, output_tokens=0), row("q2", money=0.0, output_tokens=5)])
    assert cells(found, "money", "output_tokens") == [(None, 0), (None, 5)]
    assert said(found, "zeros") == "money is 0 everywhere; taken as not recorded"


def test_markup_and_half_characters_are_text() -> None:
    markup = "<script>alert(1)</script> \x00 \ud800 <img src=x>"
    found = build([row(text=markup, question=markup)])
    assert cells(found, "text") == [(markup.replace("\ud800", "?"),)]
    assert found.questions["text"].tolist() == [markup.replace("\ud800", "?")]


def test_a_text_may_be_long_but_not_without_end() -> None:
    found = build([row(text="x" * 2**20)])
    assert found.answers["text"].str.len().tolist() == [2**20]
    with pytest.raises(SkillmoeError, match="its text has 16,777,217 characters; at most 16,777,216"):
        build([row(text="x" * (recording.MAX_CHARS + 1))])


def test_what_is_written_is_loaded_by_name_and_by_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    found = build([row(text="<b>"), row("q2", "bob")])
    folder = recorded.write(found, "mine", {"step": "import"})
    assert folder == tmp_path / "data" / "recorded" / "mine"
    for name in ("mine", folder, str(folder)):
        again = recorded.load(name)
        pd.testing.assert_frame_equal(again.questions, found.questions)
        pd.testing.assert_frame_equal(again.answers, found.answers)
        assert again.missing == found.missing
    assert tables.provenance(folder / "answers.parquet")["step"] == "import"
    with pytest.raises(SkillmoeError, match="unknown recording 'other': it must be one of mine, the folder"):
        recorded.load("other")


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(SkillmoeError, match="the name of a recording must be letters"):
        recorded.write(build([row()]), name, {})

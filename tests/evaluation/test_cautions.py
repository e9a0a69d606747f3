"""Each caution, with a report that needs it and one that does not."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from skillmoe_lib import tables
from skillmoe_lib.evaluation.cautions import cautions
from skillmoe_lib.evaluation.report_folder import ReportFolder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReportFolder:
    """A sound report: two experts, twelve questions of four choices, half of them answered right."""
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    report = ReportFolder("r", notebook="n")
    report.write(questions(), "questions")
    report.write(scores({"ann": "right wrong", "bob": "wrong right"}), "scores_validation")
    report.write(overlaps(0), "overlaps")
    report.write(profiles({"ann": 2, "bob": -2}), "profiles")
    report.write(pd.DataFrame({"expert": ["ann"], "n_items": [7]}), "aggregators")
    report.write(batches([True, True]), "batches")
    return report


def questions() -> pd.DataFrame:
    row: dict[str, Any] = {"benchmark": "b", "text": "?", "choices": json.dumps(["1", "2", "3", "4"])}
    row |= {"gold": "A", "subject": "s", "kind": "choice", "checker": "{}"}
    ids = [(split, f"{split}{i}") for split in ("validation", "test") for i in range(12)]
    return pd.DataFrame([{"question_id": name, "split": split, **row} for split, name in ids])


def scores(pattern: dict[str, str]) -> pd.DataFrame:
    """Scores whose outcomes go round "right wrong unparsed" as the pattern of an expert says."""
    rows = []
    for expert, text in pattern.items():
        kinds = text.split()
        for i in range(12):
            kind = kinds[i % len(kinds)]
            rows.append(
                {
                    "request_id": f"{expert}{i}", "question_id": f"validation{i}", "expert": expert,
                    "sample": 0,
                    "answer": None if kind == "unparsed" else "A", "correct": kind == "right",
                    "status": "unparsed" if kind == "unparsed" else "answered", "truncated": False,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def overlaps(n: int) -> pd.DataFrame:
    rows = [(f"validation{i}", f"test{i}", "leak stem") for i in range(n)]
    return pd.DataFrame(
        [*rows, ("test0", "test1", "duplicate stem")], columns=["question_id", "other_id", "kind"]
    )


def profiles(score: dict[str, int]) -> pd.DataFrame:
    return pd.DataFrame([{"expert": e, "skill": "sums", "score": s, "n": 4} for e, s in score.items()])


def batches(this_run: list[bool], versions: str = "vllm 0.32.0") -> pd.DataFrame:
    made = [versions, *["vllm 0.32.0"] * (len(this_run) - 1)]
    return pd.DataFrame({"engine": "vllm", "versions": made, "this_run": this_run})


def test_a_sound_report_and_an_empty_one_need_none(folder: ReportFolder, tmp_path: Path) -> None:
    assert cautions(folder.path) == []
    (tmp_path / "empty").mkdir()
    assert cautions(tmp_path / "empty") == []


def only(folder: ReportFolder) -> str:
    (found,) = cautions(folder.path)
    return found


def test_unparsed_answers_beyond_a_third(folder: ReportFolder) -> None:
    folder.write(scores({"ann": "right right unparsed", "bob": "right unparsed"}), "scores_validation")
    assert "more than a third of what was written on validation: bob 50%." in only(folder)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ({"ann": "wrong", "bob": "wrong"}, "is below guessing: 0% over all, where guessing among"),
        ({"ann": "right", "bob": "wrong"}, None),  # twelve wrong of twelve: 3% by chance
    ],
)  # fmt: skip
def test_accuracy_below_chance(folder: ReportFolder, pattern: dict[str, str], text: str | None) -> None:
    folder.write(scores(pattern), "scores_validation")
    found = cautions(folder.path)
    assert [text in line for line in found] == [True] if text else found == []


@pytest.mark.parametrize(
    ("n", "text"),
    [(3, "The splits overlap: 3 of 12 test questions"), (12, "Validation and test are the same questions")],
)
def test_splits_that_overlap(folder: ReportFolder, n: int, text: str) -> None:
    folder.write(overlaps(n), "overlaps")
    assert only(folder).startswith(text)


def test_methods_left_out(folder: ReportFolder) -> None:
    folder.leave_out(
        {"moa": "needs 3 experts; the pool has 2", "reconcile": "needs 3 experts; the pool has 2"}
    )
    assert only(folder) == "Left out: moa, reconcile needs 3 experts; the pool has 2."


def test_loads_of_other_runs_and_other_engines(folder: ReportFolder) -> None:
    folder.write(batches([True, False]), "batches")
    assert only(folder).startswith("1 of the 2 loads in batches.csv belong to other runs")
    folder.write(batches([True, True], "vllm 0.25.1"), "batches")
    assert "2 different engines or versions: vllm vllm 0.25.1, vllm vllm 0.32.0" in only(folder)


def test_profiles_that_say_nothing(folder: ReportFolder) -> None:
    folder.write(profiles({"ann": 2, "bob": 2}), "profiles")
    assert "every expert has the same score for every skill" in only(folder)
    folder.write(profiles({"ann": 2}).head(0), "profiles")
    assert "no skill was named" in only(folder)
    folder.write(profiles({"ann": 2, "bob": 1}), "profiles")
    matched = pd.DataFrame(
        {"question_id": ["test0"], "skill": ["sums"], "votes": [2], "matched_from": ["sums"]}
    )
    folder.write(matched.assign(similarity=1.0), "skills_test")
    assert only(folder).startswith("92% of the test questions have no skill")


def test_no_aggregator_examined(folder: ReportFolder) -> None:
    folder.write(pd.DataFrame({"expert": [], "n_items": []}), "aggregators")
    assert only(folder).startswith("No aggregator could be examined")


def test_what_is_out_of_date_comes_first(folder: ReportFolder) -> None:
    folder.read("questions")
    folder.write(pd.DataFrame({"a": [1]}), "accuracy")
    other = questions().assign(text="Another?")
    tables.write(other, folder.path / "tables" / "questions.parquet", tables.QUESTIONS, {})
    folder.leave_out({"moa": "(not asked for)"})
    first, second = cautions(folder.path)
    assert first.startswith(
        "This page mixes runs: questions, accuracy are out of date (tables/questions.parquet: "
    )
    assert first.endswith("Run n again.")
    assert second.startswith("Left out")


def test_a_table_that_cannot_be_read_is_a_caution(folder: ReportFolder) -> None:
    (folder.path / "tables" / "profiles.parquet").write_bytes(b"torn")
    found = cautions(folder.path)
    assert any("A check of this report failed" in text for text in found)

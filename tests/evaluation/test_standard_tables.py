"""The tables that most reports have: written, recorded, and clear about what is missing."""

from pathlib import Path

import pandas as pd
import pytest

from skillmoe_lib.evaluation import standard_tables as standard
from skillmoe_lib.evaluation.report_folder import ReportFolder, read_note


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReportFolder:
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    return ReportFolder("r", notebook="08_report")


def results(*methods: str) -> pd.DataFrame:
    """Ten questions: the first method answers all, the next one less each."""
    row = {"benchmark": "b", "seed": 0, "answer": "A", "status": "answered", "calls": 2, "prompt_tokens": 10}
    row |= {"output_tokens": 20, "device_seconds": 0.5}
    return pd.DataFrame(
        [
            {"method": method, "question_id": f"q{i}", "correct": i >= 2 * skipped, **row}
            for skipped, method in enumerate(methods)
            for i in range(10)
        ]
    )


def loads(*methods: str) -> pd.DataFrame:
    return pd.DataFrame({"method": list(methods), "seed": 0, "model_loads": 2, "load_device_s": 1.0})


def test_accuracy_summary_and_figure(folder: ReportFolder) -> None:
    found = standard.accuracy_and_cost(folder, results("a", "b"), loads("a", "b"))
    assert found.summary.set_index("method")["accuracy"].to_dict() == {"a": 1.0, "b": 0.8}
    written = set(read_note(folder.path)["files"])
    assert written == {
        "tables/accuracy.csv", "summary.csv", "figures/accuracy.png", "figures/accuracy.svg",
        "figures/accuracy.csv",
    }  # fmt: skip
    costs = standard.costs(folder, found.summary)
    assert costs.per_question["calls"].tolist() == [2, 2]


def test_differences_to_a_baseline(folder: ReportFolder) -> None:
    found = standard.differences(folder, results("a", "b"), baseline="a")
    assert found.table["difference"].tolist() == pytest.approx([-0.2])
    assert (folder.path / "figures" / "differences.png").is_file()


@pytest.mark.parametrize(
    ("methods", "reason"),
    [
        (("b", "c"), "the baseline was not run; there is b, c"),
        (("a",), "any other method was not run; there is a"),
    ],
)
def test_without_a_pair_the_differences_are_left_out_and_old_ones_go(
    folder: ReportFolder, capsys: pytest.CaptureFixture[str], methods: tuple[str, ...], reason: str
) -> None:
    standard.differences(folder, results("a", "b"), baseline="a")
    found = standard.differences(folder, results(*methods), baseline="a")
    assert found.chart is None
    assert found.table.empty
    assert capsys.readouterr().out == f"left out: differences to a ({reason})\n"
    assert not list(folder.path.rglob("differences*"))


def test_one_answer_of_the_best_expert_may_be_absent(
    folder: ReportFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert standard.below_one_answer(folder, results("a", "b")).empty
    assert "left out: comparison with cot_task_best" in capsys.readouterr().out
    assert standard.below_one_answer(folder, results("cot_task_best", "b")).empty  # two of ten prove nothing
    assert (folder.path / "tables" / "below_one_answer.csv").is_file()

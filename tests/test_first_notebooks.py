"""The notebooks that people open first, quick_start.ipynb and explore.ipynb, executed as they are delivered.

`tests/browser` opens both in JupyterLab.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import recordings

from skillmoe_lib import pipeline, questions

ROOT = Path(__file__).resolve().parents[1]
STORED = ROOT / "data" / "quick_start" / "vllm"
not_stored = pytest.mark.skipif(
    not STORED.is_dir(), reason="no stored answers: python -m skillmoe_lib run quick_start -p engine=vllm"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the notebooks and a made-up report, as in a room of laptops: no models."""
    folder = tmp_path_factory.mktemp("project")
    leave = shutil.ignore_patterns("generations", "pocket", "recorded", "scripted", ".ipynb_checkpoints")
    for name in ("notebooks", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    recordings.write_report(folder)
    return folder


def run(project: Path, *words: str) -> None:
    command = [sys.executable, "-m", "skillmoe_lib", "run", *words]
    environment = {**os.environ, "SKILLMOE_HOME": str(project), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]


def outputs(project: Path, notebook: str) -> list[Any]:
    report = "pocket" if notebook == "explore" else notebook
    path = project / "reports" / report / "notebooks" / f"{notebook}.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    return [output for cell in cells for output in cell.get("outputs", [])]


def test_both_run_without_models_and_write_nothing_in_red(project: Path) -> None:
    run(project, "quick_start", "explore", "-p", "engine=scripted")
    for notebook in ("quick_start", "explore"):
        assert [out for out in outputs(project, notebook) if out.get("name") == "stderr"] == []
    assert any("image/png" in out.get("data", {}) for out in outputs(project, "quick_start"))
    views = [out["data"] for out in outputs(project, "explore") if "data" in out]
    assert any("application/vnd.jupyter.widget-view+json" in data for data in views)


@not_stored
def test_the_stored_answers_are_those_of_the_quick_start(project: Path) -> None:
    run(project, "quick_start")
    assert any("image/png" in out.get("data", {}) for out in outputs(project, "quick_start"))


@not_stored
def test_the_store_holds_five_answers_of_each_expert_to_each_question() -> None:
    session = pipeline.open_session("quick_start", "replay", "data/quick_start")
    kept = session.store.generations(["question_id", "expert", "sample"])
    expected = len(questions.load("quick_start")) * len(session.pool.experts) * 5
    assert len(kept.drop_duplicates()) == expected
    assert sum(path.stat().st_size for path in STORED.rglob("*")) < 500_000


def test_the_quick_start_leads_on_to_notebooks_that_are_there() -> None:
    cells = nbformat.read(ROOT / "notebooks" / "quick_start.ipynb", as_version=4).cells
    links = re.findall(r"\]\((\S+\.ipynb)\)", "\n".join(cell.source for cell in cells))
    assert "explore.ipynb" in links
    assert all((ROOT / "notebooks" / link).is_file() for link in links)


def test_the_quick_start_has_two_kinds_of_questions_in_both_splits() -> None:
    asked = questions.load("quick_start")
    counts = asked.groupby(["split", "subject"]).size()
    assert counts.loc["validation"].tolist() == [10, 10]
    assert counts.loc["test"].tolist() == [20, 20]
    assert len(questions.overlaps(asked)) == 0

"""The command `plan`, on the real notebooks with the scripted engine."""

import json
from pathlib import Path

import pytest

from skillmoe_lib.cli.commands import main

pytest.importorskip("reasoning_gym")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("data", "notebooks"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    return tmp_path


def test_a_plan_of_the_chain_as_text_and_as_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["-p", "engine=scripted", "-p", "limit=2", "-p", "store=kept", "-p", "votes=3"]
    given += ["-p", "methods=symbolic_moe,majority_vote,knn_router", "-p", "n_one_by_one=1"]
    assert main(["plan", "chain", *given, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    steps = {row["step"]: row for row in data["notebooks"]}
    assert steps["02_skills"]["requests"] == 2 * 2 * 3
    assert steps["03_profiles"]["requests"] == 2 * 16
    assert data["sum"]["requests"] == sum(row["requests"] for row in data["experts"])
    assert data["will_not_fit"] == []
    assert data["cpu_s"] > 0
    assert main(["plan", "02_skills", *given[:2], *given[4:8]]) == 0
    text = capsys.readouterr().out
    assert "everything fits" in text
    assert "02_skills" in text
    assert "03_profiles" not in text
    assert sorted(path.name for path in project.iterdir()) == ["data", "notebooks"]


def test_parameters_are_refused_as_by_a_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "chain", "-p", "k=0"]) == 2
    assert "parameter 'k' of 05_recruit must be 1 to 64, got 0" in capsys.readouterr().err
    (project / "kept" / "vllm").mkdir(parents=True)
    assert main(["plan", "chain", "-p", "engine=replay", "-p", "store=kept"]) == 2
    assert "nothing to plan" in capsys.readouterr().err
    assert not (project / "reports").exists()

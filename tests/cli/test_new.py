from pathlib import Path

import pytest

from skillmoe_lib import prompts, questions
from skillmoe_lib.cli.commands import main
from skillmoe_lib.experts import load_pool

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with worked examples only."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "examples").symlink_to(ROOT / "data" / "examples")
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    return tmp_path


def test_a_new_pool_loads_by_its_name(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "pool", "mine"]) == 0
    path = project / "data" / "pools" / "mine.yaml"
    assert capsys.readouterr().out == f"wrote {path}\n"
    pool = load_pool("mine", locate=False)
    assert pool.name == "mine"
    assert list(pool.experts) == ["Zero-shot", "Stepwise", "Direct"]
    assert pool.aggregators == ("Zero-shot", "Stepwise")
    assert pool.trim == 0.05
    assert pool.experts["Direct"].sampling.max_tokens == 48
    assert pool.keyword_expert.sampling.stop == ("\n",)
    assert "skillmoe doctor mine " in path.read_text(encoding="utf-8")


def test_a_new_benchmark_loads_by_its_name(project: Path) -> None:
    assert main(["new", "benchmark", "own-2"]) == 0
    frame = questions.load("own-2")
    assert frame["split"].value_counts().to_dict() == {"validation": 6, "test": 6}
    first = next(q for q in questions.as_questions(frame) if q.question_id == "own-2/test/t1")
    assert (first.choices, first.gold, first.subject) == (("12", "13", "14", "15"), "B", "arithmetic")
    assert questions.overlaps(frame).empty
    tom = next(q for q in questions.as_questions(frame) if q.question_id == "own-2/validation/v3")
    assert prompts.statement(tom).startswith("Tom has 12 apples, eats 3 and buys 5.")


def test_a_path_is_taken_as_it_is(project: Path, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere" / "own.yaml"
    assert main(["new", "benchmark", str(place)]) == 0
    assert sorted(path.name for path in place.parent.iterdir()) == ["own.csv", "own.yaml"]
    assert len(questions.load(str(place))) == 12


@pytest.mark.parametrize("there", ["mine.yaml", "mine.csv"])
def test_nothing_is_overwritten(project: Path, capsys: pytest.CaptureFixture[str], there: str) -> None:
    folder = project / "data" / "benchmarks"
    folder.mkdir()
    (folder / there).write_text("kept")
    assert main(["new", "benchmark", "mine"]) == 2
    message = f"error: {folder / there} is there already and is not overwritten: choose another name\n"
    assert capsys.readouterr().err == message
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [(there, "kept")]


@pytest.mark.parametrize("name", ["", "../mine", "a b", "mine.pins", "data/mine", ".hidden.yaml", "ä"])
def test_a_name_is_plain(project: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["new", "pool", name]) == 2
    assert capsys.readouterr().err.startswith("error: the name of a pool must be made of letters")
    assert not (project / "data" / "pools").exists()


def test_a_folder_that_cannot_be_made_is_one_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "data" / "pools").write_text("a file")
    assert main(["new", "pool", "mine"]) == 2
    assert capsys.readouterr().err.startswith(f"error: cannot write {project / 'data' / 'pools'}")


@pytest.mark.parametrize("name", ["on", "123", "null"])
def test_a_name_that_yaml_would_read_as_something_else_stays_text(project: Path, name: str) -> None:
    assert main(["new", "pool", name]) == 0
    assert load_pool(name, locate=False).name == name

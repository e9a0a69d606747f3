"""A report folder records what came from what, and finds files that no longer match their inputs."""

import json
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import scenes

from skillmoe_lib import methods, progress, tables
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import results
from skillmoe_lib.evaluation.report_folder import WRITERS, ReportFolder, digest, out_of_date, read_note
from skillmoe_lib.methods.lineup import Choice
from skillmoe_lib.methods.single import Run

ROOT = Path(__file__).resolve().parents[2]


def routes(k: int) -> pd.DataFrame:
    row = {"method": "symbolic_moe", "seed": 0, "question_id": "q", "expert": "ann"}
    return pd.DataFrame([{**row, "slot": i, "suitability": 1.0, "probability": 0.5} for i in range(k)])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    return tmp_path / "reports" / "r"


def recruit(k: int) -> None:
    folder = ReportFolder("r", notebook="05_recruit", k=k)
    folder.write(routes(k), "routes")


def compete() -> None:
    folder = ReportFolder("r", notebook="06_methods")
    folder.write(folder.read("routes").groupby("method", as_index=False).size(), "loads")


def report() -> None:
    folder = ReportFolder("r", notebook="08_report")
    folder.write(folder.read("loads"), "summary")


def test_every_file_has_its_notebook_parameters_and_inputs(project: Path) -> None:
    recruit(3)
    compete()
    files = read_note(project)["files"]
    assert files["tables/routes.parquet"]["notebook"] == "05_recruit"
    assert files["tables/routes.parquet"]["k"] == 3
    digests = {"tables/routes.parquet": digest(project / "tables" / "routes.parquet")}
    assert files["tables/loads.csv"]["inputs"] == digests
    assert tables.provenance(project / "tables" / "routes.parquet") == {
        "notebook": "05_recruit", "k": 3, "inputs": {},
    }  # fmt: skip


def test_the_engines_that_answered_are_named_in_the_provenance(project: Path, tmp_path: Path) -> None:
    program = methods.majority_vote(
        scenes.question("q"), [scenes.expert("ann"), scenes.expert("bob")], seed=0
    )
    played = scenes.play({Run("vote", 0, "q"): program}, lambda _: scenes.says("B"), tmp_path / "store")
    folder = ReportFolder("r", notebook="06_methods")
    folder.write(pd.DataFrame({"a": [1]}), "before")
    folder.generated(results.used_requests(played.outcomes), played.store)
    folder.write(routes(1), "routes")
    files = read_note(project)["files"]
    assert "engines" not in files["tables/before.csv"]
    assert files["tables/routes.parquet"]["engines"] == {"scripted": 2}


def test_what_was_made_from_another_version_of_its_input_is_found(project: Path) -> None:
    recruit(3)
    compete()
    report()
    assert out_of_date(project) == []
    recruit(3)  # the same again
    assert out_of_date(project) == []
    recruit(5)
    assert [(item.file, item.notebook, item.reason) for item in out_of_date(project)] == [
        ("tables/loads.csv", "06_methods", "made from another version of tables/routes.parquet"),
        ("summary.csv", "08_report", "its input tables/loads.csv is out of date"),
    ]
    compete()
    assert [item.file for item in out_of_date(project)] == ["summary.csv"]
    report()
    assert out_of_date(project) == []


def test_a_table_changed_by_hand_or_gone_is_found(project: Path) -> None:
    recruit(3)
    compete()
    with (project / "tables" / "loads.csv").open("a") as table:
        table.write("x,1\n")
    assert [item.reason for item in out_of_date(project)] == ["changed after its notebook wrote it"]
    (project / "tables" / "routes.parquet").unlink()
    assert [item.reason for item in out_of_date(project)] == ["its input tables/routes.parquet is gone"]


def test_tables_and_the_choice_come_back(project: Path) -> None:
    folder = ReportFolder("r", notebook="04_aggregator")
    choice = Choice(("ann", "bob"), "bob", "ann")
    assert folder.write_choice(choice) == choice
    assert folder.read_choice() == choice
    frame = pd.DataFrame({"a": [1, 2]})
    assert folder.write(frame, "summary") is frame
    assert folder.read("summary").equals(frame)
    assert (project / "summary.csv").is_file()


def test_what_is_missing_says_what_to_run(project: Path) -> None:
    folder = ReportFolder("r", notebook="08_report")
    for read in (lambda: folder.read("loads"), lambda: folder.read("results"), folder.read_choice):
        with pytest.raises(SkillmoeError, match="run the notebook"):
            read()


def test_a_fresh_report_says_which_notebook_to_run_first(project: Path) -> None:
    folder = ReportFolder("r", notebook="06_methods")
    with pytest.raises(
        SkillmoeError, match=r"reports/r has no 'routes' yet .*notebook 05_recruit first, with"
    ):
        folder.read("routes")
    with pytest.raises(SkillmoeError, match=r"has no 'decided' yet .*05_recruit"):
        folder.read_choice("decided")


def test_the_writer_of_each_table_is_the_notebook_that_writes_it() -> None:
    for name, notebook in WRITERS.items():
        cells = nbformat.read(ROOT / "notebooks" / "chain" / f"{notebook}.ipynb", as_version=4).cells
        source = "\n".join(cell.source for cell in cells)
        writes = f', "{name}")' in source or (name == "choice" and "write_choice(" in source)
        assert writes, f"{notebook} does not write {name}"


def test_a_notebook_run_by_hand_leaves_the_report_of_a_run_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recruit(3)
    (project / "notebooks").mkdir()
    (project / "notebooks" / "05_recruit.ipynb").write_text("{}")
    before = digest(project / "provenance.json")
    monkeypatch.setattr(progress, "by_hand", lambda: True)
    with pytest.raises(
        SkillmoeError, match=r"overwrite .* such as report = \"r-mine\"; start with 01_questions"
    ):
        recruit(5)
    with pytest.raises(SkillmoeError, match=r"such as report = \"r-mine\"$"):
        ReportFolder("r", notebook="ablation")
    assert digest(project / "provenance.json") == before
    ReportFolder("r-mine", notebook="05_recruit")
    monkeypatch.setattr(progress, "by_hand", lambda: False)
    recruit(5)


def test_what_is_left_out_is_said_noted_and_forgotten_by_the_next_run(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ReportFolder("r", notebook="06_methods")
    folder.leave_out({"moa": "needs 3 experts; the pool has 2"})
    assert capsys.readouterr().out == "left out: moa needs 3 experts; the pool has 2\n"
    assert read_note(project)["left_out"] == {"06_methods": {"moa": "needs 3 experts; the pool has 2"}}
    ReportFolder("r", notebook="06_methods")
    assert read_note(project)["left_out"] == {}


def test_removing_takes_the_table_the_figure_and_their_notes(project: Path) -> None:
    folder = ReportFolder("r", notebook="08_report")
    folder.write(pd.DataFrame({"a": [1]}), "differences")
    (project / "figures" / "differences.png").write_bytes(b"png")
    folder.remove("differences")
    folder.remove("differences")
    assert not list(project.rglob("differences*"))
    assert read_note(project)["files"] == {}


def test_a_torn_note_is_one_line(project: Path) -> None:
    recruit(3)
    (project / "provenance.json").write_text(json.dumps([]))
    with pytest.raises(SkillmoeError, match=r"provenance\.json cannot be read"):
        out_of_date(project)

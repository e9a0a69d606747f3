"""Where a number comes from: a made-up report of one method, traced from its summary to the texts."""

import hashlib
import json

import pytest
import scenes
from scenes import says

from skillmoe_lib import methods, tables
from skillmoe_lib.cli.commands import main
from skillmoe_lib.cli.why import plain, why
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import results
from skillmoe_lib.methods.single import Run

ANN, BOB = scenes.expert("ann"), scenes.expert("bob")
ASKED = [scenes.question("q1", "B"), scenes.question("q2", "B")]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two experts vote; on q2 bob is wrong, and ann writes what a terminal would obey."""
    home = tmp_path_factory.mktemp("home")

    def reply(request):
        letter = "C" if request.question_id == "q2" else "B"
        return ("\x1b[2J<b>no</b> " if request.expert == "ann" else "") + says(letter)

    programs = {Run("vote", 0, q.question_id): methods.majority_vote(q, [ANN, BOB], seed=0) for q in ASKED}
    played = scenes.play(programs, reply, home / "data" / "generations" / "scripted")
    folder = home / "reports" / "r"
    (folder / "tables").mkdir(parents=True)
    table = results.results_table(played.outcomes, ASKED, played.store)
    tables.write(table, folder / "tables" / "results.parquet", tables.RESULTS, {})
    tables.write(scenes.frame(ASKED), folder / "tables" / "questions.parquet", tables.QUESTIONS, {})
    used = results.used_requests(played.outcomes)
    tables.write(used, folder / "tables" / "used.parquet", tables.USED, {})
    (folder / "summary.csv").write_text(
        "method,label,benchmark,accuracy,low,calls,n_not_run\nvote,The vote,b,0.5,0.1,4,0\n"
    )
    note(folder)
    return folder


def note(folder):
    """The report's provenance, as its notebooks write it."""
    now = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:32]
        for path in [*folder.glob("tables/*.parquet"), folder / "summary.csv"]
    }
    inputs = {
        "tables/results.parquet": ["tables/questions.parquet"],
        "summary.csv": ["tables/results.parquet"],
    }
    about = {
        "summary.csv": {"notebook": "08_report", "baseline": "vote"},
        "tables/results.parquet": {
            "notebook": "06_methods", "engine": "scripted", "store": "data/generations",
            "engines": {"scripted": 4},
        },
    }  # fmt: skip
    files = {
        name: {"digest": digest, "version": "0.2", "notebook": "01_questions", "inputs": {}}
        | {"inputs": {other: now[other] for other in inputs.get(name, [])}}
        | about.get(name, {})
        for name, digest in now.items()
    }
    (folder / "provenance.json").write_text(json.dumps({"files": files, "left_out": {}}))


def test_a_file_is_traced_back_to_the_generations(report):
    told = why(report / "summary.csv").splitlines()
    assert told[0].startswith("summary.csv ") and "CHANGED" not in told[0]
    assert told[1] == "  written by 08_report (baseline=vote), skillmoe 0.2"
    assert told[2].startswith("  tables/results.parquet ")
    assert told[3].startswith("    written by 06_methods (engine=scripted, store=data/generations)")
    assert told[4] == "    from 4 generation(s) of scripted"
    assert told[5] == "    from 4 generation(s) (4 request(s) asked), each named in tables/used.parquet"
    assert told[6].startswith("    tables/questions.parquet ")
    assert why(report) == why(report / "summary.csv")


def test_what_was_changed_since_is_said(report):
    path = report / "summary.csv"
    before = path.read_text()
    path.write_text(before + "debate,1.0\n")
    assert "CHANGED since: now" in why(path).splitlines()[0]
    path.write_text(before)


def test_a_cell_opens_into_its_questions(report):
    told = why(report, method="vote")
    assert told.startswith("vote, seed 0: 1 of 2 right\n4 calls, ")
    rows = [line.split() for line in told.splitlines()[3:]]
    assert [row[:6] for row in rows[1:3]] == [
        ["q2", "B", "C", "answered", "no", "2"],
        ["q1", "B", "B", "answered", "yes", "2"],
    ]


def test_a_cell_is_explained_computed_again_and_opened(report):
    told = why(report / "summary.csv", method="vote", column="accuracy")
    lines = told.splitlines()
    assert lines[0] == "summary.csv, The vote (vote) on b:"
    assert lines[1].startswith("  accuracy  0.5   right answers among those that were run")
    assert lines[2].strip() == "computed again from tables/results.parquet: 0.5 (1 of 2)"
    assert "  written by 08_report (baseline=vote), skillmoe 0.2" in lines
    assert told.endswith("In full, with what each model wrote: --question ID, or --question all")
    assert why(report, method="vote", column="accuracy") == told
    assert why(report / "summary.csv", method="the VOTE", column="accuracy") == told


def test_without_a_column_the_whole_row_is_told(report):
    told = why(report / "summary.csv", method="vote").splitlines()[1:6]
    assert [line.split()[:2] for line in told[:4]] == [
        ["accuracy", "0.5"],
        ["low", "0.1"],
        ["calls", "4"],
        ["n_not_run", "0"],
    ]


def test_a_cell_that_the_results_do_not_give_is_told(report):
    path = report / "summary.csv"
    before = path.read_text()
    path.write_text(before.replace("0.5", "0.75"))
    told = why(path, method="vote", column="accuracy")
    path.write_text(before)
    assert "computed again from tables/results.parquet: 0.5 (1 of 2)" in told
    assert "NOT THE SAME: summary.csv and results.parquet are of two runs" in told


def test_every_question_in_full_with_its_votes(report, monkeypatch):
    monkeypatch.setenv("SKILLMOE_HOME", str(report.parent.parent))
    told = why(report / "summary.csv", method="vote", question="all")
    assert [line for line in told.splitlines() if line.startswith("Question ")] == [
        "Question q1",
        "Question q2",
    ]
    assert "What the experts' chains say: B 2 of 2" in told and "chains say: C 2 of 2" in told
    assert why(report, method="vote", question="q2") in told


def test_a_question_shows_every_chain_how_it_was_read_and_its_cost(report, monkeypatch):
    monkeypatch.setenv("SKILLMOE_HOME", str(report.parent.parent))
    told = why(report, method="vote", question="q2")
    assert "What of q2?\n  (A) one\n  (B) two\n  (C) three" in told
    assert "vote, seed 0: answer C (answered), wrong" in told
    assert "Cost, the method run alone: 2 calls" in told
    assert "[1] round 0, solve by ann, sample 0" in told
    assert "[2] round 0, solve by bob, sample 0" in told
    assert told.count("read as: C by rule answer_is, wrong") == 2
    assert "| \\x1b[2J<b>no</b> So it is. The answer is (C)" in told
    assert "\x1b" not in told


def test_the_command_line(report, monkeypatch, capsys):
    monkeypatch.setenv("SKILLMOE_HOME", str(report.parent.parent))
    assert main(["why", str(report), "--method", "vote", "--question", "q1"]) == 0
    assert "answer B (answered), right" in capsys.readouterr().out
    assert main(["why", str(report), "--method", "debat"]) == 2
    assert "unknown method 'debat': it must be one of vote" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("where", "options", "says"),
    [
        ("nowhere", {}, "no report or file of a report"),
        ("", {"question": "q1"}, "needs --method"),
        ("", {"method": "vote", "question": "q9"}, "unknown question of 'vote' 'q9'"),
        ("", {"method": "vote", "seed": 3}, "unknown seed of 'vote' '3'"),
        ("summary.csv", {"method": "debat"}, "unknown method 'debat': it must be one of vote"),
        ("summary.csv", {"method": "vote", "column": "acuracy"}, "unknown column of summary.csv 'acuracy'"),
        ("summary.csv", {"method": "vote", "benchmark": "c"}, "unknown benchmark of 'vote' 'c'"),
        ("summary.csv", {"column": "accuracy"}, "--column needs --method"),
        ("tables/results.parquet", {"method": "vote"}, "a CSV of one, such as summary.csv"),
    ],
)
def test_refusals_are_one_line(report, where, options, says):
    with pytest.raises(SkillmoeError, match=says) as error:
        why(report / where, **options)
    assert "\n" not in str(error.value)


def test_plain_keeps_text_and_shows_what_a_terminal_would_obey():
    assert plain("é\tx\ny") == "é   x\ny"
    assert plain("\x1b]0;\x07\u202e") == "\\x1b]0;\\x07\\x202e"

"""The rows behind a report's numbers, and a few questions in full, from a small world run to its end."""

import re
from pathlib import Path

import pandas as pd
import pytest
import scenes
from bs4 import BeautifulSoup
from scenes import says

from skillmoe_lib import methods, tables
from skillmoe_lib.cli import in_full
from skillmoe_lib.cli.report import write_index
from skillmoe_lib.evaluation import results
from skillmoe_lib.evaluation.report_folder import ReportFolder
from skillmoe_lib.methods.single import Run

EVIL = "<script>alert(1)</script>\x1b[2J "
ANN, BOB = scenes.expert("ann"), scenes.expert("bob")
ASKED = [scenes.question(f"q{i}", "B", text=f"Is <b>it</b> so, {i}?") for i in range(6)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ann and bob answer, bob aggregates; wrong on q0 to q2; the baseline is one answer of ann."""
    home = tmp_path_factory.mktemp("home")

    def reply(request):
        return EVIL + says("A" if request.question_id in ("q0", "q1", "q2") else "B")

    programs = {}
    for q in ASKED:
        programs[Run("symbolic_moe", 0, q.question_id)] = methods.symbolic_moe(q, [ANN, BOB], BOB, seed=0)
        programs[Run("cot_task_best", 0, q.question_id)] = methods.cot(q, ANN, seed=0)
    played = scenes.play(programs, reply, home / "data" / "generations" / "scripted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SKILLMOE_HOME", str(home))
        folder = ReportFolder("r", notebook="06_methods", engine="scripted")
        folder.write(scenes.frame(ASKED), "questions")
        folder.write(results.results_table(played.outcomes, ASKED, played.store), "results")
        folder.write(results.used_requests(played.outcomes), "used")
        routes = [
            {"method": "symbolic_moe", "seed": 0, "question_id": q.question_id, "slot": slot, "expert": name,
             "suitability": 1.0, "probability": 0.5}
            for q in ASKED
            for slot, name in enumerate(["ann", "bob"])
        ]  # fmt: skip
        folder.write(pd.DataFrame(routes), "routes")
        named = {
            "question_id": ["q0"],
            "skill": ["sums"],
            "votes": 3,
            "matched_from": "adding",
            "similarity": 0.9,
        }
        folder.write(pd.DataFrame(named), "skills_test")
        folder.write(
            pd.DataFrame(
                {"method": ["symbolic_moe"], "benchmark": "b", "accuracy": 0.5, "low": 0.2, "high": 0.8,
                 "n_questions": 6}
            ),
            "summary",
        )  # fmt: skip
        write_index(folder.path)
    return folder.path


def test_every_method_has_a_page_and_a_csv_of_its_rows(report: Path) -> None:
    rows = pd.read_csv(report / "rows" / "symbolic_moe.csv")
    assert rows["question_id"].tolist() == [q.question_id for q in ASKED]
    assert rows["correct"].tolist() == [False] * 3 + [True] * 3
    assert set(rows["experts"]) == {"ann + bob"}
    other = pd.read_csv(report / "rows" / "cot_task_best.csv")
    assert other["symbolic_moe_correct"].tolist() == rows["correct"].tolist()
    assert "experts" not in other  # it has no route
    soup = BeautifulSoup((report / "rows" / "symbolic_moe.html").read_text(encoding="utf-8"), "html.parser")
    assert [row["id"] for row in soup.find_all("tr", id=True)] == [q.question_id for q in ASKED]
    assert len(soup.find_all("tr", class_="wrong")) == 3
    assert "3 of 6 right" in soup.text
    assert not soup.find_all("script")


def test_numbers_link_to_their_rows(report: Path) -> None:
    soup = BeautifulSoup((report / "index.html").read_text(encoding="utf-8"), "html.parser")
    (ours,) = soup.find_all("tr", class_="ours")
    links = {link.text: link["href"] for link in ours.find_all("a")}
    assert links == {"Symbolic-MoE": "rows/symbolic_moe.html", "50.0": "rows/symbolic_moe.html"}
    inside = [link["href"] for link in soup.find_all("a") if link["href"].startswith("rows/")]
    for href in inside:
        path, _, anchor = href.partition("#")
        page = (report / path).read_text(encoding="utf-8")
        assert not anchor or f'id="{anchor}"' in page


def test_two_right_and_two_wrong_are_shown_in_full(report: Path) -> None:
    soup = BeautifulSoup((report / "index.html").read_text(encoding="utf-8"), "html.parser")
    shown = soup.find_all("div", class_="question")
    assert [re.sub(r":.*", "", q.h3.text) for q in shown] == ["Right", "Right", "Wrong", "Wrong"]
    first = shown[0]
    assert "Is <b>it</b> so, " in first.pre.text and "(B) two" in first.pre.text  # text, not markup
    assert [c.b.text for c in first.find_all("div", class_="chain")] == ["ann", "bob", "bob"]
    assert "ann (p = 0.50), bob (p = 0.50)" in first.dl.text
    assert "B × 2" in first.dl.text  # the aggregator has no vote
    chain = first.find("div", class_="chain")
    assert "<script>alert(1)</script>\\x1b[2J" in chain.pre.text
    assert "read as B by rule" in chain.text and "final answer, after reading the others" in first.text
    assert in_full.RULE in soup.text


def test_the_choice_of_questions_is_drawn_not_made(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKILLMOE_HOME", str(report.parents[1]))
    found = in_full.questions_in_full(report)
    assert [item.correct for item in found] == [True, True, False, False]
    table = tables.read(report / "tables" / "results.parquet", tables.RESULTS)
    turned = table.iloc[::-1].reset_index(drop=True)
    folder = ReportFolder("r2", notebook="06_methods", engine="scripted")
    folder.write(turned, "results")
    folder.write(scenes.frame(ASKED), "questions")
    again = in_full.questions_in_full(folder.path)
    assert [item.question_id for item in again] == [item.question_id for item in found]
    assert again[0].chains == [] and "not at hand" in again[0].note
    keywords = {item.question_id: item.keywords for item in in_full.questions_in_full(report, n_each=3)}
    assert keywords["q0"] == ["adding → sums"] and keywords["q1"] == []

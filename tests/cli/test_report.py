import base64
import json
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from skillmoe_lib.cli.flow import flow_svg
from skillmoe_lib.cli.report import write_index
from skillmoe_lib.evaluation import figures
from skillmoe_lib.evaluation.report_folder import ReportFolder

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><circle r="4"/></svg>'
SUMMARY = """method,label,benchmark,accuracy,low,high,n_questions,calls,keyword_calls,device_seconds
symbolic_moe,Symbolic-MoE,pocket,0.6375,0.5849,0.66,640,2560,3200,
self_consistency,Self-Consistency (5),pocket,0.4828,0.45,0.52,640,3200,0,
instance_oracle,Instance oracle,pocket,0.9,0.88,0.92,640,0,0,
moa,Mixture-of-Agents,pocket,,,,0,,0,
"""
DIFFERENCES = """method,label,benchmark,baseline,difference,low,high,n_questions,n_seeds,p_holm,verdict
self_consistency,Self-Consistency (5),pocket,symbolic_moe,-0.1547,-0.1919,-0.119,640,1,0.0001,worse
instance_oracle,Instance oracle,pocket,symbolic_moe,0.2625,0.23,0.29,640,1,,bound
"""


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A report folder with something of everything."""
    folder = tmp_path / "pocket"
    for name in ("figures", "tables", "notebooks"):
        (folder / name).mkdir(parents=True)
    (folder / "summary.csv").write_text(SUMMARY)
    (folder / "tables" / "differences.csv").write_text(DIFFERENCES)
    (folder / "figures" / "differences.svg").write_text(SVG)
    (folder / "figures" / "differences.png").write_bytes(b"png")
    (folder / "figures" / "differences.csv").write_text("x\n1\n")
    (folder / "figures" / "differences.txt").write_text("Accuracy, n < 640 & more")
    (folder / "figures" / "accuracy.png").write_bytes(b"other png")
    rows = "\n".join(f"q{i},{'word' * 60},{i}" for i in range(12))
    (folder / "tables" / "texts.csv").write_text(f'question_id,text,n\nq,"{EVIL}",\n{rows}\n')
    (folder / "tables" / "batches.csv").write_text(
        "batch_id,model,engine,n_requests,load_s,generate_s,devices,versions\n"
        'a,m1,vllm,10,1.5,4,1,"vllm 0.32.0, torch 2.13.0"\nb,m1,vllm,20,1.5,6,1,vllm 0.32.0\n'
    )
    notebook = executed("k: int = 3  # experts", parameters={"k": 4})
    nbformat.write(notebook, folder / "notebooks" / "01_a.ipynb")
    return folder


def executed(
    cell: str, *, parameters: dict[str, int] | None = None, error: bool = False
) -> nbformat.NotebookNode:
    """A notebook as papermill leaves it, with outputs of every kind a model's text could come in."""
    new = nbformat.v4.new_output
    outputs = [
        new("stream", name="stdout", text=EVIL),
        new("display_data", {"text/html": f"<style>p {{}}</style><p onclick='x()'>kept</p>{EVIL}"}),
        new("display_data", {"text/html": "<a href='javascript:x()'>bad</a><a href='https://a.b'>good</a>"}),
        new(
            "display_data",
            {"text/html": "<img src='http://a.b/c.png'><img src='data:image/png;base64,AAAA'>"},
        ),
        new("display_data", {"text/markdown": EVIL}),
        new("display_data", {"application/javascript": "alert(3)", "text/plain": "a script"}),
        new("display_data", {"image/svg+xml": f"<svg>{EVIL}</svg>"}),
    ]
    if error:
        outputs.append(new("error", ename="ValueError", evalue=EVIL, traceback=[EVIL]))
    cells = [
        nbformat.v4.new_markdown_cell(f"# Title\n\n`a < b`\n\n{EVIL}"),
        nbformat.v4.new_code_cell(cell, outputs=outputs, metadata={"tags": ["parameters"]}),
    ]
    about = {
        "parameters": parameters or {},
        "exception": error or None,
        "duration": 41.7,
        "end_time": "2026-01-02T03:04:05.6+00:00",
    }
    return nbformat.v4.new_notebook(cells=cells, metadata={"papermill": about})


def rows_of(page: str, heading: str) -> list[list[str]]:
    """The cells' text of the first table after a heading."""
    body = page.partition(heading)[2].partition("</table>")[0]
    cells = [
        re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL) for row in re.split(r"<tr[^>]*>", body)[1:]
    ]
    return [[" ".join(re.sub(r"<.*?>", " ", cell, flags=re.DOTALL).split()) for cell in row] for row in cells]


def page_of(report: Path) -> str:
    return write_index(report).read_text(encoding="utf-8")


def test_it_opens_with_a_sentence_to_quote(report: Path) -> None:
    page = page_of(report)
    told = "Routing by skill gains 15.5 points [11.9, 19.2] over Self-Consistency (5); n = 640."
    assert f'<p class="headline">{told}</p>' in page.partition("<nav>")[0]
    assert page.index('class="headline"') < page.index("<img")


def test_the_main_table_has_names_groups_and_what_each_method_is(report: Path) -> None:
    rows = rows_of(page_of(report), 'id="accuracy"')
    assert rows[0] == [
        "method", "accuracy (%)", "95% interval", "", "minus Symbolic-MoE (points)", "verdict", "calls",
        "device s",
    ]  # fmt: skip
    assert [row for row in rows if len(row) == 1] == [
        ["Symbolic-MoE and our own methods"],
        ["Baselines"],
        ["Bounds, which no method can reach by choosing on validation"],
    ]
    named = {row[0].partition(" Experts")[0].partition(" Five")[0]: row for row in rows[1:] if len(row) > 1}
    # Calls are means for one question, its keyword calls included; halves are rounded as everywhere.
    assert named["Symbolic-MoE"][1:] == ["63.8", "58.5 to 66.0", "", "", "", "9", "–"]
    assert named["Self-Consistency (5)"][1:] == [
        "48.3", "45.0 to 52.0", "", "-15.5 [-19.2, -11.9]", "worse", "5", "–",
    ]  # fmt: skip
    assert "an aggregator chosen on validation reads their chains" in rows[2][0]
    assert "(Chen et al. 2025, arXiv 2503.05641)" in rows[2][0]
    assert [row[1] for row in rows if row[0].startswith("Mixture-of-Agents")] == ["–"]
    oracle = next(row for row in rows if row[0].startswith("Instance oracle"))
    assert oracle[6:] == ["–", "–"]


def test_symbolic_moe_is_highlighted(report: Path) -> None:
    ours = re.findall(r'<tr class="ours">.*?</tr>', page_of(report), re.DOTALL)
    assert [bool(re.search("Symbolic-MoE", row)) for row in ours] == [True]


def test_figures_come_in_the_told_order_with_caption_and_links(report: Path) -> None:
    page = page_of(report)
    assert f"data:image/svg+xml;base64,{base64.b64encode(SVG.encode()).decode()}" in page
    assert f"data:image/png;base64,{base64.b64encode(b'other png').decode()}" in page
    assert base64.b64encode(b"png").decode() + '"' not in page.replace(
        base64.b64encode(b"other png").decode(), ""
    )
    assert "Accuracy, n &lt; 640 &amp; more" in page
    for name in ("differences.svg", "differences.png", "differences.csv", "accuracy.png"):
        assert f'href="figures/{name}"' in page
    titles = re.findall(r"<figure><h3>(.*?)</h3>", page)
    assert titles == ["Accuracy of every method", "Differences, paired"]


def test_tables_show_first_rows_cut_and_counted(report: Path) -> None:
    page = page_of(report)
    rows = rows_of(page, "<h3>Texts</h3>")
    assert len(rows) == 1 + 10
    assert rows[1] == ["q", "&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt;", "–"]
    assert rows[2][1].endswith("wordword …")
    assert "The first 10 of 13 rows." in page
    # Identifiers give way to labels, fractions to points.
    assert rows_of("<h3>" + page.rpartition("<h3>Differences, paired</h3>")[2], "<h3>")[1][:4] == [
        "Self-Consistency (5)",
        "pocket",
        "symbolic_moe",
        "-15.5",
    ]


def test_what_it_was_made_with(report: Path) -> None:
    note = {"files": {}, "left_out": {}, "made_on": {
        "01_a": {"machine": "a chip, 2 cores", "code": "skillmoe 0.2, commit 1"},
        "02_b": {"machine": "a chip, 2 cores", "code": "skillmoe 0.2, commit 2"},
    }}  # fmt: skip
    (report / "provenance.json").write_text(json.dumps(note))
    page = page_of(report)
    made = " ".join(re.sub(r"<.*?>", " ", page.partition('id="made-with"')[2].partition("</dl>")[0]).split())
    assert (
        "machine a chip, 2 cores code (01_a) skillmoe 0.2, commit 1 code (02_b) skillmoe 0.2, commit 2"
        in made
    )
    assert "engine torch 2.13.0, vllm 0.32.0" in made


def test_engines_are_summed_by_model(report: Path) -> None:
    page = page_of(report)
    assert rows_of(page, 'id="engines"') == [
        ["engine", "model", "devices", "loads", "requests", "load s", "generate s"],
        ["vllm", "m1", "1", "2", "30", "3", "10"],
    ]
    assert "<h3>Batches</h3>" not in page
    path = report / "tables" / "batches.csv"
    pd.read_csv(path).assign(this_run=[True, False]).to_csv(path, index=False)
    assert rows_of(page_of(report), 'id="engines"')[1][3] == "1"


def test_leaks_and_failures_are_said_even_if_there_are_none(report: Path) -> None:
    assert "Whether the splits overlap was not looked at" in page_of(report)
    (report / "tables" / "overlaps.csv").write_text("question_id,other_id,kind\na,b,duplicate in test\n")
    page = page_of(report)
    assert "No question is in both splits; 1 pair(s) within a split are alike." in page
    assert "No method's answer is missing, cut or not run" in page
    (report / "tables" / "accuracy.csv").write_text(
        "method,label,n_unparsed,n_cut,n_overflow,n_not_run\nmoa,Mixture-of-Agents,3,0,0,12\ncot,CoT,0,0,0,0\n"
    )
    assert rows_of(page_of(report), 'id="failures"') == [
        ["method", "no answer found", "cut at the limit", "prompt too long", "not run"],
        ["Mixture-of-Agents", "3", "0", "0", "12"],
    ]


def test_notebooks_have_all_parameters_and_their_state(report: Path) -> None:
    page = page_of(report)
    assert rows_of(page, 'id="notebooks"')[1:] == [
        ["01_a", "k=4", "42", "2026-01-02 03:04 UTC", "done", "ipynb"]
    ]
    assert 'class="failed"' not in page


def test_pages_are_self_contained_and_run_nothing(report: Path) -> None:
    write_index(report)
    for name in ("index.html", "notebooks/01_a.html"):
        soup = BeautifulSoup((report / name).read_text(encoding="utf-8"), "html.parser")
        assert "default-src 'none'" in str(soup.head)
        assert not soup.find_all(["script", "iframe", "link", "object", "form", "svg"])
        assert all(image["src"].startswith("data:image/") for image in soup.find_all("img"))
        links = {link["href"].partition(":")[0] for link in soup.find_all("a", href=re.compile(":"))}
        assert links <= {"https"}
        attributes = {attribute for element in soup.find_all() for attribute in element.attrs}
        assert not {attribute for attribute in attributes if attribute.startswith("on")}


def test_a_notebooks_page_keeps_text_and_tables(report: Path) -> None:
    write_index(report)
    page = (report / "notebooks" / "01_a.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page  # printed: text, shown as it was written
    assert "<p>kept</p>" in page
    assert '<a href="https://a.b">good</a>' in page
    assert "data:image/png;base64,AAAA" in page
    assert "a script" in page
    assert "<code>a &lt; b</code>" in page
    assert "p {}" not in page


def test_cautions_and_what_is_out_of_date_stand_at_the_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    first = ReportFolder("r", notebook="05_recruit")
    first.write(pd.DataFrame({"k": [3]}), "drawn")
    second = ReportFolder("r", notebook="06_methods")
    second.write(second.read("drawn"), "loads")
    chart = second.draw(figures.blank_chart(1, 1, ""), pd.DataFrame({"k": [3]}), "by_k")
    assert "Out of date" not in write_index(first.path).read_text(encoding="utf-8")
    first.write(pd.DataFrame({"k": [5]}), "drawn")
    second.leave_out({"moa": f"<b>{type(chart).__name__}"})
    page = write_index(first.path).read_text(encoding="utf-8")
    top = page.partition("<nav>")[0]
    assert "This page mixes runs: loads, by_k are out of date" in top
    assert "Run 06_methods again." in top
    assert "Left out: moa &lt;b&gt;Chart." in top
    assert page.count("Out of date: made from another version of tables/drawn.csv.") == 2


def test_the_page_shows_the_flow(report: Path) -> None:
    page = write_index(report).read_text(encoding="utf-8")
    assert base64.b64encode(flow_svg().encode()).decode() in page


def test_failures_stand_at_the_top(report: Path) -> None:
    nbformat.write(executed("1", error=True), report / "notebooks" / "02_b.ipynb")
    killed = executed("1")
    killed.metadata.papermill.end_time = None
    nbformat.write(killed, report / "notebooks" / "03_c.ipynb")
    for name, text in {"04_d": "{}", "05_e": "[]", "06_f": "torn"}.items():
        (report / "notebooks" / f"{name}.ipynb").write_text(text)
    page = write_index(report).read_text(encoding="utf-8")
    states = {row[0]: row[-2] for row in rows_of(page, 'id="notebooks"')[1:]}
    unreadable = dict.fromkeys(["04_d", "05_e", "06_f"], "cannot be read")
    assert states == {"01_a": "done", "02_b": "failed", "03_c": "not finished", **unreadable}
    assert page.count('class="failed"') == 5
    assert "ValueError: &lt;script&gt;alert(1)" in page


def test_a_torn_table_keeps_nothing_else_back(report: Path) -> None:
    (report / "tables" / "torn.csv").write_text('a,b\n1,2,3,4\n"')
    (report / "tables" / "empty.csv").write_text("")
    (report / "tables" / "batches.csv").write_text("a\n1\n")
    (report / "summary.csv").write_text("")
    (report / "tables" / "what_if.json").write_text("{")
    page = write_index(report).read_text(encoding="utf-8")
    assert page.count("This file cannot be read") == 3
    assert "<h3>Texts</h3>" in page
    assert 'id="engines"' not in page


def test_an_empty_folder_has_a_page_and_the_page_is_reproducible(tmp_path: Path, report: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "There is nothing here yet" in write_index(tmp_path / "empty").read_text(encoding="utf-8")
    first = write_index(report).read_bytes()
    assert write_index(report).read_bytes() == first
    assert not list(report.rglob("*.tmp"))

import base64
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from skillmoe_lib.cli.flow import flow_svg
from skillmoe_lib.cli.report import _cell, write_index
from skillmoe_lib.evaluation import figures
from skillmoe_lib.evaluation.report_folder import ReportFolder

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><circle r="4"/></svg>'
SUMMARY = """method,benchmark,accuracy,low,high,n_questions,output_tokens
symbolic_moe,pocket,0.625,0.58,0.66,640,123456
not_run,pocket,,,,0,
"""


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A report folder with something of everything."""
    folder = tmp_path / "pocket"
    for name in ("figures", "tables", "notebooks"):
        (folder / name).mkdir(parents=True)
    (folder / "summary.csv").write_text(SUMMARY)
    (folder / "figures" / "by_skill.svg").write_text(SVG)
    (folder / "figures" / "by_skill.png").write_bytes(b"png")
    (folder / "figures" / "by_skill.csv").write_text("x\n1\n")
    (folder / "figures" / "by_skill.txt").write_text("Accuracy, n < 640 & more")
    (folder / "figures" / "only_png.png").write_bytes(b"other png")
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
    cells = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL) for row in body.split("<tr>")[1:]]
    return [[re.sub(r"<.*?>|\u200b", "", cell, flags=re.DOTALL).strip() for cell in row] for row in cells]


def test_summary_has_accuracy_its_interval_and_a_strip(report: Path) -> None:
    page = write_index(report).read_text(encoding="utf-8")
    assert rows_of(page, 'id="summary"') == [
        ["method", "benchmark", "accuracy", "interval", "", "n_questions", "output_tokens"],
        ["symbolic_moe", "pocket", "62.5", "58.0 to 66.0", "", "640", "123,456"],
        ["not_run", "pocket", "–", "–", "", "0", "–"],
    ]
    assert 'style="left: 58.00%; width: 8.00%"' in page
    assert 'style="left: 62.50%"' in page


def test_figures_are_embedded_with_caption_and_links(report: Path) -> None:
    page = write_index(report).read_text(encoding="utf-8")
    assert f"data:image/svg+xml;base64,{base64.b64encode(SVG.encode()).decode()}" in page
    assert f"data:image/png;base64,{base64.b64encode(b'other png').decode()}" in page
    assert base64.b64encode(b"png").decode() + '"' not in page.replace(
        base64.b64encode(b"other png").decode(), ""
    )
    assert "Accuracy, n &lt; 640 &amp; more" in page
    for name in ("by_skill.svg", "by_skill.png", "by_skill.csv", "only_png.png"):
        assert f'href="figures/{name}"' in page


def test_tables_show_first_rows_cut_and_counted(report: Path) -> None:
    page = write_index(report).read_text(encoding="utf-8")
    rows = rows_of(page, "<h3>texts</h3>")
    assert len(rows) == 1 + 10
    assert rows[1] == ["q", "&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt;", "–"]
    assert rows[2][1].endswith("wordword …")
    assert "The first 10 of 13 rows:" in page


def test_engines_are_summed_by_model(report: Path) -> None:
    page = write_index(report).read_text(encoding="utf-8")
    assert rows_of(page, 'id="engines"') == [
        ["engine", "model", "devices", "n_loads", "n_requests", "load_s", "generate_s"],
        ["vllm", "m1", "1", "2", "30", "3", "10"],
    ]
    assert "Versions: torch 2.13.0, vllm 0.32.0." in page
    assert "<h3>batches</h3>" not in page
    path = report / "tables" / "batches.csv"
    pd.read_csv(path).assign(this_run=[True, False]).to_csv(path, index=False)
    assert rows_of(write_index(report).read_text(encoding="utf-8"), 'id="engines"')[1][3] == "1"


def test_notebooks_have_all_parameters_and_their_state(report: Path) -> None:
    page = write_index(report).read_text(encoding="utf-8")
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
    page = write_index(report).read_text(encoding="utf-8")
    assert page.count("This file cannot be read") == 3
    assert "<h3>texts</h3>" in page
    assert 'id="engines"' not in page


def test_an_empty_folder_has_a_page_and_the_page_is_reproducible(tmp_path: Path, report: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "There is nothing here yet" in write_index(tmp_path / "empty").read_text(encoding="utf-8")
    first = write_index(report).read_bytes()
    assert write_index(report).read_bytes() == first
    assert not list(report.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.62375, "0.624"), (0.1, "0.1"), (123.456, "123.5"), (1234.5, "1234"), (12345.6, "12,346"),
        (640, "640"), (12000, "12,000"), (-3, "-3"), (1e-05, "1e-05"), (None, "–"), (float("nan"), "–"),
        (True, "True"), ("x" * 121, "x" * 120 + " …"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_cells_read_well(value: object, text: str) -> None:
    assert _cell(value) == text

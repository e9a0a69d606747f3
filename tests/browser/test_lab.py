"""JupyterLab as a person uses it: notebooks are opened, run and used in a real browser."""

import statistics
import time
from typing import Any

import nbformat
import pytest

pytestmark = pytest.mark.timeout(480)


def test_the_explorer_is_redrawn_when_a_control_is_moved(lab: Any, watched: Any) -> None:
    page = watched.open(lab.notebook("notebooks/explore.ipynb"))
    watched.run_all()
    assert watched.red() == []
    picture, headline = page.locator("img.skillmoe-picture"), page.locator(".skillmoe-headline")
    picture.scroll_into_view_if_needed()
    watched.shot("explore")
    k = page.get_by_role("slider").first
    took = []
    for key in ["ArrowRight"] * 4 + ["ArrowLeft"] * 5:
        before, said = picture.get_attribute("src"), headline.inner_text()
        k.focus()
        start = time.perf_counter()
        page.keyboard.press(key)
        page.wait_for_function(
            "([old, said]) => document.querySelector('img.skillmoe-picture').src !== old"
            " && document.querySelector('.skillmoe-headline').innerText !== said",
            arg=[before, said],
        )
        took.append(time.perf_counter() - start)
    print(
        f"\nexplorer, 2,100 questions x 16 experts: a redraw took {statistics.median(took):.2f} s (median), "
        f"{max(took):.2f} s (slowest of {len(took)}), from key to picture in the browser"
    )
    assert "k = 2" in headline.inner_text()
    before = picture.get_attribute("src")
    page.get_by_label("expert-03").click()
    page.wait_for_function(f"document.querySelector('img.skillmoe-picture').src !== {before!r}")
    page.locator(".skillmoe-answers").scroll_into_view_if_needed()
    watched.shot("explore_answers")
    assert "expert-03" not in page.locator(".skillmoe-who").inner_text()
    assert statistics.median(took) < 1.5  # half a second is the aim; a busy machine takes longer
    assert watched.serious() == []


def test_the_quick_start_runs_from_top_to_bottom(lab: Any, watched: Any) -> None:
    page = watched.open(lab.notebook("notebooks/quick_start.ipynb"))
    watched.run_all()
    assert watched.red() == []
    figure = page.locator(".jp-RenderedImage img").last
    figure.scroll_into_view_if_needed()
    watched.shot("quick_start")
    assert figure.bounding_box()["width"] > 200
    assert watched.serious() == []


def test_a_notebook_of_the_chain_run_by_hand_says_what_comes_first(lab: Any, watched: Any) -> None:
    watched.open(lab.notebook("notebooks/chain/06_methods.ipynb"))
    watched.run_all()
    watched.shot("run_first")
    (said,) = watched.red()
    assert len(said.strip().splitlines()) == 1  # no traceback
    assert "run the notebook 05_recruit first" in said


def test_progress_bars_are_wide_and_texts_of_models_stay_texts(project: Any, lab: Any, watched: Any) -> None:
    write_scratch(project / "notebooks" / "scratch.ipynb")
    page = watched.open(lab.notebook("notebooks/scratch.ipynb"))
    watched.run_all()
    assert watched.red() == []
    bar = page.locator(
        ".widget-hprogress .progress, .jupyter-widget-hprogress .progress, .widget-hprogress"
    ).first
    bar.scroll_into_view_if_needed()
    watched.shot("progress")
    assert bar.bounding_box()["width"] > 100
    assert page.locator(".skillmoe-answers img, .skillmoe-headline img").count() == 0
    assert "<img src=x onerror=alert(1)>" in page.locator(".skillmoe-answers").inner_text()
    assert watched.serious() == []


def write_scratch(path: Any) -> None:
    """A notebook with a progress bar whose total comes late, and an explorer of texts like markup."""
    cells = [
        "from skillmoe_lib import progress\n"
        "bar = progress.bar(0, 'answers: loading sums')\n"
        "bar.total = (bar.total or 0) + 40\n"
        "bar.update(10); bar.refresh()",
        "import pandas as pd\nfrom skillmoe_lib.studies import explorer, outcomes",
        "evil = '<img src=x onerror=alert(1)>'\n"
        "ids = [f'q{i}' for i in range(8)]\n"
        "asked = pd.DataFrame({'question_id': ids, 'split': ['validation', 'test'] * 4, 'text': evil,\n"
        "                      'gold': evil, 'subject': evil})",
        "said = pd.DataFrame([{'question_id': q, 'expert': e, 'answer': evil, 'correct': i % 3 == 0}\n"
        "                     for i, q in enumerate(ids) for e in ('a' + evil, 'b')])",
        "explorer.Explorer(outcomes.from_recorded(asked, said), texts=lambda *_: evil).panel",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)

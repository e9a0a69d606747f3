"""The report's pages, opened as files: they fit a phone, and the page with controls answers them."""

import json
from pathlib import Path
from typing import Any

import pytest
import recordings

from skillmoe_lib.cli.report import write_index
from skillmoe_lib.studies import what_if_page

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 2,100 made-up questions and 16 experts."""
    project = tmp_path_factory.mktemp("report")
    recordings.write_report(project, 420, 1680, 16)
    report = project / "reports" / "pocket"
    data = what_if_page.page_data(recordings.pool(420, 1680, 16))
    (report / "tables" / "what_if.json").write_text(json.dumps(data), encoding="utf-8")
    write_index(report)
    return report


def test_a_moved_control_changes_the_answer(folder: Path, watched: Any) -> None:
    page = watched.page
    page.goto((folder / "what_if.html").as_uri())
    accuracy = page.locator("#accuracy")
    before = accuracy.inner_text()
    page.locator("#k").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"document.querySelector('#accuracy').innerText !== {before!r}")
    page.locator("#experts input").first.click()
    watched.shot("what_if")
    page.locator("#reset").click()
    page.wait_for_function(f"document.querySelector('#accuracy').innerText === {before!r}")
    print(f"\nwhat-if page, 2,100 questions x 16 experts: {page.locator('#took').inner_text()}")
    assert watched.errors == []


@pytest.mark.parametrize("name", ["index.html", "what_if.html"])
def test_a_phone_shows_the_whole_width(folder: Path, watched: Any, name: str) -> None:
    page = watched.page
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto((folder / name).as_uri())
    watched.shot(f"phone_{name.removesuffix('.html')}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert watched.errors == []

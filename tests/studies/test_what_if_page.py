"""The what-if page's script against Python: the same answers, calls and intervals for every subset tried."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from skillmoe_lib.cli.page import template_text
from skillmoe_lib.cli.what_if_page import write_what_if
from skillmoe_lib.evaluation.intervals import wilson
from skillmoe_lib.studies import what_if_page
from skillmoe_lib.studies.outcomes import Outcomes, from_recorded
from skillmoe_lib.studies.what_if import what_if

EVIL = "</script><script>alert(1)</script>"
SUBJECTS = ("sums", "logic", "time")


@pytest.fixture(scope="module")
def pool() -> Outcomes:
    """Seven experts, 120 questions of three subjects, half with choices and half open, some without an
    answer.
    """
    random = np.random.default_rng(5)
    names, n = [f"e{i}" for i in range(7)], 120
    questions = pd.DataFrame(
        {"question_id": [f"q{i:03d}" for i in range(n)], "split": ["validation", "test"] * (n // 2),
         "subject": [SUBJECTS[i % 3] for i in range(n)], "n_choices": [4 * (i % 4 < 2) for i in range(n)],
         "text": EVIL, "gold": "A"}
    )  # fmt: skip
    skill = random.uniform(0.2, 0.8, size=(7, 3))
    rows = []
    for i in range(n):
        for e, name in enumerate(names):
            right = random.random() < skill[e, i % 3]
            answer = "A" if right else "BCD"[random.integers(3)]
            silent = random.random() < 0.08
            rows.append(
                {"question_id": f"q{i:03d}", "expert": name, "answer": None if silent else answer,
                 "correct": right and not silent, "status": "unparsed" if silent else "answered",
                 "output_tokens": float(random.integers(5, 50)), "device_seconds": np.nan}
            )  # fmt: skip
    # One answer of validation was not run: the evidence of experts then differs.
    rows[0] |= {"status": "not_run", "answer": None, "correct": False}
    return from_recorded(questions, pd.DataFrame(rows))


SETTINGS = [
    {"method": method, "kept": kept, "k": k, "threshold": threshold}
    for kept in (list(range(7)), [0, 2, 3, 6], [4])
    for method, k, threshold in [
        ("by_skill", 1, 0.9), ("by_skill", 3, 0.9), ("by_skill", 5, 0.9), ("top_k", 3, 0.9),
        ("top_k", 4, 0.9),
        ("sequential", 3, 0.6), ("sequential", 3, 0.95), ("sequential_without_skills", 3, 0.9),
    ]
    if k <= len(kept) or method.startswith("sequential")
]  # fmt: skip


@pytest.fixture(scope="module")
def from_script(pool: Outcomes, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """What the page's script computes for all settings."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; the browser tests run the page instead")
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.js").write_text(template_text("what_if.js"), encoding="utf-8")
    data = what_if_page.page_data(pool, prior=4.0, temperature=0.125)
    (folder / "input.json").write_text(json.dumps({"data": data, "settings": SETTINGS}), encoding="utf-8")
    run = (
        "const page = require('./page.js'), {data, settings} = require('./input.json');"
        "const all = settings.map((setting) => page.whatIf(data, setting));"
        "console.log(JSON.stringify(all.map((one) => ({...one, difference: page.difference(one, all[0])}))));"
    )
    done = subprocess.run([node, "-e", run], cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "i", range(len(SETTINGS)), ids=lambda i: "{method} {kept} {k} {threshold}".format(**SETTINGS[i])
)
def test_the_script_computes_what_python_computes(i, pool, from_script):
    setting, found = SETTINGS[i], from_script[i]
    names = [pool.experts[e] for e in setting["kept"]]
    rows = pool.rows("test")
    if setting["method"] == "by_skill":
        chosen, answer = what_if_page.ranked_by_skill(pool, names, k=setting["k"], prior=4.0)
        right = np.where(pool.correct[rows], pool.answer[rows], -2)
        correct = (right == answer[:, None]).any(axis=1) & (answer >= 0)
        asked = chosen.tolist()
        interval, calls = wilson(int(correct.sum()), len(rows)), float(setting["k"])
    else:
        told = what_if(
            pool, experts=names, method=setting["method"], k=setting["k"], threshold=setting["threshold"]
        )
        at = [pool.experts.index(name) for name in told.outcomes.experts]
        asked = [[at[e] for e in row if e >= 0] for row in told.chosen.tolist()]
        answer, correct, interval, calls = told.answer, told.correct, told.accuracy, told.calls
    assert found["asked"] == asked
    assert found["answer"] == answer.tolist()
    assert found["correct"] == correct.tolist()
    assert (found["accuracy"], found["low"], found["high"]) == pytest.approx(interval[:3], abs=1e-12)
    assert found["calls"] == pytest.approx(calls)
    tokens = [pool.output_tokens[row, some].sum() for row, some in zip(rows, asked, strict=True)]
    assert found["costs"] == {"output_tokens": pytest.approx(np.mean(tokens))}  # seconds are not known


def test_the_difference_is_paired(from_script):
    first, other = from_script[0], from_script[5]
    d = np.array(other["correct"], float) - np.array(first["correct"], float)
    told = other["difference"]
    assert told["d"] == pytest.approx(d.mean())
    assert (told["onlyA"], told["onlyB"]) == ((d > 0).sum(), (d < 0).sum())
    assert told["high"] - told["d"] == pytest.approx(1.959964 * d.std() / np.sqrt(d.size), rel=1e-6)


def test_the_page_runs_its_own_script_only_and_shows_text_as_text(pool: Outcomes, tmp_path: Path) -> None:
    assert write_what_if(tmp_path) == ""
    (tmp_path / "tables").mkdir()
    data = what_if_page.page_data(pool)
    (tmp_path / "tables" / "what_if.json").write_text(json.dumps(data, allow_nan=False))
    assert write_what_if(tmp_path) == "what_if.html"
    page = (tmp_path / "what_if.html").read_text(encoding="utf-8")
    soup = BeautifulSoup(page, "html.parser")
    scripts = soup.find_all("script")
    assert [script.get("type") for script in scripts] == ["application/json", None]
    assert json.loads(scripts[0].string) == data
    assert "alert(1)</script>" not in page
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}'", page)
    assert "default-src 'none'" in page
    for forbidden in (
        "innerHTML",
        "fetch(",
        "XMLHttpRequest",
        "eval(",
        "insertAdjacentHTML",
        "document.write",
    ):
        assert forbidden not in scripts[1].string
    assert not [t for t in soup.find_all() for a in t.attrs if a.startswith("on")]
    # Torn data leave no page behind that shows something else.
    (tmp_path / "tables" / "what_if.json").write_text("{")
    assert write_what_if(tmp_path) == ""
    assert not (tmp_path / "what_if.html").exists()

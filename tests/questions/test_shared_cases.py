"""Every loading case of ../shared/cases: the right rows, or one clear line."""

import json
from pathlib import Path
from typing import Any

import pytest

from skillmoe_lib import experts, questions
from skillmoe_lib.errors import SkillmoeError

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
ROWS = "test rows (text, choices, gold)"


def cases(call: str) -> list[Any]:
    if not (CASES / "cases.jsonl").is_file():
        reason = pytest.mark.skip(reason="../shared is absent: the cases that were handed over cannot be run")
        return [pytest.param({}, marks=reason)]
    lines = (CASES / "cases.jsonl").read_text(encoding="utf-8").split("\n")
    found = [case for line in lines if line.strip() and (case := json.loads(line))["call"] == call]
    return [
        pytest.param(
            case, id=case["input"]["path"] if isinstance(case["input"], dict) else str(case["input"])
        )
        for case in found
    ]


@pytest.mark.parametrize("case", cases("load_benchmark"))
@pytest.mark.filterwarnings("ignore:benchmark")
def test_a_benchmark_loads_right_or_is_refused_in_one_line(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    expected = case["expected"]
    rows = expected.get(ROWS) if isinstance(expected, dict) else None
    try:
        frame = questions.load(str(CASES / case["input"]["path"]))
    except SkillmoeError as error:
        assert "\n" not in str(error)
        assert rows or "error" in str(expected), error
        return
    test = frame[frame["split"] == "test"]
    loaded = [
        [text, json.loads(choices), gold]
        for text, choices, gold in zip(test["text"], test["choices"], test["gold"], strict=True)
    ]
    if rows:
        assert loaded == rows
    elif expected == "one-line error":
        assert "right value" in case.get("note", ""), loaded  # a note says so where the right rows will do
    else:
        assert loaded


@pytest.mark.parametrize("case", cases("load_pool(locate=False)"))
def test_a_pool_loads_or_is_refused_in_one_line(case: dict[str, Any]) -> None:
    path = str(CASES / case["input"]["path"])
    if case["expected"] == "loads":
        assert experts.load_pool(path, locate=False).experts
        return
    with pytest.raises(SkillmoeError) as caught:
        experts.load_pool(path, locate=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", cases("question_rows.normalised"))
def test_two_questions_stay_two(case: dict[str, Any]) -> None:
    one, other = map(questions.normalised, case["input"])
    assert (one == other) == (case["expected"] == "same")

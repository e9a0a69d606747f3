"""The shared cases about answers, if present: every fault is fixed and every guard kept."""

import json
from pathlib import Path

import pytest

from skillmoe_lib.aggregation import vote
from skillmoe_lib.answers import Answer, equivalent, extract_choice, extract_text, grade, read
from skillmoe_lib.generation import Generation
from skillmoe_lib.profiling import parse_keywords
from skillmoe_lib.questions import Question

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "cases.jsonl"


def question(kind: str, gold: str = "A", n_choices: int = 4) -> Question:
    choices = tuple(f"choice {i}" for i in range(n_choices)) if kind == "choice" else ()
    return Question("q", "made", "test", "Which?", choices, gold, "logic", kind)


def written(text: str) -> Generation:
    return Generation("r", text, "stop", 1, 1)


def choice(given: dict, expected):
    if "text A" not in given:
        found = extract_choice(given["text"], given["n_choices"])
        return found in expected["any of"] if isinstance(expected, dict) else found == expected
    found = {letter: extract_choice(given[f"text {letter}"], given["n_choices"]) for letter in "AB"}
    if isinstance(expected, dict):
        return found == expected
    return found in ({"A": "A", "B": "B"}, {"A": None, "B": None})


def text_graded(given: dict, expected):
    value = extract_text(given["text"])
    if "value" in expected:
        return value == expected["value"]
    return grade(question(given["kind"], given["gold"]), Answer(value, "answered")) is expected["graded"]


def read_graded(given: dict, expected):
    asked = question(given["kind"], given["gold"])
    return grade(asked, read(asked, written(given["text"]))) is expected


def read_letter(given: dict, expected):
    answer = read(
        question("choice", "A", given["n_choices"]), written(given["text"]), reasoning=given["reasoning"]
    )
    return answer.value == expected


def voted(given: dict, expected):
    winner = vote(question(given["kind"], given["gold"]), [Answer(b, "answered") for b in given["ballots"]])
    return equivalent(gold=expected["winner equivalent to"], answer=winner.value or "", timeout_s=60)


CHECKS = {
    "equivalent": lambda given, expected: equivalent(**given, timeout_s=60) is expected,
    "extract_choice": choice,
    "extract_text+grade": text_graded,
    "read+grade": read_graded,
    "read": read_letter,
    "vote": voted,
    "skills.parse_keywords": lambda given, expected: parse_keywords(given) == expected,
}


@pytest.mark.skipif(not CASES.is_file(), reason="../shared is absent: no shared cases")
@pytest.mark.parametrize("call", CHECKS)
def test_shared_cases(call: str) -> None:
    rows = [json.loads(line) for line in CASES.read_text("utf-8").strip().split("\n")]
    rows = [row for row in rows if row["call"] == call]
    assert rows
    failed = [row for row in rows if not CHECKS[call](row["input"], row["expected"])]
    assert not failed, "\n".join(f"{row['kind']}: {row['input']} -> {row['expected']}" for row in failed)

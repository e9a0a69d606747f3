"""MMLU-Pro's `eval_results`: a zip or JSON file for each model (github.com/TIGER-AI-Lab/MMLU-Pro).

A row has question_id, question, options, answer, category, pred and the generated text under one of three
names. The set was revised: files of 12,032, 12,020 and 10,394 rows exist, and the same id may mean another
question. Where no answer was found, some of its scripts recorded a random letter: a `pred` that stands
nowhere in the text is no answer here.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skillmoe_lib.recorded import opening, wording
from skillmoe_lib.recorded.recording import AS_IT_IS, Options, Recorded, Row, build

USES = ("expert", "repeats")
#: The generated text, as the three ages of the files call it.
TEXTS = ("model_outputs", "generated_text", "response")
_MODEL = re.compile(r"(?:model_outputs_)?(.+?)(?:_\d+shots?)?")


def read(path: Path, options: Options = AS_IT_IS) -> Recorded:
    """A recording of one model. Its name is in the file's: `model_outputs_NAME_5shots.zip`."""
    named = _MODEL.fullmatch(path.stem)
    expert = options.expert or (named[1] if named else path.stem)
    rows, n_guessed = [], 0
    for entry in _entries(path):
        row, guessed = _row(entry, expert)
        rows.append(row)
        n_guessed += guessed
    said = f"guesses: {n_guessed} recorded letters stand nowhere in the text; taken as no answer"
    return build(rows, notes=[said] if n_guessed else [], repeats=options.repeats)


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".zip":
        parts = (
            (name, opening.parse(data, path, name[:60])) for name, data in opening.members(path, _holds_rows)
        )
    else:
        parts = iter([("", opening.read_json(path))])
    for name, part in parts:
        if not isinstance(part, list) or not all(isinstance(entry, dict) for entry in part):
            raise opening.unreadable(path, f"{name} it must hold a list of objects")
        for number, entry in enumerate(part, 1):
            if not {"question_id", "question", "answer", "pred"} <= entry.keys():
                raise opening.unreadable(
                    path, f"{name} row {number} needs question_id, question, answer, pred"
                )
            yield entry


def _holds_rows(name: str) -> bool:
    last = name.rpartition("/")[2]
    hidden = "__MACOSX" in name or last.startswith(".")
    return last.endswith(".json") and not hidden and not last.endswith("summary.json")


def _row(entry: dict[str, Any], expert: str) -> tuple[Row, bool]:
    """A row, and whether its recorded letter was a guess."""
    text = next((entry[name] for name in TEXTS if entry.get(name) is not None), None)
    text = text if text is None or isinstance(text, str) else str(text)
    answer, gold = wording.letter(entry["pred"]), str(entry["answer"])
    guessed = answer is not None and text is not None and answer not in text
    answer = None if guessed else answer
    row = Row(
        str(entry["question_id"]),
        expert,
        "MMLU-Pro",
        question=str(entry["question"]),
        choices=tuple(str(choice) for choice in entry.get("options") or () if choice != "N/A"),
        gold=gold,
        subject=wording.words(entry.get("category")),
        kind="choice",
        text=text,
        answer=answer,
        correct=float(answer == gold),
    )
    return row, guessed

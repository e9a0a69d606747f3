"""lm-evaluation-harness: `samples_<task>_<date>.jsonl`, written with --log_samples (EleutherAI).

A row is one document under one answer filter: doc, target, resps, filtered_resps, filter, metrics, and each
metric's value under its own name. The model's name is not in it: it is that of the folder, or of the
`results_*.json` beside it. Tokens and finish reasons are never recorded. A task that compares the
probabilities of choices has no texts; its answer is the most probable choice.
"""

import json
import re
from pathlib import Path
from typing import Any

from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.questions.choices import gold_position, read_choices
from skillmoe_lib.recorded import opening, wording
from skillmoe_lib.recorded.recording import AS_IT_IS, Options, Recorded, Row, build

USES = ("expert", "filter", "metric", "repeats")
#: Metrics that say whether one answer is right, in the order in which they are looked for.
METRICS = ("exact_match", "acc", "math_verify", "pass@1", "em")
_ASKED = ("question", "problem", "query", "input", "ctx", "prompt")
_TASK = re.compile(r"samples_(.+?)(?:_\d{4}-\d{2}-\d{2}T[\d\-.]+)?")


def read(path: Path, options: Options = AS_IT_IS) -> Recorded:
    """A recording of one model on one task."""
    named = _TASK.fullmatch(path.stem)
    task = named[1] if named else path.stem
    expert, notes = (options.expert, []) if options.expert else _model_beside(path)
    lines = [row for _, row in opening.json_lines(path)]
    filters = list(dict.fromkeys(str(row.get("filter", "none")) for row in lines))
    if options.filter and options.filter not in filters:
        raise unknown(f"filter of {path.name}", options.filter, filters)
    chosen = options.filter or (filters[0] if filters else "none")
    if len(filters) > 1:
        notes.append(f"filters: {', '.join(filters)} of {task}: {chosen} is read (--filter names another)")
    rows, n_more = [], 0
    for row in lines:
        if str(row.get("filter", "none")) == chosen:
            made, more = _row(row, task, expert, _metric(row, options.metric, path))
            rows.append(made)
            n_more += more
    if n_more:
        notes.append(f"repeats of {task}: {n_more} further texts were scored together; the first is kept")
    return build(rows, notes=notes, repeats=options.repeats)


def _model_beside(path: Path) -> tuple[str, list[str]]:
    """The model's name from the one results file of the folder, or else the folder's name."""
    found = sorted(path.resolve().parent.glob("results_*.json"))
    names = set()
    for file in found:
        said = opening.read_json(file)
        names.add(said.get("model_name") if isinstance(said, dict) else None)
    if len(names) == 1 and (name := names.pop()):
        return str(name), []
    name = path.resolve().parent.name
    return name, [f"expert: {name!r} is the folder's name (--expert gives another)"]


def _metric(row: dict[str, Any], given: str, path: Path) -> str:
    known = [str(name) for name in row.get("metrics") or METRICS if name in row]
    if given:
        if given not in row:
            raise unknown(f"metric of {path.name}", given, known)
        return given
    chosen = next((name for name in METRICS if name in known), known[0] if len(known) == 1 else None)
    if chosen is None:
        names = ", ".join(known) or "(none)"
        raise SkillmoeError(f"{path.name}: name the metric that decides with --metric, one of {names}")
    return chosen


def _row(row: dict[str, Any], task: str, expert: str, metric: str) -> tuple[Row, int]:
    """A row, and how many further texts of the question were left out."""
    doc = row["doc"] if isinstance(row.get("doc"), dict) else {}
    question_id = f"{task}/{row.get('doc_id')}"
    texts, found = _texts(row.get("resps")), row.get("filtered_resps") or []
    choices, gold = _choices(doc, row.get("target"))
    kind = wording.kind_of(gold, len(choices))
    compared = bool(found) and all(isinstance(pair, list) and len(pair) == 2 for pair in found)
    if compared:
        best = max(range(len(found)), key=lambda i: float(found[i][0]))
        answer = chr(ord("A") + best) if len(found) == len(choices) else None
    else:
        first = next(iter(_texts(found)), None)
        answer = None if first is None or first in ("[invalid]", "") else first
        if answer is not None and kind == "choice":
            answer = wording.letter(answer) or wording.answer_in(answer, kind, len(choices))
    made = Row(
        question_id,
        expert,
        task,
        question=next((doc[name] for name in _ASKED if isinstance(doc.get(name), str)), None) or _prompt(row),
        choices=choices,
        gold=gold,
        subject=wording.words(doc.get("category") or doc.get("subject")),
        kind=kind,
        text=None if compared or not texts else texts[0],
        answer=answer,
        correct=wording.score(row.get(metric), f"{question_id}, {metric}"),
        answer_known=not compared or answer is not None,
    )
    return made, 0 if compared else max(0, len(texts) - 1)


def _texts(nested: Any) -> list[str]:
    """The texts in lists of lists."""
    if isinstance(nested, str):
        return [nested]
    return [text for part in nested for text in _texts(part)] if isinstance(nested, list) else []


def _prompt(row: dict[str, Any]) -> str | None:
    arguments = row.get("arguments")
    first = arguments.get("gen_args_0") if isinstance(arguments, dict) else None
    prompt = first.get("arg_0") if isinstance(first, dict) else None
    return wording.words(prompt)


def _choices(doc: dict[str, Any], target: Any) -> tuple[tuple[str, ...], str | None]:
    """The choices and the letter of the right one; if that is not clear, none and the target itself."""
    gold = wording.words(target)
    gold = gold.rpartition("####")[2].strip() or None if gold else None  # GSM8K's comes with its working
    for name in ("choices", "options"):
        if not isinstance(doc.get(name), list | dict):
            continue
        try:
            choices = read_choices(doc, name)
        except (ValueError, SkillmoeError):
            continue
        for gold_is in ("letter", "index", "text"):
            try:
                place = gold_position(gold or "", choices, gold_is)
            except (ValueError, json.JSONDecodeError):
                continue
            return tuple(choices.texts), chr(ord("A") + place)
    return (), gold

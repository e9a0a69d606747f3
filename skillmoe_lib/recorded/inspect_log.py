"""inspect_ai: `.eval` logs, a zip of header.json and samples/<id>_epoch_<n>.json (UK AI Security Institute).

A sample has id, epoch, input, choices, target, output and scores. Several scorers are possible; without
`metric` there must be one. A log of a run that crashed has no header: its start is in `_journal/start.json`.
"""

from pathlib import Path
from typing import Any

from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.recorded import opening, wording
from skillmoe_lib.recorded.recording import AS_IT_IS, Options, Recorded, Row, build

USES = ("expert", "metric", "repeats")
_HEADS = ("header.json", "_journal/start.json")


def read(path: Path, options: Options = AS_IT_IS) -> Recorded:
    """A recording of one model on one task; epochs are repeats."""
    heads: dict[str, Any] = {}
    samples = []
    wanted = opening.members(path, lambda name: name in _HEADS or _is_sample(name))
    for name, data in wanted:
        content = opening.parse(data, path, name[:60])
        if not isinstance(content, dict):
            raise opening.unreadable(path, f"{name[:60]} must hold an object")
        if name in _HEADS:
            heads[name] = content
        else:
            samples.append(content)
    head = next((heads[name] for name in _HEADS if name in heads), None)
    if head is None or not isinstance(head.get("eval"), dict):
        raise opening.unreadable(path, "it has no header.json with eval, so it is no log of inspect_ai")
    about = head["eval"]
    task = str(about.get("task", path.stem)).rpartition("/")[2]
    expert = options.expert or str(about.get("model", path.stem))
    rows = [_row(sample, task, expert, options.metric, path) for sample in samples]
    status = head.get("status", "crashed")
    notes = [] if status == "success" else [f"status: the run of {expert} on {task} ended as {status!r}"]
    return build(rows, notes=notes, repeats=options.repeats)


def _is_sample(name: str) -> bool:
    return name.startswith("samples/") and name.endswith(".json")


def _row(sample: dict[str, Any], task: str, expert: str, metric: str, path: Path) -> Row:
    question_id = f"{task}/{sample.get('id')}"
    choices = tuple(str(choice) for choice in sample.get("choices") or ())
    target = sample.get("target")
    gold = wording.words(target[0] if isinstance(target, list) and len(target) == 1 else target)
    kind = wording.kind_of(gold, len(choices))
    output = sample.get("output") or {}
    first = next(iter(output.get("choices") or []), {})
    usage = output.get("usage") or {}
    reason = wording.finish_reason(first.get("stop_reason"))
    text = output.get("completion") or _content((first.get("message") or {}).get("content"))
    scored = _scored(sample.get("scores") or {}, metric, path)
    answer = scored.get("answer")
    if kind == "choice":
        answer = wording.letter(answer) or wording.answer_in(text, kind, len(choices), reason)
    elif not isinstance(answer, str) or not answer.strip() or answer == text:
        answer = wording.answer_in(text, kind, 0, reason)
    ran = not sample.get("error") and bool(scored)
    return Row(
        question_id,
        expert,
        task,
        question=_asked(sample.get("input")),
        choices=choices,
        gold=gold,
        kind=kind,
        sample=max(0, int(sample.get("epoch", 1)) - 1),
        text=wording.text_of(text),
        answer=answer if ran else None,
        correct=wording.score(scored.get("value"), f"{question_id} of {path.name}"),
        prompt_tokens=wording.count(usage.get("input_tokens")),
        output_tokens=wording.count(usage.get("output_tokens")),
        money=wording.money(usage.get("total_cost")),
        finish_reason=reason,
        ran=ran,
    )


def _scored(scores: dict[str, Any], metric: str, path: Path) -> dict[str, Any]:
    """The score that decides; {} if the sample has none."""
    if not scores:
        return {}
    if metric and metric not in scores:
        raise unknown(f"scorer of {path.name}", metric, scores)
    if not metric and len(scores) > 1:
        names = ", ".join(sorted(scores))
        raise SkillmoeError(f"{path.name}: name the scorer that decides with --metric, one of {names}")
    scored = scores[metric or next(iter(scores))]
    return scored if isinstance(scored, dict) else {}


def _content(content: Any) -> str:
    """The text of a message, which may come in parts."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "\n".join(str(part.get("text", "")) for part in parts)
    return content if isinstance(content, str) else ""


def _asked(given: Any) -> str | None:
    """The question: the input itself, or what the user says in it."""
    if isinstance(given, list):
        said = [
            _content(turn.get("content"))
            for turn in given
            if isinstance(turn, dict) and turn.get("role") == "user"
        ]
        return wording.words("\n".join(said))
    return wording.words(given)

"""RouterArena: `cached_results/<model>.jsonl`, or a router's predictions (github.com/RouteWorks/RouterArena).

A cached row has global_index, question, llm_selected, generated_answer, token_usage, success and
evaluation_result with ground_truth, score, metric and inference_cost. Its `extracted_answer` is often the
whole text, so answers are read from the text here. Predictions (`global index`, with a space) record one
model for each question, the one that the router chose.
"""

from pathlib import Path
from typing import Any

from skillmoe_lib.recorded import opening, wording
from skillmoe_lib.recorded.recording import AS_IT_IS, Options, Recorded, Row, build

USES = ("expert", "repeats")
_KINDS = {"mcq_accuracy": "choice", "math_metric": "math"}


def read(path: Path, options: Options = AS_IT_IS) -> Recorded:
    """A recording of one model, or of a router's choices."""
    rows = []
    for number, row in opening.json_lines(path):
        if "global_index" in row:
            rows.append(_cached(row, options.expert))
        elif "global index" in row:
            rows.append(_predicted(row))
        else:
            raise opening.unreadable(path, f"line {number} has neither global_index nor 'global index'")
    return build(rows, repeats=options.repeats)


def _cached(row: dict[str, Any], expert: str) -> Row:
    scored = row.get("evaluation_result") or {}
    usage = row.get("token_usage") or {}
    question_id, text = str(row["global_index"]), wording.text_of(row.get("generated_answer"))
    gold = wording.words(scored.get("ground_truth"))
    kind = _KINDS.get(str(scored.get("metric"))) or wording.kind_of(gold)
    ran = bool(row.get("success", True)) and not row.get("error")
    return Row(
        question_id,
        expert or str(row.get("llm_selected")),
        "RouterArena",
        question=wording.words(row.get("question")),
        gold=gold,
        subject=question_id.rpartition("_")[0] or None,
        kind=kind,
        sample=max(0, int(row.get("run_number") or 1) - 1),
        text=text,
        answer=wording.answer_in(text, kind) if ran else None,
        correct=wording.score(scored.get("score"), question_id),
        prompt_tokens=wording.count(usage.get("input_tokens")),
        output_tokens=wording.count(usage.get("output_tokens")),
        money=wording.money(scored.get("inference_cost")),
        ran=ran,
    )


def _predicted(row: dict[str, Any]) -> Row:
    result = row.get("generated_result")
    result = result if isinstance(result, dict) else {"generated_answer": result}
    usage, question_id = result.get("token_usage") or {}, str(row["global index"])
    return Row(
        question_id,
        str(row.get("prediction")),
        "RouterArena",
        question=wording.words(row.get("prompt")),
        subject=question_id.rpartition("_")[0] or None,
        text=wording.text_of(result.get("generated_answer")),
        correct=wording.score(row.get("accuracy"), question_id),
        prompt_tokens=wording.count(usage.get("input_tokens")),
        output_tokens=wording.count(usage.get("output_tokens")),
        money=wording.money(row.get("cost")),
        ran=row.get("accuracy") is not None,
        answer_known=False,
    )

"""LLMRouterBench: `results/bench/<dataset>/<split>/<model>/*.json` (github.com/ynulihao/LLMRouterBench).

One file is one model on one data set: model_name, dataset_name, split, records. A record has index,
origin_query, prompt, raw_output, prediction, ground_truth, score, prompt_tokens, completion_tokens and cost.
"""

from pathlib import Path
from typing import Any

from skillmoe_lib.recorded import opening, wording
from skillmoe_lib.recorded.recording import AS_IT_IS, Options, Recorded, Row, build

USES = ("expert", "repeats")


def read(path: Path, options: Options = AS_IT_IS) -> Recorded:
    """A recording of one model on one data set."""
    whole = opening.read_json(path)
    if not isinstance(whole, dict) or not isinstance(whole.get("records"), list):
        raise opening.unreadable(path, "it must hold an object with records")
    dataset, expert = str(whole.get("dataset_name", "")), options.expert or str(whole.get("model_name", ""))
    split = wording.split_of(whole.get("split"))
    rows = [_row(record, dataset, expert, split) for record in whole["records"] if isinstance(record, dict)]
    notes = ["demo: it is a part of the data set (demo is true)"] if whole.get("demo") else []
    return build(rows, notes=notes, repeats=options.repeats)


def _row(record: dict[str, Any], dataset: str, expert: str, split: str | None) -> Row:
    question_id = f"{dataset}/{record.get('index')}"
    gold, found = wording.words(record.get("ground_truth")), wording.words(record.get("prediction"))
    kind = wording.kind_of(gold)
    return Row(
        question_id,
        expert,
        dataset,
        question=wording.words(record.get("origin_query") or record.get("prompt")),
        gold=gold,
        subject=dataset,
        split=split,
        kind=kind,
        text=wording.text_of(record.get("raw_output")),
        answer=wording.letter(found) or found if kind == "choice" else found,
        correct=wording.score(record.get("score"), f"{question_id} of {expert}"),
        prompt_tokens=wording.count(record.get("prompt_tokens")),
        output_tokens=wording.count(record.get("completion_tokens")),
        money=wording.money(record.get("cost")),
    )

"""HELM: `scenario_state.json` and `per_instance_stats.json` of one run (github.com/stanford-crfm/helm).

The first has what was asked and generated, the second the scores of each instance; both lie in the run's
folder, whose name says scenario and model. Instances that HELM changed on purpose (perturbations) are left
out.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.recorded import opening, wording
from skillmoe_lib.recorded.recording import AS_IT_IS, Options, Recorded, Row, build

USES = ("expert", "metric", "repeats")
#: Scores that say whether one answer is right, in the order in which they are looked for.
METRICS = (
    "exact_match", "quasi_exact_match", "quasi_prefix_exact_match", "final_number_exact_match",
    "math_equiv_chain_of_thought", "math_equiv", "chain_of_thought_correctness",
)  # fmt: skip
_STATE, _STATS = "scenario_state.json", "per_instance_stats.json"
Stats = dict[tuple[str, int], dict[str, float]]


def read(path: Path, options: Options = AS_IT_IS) -> Recorded:
    """A recording of one run: its folder, or the scenario_state.json in it. Trials are repeats."""
    folder = path if path.is_dir() else path.parent
    state, listed = opening.read_json(folder / _STATE), opening.read_json(folder / _STATS)
    if not isinstance(state, dict) or not isinstance(state.get("request_states"), list):
        raise opening.unreadable(folder / _STATE, "it must hold an object with request_states")
    if not isinstance(listed, list):
        raise opening.unreadable(folder / _STATS, "it must hold a list")
    stats = _stats(listed)
    metric = _metric(stats, options.metric, folder / _STATS)
    adapter = state.get("adapter_spec") or {}
    scenario, expert = _scenario(folder), options.expert or str(adapter.get("model", folder.name))
    rows: dict[tuple[str, int], Row] = {}
    n_changed = 0
    for request in state["request_states"]:
        instance = request.get("instance") or {}
        key = (str(instance.get("id")), int(request.get("train_trial_index") or 0))
        if instance.get("perturbation"):
            n_changed += 1
        elif key not in rows:
            rows[key] = _row(request, f"{scenario}/{key[0]}", scenario, expert, stats.get(key, {}), metric)
    notes = [f"score: {metric} of {scenario} decides (--metric names another)"]
    if n_changed:
        notes.append(f"perturbations: {n_changed} changed instances of {scenario} are left out")
    return build(rows.values(), notes=notes, repeats=options.repeats)


def _stats(listed: list[Any]) -> Stats:
    """(instance, trial) -> score -> its mean, of instances that were not changed."""
    found: Stats = {}
    for entry in listed:
        if isinstance(entry, dict) and not entry.get("perturbation"):
            scores = found.setdefault(
                (str(entry.get("instance_id")), int(entry.get("train_trial_index") or 0)), {}
            )
            for stat in entry.get("stats") or []:
                if stat.get("count"):
                    scores[str((stat.get("name") or {}).get("name"))] = (
                        float(stat.get("sum", 0)) / stat["count"]
                    )
    return found


def _metric(stats: Stats, given: str, path: Path) -> str:
    known = {name for scores in stats.values() for name in scores}
    if given and given not in known:
        raise unknown(f"score of {path.name}", given, known)
    chosen = given or next((name for name in METRICS if name in known), "")
    if not chosen:
        names = ", ".join(sorted(known)) or "(none)"
        raise SkillmoeError(f"{path.name}: name the score that decides with --metric, one of {names}")
    return chosen


def _scenario(folder: Path) -> str:
    """The run's name without its model: `mmlu:subject=anatomy`."""
    name = folder.resolve().name
    if "model=" not in name:
        return name
    head, _, arguments = name.partition(":")
    kept = [part for part in arguments.split(",") if not re.match(r"model(_deployment)?=", part)]
    return f"{head}:{','.join(kept)}" if kept else head


def _row(
    request: Mapping[str, Any],
    question_id: str,
    scenario: str,
    expert: str,
    scores: dict[str, float],
    metric: str,
) -> Row:
    instance, result = request["instance"], request.get("result") or {}
    shown = request.get("output_mapping") or {}
    letters = dict(sorted(shown.items())) if all(wording.letter(key) for key in shown) else {}
    right = [
        str((reference.get("output") or {}).get("text", ""))
        for reference in instance.get("references") or []
        if "correct" in (reference.get("tags") or [])
    ]
    golds = [letter for letter, text in letters.items() if text in right] if letters else right
    completion = next(iter(result.get("completions") or []), {})
    compared = request.get("reference_index") is not None  # choices are compared by probability: no text
    text = None if compared else completion.get("text")
    gold = next(iter(golds), None) or None
    kind = wording.kind_of(gold, len(letters))
    reason = wording.finish_reason(completion.get("finish_reason"))
    answer = None
    if text is not None:
        answer = wording.letter(text.strip()) if letters else None
        answer = answer or wording.answer_in(text, kind, len(letters), reason)
        if answer is None and kind != "choice" and "\n" not in text.strip():
            answer = wording.words(text)
            answer = answer.strip() if answer else None
    output = wording.count(scores.get("num_output_tokens"))
    ran = bool(result.get("success", True)) and metric in scores
    return Row(
        question_id,
        expert,
        scenario.partition(":")[0],
        question=wording.words((instance.get("input") or {}).get("text")),
        choices=tuple(str(text) for text in letters.values()),
        gold=gold,
        subject=scenario,
        split=wording.split_of(instance.get("split")),
        kind=kind,
        sample=int(request.get("train_trial_index") or 0),
        text=text,
        answer=answer if ran else None,
        correct=wording.score(scores.get(metric), f"{question_id}, {metric}"),
        prompt_tokens=wording.count(scores.get("num_prompt_tokens")),
        output_tokens=output or (None if text else output),  # 0 for a text: not counted
        finish_reason=reason,
        ran=ran,
        answer_known=not compared,
    )

"""Where a number of a report comes from: `python -m skillmoe_lib why`.

A file of a report is traced through `provenance.json` (which notebook wrote each file, with which parameters
and inputs) back to the generations of the store. A method's cell of the main table leads to its questions,
and a question to every request that the method made for it: the text, how it was read, and what it cost. All
output is plain text: generated text is shown unchanged, except for control characters.
"""

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from skillmoe_lib import answers, tables
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.evaluation.report_folder import store_of
from skillmoe_lib.generation import Generation
from skillmoe_lib.inference import ledger
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.questions.benchmark import Question, as_questions

NOTE = "provenance.json"
USED = "tables/used.parquet"
_DIGITS = 12  # of a digest, as it is shown
_NO_ANSWER = {"keywords", "feedback", "pick"}  # stages whose text is not an answer to the question
_OWN = {"digest", "inputs", "version", "notebook"}  # of an entry; the rest are the notebook's parameters


def why(path: Path, *, method: str = "", question: str = "", seed: int = 0) -> str:
    """The explanation as text: of a file, of a method in a report folder, or of one question of a method."""
    if path.is_file():
        if method or question:
            raise SkillmoeError(f"--method and --question go with a report folder, given the file {path}")
        folder = path.parent.parent if path.parent.name in ("tables", "figures") else path.parent
        return origin(folder, path.relative_to(folder).as_posix())
    if not path.is_dir():
        raise SkillmoeError(f"no report or file of a report at {path}")
    if question:
        return question_of(path, method, question, seed=seed)
    if method:
        return questions_of(path, method, seed=seed)
    if not (path / "summary.csv").is_file():
        raise SkillmoeError(f"{path} has no summary.csv: give a file of the report, or --method")
    return origin(path, "summary.csv")


# -- where a file comes from ----------------------------------------------------------------------


def origin(folder: Path, file: str) -> str:
    """Which notebook wrote a file of a report, from which inputs, and so on back to the generations."""
    files = _note(folder)
    if file not in files:
        raise unknown(f"file with a provenance in {folder / NOTE}", file, files)
    return "\n".join(_lines(folder, file, files, depth=0, told=set()))


def _lines(
    folder: Path, file: str, files: Mapping[str, Any], *, depth: int, told: set[str], expected: str = ""
) -> list[str]:
    margin = "  " * depth
    entry = files.get(file)
    if entry is None:
        return [f"{margin}{file}: who wrote it is not on record"]
    if file in told:
        return [
            f"{margin}{file} {entry['digest'][:_DIGITS]} (see above){_state(folder, file, entry, expected)}"
        ]
    told.add(file)
    parameters = ", ".join(f"{k}={_shown(v)}" for k, v in entry.items() if k not in _OWN and k != "engines")
    lines = [
        f"{margin}{file} {entry['digest'][:_DIGITS]}{_state(folder, file, entry, expected)}",
        f"{margin}  written by {entry['notebook']} ({parameters or 'no parameters'}), skillmoe "
        f"{entry.get('version', 'unknown')}",
    ]
    if "engines" in entry:
        for name, n in dict(entry["engines"]).items():
            lines.append(f"{margin}  from {n} generation(s) of {name}")
    if file == "tables/results.parquet" and (folder / USED).is_file():
        used = tables.read(folder / USED, tables.USED)
        n, what = used["request_id"].nunique(), f"{len(used)} request(s) asked"
        lines.append(f"{margin}  from {n} generation(s) ({what}), each named in {USED}")
    for name, then in entry["inputs"].items():
        lines += _lines(folder, name, files, depth=depth + 1, told=told, expected=then)
    return lines


def _state(folder: Path, file: str, entry: Mapping[str, Any], expected: str) -> str:
    """Whether the file is still as it was written, and as it was when used for the file above."""
    path = folder / file
    if not path.is_file():
        return " GONE"
    if _digest(path) != entry["digest"]:
        return f" CHANGED since: now {_digest(path)[:_DIGITS]}"
    if expected and expected != entry["digest"]:
        return f" NEWER than what was used: that was {expected[:_DIGITS]}"
    return ""


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def _note(folder: Path) -> Mapping[str, Any]:
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        return dict(note["files"])
    except FileNotFoundError:
        raise SkillmoeError(f"{folder} has no {NOTE}: its notebooks write it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SkillmoeError(f"{folder / NOTE} cannot be read ({error}): run the notebooks again") from error


# -- a cell of the main table ---------------------------------------------------------------------


def questions_of(folder: Path, method: str, *, seed: int = 0) -> str:
    """Every question of a method: its answer, the right answer, and the cost."""
    results = _results(folder, method, seed)
    asked = questions_asked(folder)
    n, ran = len(results), results[results["status"] != "not_run"]
    lines = [
        f"{method}, seed {seed}: {int(ran['correct'].sum())} of {len(ran)} right"
        + (f", {n - len(ran)} not run" if n > len(ran) else ""),
        f"{int(results['calls'].sum())} calls, {int(results['prompt_tokens'].sum())} prompt tokens, "
        f"{int(results['output_tokens'].sum())} output tokens, "
        f"{results['device_seconds'].sum():.2f} device seconds (alone; docs/cost.md)",
        "",
    ]
    rows = [["question", "gold", "answer", "status", "right", "calls", "device_s"]]
    ordered = results.sort_values(["correct", "question_id"])
    shown = ["question_id", "answer", "status", "correct", "calls", "device_seconds"]
    for name, answer, status, correct, calls, seconds in ordered[shown].astype(object).to_numpy():
        gold = asked[name].gold if name in asked else "?"
        answer, right = "" if pd.isna(answer) else answer, "yes" if correct else "no"
        cells = [name, gold, answer, status, right, str(calls), f"{seconds:.3g}"]
        rows.append([plain(cell).replace("\n", " ")[:40] for cell in cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines += ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def question_of(folder: Path, method: str, question_id: str, *, seed: int = 0) -> str:
    """One question of a method: every chain that it asked for, how each was read, the result and the cost."""
    if not method:
        raise SkillmoeError("--question needs --method: whose answer to it is meant")
    results = _results(folder, method, seed).set_index("question_id")
    if question_id not in results.index:
        raise unknown(f"question of {method!r}", question_id, list(results.index)[:10])
    row: Any = results.loc[question_id]
    question = questions_asked(folder).get(question_id)
    lines = [f"Question {question_id}", ""]
    if question:
        choices = [f"({'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[i]}) {text}" for i, text in enumerate(question.choices)]
        lines += [_indented("\n".join([question.text, *choices])), "", f"Gold: {plain(question.gold)}"]
    answer = "none" if pd.isna(row["answer"]) else plain(str(row["answer"]))
    lines += [
        f"{method}, seed {seed}: answer {answer} ({row['status']}), {'right' if row['correct'] else 'wrong'}",
        f"Cost, the method run alone: {row['calls']} calls, {row['prompt_tokens']} prompt tokens, "
        f"{row['output_tokens']} output tokens, {row['device_seconds']:.3g} device seconds "
        "(loads shared among its questions; keyword calls apart)",
    ]
    lines += _recruited(folder, method, question_id, seed)
    lines += _requests(folder, method, question_id, seed, question)
    return "\n".join(lines)


def _recruited(folder: Path, method: str, question_id: str, seed: int) -> list[str]:
    """The experts recruited for the question, and by which skills, if the method has a route."""
    path = folder / "tables" / "routes.parquet"
    if not path.is_file():
        return []
    routes = tables.read(path, tables.ROUTES)
    names = [method] if method in set(routes["method"]) else []
    names = names or ["symbolic_moe"] * (method in ("majority_vote", "weighted_vote"))
    mine = routes["method"].isin(names) & (routes["question_id"] == question_id) & (routes["seed"] == seed)
    route = routes[mine].sort_values("slot")
    if route.empty:
        return []
    lines = ["Recruited: " + ", ".join(f"{r.expert} (p {r.probability:.2f})" for r in route.itertuples())]
    path = folder / "tables" / "skills_test.parquet"
    if path.is_file():
        skills = tables.read(path, tables.SKILLS)
        own = skills[skills["question_id"] == question_id]
        named = [
            f"{s.skill}" + (f" (named {s.matched_from!r})" if s.matched_from not in (None, s.skill) else "")
            for s in own.astype(object).where(own.notna(), None).itertuples()
        ]
        lines.append(f"Skills: {plain(', '.join(named)) or 'none'}")
    return lines


def _requests(folder: Path, method: str, question_id: str, seed: int, question: Question | None) -> list[str]:
    if not (folder / USED).is_file():
        return ["", f"Which requests it made is not on record: {USED} is not there."]
    used = tables.read(folder / USED, tables.USED)
    mine = (used["method"] == method) & (used["question_id"] == question_id) & (used["seed"] == seed)
    asked = used[mine]
    root = _store(folder)
    store = GenerationStore(root)
    columns = ["request_id", "stage", "expert", "source", "revision", "template", "sample", "batch_id"]
    about = store.generations(columns).set_index("request_id")
    written = store.get(asked["request_id"])
    failures = store.failures().drop_duplicates("request_id", keep="last").set_index("request_id")
    costs = ledger.cost_by_request(used[used["method"] == method], store)
    batches = ledger.batches_table(store).set_index("batch_id")
    lines = [f"Requests: {len(asked)}, from {root}"]
    order = zip(asked["request_id"], asked["round"], strict=True)
    for number, (request_id, turn) in enumerate(order, start=1):
        lines.append("")
        if request_id not in written:
            reason = failures["reason"].get(request_id, "not in the store")
            lines.append(f"[{number}] round {turn}, request {request_id}: not answered ({reason})")
            continue
        told: Any = about.loc[request_id]
        batch: Any = batches.loc[told["batch_id"]]
        generation = written[request_id]
        seconds = costs.get((seed, request_id), float("nan"))
        lines += [
            f"[{number}] round {turn}, {told['stage']} by {told['expert']}, sample {told['sample']}, "
            f"request {request_id}",
            f"    {told['source']}@{str(told['revision'])[:_DIGITS]}, {batch['engine']} {batch['versions']}, "
            f"{batch['started_at']}",
            f"    {generation.prompt_tokens} prompt tokens, {generation.output_tokens} output tokens, "
            f"{seconds:.3g} s without loads, ended by {generation.finish_reason}",
        ]
        if told["stage"] not in _NO_ANSWER:
            lines.append(f"    read as: {reading(question, generation, str(told['template']))}")
        lines.append(_indented(generation.text, "    | "))
    return lines


def reading(question: Question | None, generation: Generation, template: str) -> str:
    """What the extractor finds in a text; a vote if the method counts votes."""
    if question is None:
        return "the question is not on record"
    # A reasoning model's template may open the block: if a text closes one, the rest is read.
    reasoning = "</think>" in generation.text
    answer = answers.read(question, generation, reasoning=reasoning, plain=template == "plain")
    if answer.value is None:
        return f"no answer ({answer.status})"
    right = answers.grade(question, answer)
    return f"{plain(answer.value)} by rule {answer.extractor}, {'right' if right else 'wrong'}"


# -- reading a report -----------------------------------------------------------------------------


def _results(folder: Path, method: str, seed: int) -> pd.DataFrame:
    results = tables.read(folder / "tables" / "results.parquet", tables.RESULTS)
    if method not in set(results["method"]):
        raise unknown("method", method, results["method"].unique())
    mine = results[(results["method"] == method) & (results["seed"] == seed)]
    if mine.empty:
        seeds = sorted(results.loc[results["method"] == method, "seed"].unique())
        raise unknown(f"seed of {method!r}", str(seed), map(str, seeds))
    return mine


def questions_asked(folder: Path) -> dict[str, Question]:
    """The questions of a report by id."""
    frame = tables.read(folder / "tables" / "questions.parquet", tables.QUESTIONS)
    return {question.question_id: question for question in as_questions(frame)}


def _store(folder: Path) -> Path:
    _note(folder)  # with its own message if there is none
    return store_of(folder)


def plain(text: str) -> str:
    """A text for a terminal: control characters other than line ends are written out, never executed."""
    return "".join(
        c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf") else f"\\x{ord(c):02x}"
        for c in text.expandtabs(4)
    )


def _indented(text: str, margin: str = "  ") -> str:
    return "\n".join(margin + line for line in plain(text).split("\n"))


def _shown(value: Any) -> str:
    return (
        ",".join(map(str, value))
        if isinstance(value, Sequence) and not isinstance(value, str)
        else str(value)
    )

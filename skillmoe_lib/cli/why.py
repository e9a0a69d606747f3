"""Where a number of a report comes from: `python -m skillmoe_lib why`.

A file of a report is traced through `provenance.json` (which notebook wrote each file, with which parameters
and inputs) back to the generations of the store. A cell of the main table (`--method`, `--column`) is
computed again from the results and leads to its questions; a question leads to every request that the method
made for it: the text, how it was read, the votes, and what it cost. All output is plain text: generated text
is shown unchanged, except for control characters.
"""

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skillmoe_lib import answers, tables
from skillmoe_lib.answers.equivalence import first_equal
from skillmoe_lib.answers.extraction import Answer
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.evaluation.report_folder import store_of
from skillmoe_lib.generation import Generation
from skillmoe_lib.inference import ledger
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.presets import Conventions, find_preset
from skillmoe_lib.questions.benchmark import Question, as_questions

NOTE = "provenance.json"
USED = "tables/used.parquet"
_DIGITS = 12  # of a digest, as it is shown
_RESULTS = "tables/results.parquet"
_NO_ANSWER = {"keywords", "feedback", "pick"}  # stages whose text is not an answer to the question
_OWN = {"digest", "inputs", "version", "notebook"}  # of an entry; the rest are the notebook's parameters


def why(
    path: Path,
    *,
    method: str = "",
    column: str = "",
    question: str = "",
    benchmark: str = "",
    seed: int = 0,
) -> str:
    """The explanation as text: of a file, of a cell of its table, or of questions of a method.

    Parameters
    ----------
    path
        A report folder, or a file of one. With `method` or `column` a CSV with the column `method`, such as
        `summary.csv`; a folder then means its `summary.csv`, if it has one.
    method
        Its name or its label.
    column
        The cell's column; all of the row if empty.
    question
        A question's id: that question in full. "all": every question in full.
    benchmark
        Which one, if the table has several.
    """
    if not path.exists():
        raise SkillmoeError(f"no report or file of a report at {path}")
    folder, file = path, "summary.csv"
    if path.is_file():
        folder = path.parent.parent if path.parent.name in ("tables", "figures") else path.parent
        file = path.relative_to(folder).as_posix()
    if question and not method:
        raise SkillmoeError("--question needs --method: whose answer to it is meant")
    if column and not method:
        raise SkillmoeError("--column needs --method: the cell of which row is meant")
    if not method:
        if not (folder / file).is_file():
            raise SkillmoeError(f"{path} has no summary.csv: give a file of the report, or --method")
        return origin(folder, file)
    row = _row(folder / file, method, benchmark) if path.is_file() or column else None
    name = method if row is None else str(row["method"])
    if question:
        return _in_full(folder, name, question, seed, benchmark)
    told = [] if row is None else [_cell(folder, file, row, column), ""]
    return "\n".join([*told, questions_of(folder, name, seed=seed, benchmark=benchmark)])


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
    if file == _RESULTS and (folder / USED).is_file():
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

#: What the columns of `summary.csv` hold.
MEANS: Mapping[str, str] = {
    "accuracy": "right answers among those that were run, over all questions and seeds",
    "low": "lower end of the 95% interval of the accuracy (evaluation/intervals.py, accuracy_table)",
    "high": "upper end of the 95% interval of the accuracy (evaluation/intervals.py, accuracy_table)",
    "n_questions": "different questions that were run",
    "calls": "requests of one pass over the questions, keyword calls apart; mean over seeds",
    "prompt_tokens": "tokens of these requests' prompts",
    "output_tokens": "tokens written for these requests",
    "device_seconds": "what the method would take alone on this machine (docs/cost.md)",
    "model_loads": "loads of a model that the method would need alone (tables/loads.csv)",
    "ran_device_seconds": "the method's share of the seconds that really ran (tables/loads.csv)",
    "n_not_run": "answers that could not be generated; they count neither as right nor as wrong",
    "n_overflow": "prompts that did not fit the model; they count as wrong",
    **{
        f"keyword_{name}": f"{what} of the keyword calls that each test question needs before anyone is "
        "recruited (tables/preparation.csv)"
        for name, what in (
            ("calls", "number"),
            ("prompt_tokens", "prompt tokens"),
            ("output_tokens", "output tokens"),
            ("device_seconds", "device seconds"),
        )
    },
}


def _row(file: Path, method: str, benchmark: str) -> Mapping[str, Any]:
    """The row of a method, by its name or label, in a CSV of a report."""
    if file.suffix != ".csv":
        raise SkillmoeError(
            f"--method goes with a report folder or a CSV of one, such as summary.csv: {file}"
        )
    try:
        frame = pd.read_csv(file)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise SkillmoeError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
    if "method" not in frame:
        raise SkillmoeError(
            f"{file} has no column 'method', which --method needs: it has {', '.join(map(str, frame))}"
        )
    labels = frame["label"] if "label" in frame else frame["method"]
    found = frame[(frame["method"] == method) | (labels.str.lower() == method.lower())]
    if found.empty:
        raise unknown("method", method, frame["method"].unique())
    if benchmark:
        known: list[str] = found["benchmark"].unique().tolist() if "benchmark" in found else []
        if benchmark not in known:
            raise unknown(f"benchmark of {method!r}", benchmark, known)
        found = found[found["benchmark"] == benchmark]
    if len(found) > 1:
        several = ", ".join(map(str, found["benchmark"])) if "benchmark" in found else "the same"
        raise SkillmoeError(
            f"{file} has {len(found)} rows of {method!r}: --benchmark says which of {several}"
        )
    return dict(found.iloc[0])


def _cell(folder: Path, file: str, row: Mapping[str, Any], column: str) -> str:
    """The cell (or all cells of the row), what it means, a second computation, and where the file is from."""
    columns = [name for name in row if name not in _NAMES]
    if column and column not in row:
        raise unknown(f"column of {file}", column, columns)
    columns = [column] if column else columns
    where = f" on {row['benchmark']}" if "benchmark" in row else ""
    lines = [f"{file}, {row.get('label', row['method'])} ({row['method']}){where}:"]
    width = max(map(len, columns))
    for name in columns:
        meaning = f"   {MEANS[name]}" if name in MEANS else ""
        lines.append(f"  {name:<{width}}  {_value(row[name])}{meaning}")
        again = _again(folder, row, name) if file == "summary.csv" else None
        if again is None:
            continue
        value, of = again
        same = bool(np.isclose(float(row[name]), value, rtol=1e-6, atol=1e-6, equal_nan=True))
        if column or not same:
            lines.append(f"  {'':<{width}}  computed again from tables/results.parquet: {_value(value)}{of}")
        if not same:
            lines.append(f"  {'':<{width}}  NOT THE SAME: summary.csv and results.parquet are of two runs")
    return "\n".join([*lines, "", origin(folder, file)])


_NAMES = ("method", "label", "benchmark", "preset")


def _again(folder: Path, row: Mapping[str, Any], column: str) -> tuple[float, str] | None:
    """A column of the summary from the rows of results, and what it was computed of; None for others."""
    path = folder / "tables" / "results.parquet"
    if not path.is_file():
        return None
    results = tables.read(path, tables.RESULTS)
    own = results[results["method"] == row["method"]]
    own = own[own["benchmark"] == row["benchmark"]] if "benchmark" in row else own
    ran, n_seeds = own[own["status"] != "not_run"], own["seed"].nunique()
    if column == "accuracy":
        return float(ran["correct"].mean()), f" ({int(ran['correct'].sum())} of {len(ran)})"
    if column == "n_questions":
        return float(ran["question_id"].nunique()), ""
    if column in ("n_not_run", "n_overflow"):
        return float((own["status"] == column.removeprefix("n_")).sum()), f" (of {len(own)})"
    if column in ("calls", "prompt_tokens", "output_tokens", "device_seconds"):
        of = f" (over {len(own)} answers, {n_seeds} seed{'s' * (n_seeds != 1)})"
        return float(own.groupby("seed")[column].sum(min_count=1).astype(float).mean()), of
    return None


def _value(value: Any) -> str:
    if isinstance(value, str) or pd.isna(value):
        return "not known" if not isinstance(value, str) else value
    number = float(value)
    return f"{number:,.0f}" if number.is_integer() else f"{number:.4g}"


def questions_of(folder: Path, method: str, *, seed: int = 0, benchmark: str = "") -> str:
    """Every question of a method: its answer, the right answer, and the cost."""
    results = _results(folder, method, seed, benchmark)
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
    lines += ["", "In full, with what each model wrote: --question ID, or --question all"]
    return "\n".join(lines)


def _in_full(folder: Path, method: str, question_id: str, seed: int, benchmark: str) -> str:
    """One question of a method, or with "all" every one: its chains, how each was read, votes and cost."""
    results = _results(folder, method, seed, benchmark).set_index("question_id")
    if question_id != "all" and question_id not in results.index:
        raise unknown(f"question of {method!r}", question_id, list(results.index)[:10])
    asked, texts = questions_asked(folder), _Texts(folder, method, seed)
    ids = list(results.index) if question_id == "all" else [question_id]
    return "\n\n\n".join(_question(folder, method, n, seed, results.loc[n], asked.get(n), texts) for n in ids)


def _question(
    folder: Path,
    method: str,
    question_id: str,
    seed: int,
    row: Any,
    question: Question | None,
    texts: "_Texts",
) -> str:
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
    return "\n".join([*lines, *texts.of(question_id, question)])


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


class _Texts:
    """What a method asked and what was written, from the store that its report used."""

    def __init__(self, folder: Path, method: str, seed: int) -> None:
        self.known = (folder / USED).is_file()
        if not self.known:
            return
        used = tables.read(folder / USED, tables.USED)
        used = used[used["method"] == method]
        self.seed, self.used = seed, used[used["seed"] == seed]
        self.root = _store(folder)
        self.conventions = conventions_of(folder)
        store = GenerationStore(self.root)
        columns = ["request_id", "stage", "expert", "source", "revision", "template", "sample", "batch_id"]
        about = store.generations(columns)
        self.about = about[about["request_id"].isin(self.used["request_id"])].set_index("request_id")
        self.written = store.get(self.used["request_id"])
        failures = store.failures().drop_duplicates("request_id", keep="last")
        self.reasons = failures.set_index("request_id")["reason"]
        self.costs = ledger.cost_by_request(used, store)
        self.batches = ledger.batches_table(store).set_index("batch_id")

    def of(self, question_id: str, question: Question | None) -> list[str]:
        """Every request for the question, in the order asked: the text, how it was read, and its cost."""
        if not self.known:
            return ["", f"Which requests it made is not on record: {USED} is not there."]
        asked = self.used[self.used["question_id"] == question_id]
        chains: list[Answer] = []
        told: list[str] = []
        order = zip(asked["request_id"], asked["round"], strict=True)
        for number, (request_id, turn) in enumerate(order, start=1):
            told.append("")
            if request_id not in self.written:
                reason = self.reasons.get(request_id, "not in the store")
                told.append(f"[{number}] round {turn}, request {request_id}: not answered ({reason})")
                continue
            about: Any = self.about.loc[request_id]
            batch: Any = self.batches.loc[about["batch_id"]]
            generation = self.written[request_id]
            seconds = self.costs.get((self.seed, request_id), float("nan"))
            told += [
                f"[{number}] round {turn}, {about['stage']} by {about['expert']}, sample {about['sample']}, "
                f"request {request_id}",
                f"    {about['source']}@{str(about['revision'])[:_DIGITS]}".rstrip("@")
                + f", {batch['engine']} {batch['versions']}".rstrip()
                + f", {batch['started_at']}",
                f"    {generation.prompt_tokens} prompt tokens, {generation.output_tokens} output tokens, "
                f"{seconds:.3g} s without loads, ended by {generation.finish_reason}",
            ]
            if about["stage"] not in _NO_ANSWER and question is not None:
                answer = read_again(question, generation, str(about["template"]), self.conventions)
                chains += [answer] if about["stage"] == "solve" else []
                told.append(f"    read as: {reading(question, answer, self.conventions)}")
            told.append(_indented(generation.text, "    | "))
        votes = [_votes(question, chains)] if question is not None and chains else []
        return [*votes, f"Requests: {len(asked)}, from {self.root}", *told]


def conventions_of(folder: Path) -> Conventions:
    """How a report's preset reads and compares answers."""
    return find_preset(_note(folder).get(_RESULTS, {}).get("preset", "skillmoe")).conventions


def read_again(question: Question, generation: Generation, template: str, conventions: Conventions) -> Answer:
    """The answer in a text, as the report's preset reads it."""
    return answers.read(
        question,
        generation,
        # A reasoning model's template may open the block: if a text closes one, the rest is read.
        reasoning="</think>" in generation.text,
        plain=template == "plain",
        extractor=conventions.extractor,
        cut_thinking=conventions.cut_thinking_shown,
    )


def reading(question: Question, answer: Answer, conventions: Conventions) -> str:
    """What the extractor found in a text, by which rule, and whether that is right."""
    if answer.value is None:
        return f"no answer ({answer.status})"
    right = answers.grade_many([(question, answer)], equality=conventions.equality)[0]
    return f"{plain(answer.value)} by rule {answer.extractor}, {'right' if right else 'wrong'}"


def _votes(question: Question, chains: Sequence[Answer]) -> str:
    """How many of the experts' chains give each answer, the most frequent first."""
    given = [chain.value for chain in chains if chain.value is not None]
    counts = Counter(given[first] for first in first_equal(question.kind, given))
    told = [f"{plain(value)} {n} of {len(chains)}" for value, n in counts.most_common()]
    told += [f"no answer {len(chains) - len(given)} of {len(chains)}"] * (len(given) < len(chains))
    return f"What the experts' chains say: {', '.join(told)}"


# -- reading a report -----------------------------------------------------------------------------


def _results(folder: Path, method: str, seed: int, benchmark: str) -> pd.DataFrame:
    results = tables.read(folder / "tables" / "results.parquet", tables.RESULTS)
    if method not in set(results["method"]):
        raise unknown("method", method, results["method"].unique())
    mine = results[(results["method"] == method) & (results["seed"] == seed)]
    if mine.empty:
        seeds = sorted(results.loc[results["method"] == method, "seed"].unique())
        raise unknown(f"seed of {method!r}", str(seed), map(str, seeds))
    if benchmark and benchmark not in set(mine["benchmark"]):
        raise unknown(f"benchmark of {method!r}", benchmark, mine["benchmark"].unique())
    return mine[mine["benchmark"] == benchmark] if benchmark else mine


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

"""A plain table of your own: one row an answer, in Parquet, CSV, JSONL or JSON.

The fields are those of `FIELDS`. A column of another name is mapped (`columns`: our field -> your column);
what the table lacks is null. Needed are question_id, expert, and one of answer, text and correct. Without
`correct` an answer is graded against gold; without `answer` it is read from the text. What is said about
questions may stand in a table of its own (`questions`).
"""

from pathlib import Path
from typing import Any

from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.questions.choices import read_choices
from skillmoe_lib.questions.files import read_file
from skillmoe_lib.recorded import opening, wording
from skillmoe_lib.recorded.recording import AS_IT_IS, Options, Recorded, Row, build
from skillmoe_lib.tables import KINDS, STATUSES

USES = ("columns", "where", "questions", "expert", "repeats")
OF_QUESTIONS = ("question", "choices", "gold", "subject", "split", "kind", "benchmark")
FIELDS = (
    "question_id", "expert", "sample", "text", "answer", "correct", "status", "prompt_tokens",
    "output_tokens", "money", "finish_reason", *OF_QUESTIONS,
)  # fmt: skip


def read(path: Path, options: Options = AS_IT_IS) -> Recorded:
    """A recording of the table."""
    for name in options.columns:
        if name not in FIELDS:
            raise unknown("field (the part of --column before =)", name, FIELDS)
    table = _kept(read_file(path), options, path)
    about: dict[str, dict[str, Any]] = {}
    given = set(table[0])
    if options.questions:
        listed = read_file(options.questions)
        given |= set(listed[0])
        key = _column("question_id", options)
        if key not in listed[0]:
            raise opening.unreadable(options.questions, f"it has no column {key!r}")
        for row in listed:
            name = wording.words(row[key]) or ""
            if name in about:
                raise opening.unreadable(options.questions, f"question {name[:60]!r} occurs twice")
            texts = _choices(row.get(_column("choices", options)), f"question {name[:60]!r}")
            about[name] = {**row, _column("choices", options): texts} if texts else row
    for name, column in options.columns.items():
        if column and column not in given:
            raise unknown(f"column of {path.name} (for {name})", column, given)
    _check_columns(set(table[0]), options, path)
    rows = [_row(row, about, options, f"row {number} of {path.name}") for number, row in enumerate(table, 1)]
    return build(rows, repeats=options.repeats)


def _column(name: str, options: Options) -> str:
    return options.columns.get(name, name)


def _kept(table: list[dict[str, Any]], options: Options, path: Path) -> list[dict[str, Any]]:
    for column, value in options.where.items():
        if column not in table[0]:
            raise unknown(f"column of {path.name} (for --where)", column, table[0])
        table = [row for row in table if str(row[column]).strip().lower() == value.strip().lower()]
        if not table:
            raise SkillmoeError(f"{path.name} has no row where {column} is {value!r}")
    return table


def _check_columns(columns: set[str], options: Options, path: Path) -> None:
    shown = ", ".join(sorted(columns))[:200]
    needed = ["question_id"] if options.expert else ["question_id", "expert"]
    for name in needed:
        if _column(name, options) not in columns:
            raise SkillmoeError(
                f"{path.name} has no column {_column(name, options)!r}: name yours with --column {name}=..., "
                f"one of {shown}"
            )
    if not any(_column(name, options) in columns for name in ("answer", "text", "correct")):
        raise SkillmoeError(f"{path.name} needs a column answer, text or correct; it has {shown}")


def _choices(cell: Any, where: str) -> tuple[str, ...]:
    """The choices in a cell: a list, or a list as JSON text."""
    if isinstance(cell, tuple):
        return cell  # read before
    try:
        return tuple(read_choices({"choices": cell}, "choices").texts)
    except ValueError as error:
        raise SkillmoeError(f"{where}: {error}") from error


def _row(row: dict[str, Any], about: dict[str, dict[str, Any]], options: Options, where: str) -> Row:
    def cell(name: str) -> Any:
        return row.get(_column(name, options))

    question_id = wording.words(cell("question_id"))
    expert = options.expert or wording.words(cell("expert"))
    if question_id is None or expert is None:
        raise SkillmoeError(f"{where}: its question_id or expert is empty")
    if options.questions and question_id not in about:
        raise SkillmoeError(f"{where}: question {question_id[:60]!r} is not in {options.questions.name}")
    known = {name: cell(name) for name in OF_QUESTIONS}
    for name in OF_QUESTIONS:
        if _column(name, options) in about.get(question_id, {}):
            known[name] = about[question_id][_column(name, options)]
    choices = _choices(known["choices"], where)
    gold = wording.words(known["gold"])
    kind = wording.words(known["kind"]) or wording.kind_of(gold, len(choices))
    if kind not in KINDS:
        raise unknown(f"kind ({where})", kind, KINDS)
    text, reason = wording.text_of(cell("text")) or None, wording.finish_reason(cell("finish_reason"))
    status = wording.words(cell("status")) or ""
    if status and status not in STATUSES:
        raise unknown(f"status ({where})", status, STATUSES)
    has_answer = _column("answer", options) in row
    answer = (
        wording.words(cell("answer")) if has_answer else wording.answer_in(text, kind, len(choices), reason)
    )
    score = None if _column("correct", options) not in row else wording.score(cell("correct"), where)
    return Row(
        question_id,
        expert,
        wording.words(known["benchmark"]) or "",
        question=wording.words(known["question"]),
        choices=choices,
        gold=gold,
        subject=wording.words(known["subject"]),
        split=wording.split_of(known["split"]),
        kind=kind,
        sample=wording.count(cell("sample")) or 0,
        text=text,
        answer=wording.letter(answer) or answer if kind == "choice" else answer,
        correct=score,
        prompt_tokens=wording.count(cell("prompt_tokens")),
        output_tokens=wording.count(cell("output_tokens")),
        money=wording.money(cell("money")),
        finish_reason=reason,
        status=status,
        ran=status != "not_run",
        answer_known=has_answer or text is not None,
    )

"""Rows of a file or data set -> rows of the Questions table, and the sampling of splits.

Used by the `file` and `hub` sources. The benchmark's YAML says how rows are read (which column holds what,
whether choices are inside the text or to be shuffled) and how splits are made (which rows, how many of each
subject, which to leave out); see `keys`. The formats of choices and gold answers are in `choices`.
"""

import json
import re
import string
import unicodedata
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.questions.choices import (
    Choices,
    final_answer,
    gold_position,
    index_of,
    is_missing,
    plain,
    read_choices,
    split_inlined,
)
from skillmoe_lib.questions.files import Record
from skillmoe_lib.questions.keys import Columns, Files, Hub, Part
from skillmoe_lib.seeding import digest, generator

Row = dict[str, Any]
#: After a letter ("stage-I"), between a number and a word ("10-month"; "2-x" is a difference), at the end.
_HYPHEN = re.compile(
    r"(?<=[^\W\d])[-–—]|(?<=\d)[-–—](?=[^\W\d]{2})(?!sin|cos|tan|log|ln|exp|sqrt|pi)|[-–—\s]+$"
)


class Rows(NamedTuple):
    """Rows of the Questions table, and the rows left out because they had no gold answer."""

    rows: list[Row]
    dropped: list[str]


def normalised(text: str) -> str:
    """Text for comparison: one form of each character (NFKC), no case, single spaces, no punctuation.

    Only what cannot change the meaning is removed: double quotes, points, commas, colons and blanks at the
    end of a word, and hyphens. Minus signs, decimal points, exponents and the case of a unit after a
    number (5 mW, 5 MW) stay.
    """
    raised = re.sub(r"[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda digits: f"^{digits[0]}", text)
    plain = unicodedata.normalize("NFKC", raised).replace("\N{MINUS SIGN}", "-")
    words = re.split(r"(\d\s?[^\W\d_]{1,3}\b)", plain)
    plain = "".join(word if i % 2 else word.casefold() for i, word in enumerate(words))
    plain = re.sub(r"[\"“”]|[.,:;?_]+(?=\W|$)", " ", plain)
    plain = _HYPHEN.sub(" ", plain)
    return " ".join(plain.split())


def part_of(settings: Files, split: str, path: Path) -> Part:
    """Settings of one split: its own keys override those given for both."""
    part: Part = getattr(settings, split)
    columns = settings.columns.model_copy(update=part.columns.model_dump(exclude_unset=True))
    own: Row = {"columns": columns}
    if isinstance(settings, Hub):
        own["path"] = part.path or settings.path
        own["revision"] = part.revision or (None if part.path else settings.revision)
    part = part.model_copy(update=own)
    if not part.path:
        raise SkillmoeError(f"{path.name}: {split}: the key 'path' is missing")
    for key in ("text", "gold"):
        if not getattr(columns, key):
            raise SkillmoeError(f"{path.name}: columns: the key {key!r} is missing")
    if len(set(columns.choices)) < len(columns.choices) and isinstance(columns.choices, list):
        raise SkillmoeError(f"{path.name}: columns: choices: a column occurs twice; got {columns.choices}")
    if part.minus and split == "test":
        raise SkillmoeError(f"{path.name}: test: `minus: test` belongs to validation")
    return part


def split_rows(
    settings: Files, parts: Mapping[str, Part], tables: Mapping[str, list[Record]], benchmark: str
) -> Rows:
    """The rows of both splits as the YAML selects them; `parts` from `part_of`, `tables` as read."""
    chosen = {
        split: _chosen(tables[split], part, f"column in {split} of {benchmark!r}")
        for split, part in sorted(parts.items())
    }
    index_from = _index_from(settings, parts, chosen, benchmark)
    rows: list[Row] = []
    dropped: list[str] = []
    for split in ("test", "validation"):
        part = parts[split]
        made: list[Row] = []
        empty = []
        for number, record in enumerate(chosen[split], 1):
            try:
                row = _row(record, part.columns, settings, index_from, f"{benchmark}/{split}/")
            except ValueError as error:
                raise SkillmoeError(f"benchmark {benchmark!r}: {split} row {number}: {error}") from error
            if row:
                made.append(row)
            else:
                empty.append(f"{split} row {number}")
        if empty and settings.missing_gold != "drop":
            raise SkillmoeError(
                f"benchmark {benchmark!r}: {len(empty)} of {len(chosen[split])} {split} rows have no gold "
                f"answer (first: {empty[0]}); fix them, or say `missing_gold: drop`"
            )
        dropped += empty
        if part.minus:
            test = {normalised(row["text"]) for row in rows}
            made = [row for row in made if normalised(row["text"]) not in test]
        if part.per_subject:
            made = _sampled(made, part.per_subject, settings.seed, f"{split} of {benchmark!r}")
        for n, what in zip(_flaws(made), ("an empty choice", "the right choice twice"), strict=True):
            if n:
                _warn(f"benchmark {benchmark!r}: {n} {split} questions have {what}")
        expected = getattr(settings.expect, split)
        if expected not in (None, len(made)):
            _warn(f"benchmark {benchmark!r}: {len(made)} {split} questions, {expected} expected")
        rows += made
    return Rows(rows if settings.columns.question_id else _numbered(rows), dropped)


def _flaws(rows: list[Row]) -> tuple[int, int]:
    """How many questions have an empty choice, and how many show the right one twice."""
    shown = [(json.loads(row["choices"]), row["gold"]) for row in rows if row["kind"] == "choice"]
    twice = sum(choices.count(choices[string.ascii_uppercase.index(gold)]) > 1 for choices, gold in shown)
    return sum("" in choices for choices, _ in shown), twice


def _warn(note: str) -> None:
    warnings.warn(note, stacklevel=5)


def _chosen(table: list[Record], part: Part, what: str) -> list[Record]:
    """The rows that `where` selects, after checking that every named column exists."""
    there = dict.fromkeys(name for record in table for name in record)
    given = [[name] if isinstance(name, str) else name for name in part.columns.model_dump().values()]
    for name in [*(name for names in given for name in names if name), *part.where]:
        if name not in there:
            raise unknown(what, name, there)
    for name, values in part.where.items():
        allowed = {_compared(value) for value in (values if isinstance(values, list) else [values])}
        table = [record for record in table if _compared(record.get(name)) in allowed]
    return table


def _compared(value: Any) -> str:
    """A cell or a value of `where` as text: a boolean may be written true, True or TRUE."""
    text = "" if is_missing(value) else plain(value) if isinstance(value, float) else str(value).strip()
    return text.lower() if text in ("True", "False", "TRUE", "FALSE") else text


def _index_from(
    settings: Files, parts: Mapping[str, Part], chosen: Mapping[str, list[Record]], benchmark: str
) -> int:
    """Whether the gold numbers count from 0 or 1; if none is 0, the YAML has to say."""
    if settings.gold_is != "index" or settings.kind != "choice" or settings.index_from is not None:
        return settings.index_from or 0
    golds = [record.get(parts[split].columns.gold) for split in chosen for record in chosen[split]]
    numbers = {index_of(str(gold).strip()) for gold in golds if not is_missing(gold)} - {-1}
    if not numbers or 0 in numbers or None in numbers:
        return 0
    for split, records in chosen.items():
        names = parts[split].columns.choices
        if records and names and any(map(str.isdecimal, read_choices(records[0], names).labels)):
            return 0  # the choices have numbers of their own
    raise SkillmoeError(
        f"benchmark {benchmark!r}: no gold number is 0, so they may count from 0 or from 1: "
        "say `index_from: 0` or `index_from: 1`"
    )


def _numbered(rows: list[Row]) -> list[Row]:
    """Add "-2", "-3", ... to ids made from the content where the same row occurs more than once."""
    count: Counter[str] = Counter()
    for row in rows:
        count[row["question_id"]] += 1
        if (n := count[row["question_id"]]) > 1:
            row["question_id"] += f"-{n}"
    return rows


def _row(record: Record, columns: Columns, settings: Files, index_from: int, prefix: str) -> Row | None:
    """One row of the Questions table; None if it has no gold.

    Without a `question_id` column the id is a digest of the content, so that the order of a file
    does not matter.
    """
    benchmark, split, _ = prefix.split("/")
    gold = _gold(record.get(columns.gold), columns.gold, settings)
    if gold is None:
        return None
    text = _cell(record, columns.text) or ""
    choices = Choices([])
    if settings.inlined_choices:
        text, inlined = split_inlined(text, settings.inlined_choices)
        choices = Choices(inlined)
    elif columns.choices:
        choices = read_choices(record, columns.choices)
    if not text:
        raise ValueError("it has no text")
    texts = choices.texts
    name = digest(text, texts, gold)[:12]
    if columns.question_id:
        own_name = _cell(record, columns.question_id)
        if own_name is None:
            raise ValueError(f"it has no question id: {text[:60]!r}")
        name = own_name
    if settings.kind == "choice":
        named = columns.choices if isinstance(columns.choices, list) else []
        if settings.gold_is == "text" and columns.gold in named and len(texts) <= len(string.ascii_uppercase):
            position = named.index(columns.gold)  # the column itself says which choice it is
        else:
            position = gold_position(gold, choices, settings.gold_is, index_from)
        if settings.shuffle_choices is not None:
            draw = generator("choices", settings.shuffle_choices, name)
            order = draw.permutation(len(texts)).tolist()
            texts, position = [texts[i] for i in order], order.index(position)
        gold = string.ascii_uppercase[position]
    subject = _cell(record, columns.subject) if columns.subject else None
    return {
        "question_id": prefix + name,
        "benchmark": benchmark,
        "split": split,
        "text": text,
        "choices": json.dumps(texts, ensure_ascii=False),
        "gold": gold,
        "subject": subject or benchmark,
        "kind": settings.kind,
        "checker": "{}",
    }


def _cell(record: Record, name: str) -> str | None:
    """A cell as text, None if it is empty."""
    value = record.get(name)
    try:
        return None if is_missing(value) else plain(value)
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from error


def _gold(cell: Any, name: str, settings: Files) -> str | None:
    """The gold answer as text; None if there is none, or -1 in place of a number."""
    if isinstance(cell, list):
        values = {str(value): value for value in cell if not is_missing(value)}
        if len(values) > 1:
            raise ValueError(f"column {name!r} holds {len(values)} golds: one is needed; got {cell!r:.80}")
        cell = next(iter(values.values()), None)
    gold = _cell({name: cell}, name)
    if gold is None or (settings.gold_is == "index" and index_of(gold) == -1 and settings.kind == "choice"):
        return None
    marked = settings.kind != "choice" or settings.gold_is == "letter"
    return final_answer(gold, settings.kind) if marked else gold


def _sampled(rows: list[Row], per_subject: int, seed: int, where: str) -> list[Row]:
    """Draw `per_subject` rows of each subject, no stem twice, in the order of a digest of seed and id."""
    ranked = sorted(rows, key=lambda row: digest("sample", seed, row["question_id"].rsplit("/", 1)[1]))
    once = {normalised(row["text"]): row for row in reversed(ranked)}
    taken: Counter[str] = Counter()
    kept = set()
    for row in ranked:
        if once[normalised(row["text"])] is row and taken[row["subject"]] < per_subject:
            taken[row["subject"]] += 1
            kept.add(row["question_id"])
    for subject in sorted({row["subject"] for row in rows}):
        if taken[subject] < per_subject:
            raise SkillmoeError(
                f"{where}: subject {subject!r} has {taken[subject]} different questions, "
                f"{per_subject} are asked for"
            )
    return [row for row in rows if row["question_id"] in kept]

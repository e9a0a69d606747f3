"""Rows of somebody's table -> rows of the Questions table, and the sampling of splits.

Used by the `file` and `hub` sources. What is done to a row (which column holds what, whether choices
stand inside the text or are to be shuffled) and to a split (which rows, how many a subject, which not)
is said in the benchmark's YAML; see `question_sources`.
"""

import json
import re
import string
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.seeding import digest, generator
from skillmoe_lib.tables import KINDS

Row = dict[str, Any]
COLUMN_KEYS = ["text", "gold", "choices", "subject", "question_id"]


class Rows(NamedTuple):
    """Rows of the Questions table, and which rows were left out for want of a gold answer."""

    rows: list[Row]
    dropped: list[str]


def normalised(text: str) -> str:
    """Text for comparison: one form of each character (NFKC), no case, single spaces, no punctuation.

    Only what cannot change the meaning goes: double quotes, points, commas, colons and blanks at the
    end of a word, and hyphens that touch a letter or close the text. Minus signs and decimal points stay.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = re.sub(r"[\"“”]|[.,:;?_]+(?=\W|$)", " ", plain)
    plain = re.sub(r"(?<=[^\W\d])[-–—]|[-–—](?=[^\W\d])|[-–—\s]+$", " ", plain)
    return " ".join(plain.split())


def check_keys(given: Any, allowed: Iterable[str], where: str, *, needed: Iterable[str] = ()) -> None:
    """Refuse a misspelt key, and a needed one that is missing or empty."""
    if not isinstance(given, Mapping):
        raise SkillmoeError(f"{where}: `key: value` lines are needed, got {given!r}")
    for key in given:
        if key not in allowed:
            raise unknown(f"key in {where}", key, allowed)
    for key in needed:
        if given.get(key) in (None, ""):
            raise SkillmoeError(f"{where}: the key {key!r} is missing")


def check_value(key: str, given: Any, allowed: Iterable[str]) -> None:
    """Refuse a value that is not one of a known set."""
    if given not in allowed:
        raise unknown(key, given, allowed)


def part_of(settings: Mapping[str, Any], split: str, allowed: list[str], path: Path) -> Row:
    """How one split is made: its own keys over those that hold for both, all checked before any reading."""
    given = settings[split]
    own: Row = {"path": given} if isinstance(given, str) else given
    check_keys(own, allowed, f"{split} of {path.name}")
    for columns in (settings["columns"], own.get("columns", {})):
        check_keys(columns, COLUMN_KEYS, f"columns of {path.name}")
    if own.get("minus") not in ((None,) if split == "test" else (None, "test")):
        raise SkillmoeError(f"{path.name}: the one rule is `minus: test`, in validation; got it in {split}")
    part = {"revision": None if "path" in own else settings.get("revision"), "path": settings.get("path")}
    part = {**part, **own, "columns": {**settings["columns"], **own.get("columns", {})}}
    if not part["path"]:
        raise SkillmoeError(f"{split} of {path.name}: the key 'path' is missing")
    check_keys(part["columns"], COLUMN_KEYS, f"columns of {path.name}", needed=["text", "gold"])
    check_keys(settings.get("expect", {}), ["validation", "test"], f"expect of {path.name}")
    check_value("kind", settings.get("kind", "choice"), KINDS)
    check_value("gold_is", settings.get("gold_is", "letter"), ["letter", "index", "text"])
    check_value("missing_gold", settings.get("missing_gold", "error"), ["error", "drop"])
    return part


def split_rows(
    settings: Mapping[str, Any], parts: Mapping[str, Row], frames: Mapping[str, pd.DataFrame], benchmark: str
) -> Rows:
    """The rows of both splits, chosen as the YAML says; `parts` from `part_of`, `frames` as read."""
    rows: list[Row] = []
    dropped: list[str] = []
    for split in ("test", "validation"):
        part, frame = parts[split], frames[split]
        where = part.get("where", {})
        given = [[names] if isinstance(names, str) else names for names in part["columns"].values()]
        for name in [*(name for names in given for name in names), *where]:
            if name not in frame.columns:
                raise unknown(f"column in {split} of {benchmark!r}", name, frame.columns)
        for name, values in where.items():
            frame = frame[frame[name].map(_plain).isin({_plain(value) for value in values})]
        records: list[Row] = frame.to_dict("records")  # type: ignore[assignment]
        made = [_row(record, part["columns"], settings, f"{benchmark}/{split}/") for record in records]
        empty = [f"{split} row {number}" for number, row in enumerate(made, 1) if row["gold"] is None]
        if empty and settings.get("missing_gold") != "drop":
            raise SkillmoeError(
                f"benchmark {benchmark!r}: {len(empty)} of {len(made)} {split} rows have no gold answer "
                f"(first: {empty[0]}); mend them, or say `missing_gold: drop`"
            )
        dropped += empty
        made = [row for row in made if row["gold"] is not None]
        if part.get("minus"):
            test = {normalised(row["text"]) for row in rows}
            made = [row for row in made if normalised(row["text"]) not in test]
        if part.get("per_subject"):
            made = _sampled(made, part["per_subject"], settings.get("seed", 0), f"{split} of {benchmark!r}")
        expected = settings.get("expect", {}).get(split, len(made))
        if expected != len(made):
            note = f"benchmark {benchmark!r}: {len(made)} {split} questions, {expected} expected"
            warnings.warn(note, stacklevel=4)
        rows += made
    return Rows(rows if "question_id" in settings["columns"] else _numbered(rows), dropped)


def _numbered(rows: list[Row]) -> list[Row]:
    """The rows with "-2", "-3", ... after an id made from the content, where a row is there again."""
    count: Counter[str] = Counter()
    for row in rows:
        count[row["question_id"]] += 1
        if (n := count[row["question_id"]]) > 1:
            row["question_id"] += f"-{n}"
    return rows


def _row(row: Row, columns: Mapping[str, Any], settings: Mapping[str, Any], prefix: str) -> Row:
    """One row of the Questions table; `gold` is None where the row has none.

    Without a `question_id` column the id is a digest of the content, so that the order of a file
    does not matter.
    """
    benchmark, split, _ = prefix.split("/")
    kind = settings.get("kind", "choice")
    text = "" if _is_missing(row[columns["text"]]) else str(row[columns["text"]]).strip()
    choices: list[str] = []
    if marker := settings.get("inlined_choices"):
        text, choices = split_inlined(text, marker)
    elif "choices" in columns:
        choices = _choices(row, columns["choices"])
    gold = None if _is_missing(row[columns["gold"]]) else _plain(row[columns["gold"]])
    name = digest(text, choices, gold)[:12]
    if "question_id" in columns:
        if _is_missing(row[columns["question_id"]]):
            raise SkillmoeError(f"a {split} row of {benchmark!r} has no question id: {text[:60]!r}")
        name = _plain(row[columns["question_id"]])
    if not text:
        raise SkillmoeError(f"question {prefix + name!r} has no text")
    if gold is not None and kind == "choice":
        position = _gold_position(gold, choices, settings.get("gold_is", "letter"), prefix + name)
        if "shuffle_choices" in settings:
            draw = generator("choices", settings["shuffle_choices"], name)
            order = draw.permutation(len(choices)).tolist()
            choices, position = [choices[i] for i in order], order.index(position)
        gold = string.ascii_uppercase[position]
    subject = row[columns["subject"]] if "subject" in columns else None
    return {
        "question_id": prefix + name,
        "benchmark": benchmark,
        "split": split,
        "text": text,
        "choices": json.dumps(choices, ensure_ascii=False),
        "gold": gold,
        "subject": benchmark if _is_missing(subject) else _plain(subject),
        "kind": kind,
        "checker": "{}",
    }


def split_inlined(text: str, marker: str) -> tuple[str, list[str]]:
    """Stem and choices of "stem MARKER (A) ... (B) ...".

    A label counts where it stands between white space and follows its alphabetical predecessor, so
    that "P(B)" inside a choice does not cut it.
    """
    stem, found, options = text.rpartition(marker)
    if not found:
        raise SkillmoeError(
            f"no {marker!r} in the question {text[:60]!r}: inlined_choices must stand in every text"
        )
    cuts: list[re.Match[str]] = []
    for letter in string.ascii_uppercase:
        label = re.compile(rf"(?:^|(?<=\s))\({letter}\)(?=\s|$)").search(
            options, cuts[-1].end() if cuts else 0
        )
        if label is None:
            break
        cuts.append(label)
    ends = [cut.start() for cut in cuts[1:]] + [len(options)]
    return stem.strip(), [options[cut.end() : end].strip() for cut, end in zip(cuts, ends, strict=True)]


def _choices(row: Mapping[Any, Any], given: str | list[str]) -> list[str]:
    """The choices of a row from several columns, a list column, or a column of JSON lists."""
    if not isinstance(given, str):
        cells = [row[name] for name in given]
        while cells and _is_missing(cells[-1]):
            cells.pop()
        return ["" if _is_missing(cell) else _plain(cell) for cell in cells]
    cell = row[given]
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except json.JSONDecodeError as error:
            raise SkillmoeError(
                f"column {given!r} must hold JSON lists of choices, got {cell[:60]!r}"
            ) from error
    return [] if _is_missing(cell) else [_plain(choice) for choice in cell]


def _gold_position(gold: str, choices: list[str], gold_is: str, question_id: str) -> int:
    letters = string.ascii_uppercase[: len(choices)]
    if gold_is == "letter" and len(gold) == 1 and gold.upper() in letters:
        return letters.index(gold.upper())
    if gold_is == "index" and gold.isdecimal() and int(gold) < len(choices):
        return int(gold)
    if gold_is == "text" and gold in choices:
        return choices.index(gold)
    allowed = {"letter": letters, "index": f"0 to {len(choices) - 1}", "text": " | ".join(choices)}[gold_is]
    raise SkillmoeError(
        f"question {question_id!r}: the gold {gold_is} {gold!r} is not among its choices ({allowed})"
    )


def _sampled(rows: list[Row], per_subject: int, seed: int, where: str) -> list[Row]:
    """`per_subject` rows of each subject, no stem twice, by rank of a digest of seed and id."""
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


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _plain(value: Any) -> str:
    """A cell as text; 7.0 is "7", as columns of whole numbers with gaps are read as decimals."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value).strip()

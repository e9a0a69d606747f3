"""The choices of a question and which of them is right, in the many formats that files use.

Choices come as several columns, as a list, as JSON text, as a mapping of label -> text, as a mapping of
lists (`label` and `text`), as labelled objects or pairs, or inside the question's own text. If choices
have labels of their own, a gold that is one of these labels means that choice. A format that could be
read in two ways is an error of one line.
"""

import json
import math
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from skillmoe_lib.errors import SkillmoeError

_LABEL_KEYS = {"label", "labels", "key", "letter", "id", "option", "index"}
#: A letter in front of a choice: "A) iron", "(b) iron", "C. iron", "D: iron".
_IN_FRONT = re.compile(r"\(?([A-Za-z])(?:\)|[.:、．：](?=\s|[^\W\d]))\s*(?=\S)")
#: A gold letter as people write it: "B", "(B)", "B.", "[b]", "B)".
_LETTER = re.compile(r"[\[(]?\s*(\w+)\s*[\])]?[.:]?")
_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-z])\s*(\{|[^\s{}$]*)")
_LETTER_AND_TEXT = re.compile(r"\(?([A-Za-z])[).:]\s*(\S.*)", re.DOTALL)


class Choices(NamedTuple):
    """Texts in the order in which they are shown; `labels` are the file's own, empty if it has none."""

    texts: list[str]
    labels: list[str] = []  # noqa: RUF012 - never changed


def is_missing(cell: Any) -> bool:
    """Null, not a number, or text without a letter."""
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def plain(cell: Any) -> str:
    """A cell as text; 7.0 is "7", as columns of whole numbers with gaps are read as decimals.

    Raises
    ------
    ValueError
        If it holds a list, a mapping or half a character, none of which can be shown to a model.
    """
    if isinstance(cell, Mapping | list | tuple | set | bytes):
        raise ValueError(f"a text or a number is needed, not {cell!r:.80}")
    text = str(cell).strip()
    if isinstance(cell, float) and math.isfinite(cell):
        if cell.is_integer() and abs(cell) < 1e16:
            text = str(int(cell))
        elif "e-" in text and abs(cell) > 1e-20:
            digits, _, power = text.partition("e-")
            places = len(digits.partition(".")[2]) + int(power)
            text = f"{cell:.{places}f}"
        else:
            text = text.replace("e+", "e")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"an unpaired surrogate (half a character) in {text!r:.80}") from error
    return text


def read_choices(row: Mapping[str, Any], given: str | Sequence[str]) -> Choices:
    """The choices of a row, from several columns or from one that holds them all.

    Raises
    ------
    ValueError
        If it is not clear what the choices are.
    """
    if not isinstance(given, str):
        texts = _texts([row.get(name) for name in given])
        return Choices(texts, list(given[: len(texts)]))
    cell = row.get(given)
    if is_missing(cell):
        return Choices([])
    try:
        return _in_order(_from_one_cell(json.loads(cell) if isinstance(cell, str) else cell))
    except json.JSONDecodeError:
        reason = "it is neither"
    except ValueError as error:
        reason = str(error)
    raise ValueError(
        f"column {given!r} must hold a list of choices, or a list as JSON text; got {cell!r:.80}: {reason}"
    )


def _from_one_cell(cell: Any) -> Choices:
    if isinstance(cell, Mapping):
        if cell and all(isinstance(part, list) for part in cell.values()):
            columns = list(cell.values())
            if len({len(column) for column in columns}) > 1:
                raise ValueError("its lists differ in length")
            return _from_objects(
                [dict(zip(cell, parts, strict=True)) for parts in zip(*columns, strict=True)]
            )
        full = {key: text for key, text in cell.items() if not is_missing(text)}
        return Choices([plain(text) for text in full.values()], [str(key) for key in full])
    if not isinstance(cell, list | tuple):
        raise ValueError("it is neither")
    if cell and all(isinstance(entry, Mapping) for entry in cell):
        return _from_objects(cell)
    if cell and all(isinstance(entry, list | tuple) and len(entry) == 2 for entry in cell):
        if not _is_series([str(label) for label, _ in cell]):
            raise ValueError("its pairs do not begin with A, B, C or 1, 2, 3")
        return _from_objects([{"label": label, "text": text} for label, text in cell])
    return _without_labels(Choices(_texts(cell)))


def _from_objects(entries: Sequence[Mapping[str, Any]]) -> Choices:
    """Choices from labelled objects: one key holds the labels A, B, C (or 1, 2, 3), another the texts."""
    keys = list(dict.fromkeys(key for entry in entries for key in entry))
    if len(keys) == len(entries) > 1 and all(len(entry) == 1 for entry in entries) and _is_series(keys):
        return Choices([plain(text) for entry in entries for text in entry.values()], keys)
    columns = {key: [entry.get(key) for entry in entries] for key in keys}
    columns = {key: cells for key, cells in columns.items() if not all(map(is_missing, cells))}
    counting = [key for key, cells in columns.items() if _is_series([str(cell) for cell in cells])]
    if len(counting) != 1 and len(columns) > 1:
        counting = [key for key in counting or columns if key.lower() in _LABEL_KEYS]
    if len(counting) > 1 or (not counting and len(columns) > 1):
        raise ValueError(f"which of {', '.join(map(repr, keys))} are the labels is not clear")
    texts = [
        key
        for key, cells in columns.items()
        if key not in counting and not any(isinstance(cell, bool | Mapping | list) for cell in cells)
    ]
    if len(texts) != 1:
        raise ValueError(f"which of {', '.join(map(repr, keys))} are the texts is not clear")
    labels = [str(label) for label in columns[counting[0]]] if counting else []
    cells = columns[texts[0]]
    if labels and any(is_missing(cell) for cell in cells):
        labels = [label for label, cell in zip(labels, cells, strict=True) if not is_missing(cell)]
        cells = [cell for cell in cells if not is_missing(cell)]
    return Choices(_texts(cells), labels)


def _texts(cells: Sequence[Any]) -> list[str]:
    """Cells as texts; empty ones at the end are dropped, earlier ones stay so that the letters still fit."""
    last = max((i for i, cell in enumerate(cells) if not is_missing(cell)), default=-1)
    return ["" if is_missing(cell) else plain(cell) for cell in cells[: last + 1]]


def _is_series(labels: Sequence[str]) -> bool:
    """Whether labels are A, B, C ... or count up from 0 or 1, in any order."""
    given, n = [label.upper() for label in sorted(labels, key=_rank)], len(labels)
    numbers = [[str(i + start) for i in range(n)] for start in (0, 1)]
    return n > 0 and (given == list(string.ascii_uppercase[:n]) or given in numbers)


def _in_order(choices: Choices) -> Choices:
    """Choices labelled by letters or by numbers, in the order of their labels."""
    labels = choices.labels
    if not labels or not (all(len(label) == 1 for label in labels) or all(map(str.isdecimal, labels))):
        return choices
    pairs = sorted(zip(labels, choices.texts, strict=True), key=lambda pair: _rank(pair[0]))
    return Choices([text for _, text in pairs], [label for label, _ in pairs])


def _rank(label: str) -> tuple[int, str]:
    return len(label), label.upper()


def _without_labels(choices: Choices) -> Choices:
    """Choices without the letters written in front of each of them ("A) iron", "B) tin", ...)."""
    found = [label for text in choices.texts if (label := _IN_FRONT.match(text))]
    labels = [label[1].upper() for label in found]
    if len(found) < max(2, len(choices.texts)) or labels != list(string.ascii_uppercase[: len(labels)]):
        return choices
    return Choices([label.string[label.end() :] for label in found], labels)


def split_inlined(text: str, marker: str) -> tuple[str, list[str]]:
    """Stem and choices of "stem MARKER (A) ... (B) ...".

    A label counts if white space surrounds it and the letter before it in the alphabet came first, so
    that "P(B)" inside a choice does not split it.
    """
    stem, found, options = text.rpartition(marker)
    if not found:
        raise SkillmoeError(
            f"no {marker!r} in the question {text[:60]!r}: every text must contain inlined_choices"
        )
    cuts: list[re.Match[str]] = []
    for letter in string.ascii_uppercase[:-2]:
        label = _label(letter).search(options, cuts[-1].end() if cuts else 0)
        if label is None:
            break
        cuts.append(label)
    if len(cuts) < 2 or options[: cuts[0].start()].strip():
        raise SkillmoeError(
            f"choices must be labelled (A) ... (B) ... right after {marker!r}; got {options[:60]!r}"
        )
    lacking, after = list(string.ascii_uppercase[len(cuts) : len(cuts) + 2])
    if after not in "IVX" and _label(after).search(options, cuts[-1].end()):  # those are numbers too
        raise SkillmoeError(f"the question {text[:60]!r} has a choice ({after}), but none ({lacking})")
    ends = [cut.start() for cut in cuts[1:]] + [len(options)]
    return stem.strip(), [options[cut.end() : end].strip() for cut, end in zip(cuts, ends, strict=True)]


def _label(letter: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|(?<=\s))\({letter}\)(?=\s|$)")


def gold_position(gold: str, choices: Choices, gold_is: str, index_from: int = 0) -> int:
    """Which choice the gold means, counted from 0.

    Raises
    ------
    ValueError
        If it means none of them, or two.
    """
    texts, labels = choices
    if not texts:
        raise ValueError("it has no choices")
    letters = string.ascii_uppercase[: len(texts)]
    if len(texts) > len(string.ascii_uppercase):
        raise ValueError(f"it has {len(texts)} choices: there are letters for at most 26")
    position = None
    if gold_is == "text":
        bare = _IN_FRONT.sub("", gold, count=1) if labels else gold
        same = [i for i, text in enumerate(texts) if text in (gold, bare)]
        if len(same) > 1:
            raise ValueError(f"the gold text {gold!r} occurs {len(same)} times among its choices")
        position = same[0] if same else None
    elif gold_is == "index":
        number = index_of(gold)
        if any(label.isdecimal() for label in labels):
            position = labels.index(str(number)) if str(number) in labels else None
        elif number is not None and 0 <= number - index_from < len(texts):
            position = number - index_from
    else:
        written, both = _LETTER.fullmatch(gold), _LETTER_AND_TEXT.fullmatch(gold)
        own = written[1] if written else both[1] if both else gold
        if own in labels:
            position = labels.index(own)
        elif len(own) == 1 and own.upper() in letters and not any(label.isdecimal() for label in labels):
            position = letters.index(own.upper())
        if position is not None and not written and both and both[2].strip() != texts[position]:
            position = None  # the letter means one choice, the text after it another
    if position is None:
        allowed = {
            "letter": ", ".join(labels or letters),
            "index": f"{index_from} to {len(texts) - 1 + index_from}",
            "text": " | ".join(texts),
        }[gold_is]
        raise ValueError(f"the gold {gold_is} {gold!r} is not among its choices ({allowed:.200})")
    if not texts[position]:
        raise ValueError(f"its right choice, {letters[position]}, is empty")
    return position


def index_of(gold: str) -> int | None:
    """A whole number, written 2 or 2.0; None for anything else."""
    return int(gold.partition(".")[0]) if re.fullmatch(r"-?\d+(\.0*)?", gold) else None


def final_answer(gold: str, kind: str) -> str:
    r"""A gold answer without its working: in the last \boxed{} or \fbox{}, or after "####".

    Raises
    ------
    ValueError
        If a gold of kind "math" is a worked solution whose answer is not marked.
    """
    boxes = list(_BOX.finditer(gold))
    if boxes:
        inside = _inside(gold, boxes[-1])
        if not inside:
            raise ValueError("the box in its gold is empty")
        return inside
    if kind != "math":
        return gold
    _, marked, answer = gold.rpartition("####")
    if marked and answer.strip() and "\n" not in answer.strip():
        return answer.strip()
    if re.search(r"\banswer\s*(?:is|:|=)|\n\s*\n|[.!?]\s+[A-Z][a-z]+\s+\w+", gold):
        raise ValueError(f"its gold is a worked solution: name a column of answers alone; got {gold[:60]!r}")
    return gold


def _inside(text: str, box: re.Match[str]) -> str:
    """The content of a box: up to the brace that closes it, or the next word if it has no braces."""
    if box[1] != "{":
        return box[1].strip("$.,; ")
    depth = 1
    for end in range(box.end(), len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0) if text[end - 1] != "\\" else 0
        if depth == 0:
            return text[box.end() : end].strip()
    raise ValueError(f"its gold has a box that does not close: {text[-60:]!r}")

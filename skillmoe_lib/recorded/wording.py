"""What the readers share: the words of a recording put into ours (kinds, scores, finish reasons, splits)."""

import json
import re
from typing import Any, Literal

from skillmoe_lib import answers
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.generation import Generation
from skillmoe_lib.questions.benchmark import Question

_LETTER = re.compile(r"\(?([A-Z])\)?\.?")
_NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(?:/\d+)?%?")
_SPLITS = {"validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
           "test": "test"}  # fmt: skip
_FINISHED = {
    **dict.fromkeys(("stop", "endoftext", "eos", "eos_token", "end_turn", "stop_sequence"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "model_length", "max_length"), "length"),
}
_SCORES = {
    "c": 1.0,
    "i": 0.0,
    "p": 0.5,
    "n": 0.0,
    "true": 1.0,
    "false": 0.0,
    "correct": 1.0,
    "incorrect": 0.0,
}


def kind_of(gold: str | None, n_choices: int = 0) -> str:
    """The kind of a question: "choice" if it has choices or its gold is a letter, "math" if a number."""
    if n_choices or (gold and _LETTER.fullmatch(gold.strip())):
        return "choice"
    return "math" if gold and _NUMBER.fullmatch(gold.strip().strip("$")) else "text"


def letter(value: Any) -> str | None:
    """The letter of a recorded choice: "B", "(b)" or "B."; null for anything else."""
    match = _LETTER.fullmatch(value.strip().upper()) if isinstance(value, str) else None
    return match[1] if match else None


def answer_in(
    text: str | None, kind: str, n_choices: int = 0, finish_reason: str | None = None
) -> str | None:
    """The answer in a generated text, read by `answers.read`; null if there is none.

    Without `n_choices` any capital may be the letter of a choice.
    """
    if text is None:
        return None
    choices = ("",) * (n_choices or 26) if kind == "choice" else ()
    asked = Question("", "", "test", "", choices, "", "", kind)
    ended: Literal["length", "stop"] = "length" if finish_reason == "length" else "stop"
    return answers.read(asked, Generation("", text, ended, 0, 0)).value


def finish_reason(recorded: Any) -> str | None:
    """ "stop" and "length" for the words that services use for them; other words as they are."""
    word = recorded.get("reason") if isinstance(recorded, dict) else recorded
    if not isinstance(word, str) or word.strip().lower() in ("", "unknown", "none"):
        return None
    return _FINISHED.get(word.strip().lower(), word.strip().lower())


def split_of(recorded: Any) -> str | None:
    """Our name of a split. A training split is no validation split: null."""
    return _SPLITS.get(str(recorded).strip().lower())


def score(recorded: Any, what: str) -> float | None:
    """A recorded score in [0, 1]: a number, true or false, or inspect_ai's C, I, P and N; null if missing.

    Raises
    ------
    SkillmoeError
        For anything else; the message begins with `what`.
    """
    if recorded is None or recorded == "" or recorded != recorded:  # the last: not a number
        return None
    value = _SCORES.get(recorded.strip().lower()) if isinstance(recorded, str) else recorded
    try:
        number = float(recorded if value is None else value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number <= 1:
        raise SkillmoeError(f"{what}: a score must be true, false or from 0 to 1; got {str(recorded)[:40]!r}")
    return number


def count(recorded: Any) -> int | None:
    """A recorded number of tokens; null if it is none."""
    try:
        number = float(recorded)
        return int(number) if 0 <= number < 2**62 else None
    except (TypeError, ValueError):
        return None


def money(recorded: Any) -> float | None:
    """A recorded price in dollars; null if it is none."""
    try:
        number = float(recorded)
        return number if 0 <= number < float("inf") else None
    except (TypeError, ValueError):
        return None


def text_of(value: Any) -> str | None:
    """A generated text, which may be empty; null if it was not recorded."""
    return value if isinstance(value, str) else words(value)


def words(value: Any) -> str | None:
    """A cell as text; null if it is missing or blank. Lists and mappings as JSON."""
    if value is None or value != value:  # the last: not a number
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e16:
        value = int(value)
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False)
    text = str(value)
    return text if text.strip() else None

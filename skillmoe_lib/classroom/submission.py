"""What a notebook answers: plain JSON values in one file, which is all that grading takes from it.

The file holds values, never marks. They are computed later, by another process that has the key
(`scoring`); so nothing that runs in a student's notebook can raise a mark, except by being right.
"""

import json
import math
from pathlib import Path
from typing import Any

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.files import replace_file

ANSWERS = "answers.json"
#: Characters of one value as JSON, about 1,000 rows of a small table.
MAX_CHARACTERS = 100_000


def submit(exercise: str, value: object) -> None:
    """Keep the answer to an exercise in `answers.json` of the working folder; the last one counts.

    Parameters
    ----------
    exercise
        Its id, the `grade_id` of the cell that calls this.
    value
        A number, text, true or false, None, or lists and dictionaries of these; a small table is a list of
        dictionaries. NumPy values and arrays become plain ones.

    Raises
    ------
    SkillmoeError
        If the value is of another kind, is not finite, or is larger than 100,000 characters of JSON.
    """
    if not exercise.isidentifier():
        raise SkillmoeError(f"the id of an exercise must be a word such as majority_vote, got {exercise!r}")
    text = json.dumps(_plain(value, exercise), ensure_ascii=False)
    if len(text) > MAX_CHARACTERS:
        raise SkillmoeError(
            f"the answer to {exercise} must be at most {MAX_CHARACTERS:,} characters of JSON, "
            f"got {len(text):,}"
        )
    path = Path(ANSWERS)
    answers: dict[str, Any] = {}
    if path.exists():
        try:
            answers = json.loads(path.read_text(encoding="utf-8"))["answers"]
        except (ValueError, KeyError, TypeError) as error:
            raise SkillmoeError(f"{ANSWERS} was changed by hand; delete it and run again") from error
    answers[exercise] = json.loads(text)
    replace_file(path, json.dumps({"answers": answers}, ensure_ascii=False, indent=1))


def _plain(value: Any, exercise: str) -> Any:
    """The value in plain Python types, or an error that names the exercise."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise SkillmoeError(f"the answer to {exercise} must be finite, got {value}")
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(item, exercise) for item in value]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise SkillmoeError(
                    f"keys in the answer to {exercise} must be text, got {type(key).__name__} {key!r}"
                )
        return {str(key): _plain(item, exercise) for key, item in value.items()}
    if type(value).__module__ == "numpy":
        return _plain(value.tolist(), exercise)
    raise SkillmoeError(
        f"the answer to {exercise} must be a number, text, list or dictionary of these, "
        f"got {type(value).__name__}; a table is given as table.to_dict('records')"
    )

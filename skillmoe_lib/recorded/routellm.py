"""RouteLLM: a CSV of prompt and a column of True and False for each model (github.com/lm-sys/RouteLLM).

One file is one subject of MMLU, or GSM8K, where the texts stand under `<model>_response`. Gold is not
recorded. Prompts have no ids: a question's is the file's name and the row's number.
"""

from collections.abc import Iterable
from pathlib import Path

from skillmoe_lib.questions.files import read_file
from skillmoe_lib.recorded import opening, wording
from skillmoe_lib.recorded.recording import AS_IT_IS, Options, Recorded, Row, build

USES = ("repeats",)
TEXT = "_response"


def models(columns: Iterable[str]) -> list[str]:
    """The columns that are models: all but the prompt, an index, and the texts."""
    return [name for name in columns if name and name != "prompt" and not name.endswith(TEXT)]


def read(path: Path, options: Options = AS_IT_IS) -> Recorded:
    """A recording of the models of the table."""
    table = read_file(path)
    if "prompt" not in table[0] or not models(table[0]):
        raise opening.unreadable(path, "it must have a column prompt and one for each model")
    kind = "math" if "gsm8k" in path.stem.lower() else "text"
    rows = []
    for number, row in enumerate(table):
        for model in models(row):
            said = str(row[model]).strip().lower()
            if said not in ("true", "false", ""):
                raise opening.unreadable(
                    path, f"row {number + 1}: {model} must be True or False, got {said[:40]!r}"
                )
            text = wording.words(row.get(model + TEXT))
            rows.append(
                Row(
                    f"{path.stem}/{number:05d}",
                    model,
                    path.stem,
                    question=wording.words(row["prompt"]),
                    subject=path.stem,
                    kind=kind,
                    text=text,
                    answer=wording.answer_in(text, kind),
                    correct=wording.score(said, f"row {number + 1} of {path.name}"),
                    ran=bool(said),
                    answer_known=text is not None,
                )
            )
    return build(rows, repeats=options.repeats)

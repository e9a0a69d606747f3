"""EmbedLLM: a CSV of prompt_id, model_id, category_id, label, prompt, model_name, category.

`label` is 1 if the model answered right. What it answered is not recorded, nor is gold.
"""

from pathlib import Path

from skillmoe_lib.questions.files import read_file
from skillmoe_lib.recorded import opening, wording
from skillmoe_lib.recorded.recording import AS_IT_IS, Options, Recorded, Row, build

USES = ("repeats",)
COLUMNS = {"prompt_id", "label", "prompt", "model_name"}


def read(path: Path, options: Options = AS_IT_IS) -> Recorded:
    """A recording of all models of the table."""
    table = read_file(path)
    if missing := COLUMNS - table[0].keys():
        raise opening.unreadable(path, f"it has no column {', '.join(sorted(missing))}")
    rows = [
        Row(
            str(row["prompt_id"]),
            str(row["model_name"]),
            "EmbedLLM",
            question=wording.words(row["prompt"]),
            subject=wording.words(row.get("category")),
            correct=wording.score(row["label"], f"row {number} of {path.name}"),
            ran=wording.words(row["label"]) is not None,
            answer_known=False,
        )
        for number, row in enumerate(table, 1)
    ]
    return build(rows, repeats=options.repeats)

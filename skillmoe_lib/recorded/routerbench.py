"""RouterBench: a wide table, published as a pickle (github.com/withmartian/routerbench).

One row a question: sample_id, prompt, eval_name, and for each model its score (`<model>`), its text
(`<model>|model_response`) and its price (`<model>|total_cost`). Gold is not recorded. The pickle is converted
by `unpickle` in a process of its own; a CSV or parquet file of the same table is read as it is.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from skillmoe_lib.questions.files import read_file
from skillmoe_lib.recorded import opening, unpickle, wording
from skillmoe_lib.recorded.recording import AS_IT_IS, Options, Recorded, Row, build

USES = ("repeats",)
TEXT, PRICE = "|model_response", "|total_cost"
#: Benchmarks of multiple choice, by the beginning of eval_name, and of mathematics.
_CHOICE, _MATH = ("mmlu", "arc", "hellaswag", "winogrande"), ("grade-school-math", "gsm8k")


def read(path: Path, options: Options = AS_IT_IS) -> Recorded:
    """A recording of all models of the table."""
    table = read_file(path) if path.suffix in (".csv", ".parquet") else from_pickle(path)
    columns = list(table[0]) if table else []
    models = [name.removesuffix(PRICE) for name in columns if name.endswith(PRICE)]
    if not {"sample_id", "prompt", "eval_name"} <= set(columns) or not models:
        raise opening.unreadable(path, "it must have sample_id, prompt, eval_name and MODEL|total_cost")
    rows = [_row(row, model, path) for row in table for model in models]
    return build(rows, repeats=options.repeats)


def from_pickle(path: Path) -> list[dict[str, Any]]:
    """The rows of a pickled table, converted in a process of its own.

    Raises
    ------
    SkillmoeError
        If the pickle names anything but what a table of pandas and numpy is made of.
    """
    import pyarrow

    command = [sys.executable, "-I", "-B", unpickle.__file__, str(path.resolve())]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and file
            command,
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=2 * unpickle.SECONDS,
            env={
                name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ
            },  # Windows needs it
        )
    except subprocess.TimeoutExpired as error:
        raise opening.unreadable(path, "converting it took too long") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise opening.unreadable(path, f"the pickle is refused: {said[-1] if said else 'its process ended'}")
    try:
        return list(pyarrow.ipc.open_stream(done.stdout).read_all().to_pylist())
    except pyarrow.ArrowException as error:
        raise opening.unreadable(path, error) from error


def _row(row: dict[str, Any], model: str, path: Path) -> Row:
    benchmark, question_id = str(row["eval_name"]), str(row["sample_id"])
    kind = "choice" if benchmark.startswith(_CHOICE) else "math" if benchmark.startswith(_MATH) else "text"
    text = _unlisted(row.get(model + TEXT))
    answer = wording.letter(text) if kind == "choice" else None
    return Row(
        question_id,
        model,
        benchmark,
        question=_unlisted(row["prompt"]),
        subject=benchmark,
        kind=kind,
        text=text,
        answer=answer or wording.answer_in(text, kind),
        correct=wording.score(row.get(model), f"{question_id}, {model} of {path.name}"),
        money=wording.money(row.get(model + PRICE)),
        ran=wording.words(row.get(model)) is not None,
        answer_known=text is not None and kind != "text",
    )


def _unlisted(cell: Any) -> str | None:
    """The text of a cell that is a list of texts written as text: "['A']"."""
    text = wording.words(cell)
    if text and text.startswith("[") and text.endswith("]"):
        try:
            listed = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text
        if isinstance(listed, list) and all(isinstance(part, str) for part in listed):
            return wording.words("\n".join(listed))
    return text

"""The classroom's recorded set: what one run of the pocket pool left, as a few small tables.

The assignments read these tables and never a model, so that they take seconds on any laptop. `record` makes
them again from a finished report of the pocket chain and the store of its generations:

    python -m skillmoe_lib.classroom.recording reports/pocket data/generations/vllm
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from skillmoe_lib import answers, paths, tables
from skillmoe_lib.aggregation import read_answer
from skillmoe_lib.errors import unknown
from skillmoe_lib.evaluation.results import answer_groups
from skillmoe_lib.experts import load_pool
from skillmoe_lib.files import replace_file
from skillmoe_lib.generation import Generation
from skillmoe_lib.inference import GenerationStore
from skillmoe_lib.profiling import consistent, parse_keywords
from skillmoe_lib.profiling.skills import skills_table
from skillmoe_lib.questions import as_questions, families

FOLDER = "data/classroom"
#: Table -> its columns. data/classroom/README.md says what the rows are.
TABLES = {
    "questions": ("question_id", "split", "family", "text", "gold"),
    "keywords": ("question_id", "sample", "text"),
    "answers": ("question_id", "expert", "answer", "status", "correct", "prompt_tokens", "output_tokens"),
    "items": ("question_id", "expert", "status", "correct"),
    "chains": ("question_id", "expert", "text"),
    "results": (
        "method", "question_id", "answer", "status", "correct", "calls", "prompt_tokens", "output_tokens",
        "device_seconds",
    ),
}  # fmt: skip


def load(name: str) -> pd.DataFrame:
    """One table of the recorded set, by its name in `TABLES`."""
    if name not in TABLES:
        raise unknown("table", name, TABLES)
    return pd.read_parquet(paths.project_file(f"{FOLDER}/{name}.parquet"))


def skills(question_ids: Iterable[str]) -> pd.DataFrame:
    """Skills frame of these questions: keywords that two of their five recorded replies name."""
    replies = load("keywords")
    replies = replies[replies["question_id"].isin(set(question_ids))]
    named = replies["text"].map(parse_keywords).groupby(replies["question_id"]).agg(list)
    return skills_table({str(name): consistent(passes) for name, passes in named.items()})


def record(report: Path, store: Path, *, n_chains: int = 1) -> dict[str, int]:
    """Write the recorded set and return the bytes of each table.

    Parameters
    ----------
    report, store
        Folders of a finished pocket report and of the store that it used.
    n_chains
        Validation questions of each family for which the experts' texts are kept.
    """

    def read(name: str, schema: Any) -> pd.DataFrame:
        return tables.read(report / "tables" / f"{name}.parquet", schema)

    asked = read("questions", tables.QUESTIONS)
    family = asked["question_id"].map(families(asked))
    generations = GenerationStore(store).generations(
        ["request_id", "expert", "sample", "text", "finish_reason", "prompt_tokens", "output_tokens"]
    )
    scores = answer_groups(read("scores_validation", tables.SCORES), as_questions(asked))
    answered = scores.merge(generations.drop(columns=["expert", "sample"]), on="request_id")
    shown = asked[asked["split"] == "validation"].groupby(family).head(n_chains)
    results = read("results", tables.RESULTS)
    made = {
        "questions": asked.assign(family=family),
        "keywords": read("used_keywords", tables.USED).merge(generations, on="request_id"),
        "answers": answered,
        "items": _graded(read("used_items", tables.USED).merge(generations, on="request_id"), asked),
        "chains": answered[answered["question_id"].isin(shown["question_id"])],
        "results": results[results["seed"] == 0],
    }
    return {name: _write(name, table) for name, table in made.items()}


def _graded(items: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """Status of each candidate's answer to each item, and whether it is right (docs/method.md 1.8)."""
    experts = load_pool("pocket", locate=False).experts
    questions = {question.question_id: question for question in as_questions(asked)}
    pairs = []
    for row in items.to_dict("records"):
        question, expert = questions[row["question_id"]], experts[row["expert"]]
        reply = Generation(
            row["request_id"], row["text"], row["finish_reason"], row["prompt_tokens"], row["output_tokens"]
        )
        pairs.append((question, read_answer(question, expert, reply)))
    statuses = [answer.status for _, answer in pairs]
    return items.assign(status=statuses, correct=answers.grade_many(pairs))


def _write(name: str, table: pd.DataFrame) -> int:
    order = [column for column in ("method", "question_id", "expert", "sample") if column in TABLES[name]]
    table = table[list(TABLES[name])].sort_values(order, kind="stable")
    path = paths.project_root() / FOLDER / f"{name}.parquet"
    replace_file(path, table.to_parquet(index=False, compression="zstd"))
    return path.stat().st_size


if __name__ == "__main__":
    for name, size in record(Path(sys.argv[1]), Path(sys.argv[2])).items():
        print(f"{name}: {size:,} bytes")

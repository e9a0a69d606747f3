"""The tables that pass between the steps: one schema each, written atomically with provenance.

questions -> skills -> scores -> profiles -> routes -> results -> summary; generations and batches
are in the `store`. Missing is null, never a guess. A derived table can be deleted and rebuilt.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.parquet

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.files import replace_file

TEXT = "string"
STATUSES = ["answered", "unparsed", "cut", "overflow", "not_run"]
KINDS = ["choice", "math", "text"]
#: Rows of Results that are bounds, not methods: they choose by the right answers to the test questions.
BOUNDS = ("dataset_oracle", "instance_oracle")


def _schema(name: str, columns: Mapping[str, pa.Column], unique: list[str]) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(dict(columns), unique=unique or None, name=name, strict=True, coerce=True)


def _text(**options: Any) -> pa.Column:
    return pa.Column(TEXT, **options)


def _status() -> pa.Column:
    return _text(checks=pa.Check.isin(STATUSES))


#: One row for each question. `choices` and `checker` are JSON ("[]" and "{}" if there are none); `gold` is
#: the letter of the right choice for kind "choice", the answer itself otherwise.
QUESTIONS = _schema(
    "questions",
    {
        "question_id": _text(),
        "benchmark": _text(),
        "split": _text(checks=pa.Check.isin(["validation", "test"])),
        "text": _text(checks=pa.Check.str_length(min_value=1)),
        "choices": _text(),
        "gold": _text(checks=pa.Check.str_length(min_value=1)),
        "subject": _text(),
        "kind": _text(checks=pa.Check.isin(KINDS)),
        "checker": _text(),
    },
    unique=["question_id"],
)
#: Questions of a recording (`recorded`): what it does not say is null.
RECORDED_QUESTIONS = _schema(
    "recorded questions",
    {
        **QUESTIONS.columns,
        "split": _text(nullable=True, checks=pa.Check.isin(["validation", "test"])),
        "text": _text(nullable=True, checks=pa.Check.str_length(min_value=1)),
        "gold": _text(nullable=True, checks=pa.Check.str_length(min_value=1)),
        "subject": _text(nullable=True),
    },
    unique=["question_id"],
)
#: Answers of a recording, one row for each question, expert and sample (from 0); what it does not say is
#: null. An `answer` that is null under the status "answered": only whether it was right is known. `money` is
#: in dollars. `finish_reason` is "stop", "length", or another word as it was recorded.
RECORDED = _schema(
    "recorded",
    {
        "question_id": _text(),
        "expert": _text(),
        "sample": pa.Column("Int64", checks=pa.Check.ge(0)),
        "text": _text(nullable=True),
        "answer": _text(nullable=True),
        "status": _status(),
        "correct": pa.Column(bool),
        "prompt_tokens": pa.Column("Int64", nullable=True, checks=pa.Check.ge(0)),
        "output_tokens": pa.Column("Int64", nullable=True, checks=pa.Check.ge(0)),
        "money": pa.Column("Float64", nullable=True, checks=pa.Check.ge(0)),
        "finish_reason": _text(nullable=True),
    },
    unique=["question_id", "expert", "sample"],
)
#: Skills of each question: how many of the keyword passes named it; after matching, what was
#: matched (`matched_from`, null before) and how well (`similarity`, cosine in [-1, 1]).
SKILLS = _schema(
    "skills",
    {
        "question_id": _text(),
        "skill": _text(),
        "votes": pa.Column("Int64", checks=pa.Check.ge(1)),
        "matched_from": _text(nullable=True),
        "similarity": pa.Column("Float64", nullable=True),
    },
    unique=["question_id", "skill", "matched_from"],
)
#: Graded single answers of experts. `answer` is null if none was found; `status` says why.
SCORES = _schema(
    "scores",
    {
        "request_id": _text(),
        "question_id": _text(),
        "expert": _text(),
        "sample": pa.Column("Int64"),
        "answer": _text(nullable=True),
        "status": _status(),
        "correct": pa.Column(bool),
        "truncated": pa.Column(bool),
    },
    unique=["question_id", "expert", "sample"],
)
#: docs/method.md 1.2: `score` = right minus wrong over the `n` validation questions that carry the skill.
PROFILES = _schema(
    "profiles",
    {
        "expert": _text(),
        "skill": _text(),
        "score": pa.Column("Int64"),
        "n": pa.Column("Int64", checks=pa.Check.ge(1)),
    },
    unique=["expert", "skill"],
)
#: Which experts answer a question: `slot` counts from 0; `suitability` and `probability` as they were drawn.
ROUTES = _schema(
    "routes",
    {
        "method": _text(),
        "seed": pa.Column("Int64"),
        "question_id": _text(),
        "slot": pa.Column("Int64", checks=pa.Check.ge(0)),
        "expert": _text(),
        "suitability": pa.Column("Float64", nullable=True),
        "probability": pa.Column("Float64", nullable=True),
    },
    unique=["method", "seed", "question_id", "slot"],
)
#: One row for each method, seed and question. Costs are those of the method run by itself, without keyword
#: calls (docs/cost.md); null if a request was not run. A `status` other than "not_run" counts:
#: unparsed, cut and overflow (a prompt that does not fit the model) are wrong answers.
RESULTS = _schema(
    "results",
    {
        "method": _text(),
        "benchmark": _text(),
        "seed": pa.Column("Int64"),
        "question_id": _text(),
        "answer": _text(nullable=True),
        "status": _status(),
        "correct": pa.Column(bool),
        "calls": pa.Column("Int64", checks=pa.Check.ge(0)),
        "prompt_tokens": pa.Column("Int64", checks=pa.Check.ge(0)),
        "output_tokens": pa.Column("Int64", checks=pa.Check.ge(0)),
        "device_seconds": pa.Column("Float64", nullable=True),
    },
    unique=["method", "benchmark", "seed", "question_id"],
)
#: Every request that a method used, in the order asked; `round` counts its turns from 0.
USED = _schema(
    "used",
    {
        "method": _text(),
        "seed": pa.Column("Int64"),
        "question_id": _text(),
        "round": pa.Column("Int64", checks=pa.Check.ge(0)),
        "request_id": _text(),
    },
    unique=[],
)
#: Costs without keyword calls, then those of the keyword calls, then what really ran (docs/cost.md).
SUMMARY_COLUMNS = [
    "method", "benchmark", "accuracy", "low", "high", "n_questions", "calls", "prompt_tokens",
    "output_tokens", "device_seconds", "model_loads", "keyword_calls", "keyword_prompt_tokens",
    "keyword_output_tokens", "keyword_device_seconds", "ran_device_seconds", "n_not_run", "n_overflow",
]  # fmt: skip


def check(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> pd.DataFrame:
    """The frame with the schema's columns, order and types; a `SkillmoeError` of one line otherwise."""
    for name, column in schema.columns.items():
        # Before types are coerced: a null among booleans would turn into True.
        if not column.nullable and name in frame and frame[name].isna().any():
            raise SkillmoeError(f"table {schema.name!r} does not fit its schema: column {name!r} has nulls")
    try:
        return schema.validate(frame.reset_index(drop=True)).loc[:, list(schema.columns)]
    except pa.errors.SchemaErrors as error:
        case = error.failure_cases.iloc[0]
        reason = f"{case['check']} fails in {case['column']!r} for {case['failure_case']!r}"
        raise SkillmoeError(f"table {schema.name!r} does not fit its schema: {reason}") from error
    except pa.errors.SchemaError as error:
        first = str(error).strip().splitlines()[0]
        raise SkillmoeError(f"table {schema.name!r} does not fit its schema: {first}") from error


def write(frame: pd.DataFrame, path: Path, schema: pa.DataFrameSchema, provenance: Mapping[str, Any]) -> None:
    """Check the frame and write it as parquet, whole or not at all, with its provenance inside."""
    table = pyarrow.Table.from_pandas(check(frame, schema), preserve_index=False)
    note = {b"skillmoe": json.dumps(dict(provenance), sort_keys=True, default=str).encode()}
    replace_file(path, as_parquet(table.replace_schema_metadata({**(table.schema.metadata or {}), **note})))


def as_parquet(table: pyarrow.Table) -> bytes:
    """The table as the bytes of a parquet file whose pages carry checksums."""
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, write_page_checksum=True)
    return bytes(sink.getvalue())


def read(path: Path, schema: pa.DataFrameSchema) -> pd.DataFrame:
    """Read a table written by `write`, checked again."""
    if not path.exists():
        raise SkillmoeError(f"no table {schema.name!r} at {path}: run the notebook that writes it first")
    try:
        return check(pd.read_parquet(path, page_checksum_verification=True), schema)
    except (OSError, pyarrow.ArrowException) as error:
        raise _torn(path, error) from error


def provenance(path: Path) -> dict[str, Any]:
    """The provenance written with a table."""
    try:
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
    except (OSError, pyarrow.ArrowException) as error:
        raise _torn(path, error) from error
    return dict(json.loads(metadata.get(b"skillmoe", b"{}")))


def _torn(path: Path, error: Exception) -> SkillmoeError:
    reason = str(error).splitlines()[0]
    return SkillmoeError(
        f"{path} cannot be read ({reason}): delete it and run the notebook that writes it again"
    )

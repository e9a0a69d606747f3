"""The command `import`: recorded outputs into `data/recorded/NAME`, and what can be answered from them."""

import argparse

import pandas as pd

from skillmoe_lib.cli.commands import pairs
from skillmoe_lib.recorded import Options
from skillmoe_lib.recorded.importing import import_files


def import_recording(given: argparse.Namespace) -> str:
    """Import the files of a command line; says what was read, what is missing and what can be answered."""
    options = Options(
        expert=given.expert,
        metric=given.metric,
        filter=given.filter,
        columns=pairs(given.column, "column"),
        where=pairs(given.where, "condition"),
        questions=given.questions,
        repeats=given.repeats,
    )
    recorded, folder = import_files(given.files, given.name, format_name=given.format, options=options)
    ran = recorded.answers[recorded.answers["status"] != "not_run"]
    lines = [
        f"wrote {folder}: {len(recorded.questions):,} questions, {ran['expert'].nunique():,} experts, "
        f"{len(ran):,} answers"
    ]
    lines += [f"missing: {line}" for line in recorded.missing]
    for row in recorded.can_answer().itertuples():
        calls = "needs another recording" if pd.isna(row.new_calls) else f"{row.new_calls:,} new calls"
        exactly = "exact" if row.exact else f"{row.n_questions:,} questions exact, {calls}"
        lines.append(f"{row.what}: {exactly}" + (f" ({row.note})" if row.note else ""))
    return "\n".join(lines)

"""Benchmarks -> the Questions table.

A benchmark is a YAML file under `data/benchmarks/` (or anywhere else, given by its path). It names a
source and what that source needs; see `keys` for the keys of each. Sizes and sampling of the paper's
four benchmarks: arXiv 2503.05641, section 4.
"""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from skillmoe_lib import hub, tables
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.paths import project_files
from skillmoe_lib.questions.sources import SOURCES
from skillmoe_lib.seeding import digest
from skillmoe_lib.settings import read_yaml

SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Question:
    """One question as methods see it.

    `choices` is empty unless kind is "choice"; `gold` is then the letter of the right choice.
    `checker` holds what a benchmark's own grader needs (JSON), "{}" for none.
    """

    question_id: str
    benchmark: str
    split: str
    text: str
    choices: tuple[str, ...]
    gold: str
    subject: str
    kind: str
    checker: str = "{}"


def load(benchmark: str, *, limit: int = 0) -> pd.DataFrame:
    """Read a benchmark.

    Parameters
    ----------
    benchmark
        Name of a YAML file in `data/benchmarks`, or the path of a YAML file.
    limit
        At most this many questions for each split (0: all), spread evenly over subjects and, if there
        are families, over those. A larger limit keeps all questions of a smaller one.

    Returns
    -------
    The Questions table (`tables.QUESTIONS`). `attrs["dropped"]` lists rows left out because they
    had no gold answer (only if the YAML says `missing_gold: drop`).

    Raises
    ------
    SkillmoeError
        For anything wrong with the YAML or the rows, before any model is loaded.
    """
    if limit < 0:
        raise SkillmoeError(f"limit must be 0 (all) or positive, got {limit}")
    path = _find(benchmark)
    settings = read_yaml(path)
    if not isinstance(settings, dict):
        raise SkillmoeError(f"{path.name}: it must be a mapping with the key source; got {settings!r:.80}")
    source = settings.pop("source", None)
    if not isinstance(source, str) or source not in SOURCES:
        raise SkillmoeError(
            f"{path.name}: source: it must be one of {', '.join(sorted(SOURCES))}; got {source!r:.80}"
        )
    rows, dropped = SOURCES[source](settings, path)
    frame = pd.DataFrame(rows, columns=list(tables.QUESTIONS.columns))
    frame = frame.sort_values("split", key=lambda split: split.map(SPLITS.index), kind="stable")
    for split in SPLITS:
        if not (frame["split"] == split).any():
            raise SkillmoeError(
                f"benchmark {path.stem!r}: its {split} split is empty: at least one question is needed"
            )
    repeated = frame.loc[frame["question_id"].duplicated(), "question_id"]
    if len(repeated):
        raise SkillmoeError(
            f"benchmark {path.stem!r}: question id {repeated.iloc[0]!r} occurs more than once "
            f"({len(repeated)} such rows in total); ids must be unique within a split"
        )
    if dropped:
        warnings.warn(
            f"benchmark {path.stem!r}: left out {len(dropped)} rows without gold (first: {dropped[0]})",
            stacklevel=2,
        )
    frame = tables.check(_limited(frame, limit) if limit else frame, tables.QUESTIONS)
    frame.attrs["dropped"] = dropped
    return frame


def as_questions(frame: pd.DataFrame) -> list[Question]:
    """The rows of a Questions table as `Question` objects, in order."""
    checked = tables.check(frame, tables.QUESTIONS)
    rows: list[dict[str, Any]] = checked.to_dict("records")  # type: ignore[assignment]
    return [Question(**{**row, "choices": tuple(json.loads(row["choices"]))}) for row in rows]


def families(frame: pd.DataFrame) -> pd.Series:
    """The kind of each question, by question id: its reasoning-gym family, or else its subject."""
    made = [json.loads(checker).get("family") for checker in frame["checker"]]
    named = [family or subject for family, subject in zip(made, frame["subject"], strict=True)]
    return pd.Series(named, index=pd.Index(frame["question_id"], name="question_id"), name="family")


def _find(benchmark: str) -> Path:
    given = Path(benchmark)
    if given.suffix in (".yaml", ".yml"):
        if not given.is_file():
            raise SkillmoeError(f"no benchmark file at {benchmark}: give the path of a YAML file that exists")
        return given.resolve()
    files = project_files("data/benchmarks", "*.yaml")
    known = {name: path for name, path in files.items() if not path.name.endswith(hub.SUFFIX)}
    if benchmark not in known:
        raise unknown("benchmark", benchmark, [*known, "the path of a YAML file"])
    return known[benchmark]


def _limited(frame: pd.DataFrame, limit: int) -> pd.DataFrame:
    """The first `limit` of each split in an order that alternates between subjects and their families.

    Within a family the order is that of a digest of the id, because files are often sorted by topic.
    """
    order = frame[["split", "subject"]].assign(
        family=families(frame).to_numpy(), tie=[digest(name) for name in frame["question_id"]]
    )
    order = order.sort_values(["split", "subject", "family", "tie"])
    groups = order.drop_duplicates(["split", "subject", "family"])
    turn = groups.groupby(["split", "subject"]).cumcount().rename("turn")
    order = order.join(turn)
    order["turn"] = order.groupby(["split", "subject", "family"])["turn"].transform("first")
    order["round"] = order.groupby(["split", "subject", "family"]).cumcount()
    order = order.sort_values(["split", "round", "turn", "subject"])
    kept = order.groupby("split").head(limit).index
    return frame.loc[frame.index.isin(kept)]

"""Where questions come from: reasoning-gym (made offline, with its own grader), local files, the hub.

Each source reads the keys of a benchmark's YAML and returns rows of the Questions table:

- `reasoning_gym`: `validation` and `test` (each `seed`, `size` = questions a family) and `families`
  (each `family`, `config`, `kind`, `grade`: exact or checker, `ask`: a sentence added to the text).
- `file`: `columns` (`text`, `gold`, `choices`, `subject`, `question_id` -> your own column names),
  `kind`, `gold_is`, `inlined_choices`, `shuffle_choices` (a seed), `missing_gold`, `seed`, `expect`, and
  `validation` and `test`: a path, or `path` with `where`, `per_subject`, `minus: test`, `columns`.
- `hub`: the same with `path`, `revision`, `gated`, and `name` and `split` in `validation` and `test`;
  through `datasets`, never running a data set's own code, at the commit that the YAML or its lock
  (see `pins`) names.

The test split is drawn first: a larger validation split never changes it. Draws depend on the seed
and the question's own id alone.
"""

import functools
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from skillmoe_lib import hub
from skillmoe_lib.errors import SkillmoeError, require, unknown
from skillmoe_lib.questions.rows import Row, Rows, check_keys, check_value, normalised, part_of, split_rows

#: Questions a reasoning-gym family may be asked for; past it the family is taken to have run dry.
LAST_INDEX = 10_000
FAMILY_KEYS = ["family", "config", "kind", "grade", "ask"]
PART_KEYS = ["path", "columns", "where", "per_subject", "minus"]
FILE_KEYS = [
    "description", "columns", "kind", "gold_is", "inlined_choices", "shuffle_choices", "missing_gold",
    "seed", "expect", "validation", "test",
]  # fmt: skip


def from_reasoning_gym(settings: Mapping[str, Any], path: Path) -> Rows:
    """Questions of named reasoning-gym families; subject = the package's own area of the family.

    No text stands twice, neither within a split nor in both: where the generator repeats itself the
    next index is taken, so the sizes asked for are met and the outcome is the same everywhere.
    """
    check_keys(settings, ["description", "validation", "test", "families"], path.name)
    for split in ("validation", "test"):
        where = f"{split} of {path.name}"
        check_keys(settings.get(split, {}), ["seed", "size"], where, needed=["seed", "size"])
        if not all(
            isinstance(settings[split][key], int) and settings[split][key] >= 0 for key in ("seed", "size")
        ):
            raise SkillmoeError(f"{where}: seed and size must be whole numbers, got {dict(settings[split])}")
    seeds = {split: settings[split]["seed"] for split in ("validation", "test")}
    if seeds["validation"] == seeds["test"]:
        raise SkillmoeError(
            f"{path.name}: validation and test must have different seeds, both are {seeds['test']}"
        )
    families = settings.get("families") or []
    for entry in families:
        check_keys(entry, FAMILY_KEYS, f"families of {path.name}", needed=["family", "kind"])
        check_value("kind", entry["kind"], ["text", "math"])
        check_value("grade", entry.get("grade", "exact"), ["exact", "checker"])
    known = _installed_families()
    for name, count in Counter(entry["family"] for entry in families).items():
        if name not in known:
            raise unknown("family (a name that the installed reasoning-gym lacks)", name, known)
        if count > 1:
            raise SkillmoeError(f"{path.name}: family {name!r} is listed {count} times; list it once")
    rows = []
    for entry in families:
        seen: set[str] = set()
        for split in ("test", "validation"):
            rows += _family_rows(entry, split, seeds[split], settings[split]["size"], seen, path.stem)
    return Rows(rows, [])


def checker_correct(checker: str, answer: str) -> bool:
    """Whether the answer is right by the question's own grader.

    An exact match first; then, only where the family's `grade` is "checker", full marks (>= 1.0) by
    reasoning-gym's `score_answer` on the entry made again from the `checker` JSON.
    """
    made_from = json.loads(checker)
    if "family" not in made_from:
        raise SkillmoeError(f"this question has no checker of its own: got {checker!r}")
    entry = _entry(checker)
    if answer.strip() == entry["answer"]:
        return True
    if made_from["grade"] != "checker":
        return False
    dataset = _dataset(made_from["family"], json.dumps(made_from["config"]), made_from["seed"])
    try:
        return bool(dataset.score_answer(answer.strip(), entry) >= 1.0)
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, SyntaxError):
        return False  # the family's grader could not read the text as an answer of its form


def from_files(settings: Mapping[str, Any], path: Path) -> Rows:
    """Questions from CSV, JSONL, JSON (a list of objects) or parquet files beside the YAML."""
    check_keys(settings, FILE_KEYS, path.name, needed=["columns", "validation", "test"])
    parts = {split: part_of(settings, split, PART_KEYS, path) for split in ("validation", "test")}
    files = {split: path.parent / part["path"] for split, part in parts.items()}
    for split, file in files.items():
        if not file.is_file():
            raise SkillmoeError(
                f"{path.name}: no {split} file at {parts[split]['path']} (seen from the YAML's folder)"
            )
    frames = {split: _read_file(file) for split, file in files.items()}
    return split_rows(settings, parts, frames, path.stem)


def from_hub(settings: Mapping[str, Any], path: Path) -> Rows:
    """Questions through `datasets`, at a pinned commit; or from a local folder of the same layout."""
    keys = [*FILE_KEYS, "path", "revision", "gated"]
    check_keys(settings, keys, path.name, needed=["columns", "validation", "test"])
    part_keys = [*PART_KEYS, "name", "split", "revision"]
    parts = {split: part_of(settings, split, part_keys, path) for split in ("validation", "test")}
    locked = hub.read_pins(hub.lock_path(path))
    for part in parts.values():
        local, pinned = path.parent / part["path"], locked.get(part["path"])
        if local.is_dir():
            part["path"] = str(local)
        elif not re.fullmatch(r"[0-9a-f]{7,40}", str(part.get("revision"))):  # a branch or tag moves
            if pinned is None:
                raise SkillmoeError(
                    f"data set {part['path']} is not pinned yet: run `python -m skillmoe_lib pin "
                    f"{path.stem}` on a machine that reaches the hub, or name a local copy as `path`"
                )
            part["revision"] = pinned.revision
    gated = bool(settings.get("gated"))
    frames = {split: _read_hub(part, gated) for split, part in parts.items()}
    return split_rows(settings, parts, frames, path.stem)


def _installed_families() -> dict[str, Any]:
    require("making questions", "reasoning_gym", extra="data")
    from reasoning_gym.factory import DATASETS

    return dict(DATASETS)


@functools.lru_cache(maxsize=256)
def _dataset(family: str, config: str, seed: int) -> Any:
    import reasoning_gym

    try:
        return reasoning_gym.create_dataset(family, seed=seed, size=LAST_INDEX, **json.loads(config))
    except (TypeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "refused"
        raise SkillmoeError(f"family {family!r} does not take the config {config}: {reason}") from error


@functools.lru_cache(maxsize=4096)
def _entry(checker: str) -> dict[str, Any]:
    made_from = json.loads(checker)
    dataset = _dataset(made_from["family"], json.dumps(made_from["config"]), made_from["seed"])
    return dict(dataset[made_from["index"]])


def _family_rows(entry: Row, split: str, seed: int, size: int, seen: set[str], benchmark: str) -> list[Row]:
    family, config = entry["family"], entry.get("config") or {}
    dataset = _dataset(family, json.dumps(config), seed)
    rows: list[Row] = []
    for index in range(LAST_INDEX):
        if len(rows) == size:
            return rows
        made = dataset[index]
        if normalised(made["question"]) in seen:
            continue
        if not made["answer"]:
            raise SkillmoeError(f"family {family!r} has questions without an answer of its own; leave it out")
        seen.add(normalised(made["question"]))
        grade = entry.get("grade", "exact")
        checker = {"family": family, "config": config, "seed": seed, "index": index, "grade": grade}
        rows.append({
            "question_id": f"{benchmark}/{split}/{family}/{index:04d}",
            "benchmark": benchmark,
            "split": split,
            "text": f"{made['question']}\n{entry['ask']}" if entry.get("ask") else made["question"],
            "choices": "[]",
            "gold": made["answer"],
            "subject": dataset.category,
            "kind": entry["kind"],
            "checker": json.dumps(checker),
        })  # fmt: skip
    raise SkillmoeError(
        f"family {family!r} has only {len(seen)} different questions with the config {config}: "
        f"{size} more were asked for {split}; widen its config or ask for fewer"
    )


def _read_file(file: Path) -> pd.DataFrame:
    try:
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        if file.suffix == ".csv":
            # Every cell as it stands: "NA" is an answer, "007" is not 7. Only an empty cell is missing.
            return pd.read_csv(file, dtype=str, keep_default_na=False, na_values=[""])
        if file.suffix not in (".jsonl", ".json"):
            raise unknown("kind of file", file.name, [".csv", ".json", ".jsonl", ".parquet"])
        text = file.read_text(encoding="utf-8")
        lines = [line for line in text.split("\n") if line.strip()]
        records = json.loads(text) if file.suffix == ".json" else [json.loads(line) for line in lines]
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise ValueError("it must hold a list of objects")
        return pd.DataFrame(records, dtype=object)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SkillmoeError(f"cannot read {file.name}: {reason}") from error


def _read_hub(part: Mapping[str, Any], gated: bool) -> pd.DataFrame:
    require("reading a benchmark of the hub", "datasets", extra="data")
    import datasets

    path, revision = part["path"], part.get("revision")
    try:
        data = datasets.load_dataset(
            path, part.get("name"), split=part.get("split", "test"), revision=revision
        )
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, ConnectionError):
            remedy = "connect to the hub (and unset HF_HUB_OFFLINE), or name a local copy as `path`"
        elif gated or "gated" in reason:
            remedy = (
                "it is gated: ask for access on its page at the hub, then set HF_TOKEN in the environment"
            )
        elif "Revision" in reason:
            remedy = f"revision {revision!r} is gone: pin another with `python -m skillmoe_lib pin`"
        else:
            remedy = "check `path`, `name`, `split` and `revision`"
        raise SkillmoeError(f"data set {path} cannot be read: {remedy} ({reason})") from error
    return pd.DataFrame(data.to_pandas())

"""Where questions come from: reasoning-gym (made offline, with its own grader), local files, the hub.

The keys of each source's YAML are in `keys`; each returns rows of the Questions table. A data set of the
hub is read through `datasets`, without running its own code, at the commit that the YAML or its lock (see
`skillmoe_lib.hub`) names.

The test split is drawn first, so a larger validation split never changes it. Draws depend only on the seed
and the question's own id.
"""

import functools
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skillmoe_lib import hub
from skillmoe_lib.errors import SkillmoeError, require, unknown
from skillmoe_lib.questions import keys
from skillmoe_lib.questions.files import SUFFIXES, Record, read_file
from skillmoe_lib.questions.rows import Row, Rows, normalised, part_of, split_rows
from skillmoe_lib.settings import as_json, checked, find_beside

#: Questions a reasoning-gym family may be asked for; after so many the family is assumed to have no new ones.
LAST_INDEX = 10_000


def from_reasoning_gym(settings: Mapping[str, Any], path: Path) -> Rows:
    """Questions of named reasoning-gym families; subject = the package's own area of the family.

    No text occurs twice, neither within a split nor in both: if the generator repeats itself the next
    index is taken, so every split has the size asked for and is the same on every machine.
    """
    form = checked(keys.ReasoningGym, settings, path.name)
    if form.validation.seed == form.test.seed:
        raise SkillmoeError(
            f"{path.name}: validation and test must have different seeds, both are {form.test.seed}"
        )
    known = _installed_families()
    for name, count in Counter(entry.family for entry in form.families).items():
        if name not in known:
            raise unknown("family (a name that the installed reasoning-gym lacks)", name, known)
        if count > 1:
            raise SkillmoeError(f"{path.name}: family {name!r} is listed {count} times; list it once")
    rows = []
    for entry in form.families:
        as_json(entry.config, f"{path.name}: the config of {entry.family!r}")
        seen: set[str] = set()
        for split, drawn in (("test", form.test), ("validation", form.validation)):
            rows += _family_rows(entry, split, drawn, seen, path.stem)
    return Rows(rows, [])


def checker_correct(checker: str, answer: str) -> bool:
    """Whether the answer is right by the question's own grader.

    An exact match first; then, only if the family's `grade` is "checker", full marks (>= 1.0) by
    reasoning-gym's `score_answer` on the entry rebuilt from the `checker` JSON.
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
    """Questions from CSV, JSONL, JSON or parquet files."""
    form = checked(keys.Files, settings, path.name)
    parts = {split: part_of(form, split, path) for split in ("validation", "test")}
    files = {split: find_beside(path, str(part.path)) for split, part in parts.items()}
    tables = {}
    for split, file in files.items():
        if file is None or not file.is_file():
            raise SkillmoeError(
                f"{path.name}: no {split} file at {parts[split].path} "
                "(seen from the YAML's folder, and from the project's root)"
            )
        tables[split] = read_file(file)
    return split_rows(form, parts, tables, path.stem)


def from_hub(settings: Mapping[str, Any], path: Path) -> Rows:
    """Questions through `datasets`, at a pinned commit; or from a local folder of the same layout."""
    form = checked(keys.Hub, settings, path.name)
    parts = {split: part_of(form, split, path) for split in ("validation", "test")}
    locked = hub.read_pins(hub.lock_path(path))
    tables = {}
    for split, part in parts.items():
        local = find_beside(path, str(part.path))
        commit = hub.commit_of(str(part.path), part.revision, locked)
        if local is None and not commit:
            raise SkillmoeError(
                f"data set {part.path} is not pinned yet: run `python -m skillmoe_lib pin "
                f"{path.stem}` on a machine that reaches the hub, or name a local copy as `path`"
            )
        tables[split] = _read_hub(part, local, commit, form.gated)
    return split_rows(form, parts, tables, path.stem)


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


def _family_rows(
    entry: keys.Family, split: str, drawn: keys.Drawn, seen: set[str], benchmark: str
) -> list[Row]:
    family, config, size = entry.family, entry.config or {}, drawn.size
    dataset = _dataset(family, json.dumps(config), drawn.seed)
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
        checker = {
            "family": family, "config": config, "seed": drawn.seed, "index": index, "grade": entry.grade,
        }  # fmt: skip
        rows.append({
            "question_id": f"{benchmark}/{split}/{family}/{index:04d}",
            "benchmark": benchmark,
            "split": split,
            "text": f"{made['question']}\n{entry.ask}" if entry.ask else made["question"],
            "choices": "[]",
            "gold": made["answer"],
            "subject": dataset.category,
            "kind": entry.kind,
            "checker": json.dumps(checker),
        })  # fmt: skip
    raise SkillmoeError(
        f"family {family!r} has only {len(seen)} different questions with the config {config}: "
        f"{size} more were asked for {split}; widen its config or ask for fewer"
    )


def _read_hub(part: keys.Part, local: Path | None, commit: str, gated: bool) -> list[Record]:
    require("reading a benchmark of the hub", "datasets", extra="data")
    import datasets

    where: dict[str, Any] = {"path": str(local or part.path), "name": part.name}
    if local is None:
        # A cache for each commit: without the hub `datasets` takes whatever commit its cache has.
        cache = Path(datasets.config.HF_DATASETS_CACHE) / commit
        where.update(revision=commit, token=hub.token(), cache_dir=str(cache))
    try:
        config = datasets.load_dataset_builder(**where).config
        if local and (files := _plain_files(config.data_files, part.split)):
            return [row for file in files for row in read_file(file)]
        # `datasets` reads None, NA and null in a CSV as missing.
        options = {"keep_default_na": False, "na_values": [""]} if hasattr(config, "keep_default_na") else {}
        data = datasets.load_dataset(**where, split=part.split, **options)
    except SkillmoeError:
        raise
    except Exception as error:  # the clients' transport errors share no base across their versions
        raise SkillmoeError(
            f"data set {where['path']} cannot be read: {_why_not(error, commit, gated)}"
        ) from error
    return list(data.to_list())


def _why_not(error: Exception, commit: str, gated: bool) -> str:
    """Why a data set cannot be read and what to do; `datasets` drops errors of the hub, but tells of them."""
    said = " ".join(str(error).split())[:200]
    if "is a gated dataset" in said or (gated and "cannot be accessed" in said):
        return f"gated: {hub.ACCEPT}"
    if "cannot be accessed" in said:
        return f"missing, private or gated: check the name; if it is gated, {hub.ACCEPT}"
    if said.startswith("Revision"):
        return f"its revision {commit!r} is gone: pin another with `python -m skillmoe_lib pin`"
    if isinstance(error, ConnectionError):
        return "the hub cannot be reached: connect to it (and unset HF_HUB_OFFLINE), or name a copy as `path`"
    if hub.cause(error):
        return str(hub.why(error, commit))
    return f"check `path`, `name`, `split` and `revision` ({said})"


def _plain_files(data_files: Mapping[str, list[str]] | None, split: str) -> list[Path]:
    """The files of a split of a local data set, if `files` can read them all exactly."""
    files = [Path(file) for file in (data_files or {}).get(split, [])]
    return files if all(file.suffix in SUFFIXES for file in files) else []


#: What a benchmark's `source` may be, and what reads it.
SOURCES = {"reasoning_gym": from_reasoning_gym, "file": from_files, "hub": from_hub}

"""From files that people have to a recording: which format they are in, and one recording of them all."""

import csv
import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

from skillmoe_lib import __version__
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.recorded import (
    embedllm,
    helm,
    inspect_log,
    llmrouterbench,
    lm_eval,
    mmlu_pro,
    opening,
    plain,
    routellm,
    routerarena,
    routerbench,
)
from skillmoe_lib.recorded.recording import AS_IT_IS, Options, Recorded, folder_of, join, write


class Reader(NamedTuple):
    """What reads a format, and which of the `Options` mean something to it."""

    read: Callable[[Path, Options], Recorded]
    uses: tuple[str, ...]


#: What `--format` may be.
FORMATS = {
    "embedllm": Reader(embedllm.read, embedllm.USES),
    "helm": Reader(helm.read, helm.USES),
    "inspect": Reader(inspect_log.read, inspect_log.USES),
    "llmrouterbench": Reader(llmrouterbench.read, llmrouterbench.USES),
    "lm_eval": Reader(lm_eval.read, lm_eval.USES),
    "mmlu_pro": Reader(mmlu_pro.read, mmlu_pro.USES),
    "plain": Reader(plain.read, plain.USES),
    "routellm": Reader(routellm.read, routellm.USES),
    "routerarena": Reader(routerarena.read, routerarena.USES),
    "routerbench": Reader(routerbench.read, routerbench.USES),
}
#: Bytes of a file that are looked at to find its first object.
_HEAD = 2**20


def recognised(path: Path, options: Options = AS_IT_IS) -> str:
    """The format of a file, from what is in it.

    Raises
    ------
    SkillmoeError
        If it fits none, or several; the message lists the formats.
    """
    if not path.exists():
        raise SkillmoeError(f"no file {path}")
    found = _fitting(path, options)
    if len(found) == 1:
        return found[0]
    names = ", ".join(FORMATS)
    if found:
        raise SkillmoeError(f"{path.name} may be {' or '.join(found)}: say which with --format")
    if path.is_dir():
        raise SkillmoeError(f"{path} is a folder without {helm._STATE}: name the files in it")
    raise SkillmoeError(
        f"the format of {path.name} is not known: name one with --format, of {names}; for a table of your "
        "own also its columns (--column question_id=... expert=...)"
    )


def read_all(paths: Sequence[Path], format_name: str = "", options: Options = AS_IT_IS) -> Recorded:
    """One recording of all files; their formats may differ if none is named.

    Raises
    ------
    SkillmoeError
        If a file cannot be read, the format is unknown, or an option means nothing to a format.
    """
    if format_name and format_name not in FORMATS:
        raise unknown("format", format_name, FORMATS)
    parts = []
    for path in paths:
        if path.name == helm._STATS and path.with_name(helm._STATE) in paths:
            continue  # read with the other file of its run
        name = format_name or recognised(path, options)
        reader = FORMATS[name]
        for option in (field.name for field in fields(Options)):
            if getattr(options, option) and option not in reader.uses:
                uses = ", ".join(reader.uses)
                raise SkillmoeError(
                    f"{path.name} is read as {name}, which takes no {option}; it takes {uses}"
                )
        parts.append(reader.read(path, options))
    return join(parts, repeats=options.repeats)


def import_files(
    paths: Sequence[Path],
    name: str,
    *,
    format_name: str = "",
    options: Options = AS_IT_IS,
) -> tuple[Recorded, Path]:
    """Read files and write `data/recorded/NAME`; the recording and its folder."""
    folder = folder_of(name)  # a name that is refused is refused before anything is read
    recorded = read_all(paths, format_name, options)
    files = [path for path in [*paths, *filter(None, [options.questions])] if path.is_file()]
    provenance = {
        "step": "import",
        "version": __version__,
        "format": format_name or "recognised",
        "options": {key: value for key, value in asdict(options).items() if value},
        "sources": [{"file": path.name, "sha256": _digest(path)} for path in files],
    }
    write(recorded, name, provenance)
    return recorded, folder


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fitting(path: Path, options: Options) -> list[str]:
    """The formats that a file's content fits."""
    if path.is_dir():
        return ["helm"] if (path / helm._STATE).is_file() else []
    with path.open("rb") as stream:
        head = stream.read(8)
    if head.startswith(b"\x80") and head[1:2] in b"\x02\x03\x04\x05":
        return ["routerbench"]
    if zipfile.is_zipfile(path) or path.suffix in (".zip", ".eval"):
        names = opening.names_in(path)
        if any(name in ("header.json", "_journal/start.json") for name in names):
            return ["inspect"]
        return ["mmlu_pro"] if any(mmlu_pro._holds_rows(name) for name in names) else []
    if head.startswith(b"PAR1"):
        import pyarrow.parquet

        try:
            return _fitting_table(list(pyarrow.parquet.read_schema(path).names), [], options)
        except (pyarrow.ArrowException, OSError) as error:
            raise opening.unreadable(path, error) from error
    if path.suffix == ".csv":
        return _fitting_csv(path, options)
    return _fitting_json(path, options)


def _fitting_table(columns: list[str], first: list[str], options: Options) -> list[str]:
    names = set(columns)
    found = []
    if names >= embedllm.COLUMNS:
        found.append("embedllm")
    if names >= {"sample_id", "eval_name"} and any(name.endswith(routerbench.PRICE) for name in names):
        found.append("routerbench")
    cells = dict(zip(columns, first, strict=False))
    models = [name for name in routellm.models(columns) if name in cells]
    if "prompt" in names and models and all(cells[name].lower() in ("true", "false") for name in models):
        found.append("routellm")
    return [*found, *_fitting_plain(names, options)]


def _fitting_plain(names: set[str], options: Options) -> list[str]:
    mapped = {field: options.columns.get(field, field) for field in plain.FIELDS}
    whose = bool(options.expert) or mapped["expert"] in names
    what = any(mapped[field] in names for field in ("answer", "text", "correct"))
    return ["plain"] if mapped["question_id"] in names and whose and what else []


def _fitting_csv(path: Path, options: Options) -> list[str]:
    csv.field_size_limit(2**31 - 1)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = csv.reader(stream)
            columns, first = [name.strip() for name in next(lines, [])], next(lines, [])
    except (UnicodeDecodeError, csv.Error) as error:
        reason = "it is not UTF-8 text; save it as UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise opening.unreadable(path, reason) from error
    return _fitting_table(columns, first, options)


def _fitting_json(path: Path, options: Options) -> list[str]:
    """By the keys of the whole, if it is one object, or of the first of many."""
    first = _first_object(path)
    names = set(first)
    found = []
    if names >= {"adapter_spec", "request_states"}:
        found.append("helm")
    if names >= {"records", "model_name", "dataset_name"}:
        found.append("llmrouterbench")
    if names >= {"doc_id", "filtered_resps"}:
        found.append("lm_eval")
    if names >= {"global_index", "generated_answer"} or names >= {"global index", "prediction"}:
        found.append("routerarena")
    if names >= {"question_id", "options", "answer", "pred"}:
        found.append("mmlu_pro")
    return [*found, *_fitting_plain(names, options)]


def _first_object(path: Path) -> dict[str, Any]:
    """The first object of a JSON or JSONL file; {} if there is none."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    start = head.find(b"{")
    if start < 0 or head[:start].strip(b" \r\n\t[\xef\xbb\xbf"):
        return {}
    try:
        found, _ = json.JSONDecoder().raw_decode(head[start:].decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        if path.suffix == ".jsonl":  # its first line is torn, or longer than the head
            found = next(opening.json_lines(path), (0, {}))[1]
        else:
            found = opening.read_json(path)
            found = found[0] if isinstance(found, list) and found else found
    return found if isinstance(found, dict) else {}

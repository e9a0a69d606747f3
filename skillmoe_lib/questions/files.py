"""Files of questions as people share them -> one mapping for each row, every cell as written in the file.

Numbers are not converted to binary fractions and back, "NA" and "None" are answers and "007" is not 7.
Whatever could be read in two ways is an error of one line: a row with more or fewer cells than the header, a
quote in the middle of a cell, a separator other than a comma.
"""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from skillmoe_lib.errors import SkillmoeError, unknown

Record = dict[str, Any]
SUFFIXES = (".csv", ".json", ".jsonl", ".parquet")


def read_file(file: Path) -> list[Record]:
    """The rows of a CSV, JSON, JSONL or parquet file, each a mapping of column -> cell.

    JSON is a list of objects, or one object per line. Decimals of JSON are kept as text, without trailing
    zeros.

    Raises
    ------
    SkillmoeError
        If the file cannot be read, is of another kind, or has no rows.
    """
    if file.suffix not in SUFFIXES:
        raise unknown("kind of file", file.name, SUFFIXES)
    try:
        with file.open("rb") as stream:
            if stream.read(48).startswith(b"version https://git-lfs"):
                raise ValueError("it is a Git LFS pointer, not the data itself: run `git lfs pull`")
        if file.suffix == ".parquet":
            rows = _from_parquet(file)
        else:
            text = file.read_bytes().decode("utf-8-sig")
            rows = _from_csv(text) if file.suffix == ".csv" else _from_json(text, file.suffix)
        if not rows:
            raise ValueError("it has no rows")
    except UnicodeDecodeError as error:
        raise SkillmoeError(f"cannot read {file.name}: it is not UTF-8 text; save it as UTF-8") from error
    except (ValueError, OSError, RecursionError) as error:  # pyarrow's and csv's errors among them
        reason = " ".join(str(error).split())[:200]
        raise SkillmoeError(f"cannot read {file.name}: {reason}") from error
    return rows


def _from_parquet(file: Path) -> list[Record]:
    import pyarrow
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.ParquetFile(file).read().to_pylist())
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error


def _from_json(text: str, suffix: str) -> list[Record]:
    options: dict[str, Any] = {"parse_float": _as_written, "parse_constant": _constant}
    if suffix == ".json":
        try:
            rows = json.loads(text, **options)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                kept = ", ".join(map(repr, rows)) if isinstance(rows, dict) else ""
                where = f"; its own are under {kept[:80]}" if kept else ""
                raise ValueError(f"it must hold a list of objects{where}")
            return rows
        except json.JSONDecodeError as error:
            if not error.msg.startswith("Extra data"):  # one object per line, with the wrong file ending
                raise
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: a text may contain U+2028
        if line.strip():
            try:
                rows.append(json.loads(line, **options))
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is not JSON: {error.msg} at column {error.colno}") from error
            if not isinstance(rows[-1], dict):
                raise ValueError(f"line {number} must be an object, got {line.strip()[:40]}")
    return rows


def _as_written(number: str) -> str:
    """A decimal of JSON as text: 2.50 is "2.5", 3.0 is "3", 0.00001 and 6.022e23 stay."""
    return re.sub(r"\.?0+$", "", number) if "." in number and "e" not in number.lower() else number


def _constant(name: str) -> str | None:
    return None if name == "NaN" else name


def _from_csv(text: str) -> list[Record]:
    csv.field_size_limit(2**31 - 1)
    # strict: an unclosed quote, or text after a closing one, is an error.
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    rows = []
    try:
        for cells in lines:
            if not cells or (len(cells) == 1 and not cells[0].strip()):
                continue  # a blank line
            if not header:
                header = [name.strip() for name in cells]
                _check_header(header)
                continue
            spare = cells[len(header) :]
            if len(cells) < len(header) or any(cell.strip() for cell in spare):
                raise ValueError(
                    f"the row on line {lines.line_num} has {len(cells)} cells, the header {len(header)}"
                )
            for cell in cells:
                if re.match(r'\s+"', cell):
                    raise ValueError(
                        f"on line {lines.line_num} there is a blank before a quote: {cell.strip()[:40]}"
                    )
            rows.append(dict(zip(header, cells, strict=False)))
    except csv.Error as error:
        raise ValueError(f"line {lines.line_num}: {error}") from error
    return rows


def _check_header(header: list[str]) -> None:
    for i, name in enumerate(header):
        if name and name in header[:i]:
            raise ValueError(f"two columns of its header are named {name!r}; rename one")
    if header[0].lower().startswith("sep="):
        raise ValueError("it opens with a `sep=` line: take it out, and separate by commas")
    if len(header) == 1:
        for separator, name in {";": "semicolons", "\t": "tabs", "|": "bars"}.items():
            if separator in header[0]:
                raise ValueError(f"its header is separated by {name}: save it with commas")

"""A folder under `reports/`, as notebooks read and write it, and which of its files are out of date.

Every file that a notebook writes gets an entry in the report's `provenance.json`: its digest, the notebook,
that notebook's parameters, the version of this library, and the digest of every table that the notebook had
read before. A table that is rewritten later with other content has another digest, so files made from the
earlier one are found by comparing digests, not times. It also says on which machine and from which commit
each notebook ran.

Tables without a schema are written as CSV (fractions and identifiers), and beside it as HTML and LaTeX
(percent and labels; booktabs).
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from skillmoe_lib import paths, progress, tables
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import figures, formats
from skillmoe_lib.evaluation.machine import made_on
from skillmoe_lib.files import replace_file
from skillmoe_lib.inference import ledger
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods import lineup
from skillmoe_lib.methods.lineup import Choice

Drawn = TypeVar("Drawn", bound=Figure)
NOTE = "provenance.json"
#: Longer tables are kept as CSV only: nobody typesets them.
LONGEST_TABLE = 200
#: Tables with a schema are stored as parquet, all others as CSV.
SCHEMAS: Mapping[str, Any] = {
    "questions": tables.QUESTIONS,
    "skills": tables.SKILLS,
    "skills_test": tables.SKILLS,
    "scores_validation": tables.SCORES,
    "scores_test": tables.SCORES,
    "profiles": tables.PROFILES,
    "routes": tables.ROUTES,
    "results": tables.RESULTS,
    **dict.fromkeys(("used", "used_keywords", "used_validation", "used_items"), tables.USED),
}


_SCHEMA_COLUMNS = {column for schema in SCHEMAS.values() for column in schema.columns}
#: Stored as JSON: what validation decided, before and after recruiting's own choices.
CHOICES = ("choice", "decided")
#: Which notebook of the chain writes what a later one reads.
WRITERS: Mapping[str, str] = {
    "questions": "01_questions",
    **dict.fromkeys(("skills", "used_keywords"), "02_skills"),
    **dict.fromkeys(("scores_validation", "used_validation"), "03_profiles"),
    **dict.fromkeys(("choice", "used_items"), "04_aggregator"),
    **dict.fromkeys(("skills_test", "routes", "decided"), "05_recruit"),
    **dict.fromkeys(("results", "scores_test", "loads", "preparation"), "06_methods"),
}


class ReportFolder:
    """`reports/NAME` for one notebook: reads its tables, writes others, and records what came from what.

    `parameters` are those of the notebook on which its tables depend.

    Raises
    ------
    SkillmoeError
        If the notebook is run by hand, in JupyterLab, and would overwrite a report of `skillmoe run`.
    """

    def __init__(self, name: str, /, *, notebook: str, **parameters: Any) -> None:
        made = paths.project_root() / "reports" / name / "notebooks"
        if progress.by_hand() and any(made.glob("*.ipynb")):
            again = "; start with 01_questions (what is stored is not generated again)"
            again *= notebook[:2].isdigit()
            raise SkillmoeError(
                f"reports/{name} was made by `skillmoe run`, and this notebook would overwrite a part of it: "
                f'name a report of your own in the first cell, such as report = "{name}-mine"{again}'
            )
        self.path = paths.report_folder(name)
        self._about = {"notebook": notebook, **parameters}
        self._inputs: dict[str, str] = {}
        note = read_note(self.path)
        note["left_out"].pop(notebook, None)
        note["made_on"][notebook] = made_on()
        _write_note(self.path, note)

    def read(self, name: str) -> pd.DataFrame:
        """A table of this report by its name; a `SkillmoeError` if no notebook has written it."""
        path = self._written(name)
        frame = tables.read(path, SCHEMAS[name]) if name in SCHEMAS else pd.read_csv(path)
        self._inputs[_file(name)] = digest(path)
        return frame

    def _written(self, name: str) -> Path:
        """The file of a table, or an error that says which notebook writes it."""
        path = self.path / _file(name)
        if not path.is_file():
            writer = WRITERS.get(name, "that writes it")
            raise SkillmoeError(
                f"reports/{self.path.name} has no {name!r} yet ({path}): run the notebook {writer} first, "
                f'with report = "{self.path.name}"'
            )
        return path

    def write(self, frame: pd.DataFrame, name: str) -> pd.DataFrame:
        """Write a table (parquet if it has a schema, else CSV, HTML and LaTeX) and return it for display.

        Rows of methods get their labels and the preset they were run with.
        """
        file = _file(name)
        frame = self.named(frame)
        if name in SCHEMAS:
            tables.write(frame, self.path / file, SCHEMAS[name], {**self._about, "inputs": self._inputs})
        else:
            self._write_readable(frame, file)
        self._noted(file)
        return frame

    def _write_readable(self, frame: pd.DataFrame, file: str) -> None:
        """Write the CSV and, for a table that fits a page, its copies in HTML and LaTeX."""
        texts = {file: frame.to_csv(index=False, lineterminator="\n")}
        base = file.removesuffix(".csv")
        if len(frame) <= LONGEST_TABLE and len(frame.columns):
            texts[f"{base}.html"] = formats.as_html(frame, Path(base).name.replace("_", " "))
            texts[f"{base}.tex"] = formats.as_latex(frame)
        else:
            self._remove(f"{base}.html", f"{base}.tex")
        for name, text in texts.items():
            replace_file(self.path / name, text.encode("utf-8"))

    def named(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with labels beside names of methods, and with the preset; unchanged without methods."""
        if "method" not in frame or set(frame.columns) <= _SCHEMA_COLUMNS:
            return frame
        frame = lineup.labelled(frame)
        if "preset" in self._about and "preset" not in frame:
            frame = frame.assign(preset=self._about["preset"])
        return frame

    def read_choice(self, name: str = "choice") -> Choice:
        """What validation decided, as `write_choice` wrote it under this name."""
        path = self._written(name)
        fields = json.loads(path.read_text(encoding="utf-8"))
        self._inputs[_file(name)] = digest(path)
        return Choice(**{**fields, "ranking": tuple(fields["ranking"])})

    def write_choice(self, choice: Choice, name: str = "choice") -> Choice:
        """Write what validation decided, as JSON."""
        text = json.dumps(asdict(choice), indent=1) + "\n"
        replace_file(self.path / _file(name), text.encode("utf-8"))
        self._noted(_file(name))
        return choice

    def write_data(self, data: Mapping[str, Any], name: str) -> None:
        """Write the data of a page of the report, as JSON under `tables/`."""
        file = f"tables/{name}.json"
        replace_file(self.path / file, json.dumps(data, allow_nan=False, separators=(",", ":")) + "\n")
        self._noted(file)

    def draw(self, chart: Drawn, data: pd.DataFrame, name: str) -> Drawn:
        """Save a figure with the data that it shows, and return it for display."""
        data = self.named(data)
        written = figures.save_figure(chart, data, self.path / "figures" / name)
        self._noted(*(path.relative_to(self.path).as_posix() for path in written))
        return chart

    def generated(self, used: pd.DataFrame, store: GenerationStore) -> None:
        """Name the engines and versions that answered these requests (a Used table) in the provenance of
        all that this notebook writes from now on."""
        self._about["engines"] = ledger.engines(used, store)

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        """Report what this notebook leaves out, and why, here and at the top of the report's page."""
        for name, reason in reasons.items():
            print(f"left out: {name} {reason}")
        note = read_note(self.path)
        note["left_out"].setdefault(self._about["notebook"], {}).update(reasons)
        _write_note(self.path, note)

    def remove(self, name: str) -> None:
        """Delete the table and the figure of that name, which an earlier run may have left."""
        base = _file(name).rpartition(".")[0]
        found = [*self.path.glob(f"{base}.*"), *self.path.glob(f"figures/{name}.*")]
        self._remove(_file(name), *(path.relative_to(self.path).as_posix() for path in found))

    def _remove(self, *files: str) -> None:
        note = read_note(self.path)
        for file in files:
            (self.path / file).unlink(missing_ok=True)
            note["files"].pop(file, None)
        _write_note(self.path, note)

    def _noted(self, *files: str) -> None:
        note = read_note(self.path)
        for file in files:
            entry = {"digest": digest(self.path / file), "inputs": dict(self._inputs)}
            note["files"][file] = {**entry, "version": _version(), **self._about}
        _write_note(self.path, note)


class OutOfDate(NamedTuple):
    """A file of a report that no longer matches its inputs, the notebook that wrote it, and the reason."""

    file: str
    notebook: str
    reason: str


def out_of_date(folder: Path) -> list[OutOfDate]:
    """Files of a report made from another version of an input than the present one.

    A file is also out of date if one of its inputs is, or if it was changed after its notebook wrote it.
    In the order in which they were first written, so an input comes before files made from it.
    """
    files = read_note(folder)["files"]
    inputs = {name for entry in files.values() for name in entry["inputs"]}
    now = {name: digest(folder / name) for name in {*files, *inputs} if (folder / name).is_file()}
    found: dict[str, OutOfDate] = {}
    n_before = -1
    while len(found) > n_before:  # until nothing more follows from what was found
        n_before = len(found)
        for name, entry in files.items():
            if name in now and name not in found and (reason := _reason(name, entry, now, found)):
                found[name] = OutOfDate(name, entry["notebook"], reason)
    return [found[name] for name in files if name in found]


def _reason(
    name: str, entry: Mapping[str, Any], now: Mapping[str, str], found: Mapping[str, OutOfDate]
) -> str:
    for other, then in entry["inputs"].items():
        if other not in now:
            return f"its input {other} is gone"
        if now[other] != then:
            return f"made from another version of {other}"
        if other in found:
            return f"its input {other} is out of date"
    return "changed after its notebook wrote it" if now[name] != entry["digest"] else ""


def read_note(folder: Path) -> dict[str, Any]:
    """What `provenance.json` says: "files" (name -> entry), "left_out" (notebook -> name -> reason) and
    "made_on" (notebook -> what `machine.made_on` said)."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        kept = {"files": dict(note["files"]), "left_out": dict(note["left_out"])}
        return {**kept, "made_on": dict(note.get("made_on", {}))}
    except FileNotFoundError:
        return {"files": {}, "left_out": {}, "made_on": {}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SkillmoeError(
            f"{folder / NOTE} cannot be read ({error}): delete it and run the notebooks again"
        ) from error


def _write_note(folder: Path, note: Mapping[str, Any]) -> None:
    text = json.dumps(note, indent=1, default=str) + "\n"
    replace_file(folder / NOTE, text.encode("utf-8"))


def store_of(folder: Path) -> Path:
    """The store of a report's generations, from the parameters of the notebook that used it."""
    entry = read_note(folder)["files"].get("tables/results.parquet", {})
    engine = str(entry.get("engine", "vllm"))
    kept = str(entry.get("store", "data/generations"))
    return paths.project_root() / kept / ("vllm" if engine == "replay" else engine)


def digest(path: Path) -> str:
    """Digest of a file's bytes (SHA-256, 32 hexadecimal digits)."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def _file(name: str) -> str:
    """Path of the table of that name, relative to the report's folder."""
    if name == "summary":
        return "summary.csv"
    suffix = "parquet" if name in SCHEMAS else "json" if name in CHOICES else "csv"
    return f"tables/{name}.{suffix}"


def _version() -> str:
    try:
        return importlib.metadata.version("skillmoe")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"

"""`index.html`: a report folder as one page to open, quote, print and keep.

It opens with one sentence to quote, then what to know before reading the numbers, the flow, results, costs,
experts, a few questions in full, failures, and what the report was made with. Every accuracy and difference
links to its rows (`rows`). Self-contained: figures are embedded, nothing is fetched, no script runs. Text
written by models stays text: Jinja escapes it here, and the HTML of executed notebooks passes through an
allow-list and a content security policy.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from skillmoe_lib import tables as schemas
from skillmoe_lib.cli import in_full, layout
from skillmoe_lib.cli.flow import flow_svg
from skillmoe_lib.cli.notebook_page import write_notebook
from skillmoe_lib.cli.page import Table, render, table_of
from skillmoe_lib.cli.rows import write_rows
from skillmoe_lib.cli.what_if_page import write_what_if
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import formats
from skillmoe_lib.evaluation.cautions import cautions
from skillmoe_lib.evaluation.headline import headlines
from skillmoe_lib.evaluation.report_folder import out_of_date, read_note, store_of
from skillmoe_lib.files import replace_file
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods import lineup

_LARGEST_SVG_BYTES = 1_500_000
_OURS = "symbolic_moe"
_GROUPS = ("methods", "baselines", "controls", "bounds")
_GROUP_NAMES = {
    "methods": "Symbolic-MoE and our own methods",
    "baselines": "Baselines",
    "controls": "Controls of routing",
    "bounds": "Bounds, which no method can reach by choosing on validation",
}


class Row(NamedTuple):
    """One method of the main table, as text, with the page of its rows."""

    label: str
    about: str
    ours: bool
    href: str
    accuracy: str
    interval: str
    strip: Mapping[str, str] | None
    difference: str
    verdict: str
    costs: Sequence[str]
    not_run: str


def write_index(report_dir: Path) -> Path:
    """Write `index.html`, the rows of each method and the HTML of each notebook from what a report folder
    has.

    A file that cannot be read is named on the page, and the rest is shown. Tables and figures made from
    another version of their input say so.
    """
    try:
        outdated = {item.file: item.reason for item in out_of_date(report_dir)}
    except SkillmoeError:  # reported among the cautions
        outdated = {}
    notebooks = [write_notebook(path) for path in sorted(report_dir.glob("notebooks/*.ipynb"))]
    pages = write_rows(report_dir)
    summary, differences = (_csv(report_dir / name) for name in ("summary.csv", "tables/differences.csv"))
    figures, tables = _figures(report_dir, outdated), _tables(report_dir, outdated)
    parts = [
        (name, figures.get(name, []), tables.get(name, []))
        for name in layout.SECTIONS
        if name in figures or name in tables
    ]
    values: dict[str, Any] = {
        "title": report_dir.name,
        "finished": max((n["finished"] for n in notebooks), default=""),
        "headlines": _headlines(differences, summary, pages),
        "main": _main_table(summary, differences, pages),
        "torn": _torn(report_dir / "summary.csv", summary),
        "outdated": outdated.get("summary.csv", ""),
        "parts": parts,
        "in_full": [(item, _row_link(pages, item)) for item in in_full.questions_in_full(report_dir)],
        "rule": in_full.RULE,
        "failures": _failures(report_dir, pages),
        "leaks": _leaks(report_dir),
        "engines": _engines(report_dir / "tables" / "batches.csv"),
        "made_on": _made_on(report_dir),
        "seeds": _seeds(report_dir, notebooks),
        "notebooks": notebooks,
        "cautions": cautions(report_dir),
        "what_if": write_what_if(report_dir),
        "summary_links": [
            f"summary.{kind}" for kind in ("csv", "html", "tex") if (report_dir / f"summary.{kind}").is_file()
        ],
        "flow": base64.b64encode(flow_svg().encode("utf-8")).decode(),
    }
    replace_file(report_dir / "index.html", render("index", **values))
    return report_dir / "index.html"


def _csv(path: Path) -> pd.DataFrame | None:
    """A CSV as it is; None if it is not there or cannot be read."""
    try:
        return pd.read_csv(path) if path.is_file() else None
    except (OSError, ValueError):  # pandas' parser errors are ValueErrors
        return None


def _torn(path: Path, summary: pd.DataFrame | None) -> bool:
    return path.is_file() and summary is None


def _headlines(
    differences: pd.DataFrame | None, summary: pd.DataFrame | None, pages: Mapping[str, str]
) -> list[dict[str, Any]]:
    if differences is None or summary is None:
        return []
    try:
        found = headlines(differences, summary)
    except (KeyError, TypeError, ValueError):  # tables of another version
        return []
    labels = lineup.labels()
    return [
        {
            "sentence": item.sentence,
            "context": item.context,
            "links": [(labels.get(name, name), pages[name]) for name in item.methods if name in pages],
        }
        for item in found
    ]


# -- the main table -------------------------------------------------------------------------------


def _main_table(
    summary: pd.DataFrame | None, differences: pd.DataFrame | None, pages: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One table per benchmark: its title, columns of costs, and groups of rows, most accurate first."""
    if summary is None or not {"method", "accuracy", "low", "high", "n_questions"} <= set(summary):
        return []
    if "benchmark" not in summary:
        summary = summary.assign(benchmark="")
    found = []
    for benchmark, part in summary.groupby("benchmark", sort=False):
        costs = _costs_per_question(part)
        compared = _compared(differences, benchmark)
        groups = {name: list[Row]() for name in _GROUPS}
        order = part.sort_values("accuracy", ascending=False, kind="stable", na_position="last")
        for row in order.to_dict("records"):
            group = lineup.groups().get(str(row["method"]), "methods")
            groups[group].append(_row({str(key): cell for key, cell in row.items()}, costs, compared, pages))
        n = part["n_questions"].astype(float)
        n_said = f"{n.max():,.0f}" if n.min() == n.max() else f"{n.min():,.0f} to {n.max():,.0f}"
        baseline = compared["baseline_name"] if compared else ""
        found.append(
            {
                "title": f"{benchmark}, {n_said} test questions",
                "baseline": baseline,
                "costs": list(costs),
                "groups": [(_GROUP_NAMES[name], rows) for name, rows in groups.items() if rows],
                "not_run": bool(part.get("n_not_run", pd.Series(0)).sum()),
            }
        )
    return found


def _costs_per_question(part: pd.DataFrame) -> dict[str, pd.Series]:
    """Heading -> cost of one question, by method; keyword calls included."""
    names = {"calls": "calls", "prompt_tokens": "prompt tokens", "output_tokens": "output tokens"}
    names["device_seconds"] = "device s"
    known = part.drop_duplicates("method").set_index("method")
    found = {}
    for name, heading in names.items():
        if name in known:
            keywords = known.get(f"keyword_{name}", pd.Series(0.0, known.index)).fillna(0.0)
            found[heading] = (known[name] + keywords) / known["n_questions"]
    return found


def _compared(differences: pd.DataFrame | None, benchmark: Any) -> dict[str, Any]:
    """Method -> its row of the paired table, and the baseline's label under `baseline_name`."""
    if differences is None or not {"method", "baseline", "difference", "verdict"} <= set(differences):
        return {}
    part = differences[differences["benchmark"] == benchmark] if "benchmark" in differences else differences
    if part.empty:
        return {}
    baseline = str(part["baseline"].iloc[0])
    rows: dict[str, Any] = {str(row["method"]): row for row in part.to_dict("records")}
    return {**rows, "baseline_name": lineup.labels().get(baseline, baseline)}


def _row(
    row: Mapping[str, Any],
    costs: Mapping[str, pd.Series],
    compared: Mapping[str, Any],
    pages: Mapping[str, str],
) -> Row:
    method = str(row["method"])
    accuracy, low, high = (float(row[name]) for name in ("accuracy", "low", "high"))
    known = low == low and high == high
    strip = {"low": f"{100 * low:.2f}", "width": f"{100 * (high - low):.2f}", "at": f"{100 * accuracy:.2f}"}
    told: Any = compared.get(method, {})
    difference, is_bound = told.get("difference"), method in lineup.BOUNDS
    span = ""
    if difference is not None and "low" in told:
        span = f" [{formats.points(told['low'])}, {formats.points(told['high'])}]"
    return Row(
        label=str(row.get("label", lineup.labels().get(method, method))),
        about=lineup.described().get(method, ""),
        ours=method == _OURS,
        href=pages.get(method, ""),
        accuracy=formats.percent(accuracy),
        interval=f"{formats.percent(low)} to {formats.percent(high)}" if known else formats.MISSING,
        strip=strip if known else None,
        difference="" if difference is None else formats.points(difference) + span,
        verdict=str(told.get("verdict", "")),
        costs=[formats.MISSING if is_bound else formats.number(cost[method]) for cost in costs.values()],
        not_run=formats.number(row.get("n_not_run", 0)),
    )


# -- figures and tables ---------------------------------------------------------------------------


def _figures(folder: Path, outdated: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Section -> its figures, in the told order."""
    stems = {path.stem for path in folder.glob("figures/*") if path.suffix in (".png", ".svg")}
    found: dict[str, list[dict[str, Any]]] = {}
    for stem in sorted(stems, key=lambda stem: layout.order(layout.FIGURES, stem)):
        figure = _figure(folder, stem)
        reasons = [outdated.get(f"figures/{stem}{kind}") for kind in (".svg", ".png", ".csv")]
        figure["outdated"] = next(filter(None, reasons), "")
        found.setdefault(layout.place(layout.FIGURES, stem).section, []).append(figure)
    return found


def _figure(folder: Path, stem: str) -> dict[str, Any]:
    base, place = folder / "figures" / stem, layout.place(layout.FIGURES, stem)
    files = {suffix: base.with_name(stem + suffix) for suffix in (".svg", ".png", ".csv", ".txt")}
    files = {suffix: path for suffix, path in files.items() if path.is_file()}
    sharp = ".svg" in files and (".png" not in files or files[".svg"].stat().st_size <= _LARGEST_SVG_BYTES)
    data = base64.b64encode(files[".svg" if sharp else ".png"].read_bytes()).decode()
    caption = files[".txt"].read_text(encoding="utf-8", errors="replace").strip() if ".txt" in files else ""
    return {
        "title": place.title,
        "data": f"data:image/{'svg+xml' if sharp else 'png'};base64,{data}",
        "caption": caption or place.about,
        "links": [f"figures/{path.name}" for suffix, path in files.items() if suffix != ".txt"],
    }


def _tables(folder: Path, outdated: Mapping[str, str]) -> dict[str, list[Table]]:
    """Section -> its tables, in the told order."""
    paths = [path for path in folder.glob("tables/*.csv") if path.stem not in layout.ELSEWHERE]
    found: dict[str, list[Table]] = {}
    for path in sorted(paths, key=lambda path: layout.order(layout.TABLES, path.stem)):
        place = layout.place(layout.TABLES, path.stem)
        late = outdated.get(f"tables/{path.name}", "")
        table = table_of(path, folder, title=place.title, about=place.about, outdated=late)
        found.setdefault(place.section, []).append(table)
    return found


# -- what went wrong, and what it was made with ---------------------------------------------------


def _failures(folder: Path, pages: Mapping[str, str]) -> dict[str, Any]:
    """Methods with answers that could not be read, were cut, did not fit or were not run; and the ledger."""
    accuracy = _csv(folder / "tables" / "accuracy.csv")
    kinds = {"n_unparsed": "no answer found", "n_cut": "cut at the limit", "n_overflow": "prompt too long"}
    kinds["n_not_run"] = "not run"
    rows = []
    if accuracy is not None and "method" in accuracy:
        known = [name for name in kinds if name in accuracy]
        some = accuracy[accuracy[known].sum(axis=1) > 0] if known else accuracy[:0]
        for row in some.to_dict("records"):
            label = str(row.get("label", row["method"]))
            rows.append(
                (label, pages.get(str(row["method"]), ""), [formats.number(row[name]) for name in known])
            )
        kinds = {name: kinds[name] for name in known}
    reasons: list[tuple[str, int]] = []
    try:
        if (folder / "tables" / "results.parquet").is_file() and (root := store_of(folder)).is_dir():
            failed = GenerationStore(root).failed()
            used = _used(folder)
            told = pd.Series([f.reason for name, f in failed.items() if name in used], dtype=object)
            reasons = [(formats.text(reason), int(n)) for reason, n in told.value_counts().items()]
    except (SkillmoeError, OSError, ValueError):
        reasons = []
    return {"columns": list(kinds.values()), "rows": rows, "reasons": reasons}


def _used(folder: Path) -> set[str]:
    path = folder / "tables" / "used.parquet"
    return set(schemas.read(path, schemas.USED)["request_id"]) if path.is_file() else set()


def _leaks(folder: Path) -> str:
    """One sentence on questions that are in both splits; "" if nobody looked."""
    overlaps = _csv(folder / "tables" / "overlaps.csv")
    if overlaps is None or "kind" not in overlaps:
        return ""
    kinds = overlaps["kind"].astype(str)
    n_leaks, n_pairs = int(kinds.str.startswith("leak").sum()), len(overlaps)
    leaks = (
        f"{n_leaks} pair(s) of one question in both splits" if n_leaks else "No question is in both splits"
    )
    return f"{leaks}; {n_pairs - n_leaks} pair(s) within a split are alike."


def _engines(path: Path) -> dict[str, Any] | None:
    """Loads, requests and seconds by engine and model, and the versions that ran."""
    columns = ["engine", "model", "devices", "n_requests", "load_s", "generate_s"]
    try:
        frame = pd.read_csv(path)
        if "this_run" in frame:  # the store may hold loads of other experiments
            frame = frame[frame["this_run"].astype(bool)]
        groups = frame.groupby(columns[:3], sort=False)
        totals = groups[columns[3:]].sum().assign(n_loads=groups.size()).reset_index()
        versions = {text for texts in frame["versions"].dropna() for text in texts.split(", ")}
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    columns.insert(3, "n_loads")
    readable = formats.for_readers(totals[columns])
    return {"columns": list(readable), "rows": readable.to_numpy().tolist(), "versions": sorted(versions)}


def _made_on(folder: Path) -> list[tuple[str, str, str]]:
    """What notebooks ran on: (thing, value, notebooks), one row for each value that occurs."""
    try:
        notes = read_note(folder)["made_on"]
    except SkillmoeError:
        return []
    found: dict[tuple[str, str], list[str]] = {}
    for notebook, about in sorted(notes.items()):
        for thing, value in dict(about).items():
            found.setdefault((str(thing), str(value)), []).append(str(notebook))
    order = {"machine": 0, "system": 1, "python": 2, "code": 3}
    rows = [(thing, value, names) for (thing, value), names in found.items()]
    rows.sort(key=lambda row: (order.get(row[0], 9), row[2][0]))
    everyone = len(notes)
    return [
        (thing, value, "" if len(names) == everyone else ", ".join(names)) for thing, value, names in rows
    ]


def _seeds(folder: Path, notebooks: Sequence[Mapping[str, Any]]) -> str:
    """The seeds that were run, and those of the steps before."""
    try:
        seeds = sorted(set(schemas.read(folder / "tables" / "results.parquet", schemas.RESULTS)["seed"]))
    except SkillmoeError:
        seeds = []
    steps = sorted({f"{n['name']} {n['parameters']['seed']}" for n in notebooks if "seed" in n["parameters"]})
    ran = f"methods {', '.join(map(str, seeds))}" if seeds else ""
    return "; ".join(filter(None, [ran, *steps]))


def _row_link(pages: Mapping[str, str], item: in_full.InFull) -> str:
    return f"{pages[_OURS]}#{item.question_id}" if _OURS in pages else ""

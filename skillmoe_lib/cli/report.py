"""`index.html`: a report folder as one page to open, print and keep.

Self-contained: figures are embedded, nothing is fetched, no script runs. Text written by models stays text:
Jinja escapes it here, and the HTML of executed notebooks passes through an allow-list (and a content
security policy) before it is written.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from skillmoe_lib.cli.flow import flow_svg
from skillmoe_lib.cli.parameters import read_parameters
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.cautions import cautions
from skillmoe_lib.evaluation.report_folder import out_of_date
from skillmoe_lib.files import replace_file

FIRST_ROWS = 10
_LONGEST_CELL = 120
_LARGEST_SVG_BYTES = 1_500_000

#: What is allowed in a notebook's HTML: no script, style, frame, form or event; links and embedded images.
_TAGS = frozenset(
    {
        "a",
        "abbr",
        "b",
        "blockquote",
        "br",
        "caption",
        "code",
        "col",
        "colgroup",
        "dd",
        "del",
        "details",
        "div",
    }
    | {"dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "li", "ol", "p", "pre", "s"}
    | {"small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead"}
    | {"tr", "ul"}
)


class Table(NamedTuple):
    """A frame as the page shows it: cells as text; `numeric` columns are aligned right."""

    title: str
    href: str
    columns: Sequence[str]
    numeric: frozenset[str]
    rows: Sequence[Sequence[Any]]
    shown: str
    outdated: str = ""


def write_index(report_dir: Path) -> Path:
    """Write `index.html` (and the HTML of each executed notebook) from what is in a report folder.

    Shows, if present: `summary.csv`; `figures/*.svg|png` with the caption in `figures/<stem>.txt`;
    the first rows of `tables/*.csv`; `tables/batches.csv` by engine; `notebooks/*.ipynb` with their
    parameters. Cautions come first, and every table and figure made from another version of its
    input says so. A file that cannot be read is named on the page, and the rest is shown.
    """
    try:
        outdated = {item.file: item.reason for item in out_of_date(report_dir)}
    except SkillmoeError:  # reported among the cautions
        outdated = {}
    notebooks = [_notebook(path) for path in sorted(report_dir.glob("notebooks/*.ipynb"))]
    summary = _summary(report_dir / "summary.csv")
    figures = [_figure(report_dir, stem) for stem in sorted({p.stem for p in _images(report_dir)})]
    for figure in figures:
        reasons = [outdated.get(f"figures/{figure['title_stem']}{kind}") for kind in (".svg", ".png", ".csv")]
        figure["outdated"] = next(filter(None, reasons), "")
    tables = [_table(p) for p in sorted(report_dir.glob("tables/*.csv")) if p.name != "batches.csv"]
    tables = [table._replace(outdated=outdated.get(table.href, "")) for table in tables]
    summary = summary and summary._replace(outdated=outdated.get("summary.csv", ""))
    engines = _engines(report_dir / "tables" / "batches.csv")
    shown = {
        "Summary": summary,
        "Figures": figures,
        "Tables": tables,
        "Engines": engines,
        "Notebooks": notebooks,
    }
    page = _render(
        "index",
        title=f"Report: {report_dir.name}",
        finished=max((n["finished"] for n in notebooks), default=""),
        sections=[name for name, content in shown.items() if content],
        cautions=cautions(report_dir),
        flow=base64.b64encode(flow_svg().encode("utf-8")).decode(),
        strips=summary is not None and "" in summary.columns,
        **{name.lower(): content for name, content in shown.items()},
    )
    replace_file(report_dir / "index.html", page)
    return report_dir / "index.html"


def _render(name: str, **values: Any) -> str:
    loader = FileSystemLoader(Path(__file__).with_name("templates"))
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(f"{name}.html.jinja").render(zip=zip, **values)


def _table(path: Path, n_rows: int = FIRST_ROWS) -> Table:
    href = path.name if path.name == "summary.csv" else f"tables/{path.name}"
    title = path.stem.replace("_", " ")
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        return Table(title, href, [], frozenset(), [], f"This file cannot be read ({error}):")
    numeric = frozenset(
        str(c) for c in frame.columns[[pd.api.types.is_numeric_dtype(t) for t in frame.dtypes]]
    )
    rows = [[_cell(value) for value in row] for row in frame.head(n_rows).itertuples(index=False)]
    shown = f"The first {n_rows} of {len(frame):,} rows:" if len(frame) > n_rows else f"{len(frame)} row(s):"
    return Table(title, href, [str(column) for column in frame.columns], numeric, rows, shown)


def _cell(value: Any) -> str:
    if pd.isna(value):
        return "–"
    if isinstance(value, bool | str) or not pd.api.types.is_number(value):
        text = str(value)
        return text if len(text) <= _LONGEST_CELL else text[:_LONGEST_CELL] + " …"
    number = float(str(value))
    if number.is_integer() or abs(number) >= 1000:
        return f"{number:,.0f}" if abs(number) >= 10_000 else f"{number:.0f}"
    return f"{number:.1f}" if abs(number) >= 100 else f"{number:.3g}"


def _summary(path: Path) -> Table | None:
    """The summary with its interval as text and as a strip, if it has one."""
    if not path.is_file():
        return None
    table = _table(path, n_rows=1000)
    if not {"accuracy", "low", "high"} <= set(table.columns):
        return table
    frame = pd.read_csv(path)
    columns, rows = [c for c in table.columns if c not in ("low", "high")], []
    at = columns.index("accuracy") + 1
    for (_, values), cells in zip(frame[["accuracy", "low", "high"]].iterrows(), table.rows, strict=False):
        row = [
            cell for column, cell in zip(table.columns, cells, strict=True) if column not in ("low", "high")
        ]
        accuracy, low, high = (100 * float(values[name]) for name in ("accuracy", "low", "high"))
        if accuracy == accuracy:
            row[at - 1] = f"{accuracy:.1f}"
        known = low == low and high == high
        strip = {"low": f"{low:.2f}", "width": f"{high - low:.2f}", "at": f"{accuracy:.2f}"}
        row[at:at] = [f"{low:.1f} to {high:.1f}", strip] if known else ["–", ""]
        rows.append(row)
    columns[at:at] = ["interval", ""]
    return table._replace(columns=columns, rows=rows, numeric=table.numeric | {"interval"})


def _images(report_dir: Path) -> list[Path]:
    return [path for path in report_dir.glob("figures/*") if path.suffix in (".png", ".svg")]


def _figure(report_dir: Path, stem: str) -> dict[str, Any]:
    base = report_dir / "figures" / stem
    files = {suffix: base.with_name(stem + suffix) for suffix in (".svg", ".png", ".csv", ".txt")}
    files = {suffix: path for suffix, path in files.items() if path.is_file()}
    sharp = ".svg" in files and (".png" not in files or files[".svg"].stat().st_size <= _LARGEST_SVG_BYTES)
    data = base64.b64encode(files[".svg" if sharp else ".png"].read_bytes()).decode()
    caption = files[".txt"].read_text(encoding="utf-8", errors="replace").strip() if ".txt" in files else ""
    return {
        "title": stem.replace("_", " "),
        "title_stem": stem,
        "data": f"data:image/{'svg+xml' if sharp else 'png'};base64,{data}",
        "caption": caption,
        "links": [f"figures/{path.name}" for suffix, path in files.items() if suffix != ".txt"],
    }


def _engines(path: Path) -> Table | None:
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
    rows = [[_cell(value) for value in row] for row in totals[columns].itertuples(index=False)]
    shown = f"Versions: {', '.join(sorted(versions))}."
    return Table("", "tables/batches.csv", columns, frozenset(columns[2:]), rows, shown)


def _notebook(path: Path) -> Mapping[str, Any]:
    """Title, parameters and state of an executed notebook; its HTML is written next to it."""
    import nbformat

    source = f"notebooks/{path.name}"
    entry = {"name": path.stem, "source": source, "href": source, "error": "", "seconds": "–", "finished": ""}
    try:
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        body = _notebook_html(notebook, path.stem)
    except (OSError, ValueError, AttributeError, KeyError, nbformat.ValidationError) as error:
        return {**entry, "parameters": [], "state": "cannot be read", "error": str(error).partition("\n")[0]}
    replace_file(path.with_suffix(".html"), body)
    about = notebook.metadata.get("papermill", {})
    errors = [c.source.replace("*", "") for c in notebook.cells if "stopped" in c.metadata.get("tags", ())]
    errors += [
        _error(o) for cell in notebook.cells for o in cell.get("outputs", ()) if o.output_type == "error"
    ]
    ended = about.get("end_time") or ""
    try:
        defaults = {name: parameter.default for name, parameter in read_parameters(path).items()}
    except SkillmoeError:
        defaults = {}
    values = {**defaults, **about.get("parameters", {})}
    return {
        **entry,
        "href": f"notebooks/{path.stem}.html",
        "state": "failed" if about.get("exception") else "done" if ended else "not finished",
        "error": " ".join(errors[:1]),
        "seconds": f"{about['duration']:.0f}" if about.get("duration") else "–",
        "finished": ended[:16].replace("T", " ") + " UTC" if ended else "",
        "parameters": [f"{name}={value}" for name, value in values.items()],
    }


def _error(output: Any) -> str:
    own = output.ename == SkillmoeError.__name__
    return f"{output.evalue if own else f'{output.ename}: {output.evalue}'}."


def _notebook_html(notebook: Any, title: str) -> str:
    """An executed notebook as a page without scripts: nbconvert's body through an allow-list."""
    import bleach
    from bs4 import BeautifulSoup
    from nbconvert.exporters import HTMLExporter
    from pygments.formatters import HtmlFormatter
    from traitlets.config import Config

    kinds = ["text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/plain"]
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="basic", config=Config({"NbConvertBase": {"display_data_priority": kinds}})
    )
    soup = BeautifulSoup(exporter.from_notebook_node(notebook)[0], "html.parser")
    for element in soup.find_all(["script", "style", "noscript", "template", "iframe", "object"]):
        element.decompose()  # with its content: `strip` would leave the text
    for image in soup.find_all("img", src=lambda source: not str(source).startswith("data:image/")):
        image.decompose()  # nothing is fetched
    body = bleach.clean(
        str(soup), tags=_TAGS, attributes=_allowed, protocols={"http", "https", "data"}, strip=True
    )
    highlighting = HtmlFormatter(style="default").get_style_defs(".highlight")
    return _render("notebook", title=title, body=body, highlighting=highlighting)


def _allowed(tag: str, name: str, value: str) -> bool:
    if name == "src":
        return tag == "img" and value.startswith("data:image/")
    if name == "href":
        return tag == "a" and value.startswith(("http://", "https://", "#"))
    return name in ("class", "id", "alt", "title", "colspan", "rowspan", "start")

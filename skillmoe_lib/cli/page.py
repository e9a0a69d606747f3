"""The look of a report's pages: templates, and tables as they are shown on a page.

Every text is escaped by Jinja; no page fetches anything, and no script runs but that of `what_if.html`.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from skillmoe_lib.evaluation import formats

FIRST_ROWS = 10
_TEMPLATES = Path(__file__).with_name("templates")


class Table(NamedTuple):
    """A frame as a page shows it: headings, cells as text, which columns hold numbers, where it is kept."""

    title: str
    about: str
    href: str
    links: Sequence[str]
    columns: Sequence[str]
    numeric: Sequence[bool]
    rows: Sequence[Sequence[str]]
    ours: Sequence[bool]
    shown: str
    outdated: str = ""


def render(name: str, **values: Any) -> str:
    """A page from `templates/NAME.html.jinja`."""
    return _environment().get_template(f"{name}.html.jinja").render(zip=zip, **values)


@functools.cache
def _environment() -> Environment:
    """One for all pages: it compiles each template once."""
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def template_text(name: str) -> str:
    """A file of the templates' folder, such as a script, as text."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def table_of(
    path: Path, folder: Path, *, title: str, about: str = "", outdated: str = "", n_rows: int = FIRST_ROWS
) -> Table:
    """The first rows of a report's CSV; a file that cannot be read is named, and the page goes on."""
    href = path.relative_to(folder).as_posix()
    links = [href] + [
        other.relative_to(folder).as_posix()
        for other in (path.with_suffix(".html"), path.with_suffix(".tex"))
        if other.is_file()
    ]
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        return Table(
            title, about, href, links[:1], [], [], [], [], f"This file cannot be read ({error}).", outdated
        )
    first = frame.head(n_rows)
    readable = formats.for_readers(first, shares=wide_shares(path.stem, frame))
    ours = [value == "symbolic_moe" for value in first.get("method", pd.Series("", first.index))]
    shown = f"The first {n_rows} of {len(frame):,} rows." if len(frame) > n_rows else ""
    rows = readable.to_numpy().tolist()
    return Table(
        title,
        about,
        href,
        links,
        [str(name) for name in readable],
        formats.is_numeric(frame),
        rows,
        ours,
        shown,
        outdated,
    )


def wide_shares(stem: str, frame: pd.DataFrame) -> list[str]:
    """Columns of fractions that only the table itself knows: one for each subject."""
    return (
        [str(name) for name in frame if name != "expert"] if stem == "experts_by_subject_validation" else []
    )

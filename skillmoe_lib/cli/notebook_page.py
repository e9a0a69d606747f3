"""An executed notebook of a report: its state for the index, and its HTML as a page without scripts."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skillmoe_lib.cli.page import render
from skillmoe_lib.cli.parameters import read_parameters
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.files import replace_file

#: What is allowed in a notebook's HTML: no script, style, frame, form or event; links and embedded images.
_TAGS = frozenset(
    {"a", "abbr", "b", "blockquote", "br", "caption", "code", "col", "colgroup", "dd", "del", "details",
    "div"} | {"dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "li", "ol", "p", "pre",
    "s"} | {"small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th",
    "thead"} | {"tr", "ul"}
)  # fmt: skip


def write_notebook(path: Path) -> Mapping[str, Any]:
    """Title, parameters and state of an executed notebook; its HTML is written next to it."""
    import nbformat

    source = f"notebooks/{path.name}"
    entry = {"name": path.stem, "source": source, "href": source, "error": "", "seconds": "–", "finished": ""}
    try:
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        body = _notebook_html(notebook, path.stem)
    except (OSError, ValueError, AttributeError, KeyError, nbformat.ValidationError) as error:
        return {**entry, "parameters": {}, "state": "cannot be read", "error": str(error).partition("\n")[0]}
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
    return {
        **entry,
        "href": f"notebooks/{path.stem}.html",
        "state": "failed" if about.get("exception") else "done" if ended else "not finished",
        "error": " ".join(errors[:1]),
        "seconds": f"{about['duration']:.0f}" if about.get("duration") else "–",
        "finished": ended[:16].replace("T", " ") + " UTC" if ended else "",
        "parameters": {**defaults, **about.get("parameters", {})},
    }


def _error(output: Any) -> str:
    own = output.ename == SkillmoeError.__name__
    return f"{output.evalue if own else f'{output.ename}: {output.evalue}'}."


def _notebook_html(notebook: Any, title: str) -> str:
    """An executed notebook as a page without scripts: nbconvert's body through an allow-list.

    nbconvert's own `SanitizeHTML` (bleach too) does not fit: it cleans cells before they are rendered, so a
    `<` in a code span is escaped twice; it drops embedded images and SVG, whose protocol cannot be allowed
    there; and what its templates and filters make of a cell afterwards is not cleaned at all.
    """
    import bleach
    from bs4 import BeautifulSoup
    from pygments.formatters import HtmlFormatter

    soup = BeautifulSoup(_exporter().from_notebook_node(notebook)[0], "html.parser")
    for element in soup.find_all(["script", "style", "noscript", "template", "iframe", "object"]):
        element.decompose()  # with its content: `strip` would leave the text
    for image in soup.find_all("img", src=lambda source: not str(source).startswith("data:image/")):
        image.decompose()  # nothing is fetched
    body = bleach.clean(
        str(soup), tags=_TAGS, attributes=_allowed, protocols={"http", "https", "data"}, strip=True
    )
    highlighting = HtmlFormatter(style="default").get_style_defs(".highlight")
    return render("notebook", title=title, body=body, highlighting=highlighting)


@functools.cache
def _exporter() -> Any:
    """One for all notebooks: it compiles nbconvert's templates once."""
    from nbconvert.exporters import HTMLExporter
    from traitlets.config import Config

    kinds = ["text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/plain"]
    return HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="basic", config=Config({"NbConvertBase": {"display_data_priority": kinds}})
    )


def _allowed(tag: str, name: str, value: str) -> bool:
    if name == "src":
        return tag == "img" and value.startswith("data:image/")
    if name == "href":
        return tag == "a" and value.startswith(("http://", "https://", "#"))
    return name in ("class", "id", "alt", "title", "colspan", "rowspan", "start")

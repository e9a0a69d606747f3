"""`what_if.html`: the report's page with controls, from the data that the report's last notebook wrote.

The one page with a script. Its content security policy allows that script by its digest and nothing else;
the data are JSON that is never executed, and the script sets texts as text.
"""

import base64
import hashlib
import json
from pathlib import Path

from skillmoe_lib.cli.page import render, template_text
from skillmoe_lib.files import replace_file

PAGE = "what_if.html"


def write_what_if(folder: Path) -> str:
    """Write the page from `tables/what_if.json`; its name, or "" (and no page) without readable data."""
    try:
        data = json.loads((folder / "tables" / "what_if.json").read_text(encoding="utf-8"))
        values = {name: data[name] for name in ("prior", "temperature", "left_out")}
        n = len(data["questions"])
    except (OSError, ValueError, KeyError, TypeError):
        (folder / PAGE).unlink(missing_ok=True)
        return ""
    script = template_text("what_if.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    page = render(
        "what_if",
        title=folder.name,
        data=text,
        script=script,
        digest=f"sha256-{digest}",
        n=f"{n:,}",
        **values,
    )
    replace_file(folder / PAGE, page)
    return PAGE

"""The flow diagram follows the tables, and the file in docs/ is the one that the project draws."""

from pathlib import Path
from xml.etree import ElementTree

from skillmoe_lib import tables
from skillmoe_lib.cli.flow import flow_svg, steps

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_committed_diagram_is_what_the_schemas_say() -> None:
    committed = (DOCS / "flow.svg").read_text(encoding="utf-8")
    assert committed == flow_svg(), "run: python -m skillmoe_lib.cli.flow > docs/flow.svg"


def test_every_column_of_every_table_is_drawn() -> None:
    made = {step.name: step for step in steps()}
    names = "questions keywords skills profiles routes requests generations answers results intervals figures"
    assert list(made) == names.split()
    for name in ("questions", "profiles", "routes", "results"):
        schema = getattr(tables, name.upper())
        assert {*made[name].key, *made[name].columns} == set(schema.columns)
        assert list(made[name].key) == list(schema.unique)


def test_boxes_lie_within_the_picture_and_apart() -> None:
    svg = ElementTree.fromstring(flow_svg())
    width, height = (float(x) for x in svg.attrib["viewBox"].split()[2:])
    found = [e.attrib for e in svg if e.tag.endswith("rect") and e.attrib.get("height") not in ("25", "100%")]
    boxes = [tuple(float(box[name]) for name in ("x", "y", "width", "height")) for box in found]
    assert len(boxes) == len(steps())
    for i, (x, y, w, h) in enumerate(boxes):
        assert x >= 0
        assert x + w <= width
        assert y + h <= height
        for x2, y2, w2, h2 in boxes[:i]:
            assert x >= x2 + w2 or x2 >= x + w or y >= y2 + h2 or y2 >= y + h

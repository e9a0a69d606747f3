"""The flow of the project as one picture (SVG), made from the tables' own schemas.

`python -m skillmoe_lib.cli.flow` prints it; `docs/flow.svg` is that text, and every report shows it. Each
step has its key in bold and its other columns below; an arrow names the step that makes the next table. Drawn
in greys with one line weight, so that it prints well.
"""

from collections.abc import Sequence
from dataclasses import fields
from html import escape
from typing import NamedTuple

from pandera.pandas import DataFrameSchema

from skillmoe_lib import tables
from skillmoe_lib.generation import Generation, Request

_WIDTH, _GAP, _LINE, _TOP = 168, 56, 15, 46
_A_ROW = 4
_KEY, _OTHER, _VERB = 'font-weight="bold"', 'fill="#555"', 'font-size="9.5"'


class Step(NamedTuple):
    """One table of the flow: its name, its key, its other columns, and what makes the next from it."""

    name: str
    key: Sequence[str]
    columns: Sequence[str]
    verb: str


def steps() -> list[Step]:
    """The tables in the order of the flow."""

    def table(name: str, schema: DataFrameSchema, verb: str) -> Step:
        key = [column for column in schema.unique if schema.columns[column].nullable is False]
        return Step(name, key, [column for column in schema.columns if column not in key], verb)

    request = [field.name for field in fields(Request)]
    generation = [field.name for field in fields(Generation)]
    return [
        table("questions", tables.QUESTIONS, "name"),
        Step("keywords", ["question_id", "pass"], ["words named"], "keep"),
        table("skills", tables.SKILLS, "score"),
        table("profiles", tables.PROFILES, "recruit"),
        table("routes", tables.ROUTES, "ask"),
        Step("requests", ["id"], request, "generate"),
        Step("generations", generation[:1], [*generation[1:], "batch_id"], "read"),
        table("answers", tables.SCORES, "grade"),
        table("results", tables.RESULTS, "resample"),
        Step("intervals", ["method", "benchmark"], ["accuracy", "low", "high", "n_questions"], "draw"),
        Step("figures", ["name"], ["png, svg, csv of the data"], ""),
    ]


def flow_svg() -> str:
    """The picture: boxes from left to right, row after row, joined by arrows."""
    made = steps()
    rows = [made[i : i + _A_ROW] for i in range(0, len(made), _A_ROW)]
    parts, top = [], 8
    for number, row in enumerate(rows):
        height = max(_height(step) for step in row)
        for place, step in enumerate(row):
            left = 8 + place * (_WIDTH + _GAP)
            parts += _box(step, left, top, _height(step))
            if step.verb and place < len(row) - 1:
                parts += _arrow(step.verb, left + _WIDTH, top + 17)
        below = top + height + _TOP
        if number < len(rows) - 1:
            last = 8 + (len(row) - 1) * (_WIDTH + _GAP)
            parts += _turn(row[-1].verb, last + 20, top + _height(row[-1]), below)
        top = below
    width = 16 + _A_ROW * _WIDTH + (_A_ROW - 1) * _GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top - _TOP + 8}" width="{width}" '
        'font-family="DejaVu Sans, Verdana, sans-serif" font-size="11" fill="#222" role="img" '
        'aria-label="Flow from questions to figures">'
    )
    marker = (
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        '<path d="M1,1 L7,4 L1,7" fill="none" stroke="#555"/></marker></defs>'
    )
    background = '<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([head, marker, background, *parts, "</svg>"]) + "\n"


def _height(step: Step) -> int:
    return 34 + _LINE * (len(step.key) + len(step.columns))


def _box(step: Step, left: int, top: int, height: int) -> list[str]:
    lines = [(name, True) for name in step.key] + [(name, False) for name in step.columns]
    texts = [
        f'<text x="{left + 10}" y="{top + 42 + _LINE * i}" {_KEY if key else _OTHER}>{escape(name)}</text>'
        for i, (name, key) in enumerate(lines)
    ]
    return [
        f'<rect x="{left}" y="{top}" width="{_WIDTH}" height="{height}" fill="#fff" stroke="#888"/>',
        f'<rect x="{left}" y="{top}" width="{_WIDTH}" height="25" fill="#eee" stroke="#888"/>',
        f'<text x="{left + 10}" y="{top + 17}" font-size="12.5" font-weight="bold">{step.name}</text>',
        *texts,
    ]


def _arrow(verb: str, left: int, y: int) -> list[str]:
    """From one box to its neighbour on the right."""
    return [
        f'<path d="M{left + 3},{y} H{left + _GAP - 3}" stroke="#555" fill="none" marker-end="url(#tip)"/>',
        f'<text x="{left + _GAP // 2}" y="{y - 6}" {_VERB} text-anchor="middle">{escape(verb)}</text>',
    ]


def _turn(verb: str, x: int, top: int, below: int) -> list[str]:
    """From the last box of a row down and back to the first of the next."""
    between = below - 20
    path = f"M{x},{top + 3} V{between} H28 V{below - 3}"
    return [
        f'<path d="{path}" stroke="#555" fill="none" marker-end="url(#tip)"/>',
        f'<text x="{x - 10}" y="{between - 6}" {_VERB} text-anchor="end">{escape(verb)}</text>',
    ]


if __name__ == "__main__":
    print(flow_svg(), end="")

"""How numbers and names are written for readers: one rule for pages, figures, HTML and LaTeX tables.

Files keep fractions and identifiers; readers see percent, points and labels. Halves are rounded away from
zero on the decimal value, not on its binary neighbour: 408 of 640 is 63.8 everywhere, never 63.7 here and
63.8 there.

- accuracies and other shares: percent, one decimal (63.8); differences: points with their sign (+15.5)
- p-values: three decimals, or <0.001
- other numbers: three significant digits; from 1,000 on whole, with separators
- missing: –
"""

import re
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import numpy as np
import pandas as pd

MISSING = "–"
_THREE = Context(prec=3, rounding=ROUND_HALF_UP)
_LONGEST = 120
#: Columns of fractions that are shown as percent, and as points with a sign.
PERCENT = frozenset(
    {"accuracy", "item_accuracy", "agreement", "wrong_alike", "one_expert", "top_share", "predicted"}
    | {"gap_closed"}
)
POINTS = frozenset({"difference", "difference_low", "difference_high", "gain", "gain_low", "gain_high"})
#: Percent or points, as the table's estimate is.
_BOUNDS = ("low", "high", "item_low", "item_high", "published", "published_average", "published_std")
_P_VALUES = ("p", "p_holm")
#: Identifier -> the column of labels that stands for it.
LABELS = {"method": "label", "baseline": "baseline_label", "against": "against_label", "rival": "rival_label"}
_HEADINGS = {
    "label": "method",
    "baseline_label": "baseline",
    "against_label": "against",
    "rival_label": "rival",
    "symbolic_moe_correct": "Symbolic-MoE right",
    "correct": "right",
    "p_holm": "p (Holm)",
    "n_questions": "questions",
    "device_seconds": "device s",
    "device_s": "device s",
}


def percent(fraction: Any) -> str:
    """A fraction in percent with one decimal, without the sign %."""
    return MISSING if pd.isna(fraction) else f"{_tenth(fraction):f}"


def points(fraction: Any) -> str:
    """A difference of fractions in percentage points, with its sign."""
    return MISSING if pd.isna(fraction) else f"{_tenth(fraction):+f}"


def number(value: Any) -> str:
    """A number with three significant digits; whole and with separators from 1,000 on."""
    if pd.isna(value):
        return MISSING
    exact = Decimal(f"{float(value):.12g}")
    if not exact.is_finite():
        return f"{exact}".lower().replace("infinity", "inf")
    if exact == exact.to_integral_value() or abs(exact) >= 1000:
        return f"{exact.quantize(Decimal(1), ROUND_HALF_UP):,f}"
    short = _THREE.plus(exact)
    return f"{float(short):.3g}" if abs(short) < Decimal("0.001") else f"{short.normalize(_THREE):f}"


def times(ratio: float) -> str:
    """How many times, for a sentence: two significant digits below 10."""
    return number(_two(ratio)) if ratio < 10 else number(round(ratio))


def p_value(p: Any) -> str:
    """A p-value with three decimals."""
    if pd.isna(p):
        return MISSING
    return "<0.001" if p < 0.001 else f"{Decimal(f'{p:.9f}').quantize(Decimal('0.001'), ROUND_HALF_UP):f}"


def text(value: Any, longest: int = _LONGEST) -> str:
    """A value as text, cut if it is long."""
    shown = str(value)
    return shown if len(shown) <= longest else shown[:longest] + " …"


def _tenth(fraction: Any) -> Decimal:
    tenth = Decimal(f"{100 * float(fraction):.6f}").quantize(Decimal("0.1"), ROUND_HALF_UP)
    return abs(tenth) if tenth == 0 else tenth  # no -0.0


def _two(value: float) -> Decimal:
    return Context(prec=2, rounding=ROUND_HALF_UP).plus(Decimal(f"{value:.9g}"))


def heading(column: str, columns: Sequence[str] = ()) -> str:
    """What a column is called for readers, with its unit; `columns` are those of the whole table."""
    unit = {"percent": " (%)", "points": " (points)"}.get(_kind(column, columns), "")
    return _HEADINGS.get(column, re.sub(r"^n_(?=\w)", "", column).replace("_", " ")) + unit


def for_readers(frame: pd.DataFrame, *, shares: Sequence[str] = ()) -> pd.DataFrame:
    """The frame as readers see it: headings, and every cell as text by the rule above.

    A column of identifiers is left out if the frame has one of their labels (`LABELS`). `shares` names
    further columns of fractions.
    """
    columns = [str(name) for name in frame]
    hidden = {name for name, label in LABELS.items() if label in columns}
    shown: dict[str, list[str]] = {}
    for name in columns:
        if name in hidden:
            continue
        kind = "percent" if name in shares else _kind(name, columns)
        title = heading(name, columns) + (" (%)" if name in shares and name not in PERCENT else "")
        while title in shown:
            title += " "
        shown[title] = [_cell(value, kind) for value in frame[name]]
    return pd.DataFrame(shown, dtype=object)


def is_numeric(frame: pd.DataFrame) -> list[bool]:
    """Whether each column that `for_readers` shows holds numbers, which are aligned right."""
    columns = [str(name) for name in frame]
    hidden = {name for name, label in LABELS.items() if label in columns}
    return [
        pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name])
        for name in columns
        if name not in hidden
    ]


def as_html(frame: pd.DataFrame, title: str) -> str:
    """The table as a small page of its own; every text escaped."""
    table = for_readers(frame).to_html(index=False, border=0, escape=True)
    style = "<style>body{font:14px system-ui,sans-serif}td,th{padding:.2em .8em;text-align:left}</style>"
    head = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>{style}\n'
    return f"{head}{table}\n</html>\n"


def as_latex(frame: pd.DataFrame) -> str:
    """The table for LaTeX with booktabs' rules; every text escaped. It needs `\\usepackage{booktabs}`."""
    shape = "".join("r" if numeric else "l" for numeric in is_numeric(frame))
    shown = for_readers(frame).replace({MISSING: "--"})
    return str(shown.to_latex(index=False, escape=True, column_format=shape))


def _kind(column: str, columns: Sequence[str]) -> str:
    """How a column's numbers are meant: percent, points, p or number."""
    if column in _P_VALUES:
        return "p"
    if "ratio" in columns:  # its differences and bounds are ratios too
        return "number"
    if column in POINTS:
        return "points"
    if column in PERCENT or (column in _BOUNDS and set(columns) & PERCENT):
        return "percent"
    return "points" if column in _BOUNDS and set(columns) & POINTS else "number"


def _cell(value: Any, kind: str) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if pd.api.types.is_number(value):
        return {"percent": percent, "points": points, "p": p_value}.get(kind, number)(value)
    return MISSING if pd.api.types.is_scalar(value) and pd.isna(value) else text(value)

"""Figures: one theme, one function for each figure; each takes a tidy frame and returns a matplotlib figure.

Intervals come from `intervals` and are only drawn here. Colours are Okabe and Ito's (2008), which can be
distinguished by colour-blind readers; marker, hatch, fill or a number repeats them. Accuracies and
differences arrive as fractions and are drawn in percent and points; costs are means for one question. A
method is named by the column `label` if the frame has one; the row of Symbolic-MoE has a grey band. `groups`
names the group of methods that are drawn apart, by their name in the column `method`:
{"instance_oracle": "bounds"}. `column` draws for one column of a paper, 3.3 inches wide. Figures are made
without pyplot: there is no global state.
"""

import io
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.comparisons import front
from skillmoe_lib.evaluation.formats import number, percent, points

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "D", "^", "v", "P", "X"]
HATCHES = ["", "////", "....", "xxxx", "----"]
DASHES = ["-", "--", "-.", ":"]
HALO = withStroke(linewidth=2, foreground="white")
_SAVED_DPI, _SHOWN_DPI = 200, 110  # in the report, in a notebook
OURS = "symbolic_moe"  # the method that figures highlight
COLUMN_IN = 3.3
Groups = Mapping[str, str] | None


def theme() -> dict[Any, Any]:
    """matplotlib's settings for every figure of the project."""
    return {
        "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9, "axes.titlelocation": "left",
        "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.grid": True,
        "grid.color": "#dddddd", "grid.linewidth": 0.6, "hatch.linewidth": 0.6, "legend.frameon": False,
        "legend.fontsize": 8, "lines.markersize": 5.5, "svg.hashsalt": "skillmoe", "svg.fonttype": "path",
    }  # fmt: skip


themed = mpl.rc_context(theme())  # as a decorator: entered at each call, left after it


class Chart(Figure):
    """A figure made without pyplot that notebooks still display: the saved picture, made smaller."""

    saved: bytes = b""  # the PNG of `save_figure`

    def _repr_png_(self) -> bytes:
        if not self.saved:
            self.savefig(sink := io.BytesIO(), format="png", dpi=_SHOWN_DPI)
            return sink.getvalue()
        with Image.open(io.BytesIO(self.saved)) as image:
            size = image.width * _SHOWN_DPI // _SAVED_DPI, image.height * _SHOWN_DPI // _SAVED_DPI
            image.convert("RGB").resize(size).save(sink := io.BytesIO(), format="png")
        return sink.getvalue()


@themed
def save_figure(figure: Figure, data: pd.DataFrame, path_stem: Path) -> list[Path]:
    """Write PNG (200 dpi), SVG and the CSV of the data drawn; the same figure gives the same bytes.

    `path_stem` is the path without suffix. Returns the three paths, in that order. The layout is computed
    once, for the PNG, and stays.
    """
    paths = [path_stem.with_name(path_stem.name + suffix) for suffix in (".png", ".svg", ".csv")]
    try:
        path_stem.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(paths[0], dpi=_SAVED_DPI, metadata={"Software": None})
        figure.set_layout_engine("none")
        if isinstance(figure, Chart):
            figure.saved = paths[0].read_bytes()
        figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
        data.to_csv(paths[2], index=False, lineterminator="\n")
    except OSError as error:
        raise SkillmoeError(f"cannot write the figure {path_stem}: {error.strerror or error}") from error
    return paths


@themed
def accuracy_bars(
    accuracy_table: pd.DataFrame, *, groups: Groups = None, level: float = 0.95, column: bool = False
) -> Chart:
    """Accuracy of each method as dot and interval, sorted (frame of `intervals.accuracy_table`)."""
    frame = need(accuracy_table, ["method", "benchmark"], ["accuracy", "low", "high", "n_questions"])
    frame["says"] = frame["accuracy"].map(percent)
    caption = f"Dot: accuracy. Line: {level:.0%} interval over questions. Sorted by mean accuracy."
    return _intervals(frame, "accuracy", "accuracy (%)", caption, groups, column)


@themed
def differences(
    compare_table: pd.DataFrame, *, groups: Groups = None, level: float = 0.95, column: bool = False
) -> Chart:
    """Forest plot of each method's paired difference to a reference (frame of `intervals.compare`)."""
    numbers = ["difference", "low", "high", "n_questions", "n_missing"]
    frame = need(compare_table, ["method", "benchmark", "baseline", "verdict"], numbers)
    missing = frame["n_missing"].map(lambda n: f" ({n:.0f} missing)" if n else "")
    frame["says"] = frame["difference"].map(points) + missing
    frame["hollow"] = ~frame["verdict"].isin(["better", "worse"])
    caption = f"""Paired by question and seed. Line: {level:.0%} interval over questions. Filled: certainly
        better or worse, by the interval and by the exact test after Holm. Hollow: cannot tell."""
    reference = frame["baseline_label" if "baseline_label" in frame else "baseline"].iloc[0]
    label = f"accuracy minus {reference} (points)"
    return _with_zero(_intervals(frame, "difference", label, caption, groups, column))


@themed
def equal_cost(table: pd.DataFrame, *, cost: str = "device seconds", column: bool = False) -> Chart:
    """Our methods against the best baseline for the same budget (frame of `comparisons.at_equal_cost`)."""
    frame = need(table, ["method", "rival"], ["difference", "low", "high", "n_questions"])
    rival = frame["rival_label" if "rival_label" in frame else "rival"]
    frame["label"] = pd.Series(labels_of(frame)[name] for name in frame["method"]) + " − " + rival
    frame["says"] = frame["difference"].map(points)
    frame["benchmark"] = frame.get("benchmark", "At equal cost")
    caption = f"""Each method minus the most accurate baseline that takes no more {cost}; paired. Line: 95%
        interval over questions. The baseline is chosen on these questions, which favours it."""
    return _with_zero(_intervals(frame, "difference", "points", caption, None, column))


@themed
def gap_closed(table: pd.DataFrame, *, groups: Groups = None, column: bool = False) -> Chart:
    """The share of the gap from random experts to the oracle that each method closes
    (frame of `comparisons.gap_closed`)."""
    frame = need(table, ["method", "benchmark"], ["gap_closed", "low", "high", "n_questions"])
    frame["says"] = frame["gap_closed"].map(percent)
    caption = """0: random experts. 100: right wherever any expert is. Line: 95% interval over questions, of
        both ends too."""
    return _with_zero(_intervals(frame, "gap_closed", "gap closed (%)", caption, groups, column))


@themed
def accuracy_cost(
    summary: pd.DataFrame,
    *,
    cost: str = "device_seconds",
    groups: Groups = None,
    level: float = 0.95,
    column: bool = False,
) -> Chart:
    """Accuracy against the column `cost` (per question), with the Pareto front.

    The axis is logarithmic if costs differ twentyfold. Only methods and baselines can be on the front.
    """
    frame = need(summary, ["method", "benchmark"], ["accuracy", "low", "high", "n_questions", cost])
    frame = frame.dropna(subset=["accuracy", cost])
    caption = f"""Line: {level:.0%} interval over questions. Grey steps and rings: the Pareto front, methods
        that nothing cheaper equals."""
    chart, panels = _panels(frame, (6.4, 4.6) if not column else (COLUMN_IN, 3.4), caption, column=column)
    for [axis], part in panels:
        competing = [_group(method, groups) in ("methods", "baselines") for method in part["method"]]
        free = part[competing].sort_values(cost)
        axis.step(free[cost], 100 * free["accuracy"].cummax(), where="post", color="#aaaaaa", zorder=1)
        best = free[front(free, cost=cost)]
        axis.scatter(
            best[cost], 100 * best["accuracy"], s=95, facecolor="none", edgecolor="#888888", zorder=1
        )
        for row in pd.concat([free, part.drop(free.index)]).to_dict("records"):
            style = _style(row["method"], groups)
            axis.vlines(row[cost], 100 * row["low"], 100 * row["high"], color=style["color"], linewidth=1)
            axis.plot(row[cost], 100 * row["accuracy"], linestyle="", **style)
        if part[cost].min() > 0 and part[cost].max() > 20 * part[cost].min():
            axis.set_xscale("log")
        axis.margins(x=0.15)
        axis.set(xlabel=f"{cost.replace('_', ' ')} per question", ylabel="accuracy (%)")
    _legend(chart, column)
    for [axis], part in panels:
        _name_points(chart, axis, part, cost, 5.5 if column else 7.5)
    return chart


@themed
def calls_tokens(summary: pd.DataFrame) -> Chart:
    """Calls, tokens (prompt and output) and device seconds per question; a row of panels per benchmark."""
    costs = ["calls", "prompt_tokens", "output_tokens", "device_seconds"]
    frame = need(summary, ["method", "benchmark"], [*costs, "n_questions"])
    units = {"calls / question": costs[:1], "tokens / question": costs[1:3], "device s / question": costs[3:]}
    return _bars(frame, units, "Means for one question.")


@themed
def status_bars(accuracy_table: pd.DataFrame) -> Chart:
    """Answers that were not right, as shares of all rows: wrong, no answer found, cut at the limit, prompt
    too long for the model, not run."""
    counts = ["n_answered", "n_unparsed", "n_cut", "n_overflow", "n_not_run"]
    frame = need(accuracy_table, ["method", "benchmark"], ["n_questions", "n_correct", *counts])
    rows, names = frame[counts].sum(axis=1), ["wrong", "unparsed", "cut", "overflow", "not run"]
    frame["n_answered"] -= frame["n_correct"]
    frame[names] = 100 * frame[counts].div(rows, axis=0)
    caption = "Shares of all questions and seeds; the rest is right. Accuracies leave out what was not run."
    return _bars(frame, {"not right (% of answers)": names}, caption)


@themed
def loss_curve(curve: pd.DataFrame) -> Chart:
    """Loss of a training run (nats per token of the reply) against tokens seen."""
    import seaborn

    chart = blank_chart(5.6, 3.2, "Mean loss on the reply between two points, logarithmic.")
    frame = need(curve, [], ["tokens", "loss"])
    seaborn.lineplot(frame, x="tokens", y="loss", color=COLOURS[0], ax=chart.subplots()).set(yscale="log")
    return chart


@themed
def learning_curve(
    frame: pd.DataFrame, *, x: str, diagonal: bool = False, level: float = 0.95, column: bool = False
) -> Chart:
    """Accuracy against the column `x`, one line per method; `diagonal`: a reliability plot, x a fraction."""
    frame = need(frame, ["method", "benchmark"], [x, "accuracy", "low", "high", "n_questions"])
    caption = f"Band: {level:.0%} interval over questions." + " Dotted: predicted is observed." * diagonal
    chart, panels = _panels(frame, (COLUMN_IN, 2.8) if column else (5.6, 3.8), caption, column=column)
    labels = labels_of(frame)
    for [axis], shown in panels:
        values = 100 * shown[["accuracy", "low", "high"]]
        values["x"] = shown[x] * (100 if diagonal else 1)
        _lines(axis, values, shown["method"].map(labels), list(labels.values()))
        if diagonal:
            axis.plot([0, 100], [0, 100], ":", color="black")
        axis.set(xlabel=x.replace("_", " ") + " (%)" * diagonal, ylabel="accuracy (%)")
    _legend(chart, column)
    return chart


@themed
def curve(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    caption: str = "Band: 95% interval over questions.",
    column: bool = False,
) -> Chart:
    """Any quantity against another: a tidy frame with x, y, low, high and label (one line each).

    `x` and `y` name the axes. Values are drawn as they are: give percent if the axis says percent. `low` and
    `high` may be null.
    """
    frame = need(frame, ["label"], ["x", "y", "low", "high"])
    chart = blank_chart(COLUMN_IN if column else 6.4, 2.8 if column else 3.9, caption)
    axis = chart.subplots()
    values = frame.rename(columns={"y": "accuracy"})[["x", "accuracy", "low", "high"]]
    _lines(axis, values, frame["label"], list(dict.fromkeys(frame["label"])))
    axis.set(xlabel=x, ylabel=y)
    _legend(chart, column)
    return chart


def _lines(axis: Axes, values: pd.DataFrame, names: pd.Series, order: list[str]) -> None:
    """A line with a band for each name; colour, marker and dash repeat one another."""
    styles = zip(order, 9 * COLOURS, 9 * MARKERS, 9 * DASHES, strict=False)
    for name, colour, marker, dash in styles:
        part = values[(names == name).to_numpy()].sort_values("x")
        if part.empty:
            continue
        axis.fill_between(part["x"], part["low"], part["high"], color=colour, alpha=0.15, linewidth=0)
        axis.plot(part["x"], part["accuracy"], dash, color=colour, marker=marker, label=name)


def need(frame: pd.DataFrame, text: list[str], numbers: list[str]) -> pd.DataFrame:
    """A copy with the numbers as floats (null is NaN), or an error that names what is missing."""
    if absent := [name for name in (*text, *numbers) if name not in frame]:
        raise SkillmoeError(f"this figure needs the column {absent[0]!r}, given {', '.join(map(str, frame))}")
    if frame.empty:
        raise SkillmoeError("nothing to draw: the frame has no rows")
    floats = {name: frame[name].astype("Float64").to_numpy(float, na_value=np.nan) for name in numbers}
    return frame.assign(**floats).reset_index(drop=True)


def span(n: pd.Series, what: str = "") -> str:
    """n as text: one number, or the range over the rows."""
    return f"n = {n.min():,.0f}" + (f" to {n.max():,.0f}" if n.max() > n.min() else "") + what


def labels_of(frame: pd.DataFrame) -> dict[str, str]:
    """Method -> its label, in the order of the frame."""
    shown = frame["label"] if "label" in frame else frame["method"]
    return dict(zip(frame["method"], shown, strict=True))


def _kinds(groups: Groups) -> list[str]:
    return ["methods", *dict.fromkeys((groups or {}).values())]


def _group(method: str, groups: Groups) -> str:
    return (groups or {}).get(method, "methods")


def _style(method: str, groups: Groups) -> dict[str, Any]:
    """Colour, marker and legend entry of a method's group."""
    kind = _group(method, groups)
    i = _kinds(groups).index(kind) % len(COLOURS)
    return {"color": COLOURS[i], "marker": MARKERS[i], "label": kind}


def blank_chart(width: float, height: float, caption: str) -> Chart:
    """An empty chart, sizes in inches, with its caption below."""
    chart = Chart(figsize=(width, height), layout="constrained")
    size = 7.5 if width > COLUMN_IN else 6
    text = textwrap.fill(" ".join(caption.split()), int(120 / size * width))
    chart.supxlabel(text, x=0.01, ha="left", fontsize=size, color="#444444")
    return chart


def _panels(
    frame: pd.DataFrame, size: tuple[float, float], caption: str, units: int = 1, *, column: bool = False
) -> tuple[Chart, Any]:
    """A chart with the axes and rows of each benchmark: side by side, or a row of `units` axes each.

    With `column` the whole chart has the width of one column, and the benchmarks stand below one another.
    """
    parts = [part for _, part in frame.groupby("benchmark", sort=False)]
    if not parts:
        raise SkillmoeError("nothing to draw: no row has a value in every column of this figure")
    n_columns = units if units > 1 or column else min(len(parts), 2 if size[0] > 4 else 4)
    n_rows = -(-len(parts) * units // n_columns)
    width = COLUMN_IN if column else size[0] * n_columns + 1.5
    chart = blank_chart(width, size[1] * n_rows + 0.8, caption)
    free = chart.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axis in free[len(parts) * units :]:
        axis.remove()
    axes = free[: len(parts) * units].reshape(len(parts), units)
    for row, part in zip(axes, parts, strict=True):
        row[0].set_title(f"{part['benchmark'].iloc[0]}, {span(part['n_questions'], ' questions')}")
        if column:
            for axis in row:
                axis.tick_params(labelsize=6.5)
                axis.xaxis.label.set_fontsize(7)
                axis.yaxis.label.set_fontsize(7)
                axis.title.set_fontsize(7)
    return chart, list(zip(axes, parts, strict=True))


def _rows(
    axis: Axes, best: pd.Series, labels: Mapping[str, str], groups: Groups = None, size: float = 8.5
) -> dict[str, int]:
    """One line per method, best first under its group's name (bold); named on the leftmost axes only."""
    names = best.sort_values(ascending=False, kind="stable").index
    kinds = {kind: [m for m in names if _group(m, groups) == kind] for kind in _kinds(groups)}
    lines = [line for kind, members in kinds.items() if members for line in [kind] * bool(groups) + members]
    axis.set_yticks(range(len(lines)), [_folded(labels.get(line, line)) for line in lines], fontsize=size)
    axis.set_ylim(len(lines) - 0.4, -0.6)
    for line, text in zip(lines, axis.get_yticklabels(), strict=True):
        text.set_fontweight("bold" if groups and line in kinds else "normal")
    if OURS in lines:
        axis.axhspan(lines.index(OURS) - 0.45, lines.index(OURS) + 0.45, color="#e9e9e9", zorder=0)
    first = (spec := axis.get_subplotspec()) is not None and spec.is_first_col()
    axis.tick_params(axis="y", length=0, labelleft=first)
    return {line: y for y, line in enumerate(lines)}


def _intervals(
    frame: pd.DataFrame, value: str, label: str, caption: str, groups: Groups, column: bool = False
) -> Chart:
    """Dots with intervals, the column `says` beside them; hollow if the column `hollow` is true."""
    best = frame.groupby("method")[value].mean()
    line, size = (0.17, 6.0) if column else (0.23, 8.5)
    tallest = max(_folded(name).count("\n") + 1 for name in labels_of(frame).values())
    height = line * tallest * (len(best) + len(_kinds(groups))) + 0.4
    chart, panels = _panels(frame, (3.5, height), caption, column=column)
    for [axis], part in panels:
        at = _rows(axis, best, labels_of(frame), groups, size)
        for row in part.to_dict("records"):
            style, y = _style(row["method"], groups), at[row["method"]]
            axis.hlines(y, 100 * row["low"], 100 * row["high"], color=style["color"])
            face = "white" if row.get("hollow") else style["color"]
            axis.plot(100 * row[value], y, markerfacecolor=face, linestyle="", **style)
            says = row["says"] if np.isfinite(row[value]) else "not run"
            axis.text(1.02, y, says, transform=axis.get_yaxis_transform(), va="center", fontsize=size - 0.5)
        axis.set(xlabel=label)
    return chart


def _folded(name: str) -> str:
    """A long name in several lines, so that it leaves room for what it names."""
    return textwrap.fill(name, 36)


def _with_zero(chart: Chart) -> Chart:
    for axis in chart.axes:
        axis.axvline(0, color="black", linewidth=1, zorder=1)
    return chart


def _bars(frame: pd.DataFrame, units: Mapping[str, list[str]], caption: str) -> Chart:
    """Horizontal bars, one axis per unit, its columns stacked with their sum; sorted by the first unit."""
    best = frame[next(iter(units.values()))].sum(axis=1).groupby(frame["method"]).mean()
    chart, panels = _panels(frame, (3.3, 0.23 * len(best) + 0.6), caption, len(units))
    for axes, part in panels:
        for axis, (label, columns) in zip(axes, units.items(), strict=True):
            at, values = part["method"].map(_rows(axis, best, labels_of(frame))), part[columns].fillna(0)
            left = values.cumsum(axis=1) - values
            for name, colour, hatch in zip(columns, COLOURS, HATCHES, strict=False):
                style: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white"}
                style["label"] = name.replace("_", " ") if columns[1:] else None
                axis.barh(at, values[name], 0.7, left[name], **style)
            for y, total in zip(at, part[columns].sum(axis=1, min_count=1), strict=True):
                says = number(total) if np.isfinite(total) else "not on record"
                axis.text(np.nan_to_num(total), y, f" {says}", va="center", fontsize=7.5)
            axis.margins(x=0.2)
            axis.set(xlabel=label)
            axis.grid(visible=False, axis="y")
    _legend(chart)
    return chart


def _legend(chart: Chart, column: bool = False) -> None:
    """One legend beside all panels (above them in one column), if there is more than one entry."""
    pairs = [pair for axis in chart.axes for pair in zip(*axis.get_legend_handles_labels(), strict=True)]
    entries = {label: handle for handle, label in pairs}
    if len(entries) > 1:
        where: Any = {"loc": "outside right upper"}
        if column:
            where = {"loc": "outside upper left", "ncols": 2, "fontsize": 6}
        chart.legend(entries.values(), entries.keys(), **where)


def _name_points(chart: Chart, axis: Axes, part: pd.DataFrame, cost: str, size: float) -> None:
    """Write each method's label beside its point, with a thin line to it, by `adjustText`.

    Methods on the same pixel share a label ("A, B"). `adjustText` is deterministic if it is limited by steps
    and not by time.
    """
    from adjustText import adjust_text

    chart.draw_without_rendering()  # fixes the layout, so that points have positions
    axis.autoscale(enable=False)
    x, y = part[cost].to_numpy(float), 100 * part["accuracy"].to_numpy(float)
    shown = pd.DataFrame({"x": x, "y": y, "name": part["method"].map(labels_of(part)).to_numpy()})
    pixels = axis.transData.transform(shown[["x", "y"]]).round()
    texts = [
        axis.text(
            float(together["x"].iloc[0]),
            float(together["y"].iloc[0]),
            textwrap.fill(", ".join(together["name"]), 32),
            fontsize=size,
            path_effects=[HALO],
            in_layout=False,
        )
        for _, together in shown.groupby([*pixels.T], sort=False)
    ]
    line = {"arrowstyle": "-", "color": "#888888", "linewidth": 0.5, "shrinkB": 3}
    adjust_text(texts, x=x, y=y, ax=axis, iter_lim=400, time_lim=None, arrowprops=line)

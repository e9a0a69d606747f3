"""Diagrams: which skills recruited which experts, which skills occur together, and what ran when where.

In the theme of `figures`. Widths and lengths repeat what numbers beside them say.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.figures import (
    COLOURS,
    HALO,
    HATCHES,
    Chart,
    blank_chart,
    need,
    span,
    themed,
)
from skillmoe_lib.evaluation.formats import number

_OTHERS = "all other skills"


@themed
def recruitment_flow(flow: pd.DataFrame, *, n_skills: int = 16) -> Chart:
    """Skills on the left, experts on the right; a band is as wide as the slots that went that way.

    Frame of `comparisons.skill_flow`: skill, expert, slots. The `n_skills` most used skills have a line of
    their own. Bands take the colour and hatch of their expert, experts stand in the order of their slots, and
    skills are ordered by the expert that they recruit most.
    """
    frame = need(flow, ["skill", "expert"], ["slots"])
    total = frame["slots"].sum()
    if not total > 0:
        raise SkillmoeError("nothing to draw: no expert was recruited")
    used = frame.groupby("skill")["slots"].sum().sort_values(ascending=False, kind="stable")
    shown = list(used.index[:n_skills])
    frame["skill"] = frame["skill"].where(frame["skill"].isin(shown), _OTHERS)
    wide = frame.pivot_table(index="skill", columns="expert", values="slots", aggfunc="sum", fill_value=0.0)
    wide = wide[wide.sum().sort_values(ascending=False, kind="stable").index]
    values = wide.to_numpy()
    order = np.lexsort([-values.max(axis=1), values.argmax(axis=1), wide.index == _OTHERS])
    wide = wide.iloc[order]
    n_lines = max(wide.shape)
    caption = f"""Symbolic-MoE's {number(total)} slots: from the questions' skills to the experts recruited. A
        slot is divided among its question's skills; numbers are slots. Shown: the {len(shown)} of
        {len(used)} skills that recruited most."""
    chart = blank_chart(6.8, 0.27 * n_lines + 1.0, caption)
    axis = chart.subplots()
    axis.set_axis_off()
    gap = 0.35 * total / n_lines
    left, right = _stack(wide.sum(axis=1), gap), _stack(wide.sum(), gap)
    styles = _styles(list(wide.columns))
    at_left, at_right = dict(left), dict(right)
    for skill in wide.index:
        for expert in wide.columns:
            if (slots := float(wide.loc[skill, expert])) > 0:
                _band(axis, at_left[skill], at_right[expert], slots, styles[expert])
                at_left[skill] += slots
                at_right[expert] += slots
    for names, tops, x, side in ((wide.sum(axis=1), left, -0.02, "right"), (wide.sum(), right, 1.02, "left")):
        for name, slots in names.items():
            words = f"{name}  {slots:.0f}" if side == "right" else f"{slots:.0f}  {name}"
            axis.text(x, tops[name] + slots / 2, words, ha=side, va="center", fontsize=7.5)
    axis.set_xlim(0, 1)
    axis.set_ylim(
        max(max(left.values()), max(right.values())) + max(wide.sum(axis=1).iloc[-1], wide.sum().iloc[-1]), 0
    )
    return chart


def _stack(sizes: pd.Series, gap: float) -> dict[Any, float]:
    """Where each block begins, from the top down."""
    begins = sizes.cumsum() - sizes + gap * np.arange(len(sizes))
    return dict(zip(sizes.index, map(float, begins), strict=True))


def _styles(experts: list[str]) -> dict[str, dict[str, Any]]:
    """Colour and hatch of each expert; neighbours differ in both."""
    return {
        name: {"facecolor": COLOURS[i % len(COLOURS)], "hatch": HATCHES[i % len(HATCHES)]}
        for i, name in enumerate(experts)
    }


def _band(axis: Axes, left: float, right: float, width: float, style: Mapping[str, Any]) -> None:
    corners = [(0, left), (0.5, left), (0.5, right), (1, right), (1, right + width), (0.5, right + width)]
    corners += [(0.5, left + width), (0, left + width), (0, left)]
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    path = Path([(x, float(y)) for x, y in corners], codes)
    axis.add_patch(PathPatch(path, alpha=0.55, edgecolor="white", linewidth=0.3, **style))


@themed
def skill_graph(edges: pd.DataFrame, *, n_skills: int = 30) -> Chart:
    """Skills that questions carry together: dots and lines, those that occur together often lie near.

    Frame of `studies.skills.skill_graph`: skill, other, n_both, n_skill, n_other. Shows the `n_skills` skills
    with the most questions among them, by the layout of Fruchterman and Reingold (1991). A dot's area is the
    number of its skill's questions, a line's width and darkness that of both.
    """
    import networkx

    frame = need(edges, ["skill", "other"], ["n_both", "n_skill", "n_other"])
    ends = [frame[["skill", "n_skill"]], frame[["other", "n_other"]].set_axis(["skill", "n_skill"], axis=1)]
    sizes = pd.concat(ends).drop_duplicates("skill").set_index("skill")["n_skill"]
    sizes = sizes.sort_index().sort_values(ascending=False, kind="stable")
    shown = sizes.iloc[:n_skills]
    lines = frame[frame["skill"].isin(shown.index) & frame["other"].isin(shown.index)]
    graph = networkx.Graph()
    graph.add_nodes_from(shown.index)
    graph.add_weighted_edges_from(lines[["skill", "other", "n_both"]].itertuples(index=False))
    places = networkx.spring_layout(graph, k=2.2 / np.sqrt(len(shown)), iterations=300, seed=0)
    most = float(lines["n_both"].max())
    caption = f"""Lines: skills that questions carry together, {span(lines["n_both"], " questions")} each.
        Dots: {span(shown, " questions")} each. Shown: the {len(shown)} of {len(sizes)} connected skills with
        most questions, and {len(lines)} of {len(frame)} pairs."""
    chart = blank_chart(7.0, 5.6, caption)
    axis = chart.subplots()
    axis.set_axis_off()
    for skill, other, n_both in lines[["skill", "other", "n_both"]].itertuples(index=False):
        (x, y), (to_x, to_y) = places[skill], places[other]
        strength = float(n_both) / most
        style: dict[str, Any] = {
            "color": "#444444",
            "linewidth": 0.4 + 3 * strength,
            "alpha": 0.2 + 0.5 * strength,
        }
        axis.plot([x, to_x], [y, to_y], "-", **style)
    at = np.array([places[skill] for skill in shown.index])
    axis.scatter(at[:, 0], at[:, 1], s=30 + 300 * shown / shown.max(), color=COLOURS[0], zorder=2)
    for (x, y), skill in zip(at, shown.index, strict=True):
        axis.text(x, y, skill, ha="center", va="bottom", fontsize=7.5, zorder=3, path_effects=[HALO])
    axis.margins(0.12, 0.08)
    return chart


@themed
def schedule(batches: pd.DataFrame, *, n_models: int = 24) -> Chart:
    """What ran when: one line per model, a bar for each of its loads, loading and generating apart.

    Frame of `ledger.batches_table`; with a column `this_run`, only its rows. Time without any load (a pause,
    or another run on the store) is cut out where it is longer than a minute and marked by a dotted line, so
    bars are to scale and gaps are not. Models with the most seconds first; beyond `n_models` they share a
    line.
    """
    frame = need(
        batches, ["model", "engine", "started_at"], ["load_s", "generate_s", "n_requests", "devices"]
    )
    if "this_run" in frame:
        frame = frame[frame["this_run"].astype(bool)].reset_index(drop=True)
    if frame.empty:
        raise SkillmoeError("nothing to draw: no load belongs to this run")
    loaded = pd.to_datetime(frame["started_at"], utc=True, format="ISO8601")  # to the second
    frame["start_s"] = (loaded - loaded.min()).dt.total_seconds() - frame["load_s"]
    frame["start_s"] -= frame["start_s"].min()
    frame["busy_s"] = frame["load_s"] + frame["generate_s"]
    frame = frame.sort_values("start_s", kind="stable").reset_index(drop=True)
    frame["at_s"], cuts = _without_pauses(frame)
    short = frame["model"].map(lambda name: str(name).rpartition("@")[0] or str(name)).str.rpartition("/")[2]
    frame["line"] = short.str.removeprefix("folder:").str.removeprefix("package:")
    spent = frame.groupby("line")["busy_s"].sum().sort_values(ascending=False, kind="stable")
    kept = list(spent.index[:n_models])
    frame["line"] = frame["line"].where(frame["line"].isin(kept), "other models")
    lines = kept + ["other models"] * (len(spent) > n_models)
    devices = sorted({int(n) for n in frame["devices"].dropna()})
    caption = f"""{len(frame)} loads. Hatched: the model loads; full: it generates. Devices held by a
        load: {", ".join(map(str, devices)) or "not on record"}. Dotted: a pause, cut out. Seconds:
        {number(frame["load_s"].sum())} loading, {number(frame["generate_s"].sum())} generating
        {number(frame["n_requests"].sum())} requests."""
    chart = blank_chart(8.0, 0.24 * len(lines) + 1.3, caption)
    axis = chart.subplots()
    rows = {line: i for i, line in enumerate(lines)}
    y = frame["line"].map(rows)
    loading: dict[str, Any] = {
        "facecolor": "white",
        "edgecolor": COLOURS[1],
        "hatch": "//////",
        "linewidth": 0.6,
    }
    axis.barh(y, frame["load_s"], 0.7, frame["at_s"], label="loading", **loading)
    axis.barh(
        y, frame["generate_s"], 0.7, frame["at_s"] + frame["load_s"], color=COLOURS[0], label="generating"
    )
    for cut in cuts:
        axis.axvline(cut, linestyle=":", color="#666666", linewidth=0.9)
    axis.set_yticks(range(len(lines)), lines, fontsize=7.5)
    axis.set_ylim(len(lines) - 0.4, -0.6)
    axis.grid(visible=False, axis="y")
    axis.set(xlabel="seconds since the first load, without pauses")
    chart.legend(loc="outside right upper")
    return chart


def _without_pauses(frame: pd.DataFrame, longest: float = 60.0) -> tuple[list[float], list[float]]:
    """Starts with long pauses shortened, and where they were; rows in the order of their starts."""
    starts, cuts, end, removed = [], [], 0.0, 0.0
    kept = 0.02 * float(frame["busy_s"].sum())
    for start, busy in zip(frame["start_s"], frame["busy_s"], strict=True):
        if start - end > longest:
            cuts.append(end - removed + kept / 2)
            removed += start - end - kept
        starts.append(start - removed)
        end = max(end, start + busy)
    return starts, cuts

"""Heat maps of the experts: what each is good at, where each was recruited, and who agrees with whom.

In the theme of `figures`; the number in each cell repeats its colour.
"""

import numpy as np
import pandas as pd

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.figures import Chart, blank_chart, labels_of, need, span, themed


@themed
def profile_heatmap(profiles: pd.DataFrame, *, n_skills: int = 30) -> Chart:
    """Skill x expert: mean score as colour, right minus wrong as number (frame as `tables.PROFILES`).

    Shows the `n_skills` skills with the most questions, ordered by the expert that is best at them.
    """
    frame = need(profiles, ["expert", "skill"], ["score", "n"])
    if frame.duplicated(["expert", "skill"]).any():
        raise SkillmoeError("profiles must have one row an expert and skill, given more")
    experts = frame.groupby("expert")["score"].sum().sort_values(ascending=False, kind="stable").index
    skills = frame.groupby("skill")["n"].max().sort_values(ascending=False, kind="stable").index[:n_skills]
    wide = frame.pivot_table(index="skill", columns="expert", values=["score", "n"]).loc[skills]
    score, n = wide["score"][experts], wide["n"][experts]
    best = (score / n).fillna(-2).to_numpy()
    order = np.lexsort([-best.max(axis=1), best.argmax(axis=1)])
    names = [f"{skill} ({span(n.loc[skill])})" for skill in skills[order]]
    caption = f"""Colour: mean score, (right - wrong) / n over the n validation questions with the skill.
        Number: right - wrong. Shown: the {len(skills)} of {len(set(frame["skill"]))} skills with most
        questions. Grey: no question of the skill was answered."""
    says = score.map("{:+.0f}".format).iloc[order]
    return _heatmap((score / n).iloc[order].set_axis(names), says, "RdBu", (-1, 1), "mean score", caption)


@themed
def recruitment(routes: pd.DataFrame) -> Chart:
    """How often each expert was recruited, by subject: routes of one method, with the column subject."""
    frame = need(routes, ["method", "expert", "subject"], [])
    if len(methods := frame["method"].unique()) > 1:
        raise SkillmoeError(f"slots are drawn for one method, given {', '.join(methods)}")
    counts = pd.crosstab(frame["subject"], frame["expert"])
    counts = counts[counts.sum().sort_values(ascending=False, kind="stable").index]
    n = counts.sum(axis=1)
    shares = 100 * counts.div(n, axis=0).set_axis([f"{name} (n = {n[name]:,} slots)" for name in n.index])
    caption = (
        f"{labels_of(frame)[methods[0]]}: who got the slots of each subject's questions; rows add to 100%."
    )
    return _heatmap(shares, shares.map("{:.0f}".format), "Blues", (0, 100), "share of slots (%)", caption)


@themed
def accuracy_by_family(table: pd.DataFrame) -> Chart:
    """Family x expert: accuracy as colour and number (percent); columns family, expert, accuracy, n."""
    frame = need(table, ["family", "expert"], ["accuracy", "n"])
    wide = frame.pivot_table(index="family", columns="expert", values="accuracy")
    wide = wide[wide.max().sort_values(ascending=False, kind="stable").index]
    order = np.lexsort([-wide.max(axis=1), wide.to_numpy().argmax(axis=1)])
    wide = 100 * wide.iloc[order]
    n = frame.pivot_table(index="family", columns="expert", values="n").loc[wide.index]
    names = [f"{family} ({span(n.loc[family])})" for family in wide.index]
    caption = "Accuracy of each expert's single answer, by family; n questions each."
    says = wide.map("{:.0f}".format)
    return _heatmap(wide.set_axis(names), says, "Blues", (0, 100), "accuracy (%)", caption)


@themed
def agreement_matrix(table: pd.DataFrame) -> Chart:
    """Expert x expert: how often two give the same answer (frame of `comparisons.agreement`), in percent.

    Experts are ordered so that those that agree stand together (average linkage).
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    frame = need(table, ["expert_a", "expert_b"], ["agreement", "n"])
    wide = frame.pivot_table(index="expert_a", columns="expert_b", values="agreement", dropna=False)
    if len(wide) > 2:
        apart = 1 - wide.fillna(0).to_numpy(copy=True)
        np.fill_diagonal(apart, 0)
        order = leaves_list(linkage(squareform((apart + apart.T) / 2), "average"))
        wide = wide.iloc[order, order]
    cells = 100 * wide
    off = cells.to_numpy()[~np.eye(len(cells), dtype=bool)]
    top = float(np.nanmax(off)) if np.isfinite(off).any() else 100.0
    others = frame.loc[frame["expert_a"] != frame["expert_b"], "n"]
    caption = f"""Share of the questions that both answered on which their answers are the same
        ({span(others if len(others) else frame["n"], " questions a pair")}). Who agrees in everything adds
        nothing to the other's vote."""
    says = cells.map(lambda share: "" if np.isnan(share) else f"{share:.0f}")
    return _heatmap(cells, says, "Blues", (0, max(top, 1.0)), "same answer (%)", caption)


def _heatmap(
    cells: pd.DataFrame, says: pd.DataFrame, cmap: str, limits: tuple[float, float], label: str, caption: str
) -> Chart:
    """Coloured cells with their numbers; columns named on top, null cells grey and empty."""
    import seaborn

    margin = 0.07 * max(map(len, cells.index)) + 1.6
    chart = blank_chart(0.42 * cells.shape[1] + margin, 0.24 * len(cells) + 1.9, caption)
    axis = chart.subplots()
    seaborn.heatmap(
        cells.astype(float), annot=says.to_numpy(), fmt="", annot_kws={"fontsize": 7}, cmap=cmap,
        vmin=limits[0], vmax=limits[1], ax=axis, xticklabels=True, yticklabels=True,
        cbar_kws={"label": label, "shrink": 0.7, "aspect": 30},
    )  # fmt: skip
    axis.set_facecolor("#cccccc")
    axis.grid(visible=False)
    axis.set(xlabel="", ylabel="")
    axis.tick_params(length=0, labelsize=8, top=False, bottom=False, labeltop=True, labelbottom=False)
    axis.tick_params(axis="y", rotation=0)
    for name in axis.get_xticklabels():
        name.set(rotation=45, ha="left")
    return chart

"""The sentence that opens a report: what routing by skill gains, over what, at what cost, and how certain it
is.

It is built from the paired table (`intervals.compare`) and says so if the questions cannot tell. The
baseline is fixed beforehand, so that nobody picks a weak one: Self-Consistency, which the paper sets its
headline against, or whatever the table is a comparison with. A second sentence names the strongest baseline
of the run.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from skillmoe_lib.evaluation.formats import percent, points, times
from skillmoe_lib.methods import lineup

OURS, AGAINST = "symbolic_moe", "self_consistency"
_FLIPPED = {"better": "worse", "worse": "better"}


class Headline(NamedTuple):
    """The sentence to quote, what to read with it, and the methods whose rows are behind both."""

    sentence: str
    context: str
    methods: tuple[str, ...]


def headlines(differences: pd.DataFrame, summary: pd.DataFrame) -> list[Headline]:
    """One headline per benchmark that has Symbolic-MoE and something to compare it with; else [].

    `differences` as `intervals.compare` gives it, with Symbolic-MoE as a method or as the baseline; `summary`
    as `ledger.summary`.
    """
    found = []
    for benchmark, part in differences.groupby("benchmark", sort=False):
        pairs = _ours(part)
        costs = summary[summary["benchmark"] == benchmark].drop_duplicates("method").set_index("method")
        if pairs and OURS in costs.index:
            found.append(_headline(str(benchmark), pairs, costs))
    return found


def _ours(part: pd.DataFrame) -> dict[str, Mapping[str, Any]]:
    """Other method -> Symbolic-MoE minus it: difference, low, high, verdict, n_questions, n_seeds."""
    pairs: dict[str, Mapping[str, Any]] = {}
    for found in part.to_dict("records"):
        row: dict[str, Any] = {str(name): value for name, value in found.items()}
        if row["method"] == OURS:
            pairs[str(row["baseline"])] = row
        elif row["baseline"] == OURS:
            turned = {"difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
            turned["verdict"] = _FLIPPED.get(row["verdict"], row["verdict"])
            pairs[str(row["method"])] = {**row, **turned}
    return {name: row for name, row in pairs.items() if pd.notna(row["difference"])}


def _headline(benchmark: str, pairs: Mapping[str, Mapping[str, Any]], costs: pd.DataFrame) -> Headline:
    kinds = {method.name: method.kind for method in lineup.METHODS}
    baselines = [name for name in pairs if kinds.get(name) == "baseline" and name in costs.index]
    accuracy = costs["accuracy"].astype(float).to_dict()
    strongest = max(baselines, key=accuracy.__getitem__, default="")
    against = AGAINST if AGAINST in pairs else strongest or next(iter(pairs))
    row, label = pairs[against], _label(against)
    cost, n = _cost(costs, against), f"n = {int(row['n_questions']):,}"
    size, ends = _plain(row["difference"]), (row["low"], row["high"])
    if row["verdict"] == "better":
        sentence = f"Routing by skill gains {size} points {_span(*ends)} over {label}{cost}; {n}"
    elif row["verdict"] == "worse":
        ends = (-row["high"], -row["low"])
        sentence = f"Routing by skill loses {size} points {_span(*ends)} against {label}{cost}; {n}"
    else:
        sentence = (
            f"These questions cannot tell routing by skill from {label}: a difference of "
            f"{points(row['difference'])} points {_span(*ends)}{cost}; {n}"
        )
    return Headline(sentence, _context(benchmark, pairs, costs, against, strongest), (OURS, against))


def _context(
    benchmark: str, pairs: Mapping[str, Mapping[str, Any]], costs: pd.DataFrame, against: str, strongest: str
) -> str:
    row = pairs[against]
    seeds = int(row.get("n_seeds", 1))
    told = [
        f"Symbolic-MoE has {percent(costs.loc[OURS, 'accuracy'])}% of the questions of {benchmark} right; "
        f"95% interval over questions, {seeds} seed{'s' if seeds > 1 else ''}."
    ]
    if _cost(costs, against):
        told.append("Cost: device seconds for one question, keyword calls included where they are known.")
    if seeds == 1:
        told.append("Other draws (keywords, samples) are not in the interval.")
    if strongest and strongest != against:
        other = pairs[strongest]
        verdict = {"better": "Symbolic-MoE is certainly better", "worse": "Symbolic-MoE is certainly worse"}
        told.append(
            f"The most accurate baseline here is {_label(strongest)}, "
            f"{percent(costs.loc[strongest, 'accuracy'])}%: "
            f"{verdict.get(other['verdict'], 'the questions cannot tell')} "
            f"({points(other['difference'])} points {_span(other['low'], other['high'])})."
        )
    elif strongest:
        told.append(f"No baseline of this run is more accurate than {_label(strongest)}.")
    return " ".join(told)


def _cost(costs: pd.DataFrame, against: str) -> str:
    """ " at 0.9 times its cost", in device seconds with keyword calls; "" if unknown."""
    if against not in costs.index:
        return ""
    names = ["device_seconds", "keyword_device_seconds"]
    spent = costs.reindex(columns=names).astype(float).loc[[OURS, against]]
    both = spent["device_seconds"] + spent["keyword_device_seconds"].fillna(0.0)
    ours, theirs = float(both[OURS]), float(both[against])
    if not (ours > 0 and theirs > 0):
        return ""
    counted = bool(spent["keyword_device_seconds"].notna()[OURS])
    uncounted = "" if counted else ", keyword calls not counted"
    return f" at {times(ours / theirs)} times its cost{uncounted}"


def _plain(difference: float) -> str:
    """The size of a difference, without its sign."""
    return points(abs(difference)).removeprefix("+")


def _span(low: float, high: float) -> str:
    return f"[{points(low).removeprefix('+')}, {points(high).removeprefix('+')}]"


def _label(name: str) -> str:
    return lineup.labels().get(name, name)

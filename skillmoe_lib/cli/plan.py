"""`plan`: what notebooks would ask, load, take and cost, as text or JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from skillmoe_lib.cli import notebooks
from skillmoe_lib.cli.parameters import read_parameters
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.studies import plan as plans
from skillmoe_lib.studies.plan import Plan, Settings

_SHOWN = ["requests", "prompt_tokens", "output_tokens", "loads", "seconds", "memory_gb", "disk_mb", "money"]


def plan(
    names: Sequence[str], given: Mapping[str, str], *, fresh: bool = False, as_json: bool = False
) -> str:
    """The plan of these notebooks of the chain; parameters are checked as `run` checks them.

    Raises
    ------
    SkillmoeError
        A notebook that is not of the chain; whatever `run` would refuse.
    """
    jobs = notebooks.make_jobs(notebooks.find_notebooks(names), given)
    own = {path.stem for path in notebooks.find_notebooks(["chain"])}
    for job in jobs:
        if job.path.stem not in own:
            raise SkillmoeError(
                f"{job.path.stem} cannot be planned: it must be chain, or one of {', '.join(sorted(own))}"
            )
    values: dict[str, Any] = {}
    for job in jobs:
        values |= {p.name: p.default for p in read_parameters(job.path).values()} | dict(job.given)
    known = {name: value for name, value in values.items() if name in Settings.__dataclass_fields__}
    steps = [job.path.stem for job in jobs if job.path.stem in plans.STEPS]
    made = plans.chain(Settings(**known), steps, fresh=fresh)
    return json.dumps(_data(made), indent=1) if as_json else _text(made)


def _data(made: Plan) -> dict[str, Any]:
    def rows(frame: pd.DataFrame) -> Any:
        return json.loads(frame.to_json(orient="records", double_precision=6))

    experts = rows(made.by_expert())
    return {
        "experts": experts[:-1],
        "notebooks": rows(made.by_step())[:-1],
        "sum": {name: value for name, value in experts[-1].items() if name != "expert"},
        "will_not_fit": rows(made.obstacles),
        "rests_on": list(made.notes),
        "cpu_s": round(made.cpu_s, 2),
    }


def _text(made: Plan) -> str:
    if made.requests.empty:
        return f"nothing lacks: everything is stored (planned in {made.cpu_s:.0f} s)"
    table = made.by_expert()
    total = table.iloc[-1]
    lines = [_table(table, "expert"), "", _table(made.by_step(), "step"), ""]
    lines.append(
        f"{_time(total['seconds'])} of loading and generating, most likely {_time(total['low_s'])} to "
        f"{_time(total['high_s'])}; {total['loads']} loads, {total['swaps']} of them swaps"
    )
    lines += [f"- {note}" for note in made.notes]
    lines += plans.told(made.obstacles) or ["everything fits"]
    return "\n".join([*lines, f"(planned in {made.cpu_s:.0f} s of processor time)"])


def _table(frame: pd.DataFrame, by: str) -> str:
    shown = [name for name in _SHOWN if name != "money" or frame["money"].notna().any()]
    cells = [[by, *shown, "basis"]]
    for row in frame.to_dict("records"):
        numbers = [_number(name, row[name]) for name in shown]
        cells.append([str(row[by]), *numbers, row["basis"]])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            c.ljust(w) if i in (0, len(widths) - 1) else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _number(name: str, value: Any) -> str:
    if pd.isna(value):
        return "-"
    return (
        f"{value:,.1f}"
        if name in ("memory_gb", "disk_mb")
        else f"{value:,.2f}"
        if name == "money"
        else f"{value:,.0f}"
    )


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

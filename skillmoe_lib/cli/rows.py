"""The rows behind a report's numbers: one page and one CSV a method, one row a question and seed.

Every accuracy and difference on the report's page links here. A row can be linked to by its question's id.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from skillmoe_lib import tables
from skillmoe_lib.cli.page import render
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import formats
from skillmoe_lib.files import replace_file
from skillmoe_lib.methods import lineup

OURS = "symbolic_moe"
FOLDER = "rows"
#: A page holds no more rows than this; the CSV beside it holds all.
LONGEST_PAGE = 5000


def write_rows(folder: Path) -> dict[str, str]:
    """Write `rows/METHOD.html` and `.csv` for every method of a report; method -> page, relative to it.

    {} if the report has no results, or they cannot be read.
    """
    try:
        results = tables.read(folder / "tables" / "results.parquet", tables.RESULTS)
    except SkillmoeError:
        return {}
    about = _about_questions(folder)
    experts = _experts(folder)
    ours = results[results["method"] == OURS].set_index(["seed", "question_id"])["correct"]
    labels, described = lineup.labels(), lineup.described()
    pages: dict[str, str] = {}
    for number, (name, part) in enumerate(results.groupby("method", sort=False)):
        method = str(name)
        rows = part.drop(columns=["method"]).merge(about, on="question_id", how="left")
        if method in experts:
            rows = rows.merge(experts[method], on=["seed", "question_id"], how="left")
        if method != OURS and len(ours):
            rows = rows.join(ours.rename("symbolic_moe_correct"), on=["seed", "question_id"])
        first = ["seed", "question_id", "subject", "gold", "answer", "status", "correct"]
        order = [column for column in first if column in rows]
        rows = rows[order + [column for column in rows if column not in order]]
        stem = _file_name(method, number)
        replace_file(folder / FOLDER / f"{stem}.csv", rows.to_csv(index=False, lineterminator="\n"))
        page = _page(labels.get(method, method), described.get(method, ""), stem, rows)
        replace_file(folder / FOLDER / f"{stem}.html", page)
        pages[method] = f"{FOLDER}/{stem}.html"
    return pages


def anchor(question_id: str, seed: int) -> str:
    """The id of a row on its method's page."""
    return question_id if seed == 0 else f"{question_id}-seed{seed}"


def _file_name(method: str, number: int) -> str:
    """The method's name if it is a plain one; variants ("k = 3") get a number."""
    return method if method.isidentifier() else f"method_{number}"


def _page(label: str, about: str, stem: str, rows: pd.DataFrame) -> str:
    shown = rows.head(LONGEST_PAGE)
    n_seeds = shown["seed"].nunique()
    readable = formats.for_readers(shown.drop(columns=["benchmark"] + ["seed"] * (n_seeds == 1)))
    ran = rows[rows["status"] != "not_run"]
    values: dict[str, Any] = {
        "title": label,
        "about": about,
        "csv": f"{stem}.csv",
        "columns": list(readable),
        "numeric": formats.is_numeric(shown.drop(columns=["benchmark"] + ["seed"] * (n_seeds == 1))),
        "rows": readable.to_numpy().tolist(),
        "anchors": [anchor(q, int(s)) for q, s in zip(shown["question_id"], shown["seed"], strict=True)],
        "right": shown["correct"].tolist(),
        "counts": f"{int(ran['correct'].sum()):,} of {len(ran):,} right"
        + (f", {len(rows) - len(ran):,} not run" if len(ran) < len(rows) else ""),
        "cut": len(rows) > LONGEST_PAGE,
    }
    return render("rows", **values)


def _about_questions(folder: Path) -> pd.DataFrame:
    try:
        asked = tables.read(folder / "tables" / "questions.parquet", tables.QUESTIONS)
    except SkillmoeError:
        return pd.DataFrame({"question_id": pd.Series(dtype="string")})
    return asked[["question_id", "subject", "gold"]]


def _experts(folder: Path) -> dict[str, pd.DataFrame]:
    """Method -> seed, question_id, experts: the experts of its slots, in slot order."""
    try:
        routes = tables.read(folder / "tables" / "routes.parquet", tables.ROUTES)
    except SkillmoeError:
        return {}
    ordered = routes.sort_values(["seed", "question_id", "slot"])
    joined = ordered.groupby(["method", "seed", "question_id"])["expert"].agg(" + ".join)
    by_route = {str(name): part.drop(columns="method") for name, part in
                joined.rename("experts").reset_index().groupby("method")}  # fmt: skip
    used = {method.name: method.route for method in lineup.METHODS if method.route in by_route}
    return {name: by_route[route] for name, route in used.items()}

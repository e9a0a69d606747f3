"""Recruiting as many experts as reach a cumulated routing probability, instead of a fixed k."""

import pandas as pd

from skillmoe_lib import tables


def confidence_sized(chances: pd.DataFrame, *, mass: float, seed: int) -> pd.DataFrame:
    """As many experts as reach a cumulated probability, the most probable first (METHOD section 4)."""
    rows = []
    for question_id, row in chances.iterrows():
        ordered = row.sort_values(ascending=False, kind="stable")
        n = int((ordered.cumsum() < mass - 1e-9).sum()) + 1
        for slot, (expert, p) in enumerate(ordered.iloc[:n].items()):
            rows.append(("confidence_sized", seed, question_id, slot, expert, None, p))
    return tables.check(pd.DataFrame(rows, columns=list(tables.ROUTES.columns)), tables.ROUTES)

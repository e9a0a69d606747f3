"""Recruiting as many experts as reach a summed routing probability, instead of a fixed k."""

from collections.abc import Iterable

import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from skillmoe_lib import tables
from skillmoe_lib.routing.entry import RouterEntry
from skillmoe_lib.routing.skill_router import SkillRouter


class ConfidenceSizedRouter(BaseEstimator):  # type: ignore[misc]
    """As many experts as reach the probability `mass` of a skill router, the most probable first."""

    def __init__(self, skill_router: SkillRouter, *, mass: float = 0.9) -> None:
        self.skill_router = skill_router
        self.mass = mass

    def fit(self, X: pd.DataFrame, scores: pd.DataFrame) -> "ConfidenceSizedRouter":
        """Fit the skill router on a Skills frame."""
        self.skill_router_ = clone(self.skill_router).fit(X, scores)
        return self

    def route(
        self,
        X: pd.DataFrame,
        *,
        seed: int = 0,
        question_ids: Iterable[str] | None = None,
        method: str = "confidence_sized",
    ) -> pd.DataFrame:
        """Routes frame; nothing is drawn, so the seed is only a label."""
        check_is_fitted(self, "skill_router_")
        chances = self.skill_router_.probabilities(X, question_ids=question_ids)
        return confidence_sized(chances, mass=self.mass, seed=seed, method=method)


def confidence_sized(
    chances: pd.DataFrame, *, mass: float, seed: int, method: str = "confidence_sized"
) -> pd.DataFrame:
    """As many experts as reach a summed probability, the most probable first (docs/method.md 4)."""
    rows = []
    for question_id, row in chances.iterrows():
        ordered = row.sort_values(ascending=False, kind="stable")
        n = int((ordered.cumsum() < mass - 1e-9).sum()) + 1
        for slot, (expert, p) in enumerate(ordered.iloc[:n].items()):
            rows.append((method, seed, question_id, slot, expert, None, p))
    return tables.check(pd.DataFrame(rows, columns=list(tables.ROUTES.columns)), tables.ROUTES)


CONFIDENCE_ROUTER = RouterEntry(
    "skills", lambda settings: ConfidenceSizedRouter(settings.skill_router, mass=settings.mass)
)

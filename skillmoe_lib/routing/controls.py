"""Controls for the routers: the k most accurate experts for every question, and k at random."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skillmoe_lib.profiling.profiles import outcomes
from skillmoe_lib.routing import slots
from skillmoe_lib.routing.entry import RouterEntry
from skillmoe_lib.routing.ranked import Array, Ranked, question_ids_of


class GlobalTopK(Ranked):
    """Control: the k most accurate experts on validation, the same for every question."""

    def __init__(self, k: int = 3) -> None:
        self.k = k

    def fit(self, X: pd.DataFrame, scores: pd.DataFrame) -> "GlobalTopK":
        """Learn each expert's accuracy; X names the questions."""
        self._grid(X, scores)
        return self

    def _estimate(self, X: pd.DataFrame, ids: pd.Index) -> Array:  # noqa: ARG002
        return np.tile(self.accuracy_.to_numpy(), (len(ids), 1))


class RandomRouter(BaseEstimator):  # type: ignore[misc]
    """Control: k experts uniformly at random for each question, without replacement unless asked."""

    def __init__(self, k: int = 3, *, replace: bool = False) -> None:
        self.k = k
        self.replace = replace

    def fit(self, X: pd.DataFrame, scores: pd.DataFrame) -> "RandomRouter":  # noqa: ARG002
        """Learn the experts' names."""
        self.experts_ = list(outcomes(scores).columns)
        slots.check_k(self.k, len(self.experts_), replace=self.replace)
        return self

    def route(
        self,
        X: pd.DataFrame,
        *,
        seed: int = 0,
        question_ids: Iterable[str] | None = None,
        method: str = "random",
    ) -> pd.DataFrame:
        """Routes frame; a question's draw depends only on the seed and its id."""
        check_is_fitted(self, "experts_")
        n = len(self.experts_)
        ids = question_ids_of(X, question_ids)
        chances = pd.DataFrame(1 / n, index=ids, columns=self.experts_)
        drawn = slots.draw(chances, self.k, seed=seed, replace=self.replace, reserve=np.zeros(n))
        return slots.routes(drawn, chances * np.nan, chances, seed=seed, method=method)


TOP_K_ROUTER = RouterEntry("ids", lambda settings: GlobalTopK(settings.k))
RANDOM_ROUTER = RouterEntry("ids", lambda settings: RandomRouter(settings.k))

"""Base of the routers that rank experts by expected accuracy and take the first k."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.profiling.profiles import outcomes
from skillmoe_lib.routing import slots

Array = NDArray[np.float64]


class Ranked(BaseEstimator, ABC):  # type: ignore[misc]
    """Gives each question the k experts with the highest `estimates`, slot 0 to the best.

    Ties go to the alphabetically first expert. `suitability` is the estimate, `probability` null, and the
    seed changes nothing. `question_ids` selects and orders the questions; None: all of X.
    """

    k: int
    experts_: list[str]

    def estimates(self, X: pd.DataFrame, *, question_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """Expected accuracy of each expert, question x expert."""
        check_is_fitted(self, "experts_")
        ids = question_ids_of(X, question_ids)
        expected = self._estimate(X, ids)
        return pd.DataFrame(expected, index=ids, columns=pd.Index(self.experts_, name="expert"))

    def route(
        self,
        X: pd.DataFrame,
        *,
        seed: int = 0,
        question_ids: Iterable[str] | None = None,
        method: str = "ranked",
    ) -> pd.DataFrame:
        """Routes frame: the k experts ranked first for every question."""
        expected = self.estimates(X, question_ids=question_ids)
        drawn = np.argsort(-expected.to_numpy(), axis=1, kind="stable")[:, : self.k]
        return slots.routes(drawn, expected, None, seed=seed, method=method)

    def _grid(self, X: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
        """Outcomes of the scored questions in X, question x expert; stores experts and accuracy."""
        grid = outcomes(scores)
        slots.check_k(self.k, grid.shape[1], replace=False)
        grid = grid.loc[grid.index.isin(question_ids_of(X))]
        if grid.empty:
            raise SkillmoeError("none of the scored questions is among those given to fit the router")
        self.experts_ = list(grid.columns)
        self.accuracy_ = grid.mean()
        return grid

    @abstractmethod
    def _estimate(self, X: pd.DataFrame, ids: pd.Index) -> Array:
        """Estimates for these ids, shape (len(ids), n_experts)."""


def question_ids_of(X: pd.DataFrame, question_ids: Iterable[str] | None = None) -> pd.Index:
    """The question ids given, or all of a Skills or embeddings frame."""
    if question_ids is None:
        question_ids = X["question_id"].unique() if "question_id" in X else X.index
    return pd.Index(list(question_ids), name="question_id")


def vectors_of(X: pd.DataFrame, ids: pd.Index) -> Array:
    """Rows of an embeddings frame, shape (len(ids), d)."""
    if len(absent := ids.difference(X.index)):
        raise SkillmoeError(
            f"{len(absent)} of {len(ids)} questions have no embedding, the first {absent[0]!r}"
        )
    return X.loc[ids].to_numpy(float)

"""Routers to compare with, on question embeddings (docs/method.md 4).

All are scikit-learn estimators, `fit(X, scores)` on validation and `route(X, seed=...)` to a Routes frame.
X is an embeddings frame (index question_id, one column per dimension). Our own router is in `committee`,
controls are in `controls`.
"""

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.routing.entry import RouterEntry
from skillmoe_lib.routing.ranked import Array, Ranked, vectors_of


class ClusterRouter(Ranked):
    """Avengers (Zhang et al. 2025): k-means on embeddings, experts ranked by accuracy in the cluster.

    Departures: an expert without an outcome in a cluster gets its overall accuracy there, and there is one
    clustering (seeded), not a vote over several.
    """

    def __init__(self, k: int = 3, *, n_clusters: int = 8, seed: int = 0) -> None:
        self.k = k
        self.n_clusters = n_clusters
        self.seed = seed

    def fit(self, X: pd.DataFrame, scores: pd.DataFrame) -> "ClusterRouter":
        """Cluster the validation questions and rank the experts in each cluster."""
        grid = self._grid(X, scores)
        if not 1 <= self.n_clusters <= len(grid):
            raise SkillmoeError(
                f"n_clusters must be from 1 to {len(grid)} (questions), given {self.n_clusters}"
            )
        self.kmeans_ = KMeans(self.n_clusters, n_init=10, random_state=self.seed)
        clusters = self.kmeans_.fit_predict(vectors_of(X, grid.index))
        self.by_cluster_ = grid.groupby(clusters).mean().fillna(self.accuracy_)
        return self

    def _estimate(self, X: pd.DataFrame, ids: pd.Index) -> Array:
        return np.asarray(self.by_cluster_.loc[self.kmeans_.predict(vectors_of(X, ids))])


class KNNRouter(Ranked):
    """Experts ranked by their accuracy on the nearest validation questions (cosine)."""

    def __init__(self, k: int = 3, *, n_neighbors: int = 40) -> None:
        self.k = k
        self.n_neighbors = n_neighbors

    def fit(self, X: pd.DataFrame, scores: pd.DataFrame) -> "KNNRouter":
        """Keep the validation questions' embeddings and outcomes (a missing one is the expert's mean)."""
        grid = self._grid(X, scores)
        if not 1 <= self.n_neighbors <= len(grid):
            raise SkillmoeError(
                f"n_neighbors must be from 1 to {len(grid)} (questions), given {self.n_neighbors}"
            )
        self.outcomes_ = grid.fillna(self.accuracy_).to_numpy()
        self.neighbors_ = NearestNeighbors(n_neighbors=self.n_neighbors, metric="cosine")
        self.neighbors_.fit(vectors_of(X, grid.index))
        return self

    def _estimate(self, X: pd.DataFrame, ids: pd.Index) -> Array:
        nearest = self.neighbors_.kneighbors(vectors_of(X, ids), return_distance=False)
        return np.asarray(self.outcomes_[nearest].mean(axis=1))


class LogisticRouter(Ranked):
    """One logistic regression for each expert: the probability that it answers such a question correctly."""

    def __init__(self, k: int = 3, *, C: float = 1.0) -> None:
        self.k = k
        self.C = C

    def fit(self, X: pd.DataFrame, scores: pd.DataFrame) -> "LogisticRouter":
        """Fit each expert on the questions it was run on; one that is always right or wrong keeps that rate.

        Of several samples of a question the majority is the label.
        """
        grid = self._grid(X, scores)
        self.models_: dict[str, LogisticRegression] = {}
        for expert in self.experts_:
            ran = grid[expert].dropna() >= 0.5
            if ran.nunique() == 2:
                model = LogisticRegression(C=self.C, max_iter=1000)
                self.models_[expert] = model.fit(vectors_of(X, ran.index), ran)
        return self

    def _estimate(self, X: pd.DataFrame, ids: pd.Index) -> Array:
        vectors = vectors_of(X, ids)
        columns = [
            self.models_[expert].predict_proba(vectors)[:, 1]
            if expert in self.models_
            else np.full(len(ids), self.accuracy_[expert])
            for expert in self.experts_
        ]
        return np.column_stack(columns)


# There are at most as many clusters or neighbours as scored questions.
CLUSTER_ROUTER = RouterEntry(
    "embeddings", lambda settings: ClusterRouter(settings.k, n_clusters=min(8, settings.n_scored))
)
KNN_ROUTER = RouterEntry(
    "embeddings", lambda settings: KNNRouter(settings.k, n_neighbors=min(40, settings.n_scored))
)
LOGISTIC_ROUTER = RouterEntry("embeddings", lambda settings: LogisticRouter(settings.k))

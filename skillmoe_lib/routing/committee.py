"""Our own router: estimates committees rather than experts, and shrinks noisy estimates."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from skillmoe_lib import seeding
from skillmoe_lib.routing import slots
from skillmoe_lib.routing.entry import RouterEntry
from skillmoe_lib.routing.ranked import Array, Ranked, vectors_of

#: All right answers are one answer, however they are written.
RIGHT = "\x00right"


class CommitteeRouter(Ranked):
    """Our own: recruit the committee whose majority vote is expected to do best on this question.

    Two remedies for profiles that are mostly noise at a few hundred validation questions:

    - *Shrinkage.* A ridge regression on the embedding predicts each outcome; its penalty is chosen by
      leave-one-out error inside validation, on the experts' outcomes minus each question's mean (how hard
      a question is says nothing about which expert to ask). With much noise the penalty grows and every
      estimate shrinks to its overall accuracy: the router falls back to a fixed committee.
    - *Committees, not experts, are estimated.* The regression's targets are the outcomes of the
      committees' votes on validation, so experts that make the same errors gain nothing from each other.
      The candidates are all k-subsets of the `n_candidates` most accurate experts, and each expert by
      itself with all k slots (so that one far above the rest cannot be outvoted).

    *And a guard*: if the committees chosen for held-out validation questions do not gain at least
    `guard` standard errors over the fixed top k (paired, five folds by question id), validation shows no
    reason to route, and every question gets the top k (`guarded_` is then True). None: no guard.

    Ties of a vote are broken as in `aggregation.vote`: the most accurate member has the first slot, so the
    answer whose first voter is the most accurate wins. If scores have no `answer`, wrong answers are
    assumed to agree (the worst case for a vote). A committee's outcome on a question that a member was not
    run on is missing, and replaced by the committee's mean.
    """

    def __init__(
        self,
        k: int = 3,
        *,
        n_candidates: int = 8,
        guard: float | None = 1.0,
        alphas: tuple[float, ...] = (1, 3, 10, 30, 100, 300, 1000),
    ) -> None:
        self.k = k
        self.n_candidates = n_candidates
        self.guard = guard
        self.alphas = alphas

    def fit(self, X: pd.DataFrame, scores: pd.DataFrame) -> "CommitteeRouter":
        """Choose the penalty, list the candidates, regress their votes, and test whether routing gains."""
        grid = self._grid(X, scores)
        filled = grid.fillna(self.accuracy_)
        vectors = vectors_of(X, grid.index)
        relative = filled.sub(filled.mean(axis=1), axis=0)
        self.alpha_ = float(RidgeCV(alphas=self.alphas).fit(vectors, relative).alpha_)
        ranked = [int(i) for i in np.argsort(-self.accuracy_.to_numpy(), kind="stable")]
        subsets = combinations(ranked[: max(self.n_candidates, self.k)], self.k)
        # The first of them is the fixed top k.
        self.committees_ = np.array([*dict.fromkeys([*subsets, *((i,) * self.k for i in ranked)])])
        votes = committee_outcomes(scores, grid, self.committees_)
        self.ridge_ = Ridge(alpha=self.alpha_).fit(vectors, votes)
        self.members_ = Ridge(alpha=self.alpha_).fit(vectors, filled)
        self.gains_ = self._held_out_gains(vectors, votes, grid.index)
        error = self.gains_.std() / np.sqrt(self.gains_.size)
        self.guarded_ = self.guard is not None and bool(self.gains_.mean() <= self.guard * error)
        return self

    def _held_out_gains(self, vectors: Array, votes: Array, ids: pd.Index) -> Array:
        """Routed vote minus the top k's vote on each validation question, routed without it."""
        folds = PredefinedSplit([seeding.stable_seed("fold", question_id) % 5 for question_id in ids])
        if folds.get_n_splits() < 2:
            return np.zeros(len(ids))
        held_out = cross_val_predict(Ridge(alpha=self.alpha_), vectors, votes, cv=folds)
        return np.asarray(votes[np.arange(len(ids)), held_out.argmax(axis=1)] - votes[:, 0])

    def route(
        self,
        X: pd.DataFrame,
        *,
        seed: int = 0,
        question_ids: Iterable[str] | None = None,
        method: str = "committee",
    ) -> pd.DataFrame:
        """Routes frame: the best committee's members, the most accurate first."""
        expected = self.estimates(X, question_ids=question_ids)
        if self.guarded_:
            best = np.zeros(len(expected), dtype=int)
        else:
            best = self.ridge_.predict(vectors_of(X, expected.index)).argmax(axis=1)
        drawn = self.committees_[best]
        return slots.routes(drawn, expected, None, seed=seed, method=method)

    def _estimate(self, X: pd.DataFrame, ids: pd.Index) -> Array:
        return np.asarray(self.members_.predict(vectors_of(X, ids)))


def committee_outcomes(scores: pd.DataFrame, grid: pd.DataFrame, committees: NDArray[np.int64]) -> Array:
    """Whether each committee's plurality vote is right, shape (n_questions, n_committees).

    Committees hold columns of the outcomes `grid`, in slot order; a tie goes to the answer that was given
    first, as in `aggregation.vote`. If a member was not run the outcome is the committee's mean.
    """
    answers = _answers(scores, grid)
    codes = np.unique(answers)
    # Votes for each answer, question x expert x answer; no vote if no answer was found.
    cast = (answers[:, :, None] == codes) & (answers != "")[:, :, None]
    known = grid.notna().to_numpy()
    # The bonuses sum to less than a vote, and each is more than all later ones: they only break ties.
    weights = 1 + 0.5 * 0.5 ** np.arange(1, committees.shape[1] + 1)
    result = np.empty((len(grid), len(committees)))
    for column, members in enumerate(committees):
        tally = np.einsum("qka,k->qa", cast[:, members], weights)
        won = np.where(tally.any(axis=1), codes[tally.argmax(axis=1)], "")
        outcome = np.where(known[:, members].all(axis=1), won == RIGHT, np.nan)
        mean = np.nanmean(outcome) if known[:, members].all(axis=1).any() else 0.0
        result[:, column] = np.where(np.isnan(outcome), mean, outcome)
    return result


def _answers(scores: pd.DataFrame, grid: pd.DataFrame) -> NDArray[np.str_]:
    """What each expert answered, question x expert: RIGHT, a wrong answer, or "" if none was found."""
    wrong = pd.DataFrame("wrong", index=grid.index, columns=grid.columns)
    if "answer" in scores:
        first = scores.drop_duplicates(["question_id", "expert"])
        found = first.pivot_table(index="question_id", columns="expert", values="answer", aggfunc="first")
        wrong = found.reindex(index=grid.index, columns=grid.columns).astype(object)
        wrong = wrong.fillna("").astype(str)
    return np.where(grid.to_numpy() >= 0.5, RIGHT, wrong.to_numpy(str))


COMMITTEE_ROUTER = RouterEntry("embeddings", lambda settings: CommitteeRouter(settings.k))

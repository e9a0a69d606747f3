"""Recruiting experts by skill (docs/method.md 1.4 and 1.5), as a scikit-learn estimator.

A router is fitted on the validation questions' skills and scores and gives each question k slots; `slots`
draws them from its probabilities.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.profiling.profiles import outcomes, profile, totals
from skillmoe_lib.routing import slots

Formula = Literal["published", "released", "fixed"]
Use = Literal["both", "local", "global"]
Array = NDArray[np.float64]
_SETTINGS = {
    "formula": ("published", "released", "fixed"),
    "refill": ("slots", "probabilities"),
    "use": ("both", "local", "global"),
    "expert_order": ("name", "as_given"),
}


def softmax(relevance: Array) -> Array:
    """Softmax along the last axis."""
    powers = np.exp(relevance - relevance.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def competency(total: Array, formula: Formula) -> Array:
    """Global competency gamma of each expert from its profile total, shape (n_experts,).

    published: total / sum of totals. released: totals shifted by -min + 1 if any is negative, then
    their squares over the sum of squares (uniform if all are zero).
    """
    if formula == "published":
        if total.sum() == 0:
            raise SkillmoeError(
                "formula 'published' is undefined if the experts' totals sum to zero: use 'fixed'"
            )
        return np.asarray(total / total.sum())
    shifted = total - total.min() + 1 if (total < 0).any() else total
    squares = np.square(shifted if shifted.any() else np.ones_like(shifted))
    return np.asarray(squares / squares.sum())


class SkillRouter(BaseEstimator):  # type: ignore[misc]
    """Recruit k experts for each question from their profiles.

    Parameters
    ----------
    k
        Slots for each question.
    formula
        How suitability S (sum of profile scores over the question's skills) and competency become
        probabilities.

        - "published": w = gamma * S, softmax(w / temperature). Kept as printed: if the totals' sum
          is negative the ranking is reversed, and a bad S times a bad gamma is good. A question
          without skills has w = 0: a uniform draw.
        - "released": p in proportion to gamma (of shifted, squared totals) times S, over experts with
          S > 0; if there is none, S is shifted by -min + 1 over all. No temperature. A question
          without skills: uniform.
        - "fixed": w = (S + (prior + n_q - n) * (2 a - 1)) / n_experts, softmax(w / temperature), where a
          is the expert's accuracy on all of validation (posterior mean under a uniform prior), n the
          number of answers behind its S and n_q the largest such number of any expert. In words: to the
          skills' evidence we add `prior` imagined answers of the expert's overall accuracy, and one for
          each answer that was not run. A sum keeps its meaning for negative totals: it grows with S and
          with a (so an expert is never ranked above one that dominates it), shrinks an S of few answers
          toward overall accuracy, and is overall accuracy alone if a question has no skill. Dividing by
          the number of experts puts w on the scale of gamma * S, whose gamma is near 1 / n_experts, so
          that temperatures are comparable between the two.
    temperature
        Used by the softmax; "released" ignores it. The paper's is 0.5; `tuning` chooses one on validation.
    replace
        Draw with replacement (an expert drawn twice answers twice). Otherwise experts of probability zero
        fill the remaining slots in order of competency.
    trim, refill
        Experts with fewer than this share of all slots are dropped, and their slots drawn again among
        the kept, in proportion to their "slots" or to the question's own "probabilities". If no expert
        reaches the share, none is dropped; without replacement at least k experts are kept. 0: no
        trimming (the released code never called its own).
    use
        "local": suitability only; "global": competency only; "both".
    count_duplicates
        Whether two skills of a question that were matched to the same word count twice.
    threshold
        Least similarity (cosine) of a matched skill to count; None: all.
    prior
        Number of imagined answers of formula "fixed".
    expert_order
        Order in which the draw lays out experts: by "name", or "as_given" in the scores (the released
        code took the file system's). Changes the draws of a seed, never a probability.

    Attributes
    ----------
    experts_
        Names, in the order of every column.
    profiles_
        The Profiles frame; `profile_` its scores and `n_` its counts, expert x skill; `totals_` the
        sums of scores.
    accuracy_
        Each expert's validation accuracy, posterior mean under a uniform prior.

    Notes
    -----
    The paper is `SkillRouter(formula="published")`; its released code is
    `SkillRouter(formula="released", trim=0, expert_order="as_given")`.
    """

    def __init__(
        self,
        k: int = 3,
        *,
        formula: Formula = "fixed",
        temperature: float = 0.5,
        replace: bool = True,
        trim: float = 0.05,
        refill: Literal["slots", "probabilities"] = "slots",
        use: Use = "both",
        count_duplicates: bool = True,
        threshold: float | None = None,
        prior: float = 10.0,
        expert_order: Literal["name", "as_given"] = "name",
    ) -> None:
        self.k = k
        self.formula = formula
        self.temperature = temperature
        self.replace = replace
        self.trim = trim
        self.refill = refill
        self.use = use
        self.count_duplicates = count_duplicates
        self.threshold = threshold
        self.prior = prior
        self.expert_order = expert_order

    def fit(self, skills: pd.DataFrame, scores: pd.DataFrame) -> "SkillRouter":
        """Learn profiles from a Skills frame and a Scores frame of the validation questions.

        Of Scores the columns question_id, expert, correct and status are used.
        """
        grid = outcomes(scores)
        names = list(grid.columns) if self.expert_order == "name" else list(dict.fromkeys(scores["expert"]))
        self._check_settings(len(names))
        self.profiles_ = profile(skills, scores)
        wide = self.profiles_.pivot_table(
            index="expert", columns="skill", values=["score", "n"], fill_value=0
        )
        wide = wide.reindex(names, fill_value=0).astype(float)
        self.experts_ = names
        self.profile_, self.n_ = wide["score"], wide["n"]
        self.totals_ = totals(self.profiles_).reindex(names, fill_value=0).astype(float)
        n_right, n_ran = grid[names].sum(), grid[names].notna().sum()
        self.accuracy_ = (n_right + 1) / (n_ran + 2)
        return self

    def _check_settings(self, n_experts: int) -> None:
        for name, allowed in _SETTINGS.items():
            if getattr(self, name) not in allowed:
                raise unknown(name, getattr(self, name), allowed)
        if not self.temperature > 0 or not 0 <= self.trim < 1 or self.prior < 0:
            raise SkillmoeError(
                "temperature must be above 0, trim from 0 to below 1 and prior at least 0, "
                f"given {self.temperature}, {self.trim} and {self.prior}"
            )
        slots.check_k(self.k, n_experts, replace=self.replace)

    def suitability(self, skills: pd.DataFrame, *, question_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """Local suitability S, question x expert; null for a question without a known skill."""
        counts = self._counts(skills, question_ids)
        local = np.where(counts.n_known[:, None] > 0, counts.table @ self.profile_.T.to_numpy(), np.nan)
        return pd.DataFrame(local, index=counts.questions, columns=pd.Index(self.experts_, name="expert"))

    def probabilities(
        self, skills: pd.DataFrame, *, question_ids: Iterable[str] | None = None
    ) -> pd.DataFrame:
        """Probability that one draw takes each expert, question x expert; every row sums to 1.

        Parameters
        ----------
        skills
            A Skills frame, matched to the profile's vocabulary (`skills.match`); other words are ignored.
        question_ids
            The questions, in this order; None: those that have skills. A question without a known
            skill has a row too (see `formula`).
        """
        counts = self._counts(skills, question_ids)
        local = counts.table @ self.profile_.T.to_numpy()
        if self.formula == "fixed":
            chances = softmax(self._fixed(counts, local) / self.temperature)
        else:
            gamma = competency(np.asarray(self.totals_), self.formula)
            if self.formula == "released":
                chances = _released(gamma, local, self.use)
                chances[counts.n_known == 0] = 1 / len(self.experts_)
            else:
                chances = softmax(_used(gamma, local, self.use) / self.temperature)
        return pd.DataFrame(chances, index=counts.questions, columns=pd.Index(self.experts_, name="expert"))

    def route(
        self,
        skills: pd.DataFrame,
        *,
        seed: int = 0,
        question_ids: Iterable[str] | None = None,
        method: str = "symbolic_moe",
    ) -> pd.DataFrame:
        """Routes frame: k slots for every question.

        Each question draws from a generator of its own (seed and question id), so other questions do not
        change its draw; only trimming looks at all of them. `suitability` is null if a question has no
        known skill.
        """
        check_is_fitted(self, "profile_")
        self._check_settings(len(self.experts_))  # they may have been set since
        chances = self.probabilities(skills, question_ids=question_ids)
        local = self.suitability(skills, question_ids=chances.index)
        reserve = self.accuracy_.to_numpy()
        drawn = slots.draw(chances, self.k, seed=seed, replace=self.replace, reserve=reserve)
        drawn = slots.trimmed(
            drawn, chances, share=self.trim, by_slots=self.refill == "slots", seed=seed, replace=self.replace
        )
        return slots.routes(drawn, local, chances, seed=seed, method=method)

    def explain(self, question_id: str, skills: pd.DataFrame) -> pd.DataFrame:
        """Why these experts: one row for each of the question's skills and each expert.

        Columns: keyword (as named), matched (the profile's word), similarity, expert, score (the expert's
        profile score for that word), n (answers behind it), suitability (sum over the skills),
        accuracy, probability; most probable expert first. A question without a known skill has one row
        for each expert, with nulls.
        """
        p = self.probabilities(skills, question_ids=[question_id]).loc[question_id]
        known = self._known(skills[skills["question_id"] == question_id])
        named = pd.DataFrame(
            {
                "keyword": known["matched_from"].fillna(known["skill"]),
                "matched": known["skill"],
                "similarity": known["similarity"],
            }
        )
        named = named if len(named) else named.reindex([0])
        experts = pd.DataFrame({"accuracy": self.accuracy_, "probability": p}).rename_axis("expert")
        rows = experts.reset_index().merge(named, how="cross")
        scores = self.profiles_.rename(columns={"skill": "matched"})
        rows = rows.merge(scores, on=["expert", "matched"], how="left")
        rows["suitability"] = rows.groupby("expert")["score"].transform(lambda score: score.sum(min_count=1))
        order = ["keyword", "matched", "similarity", "expert", "score", "n"]
        order += ["suitability", "accuracy", "probability"]
        rows = rows.sort_values(["probability", "expert"], ascending=[False, True], kind="stable")
        return rows[order].reset_index(drop=True)

    def _known(self, skills: pd.DataFrame) -> pd.DataFrame:
        """The rows that count: in the vocabulary, similar enough, and once if duplicates do not count."""
        known = skills[skills["skill"].isin(self.profile_.columns)]
        if self.threshold is not None:
            known = known[known["similarity"].fillna(1.0) >= self.threshold]
        return known if self.count_duplicates else known.drop_duplicates(["question_id", "skill"])

    def _counts(self, skills: pd.DataFrame, question_ids: Iterable[str] | None) -> "_Counts":
        """How often each question names each skill of the vocabulary."""
        check_is_fitted(self, "profile_")
        ids = list(dict.fromkeys(skills["question_id"]) if question_ids is None else question_ids)
        known = self._known(skills)
        if len(skills) and known.empty:
            limit = "" if self.threshold is None else f" with a similarity of at least {self.threshold}"
            raise SkillmoeError(
                f"no overlap: none of the {skills['skill'].nunique()} skills given is among the "
                f"{self.profile_.shape[1]} of the profiles{limit}; match them first"
            )
        rows = pd.Index(dict.fromkeys(ids), name="question_id")
        named = rows.get_indexer(known["question_id"]), self.profile_.columns.get_indexer(known["skill"])
        asked = named[0] >= 0
        shape = len(rows), self.profile_.shape[1]
        table = sparse.csr_array((np.ones(asked.sum()), (named[0][asked], named[1][asked])), shape=shape)
        return _Counts(rows, table, np.asarray(table.sum(axis=1)).ravel())

    def _fixed(self, counts: "_Counts", local: Array) -> Array:
        """Relevance of formula "fixed", question x expert, on the scale of gamma * S."""
        net = 2 * self.accuracy_.to_numpy() - 1
        n = counts.table @ self.n_.T.to_numpy()
        filled = local + (n.max(axis=1, keepdims=True) - n) * net
        answers = {"global": 0 * local + self.prior * net, "local": filled, "both": filled + self.prior * net}
        return np.asarray(answers[self.use] / len(self.experts_))


class _Counts(NamedTuple):
    """How often questions name skills: their ids, a sparse table question x skill, and its sums."""

    questions: pd.Index
    table: sparse.csr_array
    n_known: Array


def _used(gamma: Array, local: Array, use: Use) -> Array:
    """Product of competency and suitability, or one of them, question x expert."""
    return np.asarray({"both": gamma * local, "local": local, "global": 0 * local + gamma}[use])


def _released(gamma: Array, local: Array, use: Use) -> Array:
    """Probabilities of the released code for questions that have skills."""
    positive = np.where(local > 0, local, 0)
    lifted = local - local.min(axis=1, keepdims=True) + 1
    weights = _used(gamma, np.where(positive.any(axis=1, keepdims=True), positive, lifted), use)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))

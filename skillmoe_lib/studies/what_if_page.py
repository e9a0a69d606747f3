"""The data of a report's what-if page: a reader without Jupyter moves k, drops experts, and sees what would
be.

The page (`cli/templates/what_if.js`) computes in the browser what `what_if` computes here, from integers
that do not change when experts are dropped: their answers, and what the router has learnt of each. So it is
exact for every subset of the pool, and a test runs the page's script against Python's figures. Three of its
methods are those of `what_if`: "top_k", "sequential" and "sequential_without_skills" (at a given threshold).
"by_skill" takes the k *different* experts of the highest probability (`ranked_by_skill`), since a draw could
not be repeated in a browser.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from skillmoe_lib.evaluation.report_folder import ReportFolder, store_of
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.routing import belief
from skillmoe_lib.routing.controls import GlobalTopK
from skillmoe_lib.routing.skill_router import SkillRouter
from skillmoe_lib.studies.outcomes import Floats, Ints, Outcomes, from_report
from skillmoe_lib.studies.what_if import plurality, what_if

LONGEST_TEXT = 1500
THRESHOLDS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99, 0.999)


def page_data(
    outcomes: Outcomes, *, prior: float = 10.0, temperature: float = 0.5, budget: float = 3.0
) -> dict[str, Any]:
    """What the page needs, ready for JSON.

    Parameters
    ----------
    outcomes
        A report's outcomes; the page shows its test questions.
    prior, temperature
        Of the skill router (formula "fixed"), as validation chose them.
    budget
        Average calls for which the threshold that the page starts with is chosen, on validation.
    """
    pool = outcomes
    rows, ids = pool.rows("test"), pool.ids("test")
    known = pool.skills[pool.skills["question_id"].isin(pool.ids("validation"))]
    asked = pool.skills[pool.skills["question_id"].isin(ids)]
    router = SkillRouter(1, prior=prior, temperature=temperature).fit(known, pool.validation_scores)
    names = list(pool.experts)
    evidence = _evidence(router, asked, ids, names)
    fixed = GlobalTopK(1).fit(known, pool.validation_scores)
    alike = _wrong_alike(pool)
    start = what_if(pool, method="sequential", k=max(1, round(budget)))
    told = pool.questions.loc[ids]
    costs = {
        name: _numbers(getattr(pool, name)[rows])
        for name in ("output_tokens", "device_seconds")
        if not np.isnan(getattr(pool, name)[rows]).any()
    }
    return {
        "experts": names,
        "right": [int(n) for n in _per_expert(pool, pool.correct, "validation")],
        "ran": [int(n) for n in _per_expert(pool, pool.ran, "validation")],
        "ranking": [float(fixed.accuracy_[name]) for name in names],
        "prior": prior,
        "temperature": temperature,
        "kappa": belief.BestBySkill().kappa,
        "threshold": start.threshold,
        "thresholds": sorted({*THRESHOLDS, round(start.threshold, 6)}),
        "wrong_pairs": alike[0].tolist(),
        "wrong_alike": alike[1].tolist(),
        "n_choices": [int(n) for n in told["n_choices"]],
        "score": evidence[0].tolist(),
        "n": evidence[1].tolist(),
        "answer": pool.answer[rows].tolist(),
        "correct": _right_answers(pool, rows),
        "said": _said(pool, rows),
        "costs": costs,
        "questions": [
            {
                "id": str(name),
                "subject": str(row["subject"]),
                "text": str(row["text"])[:LONGEST_TEXT],
                "gold": str(row["gold"]),
                "skills": skills,
            }
            for (name, row), skills in zip(told.iterrows(), _keywords(asked, ids), strict=True)
        ],
        "left_out": list(pool.left_out),
    }


def of_report(folder: ReportFolder) -> dict[str, Any]:
    """The page's data of a chain report, with the settings of recruiting that its validation chose.

    Costs are left out if the report's store is not at hand.
    """
    root = store_of(folder.path)
    outcomes = from_report(folder.path, GenerationStore(root) if root.is_dir() else None)
    trials = folder.read("router_settings")
    chosen = trials[trials["chosen"].astype(bool)]
    settings = (
        {} if chosen.empty else {name: float(chosen[name].iloc[0]) for name in ("prior", "temperature")}
    )
    return page_data(outcomes, **settings)


def ranked_by_skill(
    outcomes: Outcomes, experts: Sequence[str], *, k: int, prior: float = 10.0
) -> tuple[Ints, Ints]:
    """The k different experts of the highest probability for each test question, and their vote.

    Returns
    -------
    Positions in `outcomes.experts`, shape (n, k), the most probable first (ties: the order of the pool), and
    the number of the answer that most of them gave (-1: none; ties go to the first).
    """
    pool = outcomes.subset(experts)
    ids = pool.ids("test")
    known = pool.skills[pool.skills["question_id"].isin(pool.ids("validation"))]
    # The order does not depend on the temperature; at a low one, small probabilities would be equal (zero).
    router = SkillRouter(1, prior=prior, temperature=100.0).fit(known, pool.validation_scores)
    asked = pool.skills[pool.skills["question_id"].isin(ids)]
    chances = router.probabilities(asked, question_ids=ids)[list(pool.experts)].to_numpy()
    order = np.argsort(-chances, axis=1, kind="stable")[:, :k]
    given = np.take_along_axis(pool.answer[pool.rows("test")], order, axis=1)
    return np.array([outcomes.experts.index(name) for name in pool.experts])[order], plurality(given)


def _evidence(
    router: SkillRouter, skills: pd.DataFrame, ids: pd.Index, names: list[str]
) -> tuple[Ints, Ints]:
    """Suitability of each expert for each question, and the number of answers behind it, as whole numbers."""
    counts = pd.crosstab(skills["question_id"], skills["skill"])
    counts = counts.reindex(index=ids, columns=router.profile_.columns, fill_value=0).fillna(0)
    grids = [counts.to_numpy() @ frame.loc[names].to_numpy().T for frame in (router.profile_, router.n_)]
    return grids[0].round().astype(np.int64), grids[1].round().astype(np.int64)


def _wrong_alike(pool: Outcomes) -> tuple[Ints, Ints]:
    """Expert x expert on validation: pairs that both answered wrongly, and with the same answer.

    What `belief.open_answers` adds up, kept apart by pair, so that it can be added up for any subset.
    """
    rows = pool.rows("validation")
    number = pool.answer[rows]
    wrong = (number >= 0) & ~pool.correct[rows]
    both = wrong.astype(np.int64).T @ wrong.astype(np.int64)
    same = np.zeros_like(both)
    for i in range(number.shape[1]):
        same[i] = ((number == number[:, [i]]) & wrong & wrong[:, [i]]).sum(axis=0)
    np.fill_diagonal(both, 0)
    np.fill_diagonal(same, 0)
    return both, same


def _per_expert(pool: Outcomes, grid: Any, split: str) -> Ints:
    return np.asarray((grid & pool.ran)[pool.rows(split)].sum(axis=0))


def _right_answers(pool: Outcomes, rows: Ints) -> list[list[int]]:
    """The numbers of the right answers that somebody gave, one list a question."""
    found = []
    for row in rows:
        right = pool.correct[row] & (pool.answer[row] >= 0)
        found.append(sorted({int(number) for number in pool.answer[row][right]}))
    return found


def _said(pool: Outcomes, rows: Ints) -> list[list[str]]:
    """The text of each answer by its number, one list a question."""
    found = []
    for row in rows:
        texts = dict[int, str]()
        for number, said in zip(pool.answer[row], pool.said[row], strict=True):
            if number >= 0:
                texts.setdefault(int(number), str(said)[:200])
        found.append([texts.get(number, "") for number in range(max(texts, default=-1) + 1)])
    return found


def _keywords(skills: pd.DataFrame, ids: pd.Index) -> list[list[str]]:
    named: Mapping[Any, list[str]] = skills.groupby("question_id")["skill"].agg(list).to_dict()
    return [[str(skill) for skill in named.get(name, [])] for name in ids]


def _numbers(grid: Floats) -> list[list[float]]:
    """Costs with four significant digits, which is more than they are worth."""
    return [[float(f"{value:.4g}") for value in row] for row in grid]

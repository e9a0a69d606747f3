"""Routers compared on recorded answers, without running a model.

Routers are fitted on the validation split of a folder of recorded answers and judged on its test split by
the majority vote of the experts that they recruit. Settings are chosen inside validation. The folder holds
`questions.parquet` (qid, question, category, src, nopt, split) and `answers.parquet` (model, qid, pred_clean,
same_item, correct).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import KFold, ParameterGrid

from skillmoe_lib import seeding
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.profiling import skills
from skillmoe_lib.routing import belief, tuning
from skillmoe_lib.routing.committee import CommitteeRouter
from skillmoe_lib.routing.controls import GlobalTopK, RandomRouter
from skillmoe_lib.routing.embedding import ClusterRouter, KNNRouter, LogisticRouter
from skillmoe_lib.routing.skill_router import SkillRouter

#: Settings tried inside validation; a router that is not listed has none to choose.
GRIDS: dict[str, dict[str, list[Any]]] = {
    "cluster": {"n_clusters": [2, 4, 8, 16]},
    "knn": {"n_neighbors": [10, 20, 40, 80, 160]},
    "logistic": {"C": [0.01, 0.1, 1.0, 10.0]},
}
#: Routers whose temperature and prior `routing.tuning` chooses.
TUNED = ("skills_fixed", "skills_fixed_distinct")
#: Sequential recruiting, and whether it uses skills; it asks an average of k experts per question.
SEQUENTIAL = {"sequential": True, "sequential_without_skills": False}
#: Twelve of the recorded models between 38% and 56% right: a pool without an outstanding expert.
MID_STRENGTH = (
    "Meta-Llama-3-70B", "Meta-Llama-3_1-70B", "Meta-Llama-3_1-8B-Instruct", "Mixtral-8x7B-Instruct-v0.1",
    "Mixtral-8x7B-v0.1", "Phi-3-mini-4k-instruct", "Qwen1.5-110B", "Qwen1.5-72B-Chat", "Yi-34B",
    "c4ai-command-r-v01", "jamba-1.5-large", "mathstral-7B",
)  # fmt: skip
BASELINE = "global_top_k"
BOUND = "any_expert_right"
SHARP = 0.04  # near the default of version 0.1, which drew one expert three times for most questions


class Recorded(NamedTuple):
    """Questions (index question_id) and Scores columns of recorded answers."""

    questions: pd.DataFrame
    scores: pd.DataFrame


class Split(NamedTuple):
    """The routers' inputs: skills and embeddings of both splits, and the scores of validation.

    Skills are a Skills frame, those of test matched to validation; embeddings have the index question_id.
    """

    skills: pd.DataFrame
    embeddings: pd.DataFrame
    validation: pd.DataFrame


def load(data_dir: str | Path, *, experts: Sequence[str] = (), limit: int = 0) -> Recorded:
    """Read recorded answers; `experts` names the pool (empty: all), `limit` caps each split (0: all).

    Answers recorded on another revision of their question are left out. Test
    questions are kept only if answers of the whole pool are recorded, so that all routers are judged on the
    same answers; on validation a missing answer stays missing.
    """
    folder = Path(data_dir)
    for name in ("questions.parquet", "answers.parquet"):
        if not (folder / name).exists():
            raise SkillmoeError(f"no recorded answers: {name} is not in {folder}")
    questions = pd.read_parquet(folder / "questions.parquet").astype({"qid": str})
    questions = questions.rename(columns={"qid": "question_id"}).set_index("question_id")
    if limit:
        order = questions.index.map(seeding.stable_seed).to_series(index=questions.index)
        rank = order.groupby(questions["split"]).rank(method="first")
        questions = questions[rank <= limit]
    answers = pd.read_parquet(folder / "answers.parquet")
    answers = answers[answers["same_item"]].astype({"qid": str, "model": str, "pred_clean": "string"})
    if strangers := sorted(set(experts) - set(answers["model"])):
        raise unknown("expert", strangers[0], answers["model"].unique())
    answers = answers[answers["model"].isin(experts or answers["model"].unique())]
    answers = answers[answers["qid"].isin(questions.index)]
    n_on_record = answers.groupby("qid")["model"].nunique().reindex(questions.index, fill_value=0)
    whole = n_on_record == answers["model"].nunique()
    questions = questions[whole | (questions["split"] == "validation")]
    scores = answers.rename(columns={"qid": "question_id", "model": "expert", "pred_clean": "answer"})
    scores = scores.assign(status=np.where(scores["answer"].isna(), "unparsed", "answered"))
    columns = ["question_id", "expert", "answer", "correct", "status"]
    return Recorded(questions, scores.loc[scores["question_id"].isin(questions.index), columns])


def skills_without_llm(questions: pd.DataFrame, *, n_terms: int = 3) -> pd.DataFrame:
    """Skills frame from category, origin and the question's `n_terms` TF-IDF terms of highest weight.

    Used where no keyword model was run. Terms must occur in two or more validation questions, and `votes`
    is 1. Category and origin are the benchmark's own labels, so these skills contain more of the
    benchmark, and less of the question, than a keyword model's would.
    """
    vectorizer = TfidfVectorizer(stop_words="english", min_df=2, token_pattern=r"(?u)\b[a-zA-Z]{3,20}\b")  # noqa: S106
    vectorizer.fit(questions.loc[questions["split"] == "validation", "question"])
    terms = vectorizer.get_feature_names_out()
    weights = vectorizer.transform(questions["question"]).tocsr()
    kept: dict[str, dict[str, int]] = {}
    for i, (question_id, row) in enumerate(questions.iterrows()):
        found = weights[i]
        best = found.indices[np.lexsort((found.indices, -found.data))[:n_terms]]
        origin = str(row["src"]).rpartition("mmlu-")[2].replace("_", " ").replace("-", " ").lower()
        kept[str(question_id)] = dict.fromkeys([str(row["category"]), origin, *terms[best]], 1)
    return skills.skills_table(kept)


def routing_inputs(recorded: Recorded, embeddings: pd.DataFrame, *, embed: skills.Embed) -> Split:
    """Skills of all questions (test's matched to validation's by `embed`), embeddings, validation scores."""
    found = skills_without_llm(recorded.questions)
    fit = set(recorded.questions.index[recorded.questions["split"] == "validation"])
    known, asked = found[found["question_id"].isin(fit)], found[~found["question_id"].isin(fit)]
    matched = skills.match(asked, known["skill"], embed=embed)
    in_fit = recorded.scores["question_id"].isin(fit)
    return Split(pd.concat([known, matched]), embeddings, recorded.scores[in_fit])


def recorded_vote(routes: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Plurality of the recruited experts' recorded answers: method, seed, question_id, answer, correct.

    An expert in two slots votes twice, with the same recorded answer. Ties are broken as in
    `aggregation.vote`: for the answer given first, in slot order. No answer found is no vote; a question
    without any vote has a null answer and is wrong.
    """
    key = ["method", "seed", "question_id"]
    ranked = routes.sort_values([*key, "slot"])
    # Bonuses sum to less than a vote and each exceeds all later ones: they only break ties.
    ranked["weight"] = 1 + 0.5 * 0.5 ** (ranked.groupby(key).cumcount() + 1).astype(float)
    cast = ranked.merge(scores[["question_id", "expert", "answer", "correct"]], on=["question_id", "expert"])
    cast = cast.dropna(subset="answer")
    tally = cast.groupby([*key, "answer"]).agg({"weight": "sum", "correct": "max"}).reset_index()
    won = tally.sort_values("weight", kind="stable").groupby(key).tail(1)[[*key, "answer", "correct"]]
    voted = routes[key].drop_duplicates().merge(won, on=key, how="left")
    return voted.assign(correct=voted["correct"].fillna(False).astype(bool))


def routers(k: int, chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The routers compared, unfitted, with the settings chosen for them."""
    made: dict[str, Any] = {
        "random": RandomRouter(k),
        BASELINE: GlobalTopK(k),
        "cluster": ClusterRouter(k),
        "knn": KNNRouter(k),
        "logistic": LogisticRouter(k),
        "skills_published": SkillRouter(k, formula="published"),
        "skills_released": SkillRouter(k, formula="released", trim=0.0, expert_order="as_given"),
        "skills_fixed_sharp": SkillRouter(k, formula="fixed", temperature=SHARP),
        "skills_fixed": SkillRouter(k, formula="fixed"),
        "skills_fixed_distinct": SkillRouter(k, formula="fixed", replace=False),
        "committee": CommitteeRouter(k),
        "committee_unguarded": CommitteeRouter(k, guard=None),
    }
    return {name: router.set_params(**chosen.get(name, {})) for name, router in made.items()}


def choose_settings(
    split: Split, *, k: int = 3, n_folds: int = 5, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """The settings of `GRIDS` with the best vote in cross-validation inside the validation split."""
    ids = np.array(sorted(split.validation["question_id"].unique()))
    folds = list(KFold(n_folds, shuffle=True, random_state=seed).split(ids))
    n_fit = min(len(fit) for fit, _ in folds)
    chosen: dict[str, dict[str, Any]] = {}
    for name, grid in GRIDS.items():
        means = []
        for settings in ParameterGrid(grid):
            if any(isinstance(value, int) and value > n_fit for value in settings.values()):
                continue  # more clusters or neighbours than questions
            trial = clone(routers(k, {})[name]).set_params(**settings)
            right = [_judge(name, trial, split, ids[fit], ids[held], seed) for fit, held in folds]
            means.append((float(np.mean(right)), settings))
        chosen[name] = max(means, key=lambda pair: pair[0])[1]
    for name in TUNED:
        chosen[name] = tuning.choose_settings(routers(k, {})[name], split.skills, split.validation).settings
    return chosen


def sequential_votes(recorded: Recorded, split: Split, *, budget: float) -> pd.DataFrame:
    """Sequential recruiting on the test questions: method, question_id, answer, correct, calls, threshold.

    A question's only skill is its category. The threshold of each method is chosen on held-out validation
    questions for an average of `budget` calls per question (docs/method.md 5).
    """
    questions = recorded.questions
    skills_of = questions["category"].rename("skill").rename_axis("question_id").reset_index()
    test = questions.index[questions["split"] == "test"]
    found = recorded.scores[recorded.scores["correct"]].dropna(subset="answer")
    right = {name: set(part["answer"]) for name, part in found.groupby("question_id")}
    n_answers = questions["nopt"].astype(float).to_dict()
    rows = []
    for method, use_skills in SEQUENTIAL.items():
        router = belief.BestBySkill(use_skills=use_skills)
        turns = belief.held_out_turns(router, skills_of, split.validation)
        tried = belief.try_thresholds(turns, right, n_answers)
        threshold = belief.choose_threshold(tried, budget=budget).threshold
        fitted = router.fit(skills_of, split.validation)
        turns = belief.recorded_turns(fitted.route(skills_of, question_ids=test), recorded.scores)
        for question_id, (answers, accuracies) in turns.items():
            end = belief.ask_in_turn(
                answers, accuracies, n_answers=n_answers[question_id], threshold=threshold
            )
            hit = end.answer in right.get(question_id, ())
            rows.append((method, question_id, end.answer, hit, end.calls, threshold))
    return pd.DataFrame(rows, columns=["method", "question_id", "answer", "correct", "calls", "threshold"])


def results(
    recorded: Recorded,
    split: Split,
    *,
    k: int,
    chosen: Mapping[str, Mapping[str, Any]],
    seeds: Iterable[int],
    pool: str = "pool",
) -> pd.DataFrame:
    """Every router's vote on every test question and seed, as `intervals` reads results.

    Columns: method (the router), benchmark (pool and k: "all, k = 3"), seed, question_id, answer, status,
    correct, calls (experts asked; k for all but the sequential ones, whose mean is at most about k),
    n_distinct (different experts among them). "any_expert_right" is a bound, not a router.
    """
    test = recorded.questions.index[recorded.questions["split"] == "test"]
    in_test = recorded.scores[recorded.scores["question_id"].isin(test)]
    best = in_test.sort_values("correct", kind="stable").drop_duplicates("question_id", keep="last")
    parts = [best.assign(method=BOUND, seed=seed, calls=0, n_distinct=0) for seed in seeds]
    for name, router in routers(k, chosen).items():
        view = split.skills if name.startswith("skills") else split.embeddings
        fitted = router.fit(view, split.validation)
        routes = pd.concat([fitted.route(view, seed=s, question_ids=test, method=name) for s in seeds])
        distinct = routes.groupby(["seed", "question_id"])["expert"].nunique().rename("n_distinct")
        parts.append(
            recorded_vote(routes, in_test).assign(calls=k).join(distinct, on=["seed", "question_id"])
        )
    asked = sequential_votes(recorded, split, budget=k)
    parts += [asked.drop(columns="threshold").assign(seed=seed, n_distinct=asked["calls"]) for seed in seeds]
    frame = pd.concat(parts)
    frame["status"] = np.where(frame["answer"].isna(), "unparsed", "answered")
    frame["benchmark"] = f"{pool}, k = {k}"
    columns = [
        "method",
        "benchmark",
        "seed",
        "question_id",
        "answer",
        "status",
        "correct",
        "calls",
        "n_distinct",
    ]
    return frame[columns].reset_index(drop=True)


def _judge(name: str, router: Any, split: Split, fit: Any, held: Any, seed: int) -> float:
    """Vote accuracy on held-out validation questions."""
    scores = split.validation
    view = split.skills if name.startswith("skills") else split.embeddings
    fitted = router.fit(view, scores[scores["question_id"].isin(fit)])
    routes = fitted.route(view, seed=seed, question_ids=held, method=name)
    return float(recorded_vote(routes, scores)["correct"].mean())

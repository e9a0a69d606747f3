"""The steps of an experiment, each a few lines over the library: what the notebooks call.

annotate -> validate -> examine -> recruit -> compete. Everything up to `recruit` reads validation
questions only; every generation goes through one scheduler and one store.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from skillmoe_lib import aggregation, experts, paths, routing, tables
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import results
from skillmoe_lib.experts.pool import Pool
from skillmoe_lib.generation import Engine, Program
from skillmoe_lib.inference import schedule
from skillmoe_lib.inference.engines import connect
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods import lineup
from skillmoe_lib.methods.lineup import Choice
from skillmoe_lib.methods.single import Run, every_expert
from skillmoe_lib.profiling import skills
from skillmoe_lib.questions.benchmark import Question, as_questions
from skillmoe_lib.routing.confidence import confidence_sized
from skillmoe_lib.routing.skill_router import SkillRouter


class Session(NamedTuple):
    """What every step needs: who answers, on what, and where it is kept."""

    pool: Pool
    engine: Engine
    store: GenerationStore


def open_session(pool: str, engine: str, store: str) -> Session:
    """Load the pool and open the engine's own store.

    `replay` serves what `vllm` stored. Both locate the models' files: their digests and versions are part
    of what a generation is kept by.
    """
    connected = connect(engine)
    family = "vllm" if connected.name == "replay" else connected.name
    root = paths.project_root() / store / family
    return Session(experts.load_pool(pool, locate=family == "vllm"), connected, GenerationStore(root))


def annotate(session: Session, questions: pd.DataFrame, *, seed: int = 0, **settings: Any) -> pd.DataFrame:
    """Skills of every question, of both splits (METHOD 1.1); `settings` are those of `skills.annotate`."""
    programs = {
        q.question_id: skills.annotate(q, session.pool.keyword_expert, seed=seed, **settings)
        for q in as_questions(questions)
    }
    outcomes = schedule.run(programs, session.engine, session.store, description="naming skills")
    return skills.skills_table({question_id: outcome.result for question_id, outcome in outcomes.items()})


def keyword_requests(
    session: Session, questions: pd.DataFrame, *, seed: int = 0, **settings: Any
) -> pd.DataFrame:
    """What `annotate` asks with these settings, as a Used table; `method` tells the split. Runs nothing."""
    asked: dict[Run, schedule.Outcome] = {}
    for name in ("validation", "test"):
        for q in split(questions, name):
            requests = next(skills.annotate(q, session.pool.keyword_expert, seed=seed, **settings))
            ids = tuple(request.id for request in requests)
            asked[Run(f"keywords of {name} questions", seed, q.question_id)] = schedule.Outcome(None, ids)
    return results.used_requests(asked)


def validation_requests(scores: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """What `validate` asked, as a Used table, from the Scores that it returned."""
    rows = scores[["question_id", "request_id"]].assign(method="validation answers", seed=seed, round=0)
    return tables.check(rows, tables.USED)


def validate(session: Session, questions: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Scores of every expert on the validation questions (METHOD 1.2)."""
    asked = split(questions, "validation")
    outcomes = schedule.run(
        every_expert(asked, session.pool.experts, seed=seed),
        session.engine,
        session.store,
        description="validation",
    )
    return results.scores(outcomes, asked, session.pool.experts)


class Examined(NamedTuple):
    """What candidates for the aggregator did: a row an item and candidate (question_id, expert, answer,
    status, correct), the number of questions that allowed no item, and the requests used (a Used table)."""

    rows: pd.DataFrame
    n_left_out: int
    used: pd.DataFrame | None = None


def examine(session: Session, questions: pd.DataFrame, scores: pd.DataFrame, *, seed: int = 0) -> Examined:
    """Let every candidate aggregate one right and two wrong chains (METHOD 1.8), on validation.

    Raises `SkillmoeError` where `scores` are not of these very answers (another seed, pool or limit).
    """
    asked = split(questions, "validation")
    outcomes = schedule.run(
        every_expert(asked, session.pool.experts, seed=seed),
        session.engine,
        session.store,
        description="items",
    )
    generations = results.by_question(outcomes)
    right = {(s.question_id, s.expert, s.request_id): bool(s.correct) for s in scores.itertuples()}
    correct: dict[str, dict[str, bool]] = {}
    for key, outcome in outcomes.items():
        graded = right.get((key.question_id, key.expert, outcome.result.request_id))
        if graded is None:
            raise SkillmoeError(
                f"the scores lack the answer of {key.expert!r} to {key.question_id!r} with seed {seed}: "
                "run the notebook 03_profiles again, with the same seed, pool and questions"
            )
        correct.setdefault(key.question_id, {})[key.expert] = graded
    made, n_left_out = aggregation.make_items(asked, session.pool.experts, generations, correct, seed=seed)
    candidates = {name: session.pool.experts[name] for name in session.pool.aggregators}
    programs = {
        Run(name, seed, item.question.question_id): aggregation.examine_candidate(item, expert, seed=seed)
        for item in made
        for name, expert in candidates.items()
    }
    answered = schedule.run(programs, session.engine, session.store, description="choosing the aggregator")
    if not answered:
        return Examined(
            pd.DataFrame(columns=["expert", "question_id", "answer", "status", "correct"]), n_left_out
        )
    rows = results.results_table(answered, asked, session.store).rename(columns={"method": "expert"})
    used = results.used_requests(answered).assign(method="aggregator items")
    return Examined(rows[["expert", "question_id", "answer", "status", "correct"]], n_left_out, used)


def choose(scores: pd.DataFrame, examined: Examined) -> Choice:
    """What validation decides. With no item to examine candidates on, the most accurate expert aggregates."""
    order = lineup.ranking(scores)
    ran = (examined.rows["status"] != "not_run").any()
    aggregator = aggregation.best_candidate(examined.rows) if ran else order[0]
    return Choice(order, aggregator)


def save_choice(choice: Choice, path: Path) -> None:
    """Write a choice as JSON."""
    path.write_text(json.dumps(asdict(choice), indent=1) + "\n", encoding="utf-8")


def load_choice(path: Path) -> Choice:
    """Read what `save_choice` wrote."""
    if not path.is_file():
        raise SkillmoeError(f"no choice at {path.name}: run the notebook 04_aggregator first")
    fields = json.loads(path.read_text(encoding="utf-8"))
    return Choice(**{**fields, "ranking": tuple(fields["ranking"])})


def matched(
    all_skills: pd.DataFrame, questions: pd.DataFrame, *, threshold: float | None = None
) -> pd.DataFrame:
    """Test questions' skills in the words of the profiles (METHOD 1.3)."""
    own = split_of(questions, all_skills)
    return skills.match(own["test"], own["validation"]["skill"], embed=_embed, threshold=threshold)


def recruit(
    names: Sequence[str],
    router: SkillRouter,
    questions: pd.DataFrame,
    all_skills: pd.DataFrame,
    test_skills: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    seeds: Sequence[int],
    mass: float = 0.9,
) -> pd.DataFrame:
    """Routes of the test questions for Symbolic-MoE and for each routed method among `names`.

    `router` recruits for Symbolic-MoE; the others take its k. `mass` is the probability that
    `confidence_sized` recruits up to. Clusters and neighbours are at most as many as scored questions.
    """
    if not seeds:
        raise SkillmoeError("nothing to recruit for: at least one seed is needed, given 0")
    ids = [q.question_id for q in split(questions, "test")]
    validation_skills = split_of(questions, all_skills)["validation"]
    fitted = router.fit(validation_skills, scores)
    frames = [fitted.route(test_skills, seed=seed, question_ids=ids) for seed in seeds]
    n_scored = scores.loc[scores["status"] != "not_run", "question_id"].nunique()
    others: dict[str, Any] = {
        "random_k": routing.RandomRouter(router.k),
        "top_k": routing.GlobalTopK(router.k),
        "cluster_router": routing.ClusterRouter(router.k, n_clusters=min(8, n_scored)),
        "knn_router": routing.KNNRouter(router.k, n_neighbors=min(40, n_scored)),
        "logistic_router": routing.LogisticRouter(router.k),
        "committee": routing.CommitteeRouter(router.k),
    }
    embedded: dict[str, pd.DataFrame] = {}
    for name in [name for name in names if name in others]:
        if name in ("random_k", "top_k"):
            fit, held = validation_skills, test_skills
        else:
            embedded = embedded or embeddings(questions)
            fit, held = embedded["validation"], embedded["test"]
        other = others[name].fit(fit, scores)
        frames += [other.route(held, seed=seed, question_ids=ids, method=name) for seed in seeds]
    if "confidence_sized" in names:
        chances = fitted.probabilities(test_skills, question_ids=ids)
        frames += [confidence_sized(chances, mass=mass, seed=seed) for seed in seeds]
    return pd.concat(frames, ignore_index=True)


def embeddings(questions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Sentence embeddings of the questions' texts by split: index question_id, one column a dimension."""
    parts = {name: questions[questions["split"] == name] for name in ("validation", "test")}
    ids = {name: pd.Index(part["question_id"], name="question_id") for name, part in parts.items()}
    return {
        name: pd.DataFrame(_embed(part["text"].tolist()), index=ids[name]) for name, part in parts.items()
    }


def _embed(texts: Sequence[str]) -> Any:
    return skills.embed(texts, skills.load_encoder())


class Competed(NamedTuple):
    """Results of every method (and bounds), test scores of every expert, and the requests used."""

    results: pd.DataFrame
    scores: pd.DataFrame
    used: pd.DataFrame


def compete(
    session: Session,
    names: Sequence[str],
    questions: pd.DataFrame,
    routes: pd.DataFrame,
    choice: Choice,
    *,
    seeds: Sequence[int],
) -> Competed:
    """All methods on all test questions, and every expert once for the oracles, in one scheduled run."""
    asked = split(questions, "test")
    methods = lineup.programs(names, asked, session.pool, routes, choice, seeds=seeds)
    return run_programs(session, methods, questions, last=choice.aggregator, bounds_seed=seeds[0])


def run_programs(
    session: Session,
    programs: Mapping[Run, Program],
    questions: pd.DataFrame,
    *,
    last: str,
    bounds_seed: int | None = None,
) -> Competed:
    """Any programs on the test questions, in one scheduled run.

    `last` is the expert whose model is loaded last (most often the aggregator). With `bounds_seed` every
    expert answers every question once too, for its scores and the oracles; without, `scores` is empty.
    """
    asked = split(questions, "test")
    panel = {} if bounds_seed is None else every_expert(asked, session.pool.experts, seed=bounds_seed)
    policy = partial(schedule.most_waiting, last={session.pool.experts[last].model.load_key})
    outcomes = schedule.run(
        {**programs, **panel}, session.engine, session.store, policy=policy, description="test"
    )
    runs = {key: outcomes[key] for key in programs}
    scores = results.scores({key: outcomes[key] for key in panel}, asked, session.pool.experts)
    table = results.results_table(runs, asked, session.store)
    if bounds_seed is not None:
        table = pd.concat([table, results.oracles(scores, asked, seed=bounds_seed)], ignore_index=True)
    return Competed(table, scores, results.used_requests(runs))


def split(questions: pd.DataFrame, name: str) -> list[Question]:
    """The questions of one split."""
    return as_questions(questions[questions["split"] == name])


def split_of(questions: pd.DataFrame, frame: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    """A frame with question ids, by split."""
    splits = questions.set_index("question_id")["split"]
    where = frame["question_id"].map(splits)
    return {name: frame[where == name] for name in ("validation", "test")}

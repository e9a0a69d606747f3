"""The steps of an experiment, each a few lines over the library: what the notebooks call.

annotate -> validate -> examine -> recruit -> compete. Everything up to `recruit` reads validation
questions only; every generation goes through one scheduler and one store.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from skillmoe_lib import aggregation, experts, paths, routing, tables
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import results
from skillmoe_lib.experts.pool import Pool
from skillmoe_lib.generation import Engine, Program
from skillmoe_lib.inference import policies, schedule
from skillmoe_lib.inference.engines import connect
from skillmoe_lib.inference.engines.replay import as_stored
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods import lineup
from skillmoe_lib.methods.example_bank import Example, ExampleBank
from skillmoe_lib.methods.lineup import Choice
from skillmoe_lib.methods.single import Run, every_expert
from skillmoe_lib.presets import find_preset
from skillmoe_lib.profiling import profiles, skills
from skillmoe_lib.questions.benchmark import Question, as_questions
from skillmoe_lib.questions.rows import normalised
from skillmoe_lib.routing import belief, tuning
from skillmoe_lib.routing.skill_router import SkillRouter


class Session(NamedTuple):
    """What every step needs: the pool, the engine, and the store of generations.

    `skip`: go on if a request cannot be run, instead of ending with an error once everything else is done.
    """

    pool: Pool
    engine: Engine
    store: GenerationStore
    skip: bool = False


def open_session(
    pool: str, engine: str, store: str, *, preset: str = "skillmoe", skip: bool = False
) -> Session:
    """Load the pool, prompted and read by the preset's conventions, and open the engine's own store.

    `replay` serves what `vllm` stored, here or on a cluster (`ray`). These locate the models' files, whose
    digests and versions are part of a request's id; `replay` takes them from the store and needs no files.
    """
    members = experts.load_pool(pool, locate=engine in ("vllm", "ray"))
    connected = connect(engine, members.served())
    replaying = connected.name == "replay"
    folder = paths.project_file(store) if replaying else paths.project_root() / store
    kept = GenerationStore(folder / ("vllm" if replaying else connected.name))
    members = members.under(find_preset(preset).conventions)
    return Session(as_stored(members, kept) if replaying else members, connected, kept, skip)


def annotate(session: Session, questions: pd.DataFrame, *, seed: int = 0, **settings: Any) -> pd.DataFrame:
    """Skills of every question of both splits (docs/method.md 1.1); `settings` go to `skills.annotate`."""
    programs = {
        q.question_id: skills.annotate(q, session.pool.keyword_expert, seed=seed, **settings)
        for q in as_questions(questions)
    }
    outcomes = schedule.run(
        programs, session.engine, session.store, skip=session.skip, description="naming skills"
    )
    return skills.skills_table({question_id: outcome.result for question_id, outcome in outcomes.items()})


def keyword_requests(
    session: Session, questions: pd.DataFrame, *, seed: int = 0, **settings: Any
) -> pd.DataFrame:
    """What `annotate` asks with these settings, as a Used table; `method` names the split. Runs nothing."""
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
    """Scores of every expert on the validation questions (docs/method.md 1.2)."""
    asked = split(questions, "validation")
    outcomes = schedule.run(
        every_expert(asked, session.pool.experts, seed=seed),
        session.engine,
        session.store,
        skip=session.skip,
        description="validation",
    )
    return results.scores(outcomes, asked, session.pool.experts)


class Examined(NamedTuple):
    """The candidates' answers to the items, one row for each item and candidate (question_id, expert, answer,
    status, correct), the number of questions that allowed no item, and the requests used (a Used table)."""

    rows: pd.DataFrame
    n_left_out: int
    used: pd.DataFrame | None = None


def examine(session: Session, questions: pd.DataFrame, scores: pd.DataFrame, *, seed: int = 0) -> Examined:
    """Let every candidate aggregate one right and two wrong chains (docs/method.md 1.8), on validation.

    Raises `SkillmoeError` if `scores` belong to other answers (another seed, pool or limit).
    """
    asked = split(questions, "validation")
    outcomes = schedule.run(
        every_expert(asked, session.pool.experts, seed=seed),
        session.engine,
        session.store,
        skip=session.skip,
        description="items",
    )
    generations = results.by_question(outcomes, session.store)
    keys = zip(scores["question_id"], scores["expert"], scores["request_id"], strict=True)
    right = dict(zip(keys, scores["correct"].astype(bool), strict=True))
    correct: dict[str, dict[str, bool]] = {}
    for key, outcome in outcomes.items():
        graded = right.get((key.question_id, key.expert, outcome.request_ids[0]))
        if graded is None:
            raise SkillmoeError(
                f"the scores lack the answer of {key.expert!r} to {key.question_id!r} with seed {seed}: "
                "run the notebook 03_profiles again, with the same seed, pool and questions"
            )
        correct.setdefault(key.question_id, {})[key.expert] = graded
    as_released = any(e.conventions.items == "released" for e in session.pool.experts.values())
    made, n_left_out = aggregation.make_items(
        asked, session.pool.experts, generations, correct, seed=seed, whole_texts=as_released
    )
    candidates = {name: session.pool.experts[name] for name in session.pool.aggregators}
    programs = {
        Run(name, seed, item.question.question_id): aggregation.examine_candidate(item, expert, seed=seed)
        for item in made
        for name, expert in candidates.items()
    }
    answered = schedule.run(
        programs, session.engine, session.store, skip=session.skip, description="choosing the aggregator"
    )
    if not answered:
        return Examined(
            pd.DataFrame(columns=["expert", "question_id", "answer", "status", "correct"]),
            n_left_out,
            results.used_requests({}),
        )
    rows = results.results_table(
        answered, asked, session.store, equality=results.equality_of(session.pool.experts)
    ).rename(columns={"method": "expert"})
    if as_released:  # answers compared as strings
        gold = {question.question_id: question.gold for question in asked}
        rows["correct"] = (rows["answer"] == rows["question_id"].map(gold)).fillna(False).astype(bool)
    used = results.used_requests(answered).assign(method="aggregator items")
    return Examined(rows[["expert", "question_id", "answer", "status", "correct"]], n_left_out, used)


def choose(scores: pd.DataFrame, examined: Examined) -> Choice:
    """What validation decides. Without an item to test candidates on, the most accurate expert aggregates."""
    order = lineup.ranking(scores)
    ran = (examined.rows["status"] != "not_run").any()
    aggregator = aggregation.best_candidate(examined.rows) if ran else order[0]
    return Choice(order, aggregator)


def preset_router(
    preset: str,
    *,
    k: int = 3,
    formula: str = "preset",
    temperature: float = -1.0,
    trim: float = -1.0,
    pool_trim: float = experts.TRIM,
) -> SkillRouter:
    """The router that a preset stands for, before anything is chosen on validation.

    `formula` other than "preset", and a `temperature` or `trim` of 0 or more, replace the preset's;
    `pool_trim` is the pool's share, for a preset that leaves trimming to it.
    """
    settings = {"trim": pool_trim, **find_preset(preset).router}
    if formula != "preset":
        settings["formula"] = formula
    if temperature >= 0:
        settings["temperature"] = temperature
    if trim >= 0:
        settings["trim"] = trim
    return SkillRouter(k, **settings)


class Recruiting(NamedTuple):
    """The router of a preset, unfitted, and the trials by which validation chose its settings and its trim
    (`tuning`; without rows if the preset leaves nothing to choose)."""

    router: SkillRouter
    trials: pd.DataFrame
    trims: pd.DataFrame


def choose_router(
    preset: str,
    questions: pd.DataFrame,
    all_skills: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    k: int = 3,
    formula: str = "preset",
    temperature: float = -1.0,
    trim: float = -1.0,
    pool_trim: float = experts.TRIM,
) -> Recruiting:
    """The router that a preset stands for, with what validation chooses if the preset says so.

    That is temperature, prior and trim (at most `pool_trim`). Arguments as of `preset_router`.
    """
    no_trims = pd.DataFrame(columns=list(tuning.TRIM_COLUMNS))
    router = preset_router(
        preset, k=k, formula=formula, temperature=temperature, trim=trim, pool_trim=pool_trim
    )
    if not find_preset(preset).tuned or router.formula != "fixed" or temperature >= 0:
        return Recruiting(router, pd.DataFrame(columns=list(tuning.COLUMNS)), no_trims)
    known = split_of(questions, all_skills)["validation"]
    tuned = tuning.choose_settings(router, known, scores)
    router = router.set_params(**tuned.settings)
    if trim >= 0:
        return Recruiting(router, tuned.trials, no_trims)
    shares = [pool_trim, *(share for share in tuning.TRIMS if share < pool_trim)]
    trimmed = tuning.choose_trim(router, known, scores, trims=shares)
    return Recruiting(router.set_params(**trimmed.settings), tuned.trials, trimmed.trials)


class Stopping(NamedTuple):
    """The choice with its thresholds, and what each threshold gave on held-out validation questions:
    method, threshold, calls, accuracy, n."""

    choice: Choice
    tried: pd.DataFrame


def choose_stopping(
    choice: Choice, questions: pd.DataFrame, all_skills: pd.DataFrame, scores: pd.DataFrame, *, budget: float
) -> Stopping:
    """How sure sequential recruiting must be to stop, for an average of `budget` calls per question.

    Chosen on held-out validation questions, separately for the method and for its control without skills;
    nothing is generated.
    """
    asked = split(questions, "validation")
    known, keyed = split_of(questions, all_skills)["validation"], results.answer_groups(scores, asked)
    right = {name: set(part["answer"]) for name, part in keyed[keyed["correct"]].groupby("question_id")}
    open_answers = belief.open_answers(keyed)
    n_answers = {q.question_id: len(q.choices) or open_answers for q in asked}
    thresholds, frames = {}, []
    for name, use_skills in (("sequential", True), ("sequential_without_skills", False)):
        turns = belief.held_out_turns(belief.BestBySkill(use_skills=use_skills), known, keyed)
        tried = belief.try_thresholds(turns, right, n_answers)
        thresholds[name] = belief.choose_threshold(tried, budget=budget).threshold
        frames.append(tried.assign(method=name))
    chosen = replace(choice, thresholds=thresholds, open_answers=open_answers)
    return Stopping(chosen, pd.concat(frames, ignore_index=True))


def check_question(question_id: str, known: Iterable[str]) -> str:
    """The id, if it is one of these; else a `SkillmoeError` with a few of them and their number."""
    ids = list(known)
    if question_id in ids:
        return question_id
    raise SkillmoeError(
        f"unknown test question {question_id!r}: it must be one of {len(ids)} ids, "
        f"such as {', '.join(ids[:3])}"
    )


def matched(
    all_skills: pd.DataFrame, questions: pd.DataFrame, *, threshold: float | None = None
) -> pd.DataFrame:
    """Test questions' skills in the words of the profiles (docs/method.md 1.3)."""
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
    `confidence_sized` recruits up to.
    """
    if not seeds:
        raise SkillmoeError("nothing to recruit for: at least one seed is needed, given 0")
    ids = [q.question_id for q in split(questions, "test")]
    n_scored = scores.loc[scores["status"] != "not_run", "question_id"].nunique()
    settings = routing.Settings(router.k, n_scored, router, mass)
    views = {"skills": {"validation": split_of(questions, all_skills)["validation"], "test": test_skills}}
    views["ids"] = views["skills"]
    routers = {"symbolic_moe": routing.RouterEntry("skills", lambda _: router)}
    routers |= {m.name: m.router for m in lineup.METHODS if m.name in names and m.router}
    frames = []
    for name, entry in routers.items():
        if entry.reads not in views:
            views[entry.reads] = embeddings(questions)
        view = views[entry.reads]
        fitted = entry.make(settings).fit(view["validation"], scores)
        frames += [fitted.route(view["test"], seed=seed, question_ids=ids, method=name) for seed in seeds]
    return pd.concat(frames, ignore_index=True)


def embeddings(questions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Sentence embeddings of the questions' texts by split: index question_id, one column per dimension."""
    parts = {name: questions[questions["split"] == name] for name in ("validation", "test")}
    ids = {name: pd.Index(part["question_id"], name="question_id") for name, part in parts.items()}
    return {
        name: pd.DataFrame(_embed(part["text"].tolist()), index=ids[name]) for name, part in parts.items()
    }


def _embed(texts: Sequence[str]) -> Any:
    return skills.embed(texts, skills.load_encoder())


def example_bank(
    session: Session,
    questions: pd.DataFrame,
    all_skills: pd.DataFrame,
    test_skills: pd.DataFrame,
    scores: pd.DataFrame,
) -> ExampleBank:
    """What methods may show as worked examples: right answers to validation questions.

    A validation question whose text is that of a test question too is never shown.
    """
    seen = {normalised(q.text) for q in split(questions, "test")}
    asked = {q.question_id: q for q in split(questions, "validation") if normalised(q.text) not in seen}
    order = {name: i for i, name in enumerate(lineup.ranking(scores))}
    right = scores[scores["correct"].astype(bool) & scores["question_id"].isin(asked)]
    right = right.sort_values("expert", key=lambda names: names.map(order), kind="stable")
    best = set(right.drop_duplicates("question_id")["request_id"])
    taking = right["expert"].map(lambda name: session.pool.experts[name].takes_examples).astype(bool)
    shown = right[taking | right["request_id"].isin(best)]
    stored = session.store.get(shown["request_id"])
    solved, own = [], dict[str, list[Example]]()
    for question_id, name, request_id in zip(
        shown["question_id"], shown["expert"], shown["request_id"], strict=True
    ):
        if request_id not in stored:
            raise SkillmoeError(
                f"the store lacks the answer of {name!r} to {question_id!r}: run the notebook 03_profiles "
                "again, with the same seed, pool and store"
            )
        expert, generation = session.pool.experts[name], stored[request_id]
        if text := aggregation.visible_text(expert, generation):
            n_tokens = generation.prompt_tokens + generation.output_tokens
            example = Example(asked[question_id], text, n_tokens)
            solved += [example] * (request_id in best)
            own.setdefault(name, []).extend([example] * expert.takes_examples)
    known = split_of(questions, all_skills)["validation"]
    named = pd.concat([known[["question_id", "skill"]], test_skills[["question_id", "skill"]]])
    profile = profiles.profile(known, scores)
    return ExampleBank(
        tuple(solved),
        {name: tuple(examples) for name, examples in own.items()},
        {str(name): frozenset(words) for name, words in named.groupby("question_id")["skill"]},
        dict(zip(zip(profile["expert"], profile["skill"], strict=True), profile["score"], strict=True)),
    )


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
    bank: ExampleBank | None = None,
) -> Competed:
    """All methods on all test questions, and every expert once for the oracles, in one scheduled run.

    `bank`: what `example_bank` made, for methods that show examples.
    """
    asked = split(questions, "test")
    methods = lineup.programs(names, asked, session.pool, routes, choice, seeds=seeds, bank=bank)
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
    panel = () if bounds_seed is None else every_expert(asked, session.pool.experts, seed=bounds_seed)
    policy = partial(policies.most_waiting, last={session.pool.experts[last].model.load_key})
    outcomes: dict[Any, schedule.Outcome] = schedule.run(
        itertools.chain(programs.items(), panel),
        session.engine,
        session.store,
        policy=policy,
        skip=session.skip,
        description="test",
    )
    runs = {key: outcomes.pop(key) for key in programs}
    scores = results.scores(outcomes, asked, session.pool.experts)
    del outcomes
    table = results.results_table(
        runs, asked, session.store, equality=results.equality_of(session.pool.experts)
    )
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

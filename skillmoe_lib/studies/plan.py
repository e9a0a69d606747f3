"""Plan before you run: what the chain would ask, load, take and cost, without loading a model.

The steps of the chain are rehearsed (`inference.rehearsal`): scheduler, programs and prompts are the real
ones, over a store that is thrown away. What is stored already is not asked again. `compared` sets a plan
beside what the run then took.
"""

import itertools
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skillmoe_lib import experts, paths, pipeline, progress, questions, seeding
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.report_folder import ReportFolder, store_of
from skillmoe_lib.experts import model_files
from skillmoe_lib.experts.pool import Expert, Pool, pool_file
from skillmoe_lib.experts.servers import PREFIX
from skillmoe_lib.inference import forecast, ledger, policies, schedule
from skillmoe_lib.inference.engines import connect
from skillmoe_lib.inference.engines.replay import as_stored
from skillmoe_lib.inference.rehearsal import StandIn, mirror
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods import lineup
from skillmoe_lib.methods.lineup import Choice
from skillmoe_lib.methods.single import every_expert
from skillmoe_lib.pipeline import Session
from skillmoe_lib.presets import find_preset
from skillmoe_lib.profiling import skills
from skillmoe_lib.studies import run_time

#: Notebooks that generate, in the order of the chain; each needs what those before it made.
STEPS = ("02_skills", "03_profiles", "04_aggregator", "06_methods", "07_run_time")
_SUMS = ["prompt_tokens", "output_tokens", "generate_s", "load_s", "low_s", "high_s"]


@dataclass(frozen=True)
class Settings:
    """Parameters of the chain's notebooks on which its requests depend, with their defaults."""

    pool: str = "pocket"
    benchmark: str = "pocket"
    engine: str = "vllm"
    store: str = "data/generations"
    limit: int = 0
    seed: int = 0
    votes: int = 5
    min_votes: int = 2
    max_chars: int = 20
    preset: str = "skillmoe"
    k: int = 3
    formula: str = "preset"
    temperature: float = -1.0
    trim: float = -1.0
    seeds: int = 1
    methods: str = "all"
    n_one_by_one: int = 8


@dataclass(frozen=True)
class Plan:
    """What a run would take.

    `requests` has a row for each request (`forecast.requests`, and `step`, the notebook); `obstacles` what
    will not fit (what, who, needs, has, setting); `notes` what the figures rest on; `cpu_s` the processor
    seconds that the plan itself took.
    """

    requests: pd.DataFrame
    disk_bytes: float
    memory: Mapping[str, float]  # bytes, by weights
    obstacles: pd.DataFrame
    notes: Sequence[str]
    cpu_s: float

    def by_expert(self) -> pd.DataFrame:
        """One row per expert (as requests name it), and the sum.

        Columns: expert, requests, after_answers (those that hang on answers), prompt_tokens, output_tokens,
        loads, swaps (of these), seconds (device seconds of loading and generating), low_s, high_s, memory_gb
        (peak of a load), disk_mb, money, currency, basis. Experts that share a load count it each; the sum
        counts it once.
        """
        return self._grouped("expert")

    def by_step(self) -> pd.DataFrame:
        """As `by_expert`, one row per notebook."""
        return self._grouped("step")

    def _grouped(self, by: str) -> pd.DataFrame:
        rows = [self._row(str(name), part, by) for name, part in self.requests.groupby(by, sort=False)]
        return pd.DataFrame([*rows, self._row("sum", self.requests, by)])

    def _row(self, name: str, part: pd.DataFrame, by: str) -> dict[str, Any]:
        sums = part[_SUMS].sum()
        share = _n_tokens(part) / max(_n_tokens(self.requests), 1)
        loads = part.drop_duplicates("batch_id")
        memory = [self.memory[weights] for weights in part["weights"].unique()]
        bases = part["basis"].unique()
        return {
            by: name,
            "requests": len(part),
            "after_answers": int(part["stage"].isin(forecast.AFTER_ANSWERS).sum()),
            "prompt_tokens": int(sums["prompt_tokens"]),
            "output_tokens": int(sums["output_tokens"]),
            "loads": len(loads),
            "swaps": int(loads["swapped"].sum()),
            "seconds": sums["generate_s"] + sums["load_s"],
            "low_s": sums["low_s"],
            "high_s": sums["high_s"],
            "memory_gb": max(memory, default=0.0) / 1e9,
            "disk_mb": self.disk_bytes * share / 1e6,
            "money": part["money"].sum(min_count=1),
            "currency": ", ".join(sorted(set(part["currency"].dropna()))),
            "basis": next((b for b in ("guess", "scaled", "own") if b in bases), ""),
        }


def chain(settings: Settings, steps: Sequence[str] = STEPS, *, fresh: bool = False) -> Plan:
    """Rehearse these notebooks of the chain and forecast what they would take.

    Those before them are rehearsed too, but not counted. With `fresh` everything is asked, as if nothing were
    stored; the ledger is read all the same. Nothing is written to the store, and no model is loaded or
    fetched.

    Raises
    ------
    SkillmoeError
        Engine `replay`, which generates nothing; whatever is wrong in the files of the pool or the benchmark.
    """
    return of_session(_session(settings), questions.load(settings.benchmark, limit=settings.limit), settings,
                      steps, fresh=fresh)  # fmt: skip


def of_session(
    real: Session,
    asked: pd.DataFrame,
    settings: Settings,
    steps: Sequence[str] = STEPS,
    *,
    fresh: bool = False,
) -> Plan:
    """As `chain`, for these questions (a Questions table) and a session that is open; it is not used."""
    started = time.process_time()
    with (
        tempfile.TemporaryDirectory(prefix="skillmoe-plan-") as folder,
        progress.silent(),
        warnings.catch_warnings(action="ignore"),
    ):
        past, made = GenerationStore(Path(folder) / "past"), GenerationStore(Path(folder) / "made")
        mirror(real.store.root, past.root)
        if not fresh:
            mirror(real.store.root, made.root)
        made.recover()
        stand_in = StandIn(real.engine, past)
        session = real._replace(engine=stand_in, store=made, skip=True)
        seen, files = _batches(made.root), set(made.root.rglob("*.parquet"))
        step_of = dict.fromkeys(seen, "")
        last = max(steps, default="")
        for step in _rehearsed(session, asked, settings) if last else ():
            step_of |= dict.fromkeys(_batches(made.root) - step_of.keys(), step)
            if step == last:
                break
        known, models = forecast.calibrate(past), _models(real.pool)
        rows = forecast.requests(_stores(made.root), seen, known, models)
        rows = rows.assign(step=rows["batch_id"].map(step_of))
        n_bytes = sum(file.stat().st_size for file in set(made.root.rglob("*.parquet")) - files)
        n_tokens = _n_tokens(rows)
        rows = rows[rows["step"].isin(steps)].reset_index(drop=True)
        disk = n_bytes * _n_tokens(rows) / max(n_tokens, 1)
        local = real.engine.name == "vllm"
        memory = {
            w: forecast.memory_of(w, models.get(w), known) if local else 0.0 for w in rows["weights"].unique()
        }
        obstacles = _obstacles(real, asked, rows, made.failures(), memory, disk)
        notes = _notes(stand_in, rows, known, memory)
    return Plan(rows, disk, memory, obstacles, notes, time.process_time() - started)


def _n_tokens(rows: pd.DataFrame) -> int:
    return int(rows["prompt_tokens"].sum() + rows["output_tokens"].sum())


def _session(settings: Settings) -> Session:
    """As `pipeline.open_session`, but a model whose files are not here is not fetched."""
    if settings.engine == "replay":
        raise SkillmoeError("engine=replay generates nothing, so there is nothing to plan")
    members = experts.load_pool(settings.pool, locate=False)
    if located := settings.engine == "vllm" and not _missing(members, settings.pool):
        members = experts.load_pool(settings.pool)
    engine = connect(settings.engine, members.served())
    store = GenerationStore(paths.project_root() / settings.store / engine.name)
    members = members.under(find_preset(settings.preset).conventions)
    if settings.engine == "vllm" and not located:
        members = as_stored(members, store)
    return Session(members, engine, store)


def _everyone(pool: Pool) -> list[Expert]:
    return [pool.keyword_expert, *pool.experts.values()]


def _missing(pool: Pool, name: str) -> list[str]:
    """Models of the pool that are not on this machine, or not unpacked."""
    found = []
    for model in {expert.model for expert in (*_everyone(pool), *pool.baselines.values())}:
        if not model.path.startswith(PREFIX):
            try:
                model_files.locate(
                    model.source, model.revision, beside=pool_file(name), fetch=False, unpack=False
                )
            except SkillmoeError:
                found.append(model.source)
    return sorted(found)


def _models(pool: Pool) -> dict[str, Any]:
    models = [expert.model for expert in (*_everyone(pool), *pool.baselines.values())]
    return {f"{model.source}@{model.revision}": model for model in models}


def _stores(root: Path) -> list[GenerationStore]:
    """The store and those in it, of notebooks that measure ways of running."""
    return [GenerationStore(parts.parent) for parts in sorted(root.rglob("parts"))] or [GenerationStore(root)]


def _batches(root: Path) -> set[str]:
    return {batch for store in _stores(root) for batch in store.batches()["batch_id"]}


# -- the rehearsal --------------------------------------------------------------------------------


def _rehearsed(session: Session, asked: pd.DataFrame, settings: Settings) -> Iterator[str]:
    """Run step after step; yields the notebook's name when it is done."""
    named = pipeline.annotate(
        session, asked, seed=settings.seed,
        votes=settings.votes, min_votes=settings.min_votes, max_chars=settings.max_chars,
    )  # fmt: skip
    yield "02_skills"
    scores = pipeline.validate(session, asked, seed=settings.seed)
    yield "03_profiles"
    choice = pipeline.choose(scores, pipeline.examine(session, asked, scores, seed=settings.seed))
    yield "04_aggregator"
    routes = _routes(session, asked, settings, named, scores)
    _compete(session, asked, settings, named, scores, routes, choice)
    yield "06_methods"
    ways = [way for way in ("symbolic_moe", "moa") if way in _names(session, settings, routes)]
    run_time.measured(session, asked, routes, choice, ways, n_one_by_one=settings.n_one_by_one)
    yield "07_run_time"


def _names(session: Session, settings: Settings, routes: pd.DataFrame) -> list[str]:
    return lineup.chosen(settings.methods, session.pool, routes)


def _routes(
    session: Session, asked: pd.DataFrame, settings: Settings, named: pd.DataFrame, scores: pd.DataFrame
) -> pd.DataFrame:
    """Routes as notebook 05 draws them, without what takes it its time: settings are not tuned, skills are
    matched by letters, and routers that read the questions' texts draw at random."""
    router = pipeline.preset_router(
        settings.preset, k=settings.k, formula=settings.formula, temperature=settings.temperature,
        trim=settings.trim, pool_trim=session.pool.trim,
    )  # fmt: skip
    own = pipeline.split_of(asked, named)
    matched = own["test"]
    if len(own["validation"]):
        matched = skills.match(matched, own["validation"]["skill"], embed=_by_letters)
    names = lineup.chosen(settings.methods, session.pool, k=settings.k)
    routers = {name: entry for name in names if (entry := lineup.find(name).router)}
    reading = [name for name, entry in routers.items() if entry.reads == "embeddings"]
    drawn = {*routers} - {*reading} | ({"random_k"} if reading else set())
    routes = pipeline.recruit(
        sorted(drawn), router, asked, named, matched, scores, seeds=range(settings.seeds)
    )
    at_random = routes[routes["method"] == "random_k"]
    return pd.concat([routes, *(at_random.assign(method=name) for name in reading)], ignore_index=True)


def _by_letters(texts: Sequence[str]) -> Any:
    counts = np.array(
        [[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts], float
    )
    return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def _compete(
    session: Session,
    asked: pd.DataFrame,
    settings: Settings,
    named: pd.DataFrame,
    scores: pd.DataFrame,
    routes: pd.DataFrame,
    choice: Choice,
) -> None:
    """What `pipeline.compete` asks; nothing is graded."""
    test, seeds = pipeline.split(asked, "test"), range(settings.seeds)
    names, pool = _names(session, settings, routes), session.pool
    bank = None
    if lineup.shows_examples(names):
        bank = pipeline.example_bank(session, asked, named, pipeline.split_of(asked, named)["test"], scores)
    programs = lineup.programs(names, test, pool, routes, choice, seeds=seeds, bank=bank)
    policy = partial(policies.most_waiting, last={pool.experts[choice.aggregator].model.load_key})
    everyone = itertools.chain(programs.items(), every_expert(test, pool.experts, seed=seeds[0]))
    schedule.run(everyone, session.engine, session.store, policy=policy, skip=True)


# -- what will not fit ----------------------------------------------------------------------------

_OBSTACLE = ["what", "who", "needs", "has", "setting"]


def _obstacles(
    real: Session,
    asked: pd.DataFrame,
    rows: pd.DataFrame,
    failures: pd.DataFrame,
    memory: Mapping[str, float],
    disk: float,
) -> pd.DataFrame:
    """What this machine, a context or a cap does not allow, each with a setting that would fit."""
    n_questions = int(asked["split"].value_counts().max())
    found = [*_contexts(rows, failures), *_models_and_memory(real, rows, memory)]
    free = shutil.disk_usage(next(p for p in (real.store.root, *real.store.root.parents) if p.exists())).free
    if disk > free:
        fits = int(n_questions * free / disk)
        found.append(
            ("disk", str(real.store.root), _gb(disk), _gb(free), f"store= on another disk, or limit={fits}")
        )
    for name, server in real.pool.served().items():
        ours = {e.model.source for e in _everyone(real.pool) if e.model.path == f"{PREFIX}{name}"}
        spent = rows.loc[rows["weights"].str.partition("@")[0].isin(ours), "money"].sum()
        if server.spending_cap is not None and spent > server.spending_cap:
            fits = int(n_questions * server.spending_cap / spent)
            setting = f"spending_cap: {spent * 1.2:.2f} of server {name!r}, or limit={fits}"
            found.append(("money", name, f"{spent:.2f}", f"{server.spending_cap:.2f}", setting))
    return pd.DataFrame(found, columns=_OBSTACLE)


def _gb(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB"


def _contexts(rows: pd.DataFrame, failures: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """Prompts that do not fit a context, and answers that it would cut before `max_tokens`."""
    too_long = failures[failures["status"] == "overflow"].drop_duplicates("request_id")
    for expert, part in too_long.groupby("expert"):
        sizes = part["reason"].str.extract(r"has (\d+) tokens.* has (\d+)").astype(float)
        needs = f"{sizes[0].max() + 1:.0f} tokens ({len(part)} prompts)"
        yield (
            "context",
            str(expert),
            needs,
            f"{sizes[1].max():.0f}",
            f"max_model_len: {sizes[0].max() + 1:.0f}",
        )
    room = rows["max_model_len"] - rows["prompt_tokens"]
    for expert, part in rows[room < rows["max_tokens"]].groupby("expert"):
        most = int((part["prompt_tokens"] + part["max_tokens"]).max())
        least = int((part["max_model_len"] - part["prompt_tokens"]).min())
        has = str(part["max_model_len"].max())
        setting = f"max_model_len: {most}, or max_tokens: {least}"
        yield ("context", str(expert), f"{most} tokens ({len(part)} prompts with max_tokens)", has, setting)


def _models_and_memory(
    real: Session, rows: pd.DataFrame, memory: Mapping[str, float]
) -> Iterator[tuple[str, ...]]:
    """Models that the engine would refuse, and memory."""
    models, told = _models(real.pool), set[str]()
    for weights in rows["weights"].unique():
        model = models.get(weights)
        if model is None or real.engine.name != "vllm" or model.path.startswith(PREFIX):
            continue
        if not model.path:
            yield (
                "files",
                model.source,
                "the model's files",
                "none here",
                "network or HF_TOKEN, or `make setup`",
            )
            continue
        try:
            real.engine.check(model)
        except SkillmoeError as error:
            if "does not fit" not in str(error):
                if str(error) not in told:
                    yield ("engine", model.source, str(error), "", "python -m skillmoe_lib doctor")
                told.add(str(error))
                continue
        where = forecast.device_of(model)
        if memory[weights] > (free := forecast.free_memory(where)):
            setting = _less_memory(memory[weights] - free, where)
            yield ("memory", model.source, _gb(memory[weights]), _gb(free), setting)


def _less_memory(over: float, where: str) -> str:
    if where == "gpu":
        return "a quantised model, a larger GPU, or a pool without this expert"
    cache = float(os.environ.get("VLLM_CPU_KVCACHE_SPACE", "2"))
    left = cache - over / 2**30
    if left >= 0.5:
        return f"VLLM_CPU_KVCACHE_SPACE={max(1, int(left)) if left >= 1 else round(left, 1)}"
    return "dtype: bfloat16, a smaller model, or a pool without this expert"


def _notes(
    stand_in: StandIn, rows: pd.DataFrame, known: forecast.Calibration, memory: Mapping[str, float]
) -> list[str]:
    """What the figures rest on, in sentences."""
    n, by = sum(stand_in.answered.values()), stand_in.answered
    notes = []
    others = by["stage"] + by["other"]
    if drawn := by["question"] + by["expert"] + others:
        notes.append(
            f"{drawn:,} of {n:,} answers are stood in for by stored ones to other requests "
            f"({by['question']:,} to the same question, {by['expert']:,} of the same expert, "
            f"{others:,} of other experts or stages)"
        )
    if by["assumed"]:
        notes.append(f"guess: {by['assumed']:,} answers take {0.5:.0%} of max_tokens; no such text is stored")
    if after := int(rows["stage"].isin(forecast.AFTER_ANSWERS).sum()):
        sure = by["stored"] + by["rule"] == n
        notes.append(
            f"{after:,} requests follow on answers"
            + ("" if sure else ": their number and length are as the stand-ins have it")
        )
    if stand_in.estimated:
        notes.append(f"guess: prompt tokens from characters for {', '.join(sorted(stand_in.estimated))}")
    for basis, says in (
        ("scaled", "seconds scaled from a model that was run"),
        ("guess", "seconds by model size"),
    ):
        if who := sorted(rows.loc[rows["basis"] == basis, "expert"].unique()):
            notes.append(f"{'guess: ' if basis == 'guess' else ''}{says}: {', '.join(who)}")
    if unknown := [weights for weights in memory if weights not in known.peaks and memory[weights]]:
        notes.append(f"guess: memory of {len(unknown)} models, of which no load has recorded its peak")
    return notes


# -- a plan in a report ---------------------------------------------------------------------------


def in_report(folder: ReportFolder, **parameters: Any) -> pd.DataFrame:
    """Plan the chain and write `plan.csv` into its report; shows it.

    `parameters` are those that the notebook has; the others are what `skillmoe run` was given. An earlier
    plan with the same settings is kept: it is what the run followed, and a rehearsal takes its time.
    """
    names = {field.name for field in fields(Settings)}
    given = json.loads(os.environ.get("SKILLMOE_GIVEN", "{}"))
    settings = Settings(**{k: v for k, v in {**given, **parameters}.items() if k in names})
    if settings.engine == "replay":
        return pd.DataFrame(columns=["expert", "requests"])
    mark = seeding.digest(asdict(settings))[:16]
    if (folder.path / "tables" / "plan.csv").is_file():
        earlier = folder.read("plan")
        if "settings" in earlier and set(earlier["settings"]) == {mark}:
            print(f"planned at {earlier['made_at'].iloc[0]}, with the same settings")
            return earlier.drop(columns=["made_at", "settings"])
    try:
        plan = chain(settings)
    except (
        SkillmoeError
    ) as error:  # a plan is a help: the run goes on without it, and says what is wrong itself
        print(f"no plan: {error}")
        return pd.DataFrame(columns=["expert", "requests"])
    table = plan.by_expert()
    print("\n".join([*plan.notes, *told(plan.obstacles)]))
    if len(plan.requests):
        now = datetime.now(UTC).isoformat(timespec="seconds")
        folder.write(table.assign(made_at=now, settings=mark), "plan")
    return table


def told(obstacles: pd.DataFrame) -> list[str]:
    """What will not fit, a sentence each."""
    return [
        f"will not fit: {row.what} of {row.who}: needs {row.needs}, has {row.has}: {row.setting}"
        for row in obstacles.itertuples()
    ]


def compared(folder: ReportFolder) -> pd.DataFrame:
    """Write `predicted.csv`: the report's plan beside what its run really took since the plan was made.

    Columns: expert, then predicted and actual of each of requests, output_tokens, seconds and memory_gb (null
    if not recorded), and ratio (predicted to actual seconds). Without a plan, an empty frame.
    """
    if not (folder.path / "tables" / "plan.csv").is_file():
        return pd.DataFrame(columns=["expert"])
    planned = folder.read("plan").set_index("expert")
    took = _took(store_of(folder.path), str(planned["made_at"].iloc[0]))
    table = pd.DataFrame(index=planned.index)
    for name in ("requests", "output_tokens", "seconds", "memory_gb"):
        table[f"{name}_predicted"] = planned[name]
        table[f"{name}_actual"] = took[name].reindex(planned.index)
    table["ratio"] = table["seconds_predicted"] / table["seconds_actual"]
    return folder.write(table.reset_index(), "predicted")


def _took(root: Path, since: str) -> pd.DataFrame:
    """What experts really took in the batches of a store since then: requests, output_tokens, seconds,
    memory_gb."""
    frames = []
    for store in _stores(root):
        batches = store.batches().set_index("batch_id")
        started = pd.to_datetime(batches["started_at"], utc=True, format="ISO8601")
        new = batches[started >= pd.Timestamp(since)]
        rows = store.generations(["request_id", "expert", "output_tokens", "batch_id"])
        rows = rows[rows["batch_id"].isin(new.index)]
        if rows.empty:
            continue
        rows["seconds"] = rows["request_id"].map(ledger.request_seconds(store))
        peaks = new["peak_bytes"].astype(float)
        rows["memory_gb"] = rows["batch_id"].map(peaks.where(peaks > 0) / 1e9)
        frames.append(rows)
    names = ["expert", "request_id", "output_tokens", "seconds", "memory_gb"]
    rows = pd.concat(frames) if frames else pd.DataFrame(columns=names)
    about = {"requests": ("expert", "size"), "output_tokens": ("output_tokens", "sum"),
             "seconds": ("seconds", "sum"), "memory_gb": ("memory_gb", "max")}  # fmt: skip
    return pd.concat(
        [rows.groupby("expert").agg(**about), rows.assign(expert="sum").groupby("expert").agg(**about)]
    )

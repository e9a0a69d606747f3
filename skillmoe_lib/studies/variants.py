"""Variants of the recruiting pipeline: who is recruited, who decides, and whether they discuss first.

For the paper's tables of discussion x aggregator, of recruiting and of aggregators, and for ablations.
Every variant is a program of `methods` or the one below, so that all variants of a table go into one
scheduled run and share equal requests. All choices are made on validation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from sklearn.base import clone

from skillmoe_lib import methods, pipeline, prompts
from skillmoe_lib.aggregation.votes import read_answer, visible_text, vote
from skillmoe_lib.errors import unknown
from skillmoe_lib.evaluation import published
from skillmoe_lib.experts.pool import Expert, Pool
from skillmoe_lib.generation import Program
from skillmoe_lib.methods.lineup import Choice
from skillmoe_lib.methods.single import Run
from skillmoe_lib.pipeline import Session
from skillmoe_lib.questions.benchmark import Question
from skillmoe_lib.routing.skill_router import SkillRouter
from skillmoe_lib.seeding import generator
from skillmoe_lib.studies.paper_tables import Learned, choice_beside

#: Who decides: the aggregator chosen on items (docs/method.md 1.8), the most accurate expert, for each
#: question the recruited expert of highest suitability, a candidate drawn for each question, or a majority
#: vote.
AGGREGATORS = ("task_specific", "task_best", "adaptive", "random", "vote")
#: The published tables that consist of variants.
TABLES = ("recruiting", "discussion", "aggregators")


class Variant(NamedTuple):
    """A pipeline to run: its name in the tables, whose slots (Routes of one method), who decides
    (one of `AGGREGATORS` or an expert of the pool), and whether the recruited discuss first."""

    name: str
    routes: pd.DataFrame
    choice: Choice
    aggregator: str = "task_specific"
    discussion: bool = False


def discuss(
    question: Question, recruited: Sequence[Expert], aggregator: Expert | None, *, seed: int
) -> Program:
    """The recruited experts solve, each answers again after seeing the others, then one decides.

    The round is that of debate (Du et al. 2024), between different experts. Without an aggregator (None) a
    majority vote decides. 2k + 1 calls, or 2k.
    """
    turns = yield methods.ask(question, recruited, seed=seed)
    texts = [visible_text(expert, turn) for expert, turn in zip(recruited, turns, strict=True)]
    turns = yield [
        prompts.revise(question, expert, texts[i], texts[:i] + texts[i + 1 :], seed=seed, sample=i)
        for i, expert in enumerate(recruited)
    ]
    if aggregator is None:
        return vote(
            question, [read_answer(question, e, turn) for e, turn in zip(recruited, turns, strict=True)]
        )
    texts = [visible_text(expert, turn) for expert, turn in zip(recruited, turns, strict=True)]
    (final,) = yield [prompts.aggregate(question, aggregator, texts, seed=seed)]
    return read_answer(question, aggregator, final)


def variant_programs(
    variants: Sequence[Variant], questions: Sequence[Question], pool: Pool, *, seeds: Sequence[int]
) -> dict[Run, Program]:
    """The programs of all variants, for every question and seed; a run's method is the variant's name."""
    made: dict[Run, Program] = {}
    for variant in variants:
        slots = {
            key: part.sort_values("slot") for key, part in variant.routes.groupby(["seed", "question_id"])
        }
        for seed in seeds:
            for question in questions:
                slot = slots[seed, question.question_id]
                recruited = [pool.experts[name] for name in slot["expert"]]
                name = decider(variant, slot, pool, seed=seed)
                made[Run(variant.name, seed, question.question_id)] = _program(
                    question, recruited, pool.experts[name] if name else None, variant.discussion, seed
                )
    return made


def _program(
    question: Question, recruited: Sequence[Expert], aggregator: Expert | None, discussion: bool, seed: int
) -> Program:
    if discussion:
        return discuss(question, recruited, aggregator, seed=seed)
    if aggregator is None:
        return methods.majority_vote(question, recruited, seed=seed)
    return methods.symbolic_moe(question, recruited, aggregator, seed=seed)


def decider(variant: Variant, slot: pd.DataFrame, pool: Pool, *, seed: int) -> str:
    """Name of the expert that decides for the question of these Routes rows (by slot); "" is a vote.

    "adaptive" takes the highest suitability, or without any (no known skill) the highest probability; ties
    go to the earlier slot. "random" draws among the pool's candidates, by seed and question id.
    """
    match variant.aggregator:
        case "vote":
            return ""
        case "task_specific":
            return variant.choice.aggregator
        case "task_best":
            return variant.choice.task_best
        case "adaptive":
            fits = slot["suitability"] if slot["suitability"].notna().any() else slot["probability"]
            return str(slot["expert"].iloc[int(fits.astype("Float64").fillna(-1e9).to_numpy().argmax())])
        case "random":
            draw = generator("random aggregator", seed, str(slot["question_id"].iloc[0]))
            return str(draw.choice(sorted(pool.aggregators)))
    if variant.aggregator not in pool.experts:
        raise unknown("aggregator", variant.aggregator, [*AGGREGATORS, *pool.experts])
    return variant.aggregator


# -- the variants of the paper's tables ------------------------------------------------------------


class Plan(NamedTuple):
    """What a table compares: its variants, the one that the others are compared with, and what is left
    out (name -> reason)."""

    variants: list[Variant]
    baseline: str
    left_out: dict[str, str]


def plan(
    table: str,
    session: Session,
    questions: pd.DataFrame,
    ready: Learned,
    router: SkillRouter,
    *,
    seeds: Sequence[int],
) -> Plan:
    """The variants of one of `TABLES`; all share what came before the test questions.

    "recruiting": see `recruitings`. "discussion": see `discussions`. "aggregators": every candidate as the
    aggregator of the whole pipeline, all reading the same chains.
    """
    if table == "recruiting":
        made, left_out = recruitings(session, questions, ready, router, seeds=seeds)
        return Plan(made, "adaptive", left_out)
    routes = pipeline.recruit([], router, questions, *ready.tables, seeds=seeds)
    if table == "discussion":
        return Plan(discussions(routes, ready.choice), "task_specific, without", {})
    if table == "aggregators":
        made = [Variant(name, routes, ready.choice, name) for name in session.pool.aggregators]
        return Plan(made, ready.choice.aggregator, {})
    raise unknown("table", table, TABLES)


def beside_published(table: str, accuracy: pd.DataFrame, ready: Learned) -> pd.DataFrame:
    """Our accuracies of one of `TABLES` beside the published figures (`published.beside`), or our choice
    of aggregator beside the published one (`paper_tables.choice_beside`)."""
    if table == "aggregators":
        return choice_beside(ready.examined, ready.choice, accuracy["benchmark"].iloc[0])
    if table == "discussion":
        parts = accuracy["method"].str.split(", ", expand=True).set_axis(["aggregator", "discussion"], axis=1)
        on = ["aggregator", "discussion", "benchmark"]
        return published.beside(accuracy.join(parts), "discussion_aggregator", on=on)
    named = accuracy.rename(columns={"method": "variant"})
    return published.beside(named, "recruiting", on=["variant", "benchmark"])


def discussions(routes: pd.DataFrame, choice: Choice) -> list[Variant]:
    """Discussion x aggregator: every one of `AGGREGATORS` except the vote, without and with discussion."""
    return [
        Variant(
            f"{aggregator}, {'with' if discussion else 'without'}", routes, choice, aggregator, discussion
        )
        for aggregator in AGGREGATORS[:-1]
        for discussion in (False, True)
    ]


def recruitings(
    session: Session, questions: pd.DataFrame, ready: Learned, router: SkillRouter, *, seeds: Sequence[int]
) -> tuple[list[Variant], dict[str, str]]:
    """The variants of the published table of recruiting, and why others are left out (name -> reason).

    Fixed and random experts have the same aggregator as the adaptive ones: only the recruiting differs.
    """

    def routes(method: str, k: int) -> pd.DataFrame:
        others = [method] if method != "symbolic_moe" else []
        drawn = pipeline.recruit(others, clone(router).set_params(k=k), questions, *ready.tables, seeds=seeds)
        return drawn[drawn["method"] == method]

    adaptive, n_experts = routes("symbolic_moe", router.k), len(session.pool.experts)
    made, left_out = [Variant("adaptive", adaptive, ready.choice)], {}
    for name, method, k in (
        ("top_3", "top_k", 3),
        ("top_5", "top_k", 5),
        ("random_experts", "random_k", router.k),
    ):
        if k > n_experts:
            left_out[name] = f"needs {k} experts; the pool has {n_experts}"
        else:
            made.append(Variant(name, routes(method, k), ready.choice))
    made.append(Variant("random_aggregator", adaptive, ready.choice, "random"))
    made.append(Variant("majority_vote", adaptive, ready.choice, "vote"))
    return made, left_out

"""Who stands in the main table: every method of METHOD sections 1 and 4 as programs of one scheduled run.

All choices come from validation: the best expert, the top three, the aggregator, the routes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from skillmoe_lib import methods
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.experts.pool import Expert, Pool
from skillmoe_lib.generation import Program
from skillmoe_lib.methods.single import Run
from skillmoe_lib.questions.benchmark import Question

N_TOP = 3  # agents of the multi-agent baselines, and proposers of MoA
#: Methods that use the slots of Symbolic-MoE's route.
RECRUITED = ("symbolic_moe", "majority_vote", "weighted_vote")
#: Methods that vote over the slots of a route of their own name.
ROUTED = (
    "random_k",
    "top_k",
    "confidence_sized",
    "cluster_router",
    "knn_router",
    "logistic_router",
    "committee",
)
BOUNDS = ("dataset_oracle", "instance_oracle")
CONTROLS = ("random_k", "top_k", "best_single")


@dataclass(frozen=True)
class Choice:
    """What validation chose: experts from the most accurate down, the aggregator, and the best expert
    over all benchmarks that were validated (`best_single`; the same as the first where there is one)."""

    ranking: tuple[str, ...]
    aggregator: str
    best_single: str = ""

    @property
    def task_best(self) -> str:
        """The most accurate expert on this benchmark's validation questions."""
        return self.ranking[0]


def ranking(scores: pd.DataFrame) -> tuple[str, ...]:
    """Experts by accuracy on validation; ties by name. Answers that were not run do not count."""
    ran = scores[scores["status"] != "not_run"]
    if ran.empty:
        raise SkillmoeError("no expert has a validation answer: run the notebook 03_profiles first")
    accuracy = ran.groupby("expert")["correct"].mean().sort_index()
    return tuple(accuracy.sort_values(ascending=False, kind="stable").index)


def available(pool: Pool, *, k: int = N_TOP) -> dict[str, str]:
    """Method -> why it is left out ("" if it is not), in the order of the table; k as in `recruit`."""
    short, few = (
        f"needs {n} experts; the pool has {len(pool.experts)}" if len(pool.experts) < n else ""
        for n in (N_TOP, k)
    )
    return {
        "symbolic_moe": "",
        "majority_vote": "",
        "weighted_vote": "",
        "cot_task_best": "",
        "best_single": "",
        "self_consistency": "",
        "self_refine": "",
        "debate": "",
        "self_moa": "",
        "moa": short,
        "reconcile": short,
        "fusion_of_n": "",
        "best_of_n": "",
        "complexity_vote": "",
        **dict.fromkeys(ROUTED, few),
        "confidence_sized": "",
    }


def chosen(methods: str, pool: Pool, routes: pd.DataFrame | None = None, *, k: int = N_TOP) -> list[str]:
    """Names as a notebook's parameter gives them: separated by commas, or "all" that can be run.

    That is every method that the pool is large enough for and whose routes are there; without `routes`,
    every one that can be routed to k experts.
    """
    if methods.strip() != "all":
        return [name.strip() for name in methods.split(",") if name.strip()]
    if routes is None:
        return [name for name in ROUTED if not available(pool, k=k)[name]]
    routed = set(routes["method"])
    known = available(pool, k=1)
    return [name for name, reason in known.items() if not reason and (name not in ROUTED or name in routed)]


def programs(
    names: Sequence[str],
    questions: Sequence[Question],
    pool: Pool,
    routes: pd.DataFrame,
    choice: Choice,
    *,
    seeds: Sequence[int],
) -> dict[Run, Program]:
    """The programs of these methods, for every question and seed.

    Raises
    ------
    SkillmoeError
        No method or seed; an unknown method, one that this pool is too small for, or one without routes;
        a choice or routes that name an expert of another pool.
    """
    if not names or not seeds:
        raise SkillmoeError(
            f"nothing to run: it takes a method and a seed at least, given {len(names)} and {len(seeds)}"
        )
    pool.subset([*choice.ranking, choice.aggregator, choice.best_single or choice.task_best])
    pool.subset(routes["expert"].unique().tolist())
    reasons = available(pool, k=1)
    for name in names:
        if name not in reasons:
            raise unknown("method", name, reasons)
        if reasons[name]:
            raise SkillmoeError(f"method {name!r} {reasons[name]}")
    slots = {key: part.sort_values("slot") for key, part in routes.groupby(["method", "seed", "question_id"])}
    made: dict[Run, Program] = {}
    for name in names:
        route = name if name in ROUTED else "symbolic_moe" if name in RECRUITED else ""
        for seed in seeds:
            for question in questions:
                slot = slots.get((route, seed, question.question_id))
                if slot is None and route:
                    raise SkillmoeError(
                        f"no route of {route!r} for question {question.question_id!r}, seed {seed}"
                    )
                recruited = [] if slot is None else [pool.experts[expert] for expert in slot["expert"]]
                weights = [] if slot is None else slot["probability"].fillna(0.0).tolist()
                made[Run(name, seed, question.question_id)] = _program(
                    name, question, recruited, weights, pool.experts, choice, seed
                )
    return made


def _program(
    name: str,
    question: Question,
    recruited: Sequence[Expert],
    weights: Sequence[float],
    experts: Mapping[str, Expert],
    choice: Choice,
    seed: int,
) -> Program:
    """One method for one question."""
    best, top = experts[choice.task_best], [experts[expert] for expert in choice.ranking[:N_TOP]]
    aggregator, steady = experts[choice.aggregator], experts[choice.best_single or choice.task_best]
    table: Mapping[str, Callable[[], Program]] = {
        "symbolic_moe": lambda: methods.symbolic_moe(question, recruited, aggregator, seed=seed),
        "weighted_vote": lambda: methods.majority_vote(question, recruited, seed=seed, weights=weights),
        "cot_task_best": lambda: methods.cot(question, best, seed=seed),
        "best_single": lambda: methods.cot(question, steady, seed=seed),
        "self_consistency": lambda: methods.majority_vote(question, [best] * 5, seed=seed),
        "self_refine": lambda: methods.self_refine(question, best, seed=seed),
        "debate": lambda: methods.debate(question, best, seed=seed),
        "self_moa": lambda: methods.fusion_of_n(question, best, best, seed=seed, n_samples=3),
        "moa": lambda: methods.moa(question, top, aggregator, seed=seed),
        "reconcile": lambda: methods.reconcile(question, top, seed=seed),
        "fusion_of_n": lambda: methods.fusion_of_n(question, best, aggregator, seed=seed),
        "best_of_n": lambda: methods.best_of_n(question, best, aggregator, seed=seed),
        "complexity_vote": lambda: methods.complexity_vote(question, best, seed=seed),
    }
    return table.get(name, lambda: methods.majority_vote(question, recruited, seed=seed))()

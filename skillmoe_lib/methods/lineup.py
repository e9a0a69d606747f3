"""The line-up of the main table: every method of docs/method.md 1, 4 and 5, as programs of one scheduled run.

`METHODS` is the whole list, in the order of the table. To add a method, write its program and its entry in
a file of this folder and put the entry here; to add a routed one that votes, write its router and add its
entry to `voting`. All choices come from validation: the best expert, the top three, the aggregator, the
routes.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from skillmoe_lib import prompts
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.experts import Pool
from skillmoe_lib.generation import Program
from skillmoe_lib.methods import discussion, one_model, voting, worked_examples
from skillmoe_lib.methods.example_bank import ExampleBank
from skillmoe_lib.methods.method import N_TOP, Bound, Method, Slot, Team
from skillmoe_lib.methods.sequential import SEQUENTIAL, SEQUENTIAL_WITHOUT_SKILLS
from skillmoe_lib.methods.single import Run
from skillmoe_lib.methods.symbolic_moe import SYMBOLIC_MOE
from skillmoe_lib.questions import Question

METHODS: tuple[Method, ...] = (
    SYMBOLIC_MOE,
    SEQUENTIAL,
    voting.MAJORITY_VOTE,
    voting.WEIGHTED_VOTE,
    one_model.COT_TASK_BEST,
    one_model.BEST_SINGLE,
    one_model.SELF_CONSISTENCY,
    one_model.SELF_REFINE,
    discussion.DEBATE,
    one_model.SELF_MOA,
    discussion.MOA,
    discussion.RECONCILE,
    one_model.FUSION_OF_N,
    one_model.BEST_OF_N,
    one_model.COMPLEXITY_VOTE,
    worked_examples.ADAPTMI,
    worked_examples.OWN_EXAMPLES,
    voting.RANDOM_K,
    voting.TOP_K,
    SEQUENTIAL_WITHOUT_SKILLS,
    voting.CONFIDENCE_SIZED,
    voting.CLUSTER,
    voting.KNN,
    voting.LOGISTIC,
    voting.COMMITTEE,
)
#: Computed by `evaluation.results.oracles`.
ORACLES = (
    Bound("dataset_oracle", "Dataset oracle", "The expert that is most accurate on these test questions."),
    Bound(
        "instance_oracle", "Instance oracle", "Right if any expert is: no choice of experts can gain more."
    ),
)
BOUNDS = tuple(bound.name for bound in ORACLES)
CONTROLS = tuple(method.name for method in METHODS if method.kind == "control")
#: Methods whose routes have the method's own name.
ROUTED = tuple(method.name for method in METHODS if method.router)
#: Methods that need the keywords of a question before experts are asked.
SKILL_ROUTED = tuple(
    method.name
    for method in METHODS
    if method.route == "symbolic_moe" or (method.router and method.router.reads == "skills")
)
_LABEL_OF = {
    "method": "label",
    "baseline": "baseline_label",
    "against": "against_label",
    "rival": "rival_label",
}


@dataclass(frozen=True)
class Choice:
    """What validation chose.

    `ranking`: experts from the most accurate down. `best_single`: the best expert over all validated
    benchmarks (with one benchmark, the first of the ranking). `thresholds`: how sure each sequential
    method must be to stop, by its name; `open_answers` as in `Team`.
    """

    ranking: tuple[str, ...]
    aggregator: str
    best_single: str = ""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    open_answers: float = 1001.0

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


def best_over_benchmarks(scores: Mapping[str, pd.DataFrame]) -> str:
    """The expert with the best mean of its validation accuracies, for `Choice.best_single`.

    `scores` are the validation Scores of each benchmark, by its name. As in the average column of the
    paper's main table every benchmark has the same weight, however many questions it has. An expert that was
    not run on all of them cannot be averaged and is left out; ties by name.
    """
    if not scores:
        raise SkillmoeError("the best expert over benchmarks needs the scores of one at least, given none")
    ran = [frame[frame["status"] != "not_run"] for frame in scores.values()]
    each = pd.concat([frame.groupby("expert")["correct"].mean() for frame in ran], axis=1)
    means = each.mean(axis=1, skipna=False).dropna().sort_index()
    if means.empty:
        raise SkillmoeError(f"no expert has a validation answer on each of {', '.join(scores)}")
    return str(means.idxmax())


def find(name: str) -> Method:
    """The entry of a method that can be run; a `SkillmoeError` lists the known names."""
    by_name = {method.name: method for method in METHODS}
    if name not in by_name:
        raise unknown("method", name, by_name)
    return by_name[name]


def available(pool: Pool, *, k: int = N_TOP) -> dict[str, str]:
    """Method -> why it is left out ("" if it is not), in the order of the table; k as in `recruit`."""
    return {method.name: method.left_out(pool, k=k) for method in METHODS}


def chosen(methods: str, pool: Pool, routes: pd.DataFrame | None = None, *, k: int = N_TOP) -> list[str]:
    """Names from a notebook's parameter: separated by commas, or "all" that can be run.

    "all" is every method that the pool is large enough for and whose routes exist; without `routes`,
    every one that can be routed to k experts.
    """
    if methods.strip() != "all":
        return [name.strip() for name in methods.split(",") if name.strip()]
    if routes is None:
        return [method.name for method in METHODS if method.router and not method.left_out(pool, k=k)]
    routed = set(routes["method"])
    runnable = [method for method in METHODS if not method.left_out(pool, k=1)]
    return [method.name for method in runnable if not method.router or method.name in routed]


def programs(
    names: Sequence[str],
    questions: Sequence[Question],
    pool: Pool,
    routes: pd.DataFrame,
    choice: Choice,
    *,
    seeds: Sequence[int],
    bank: ExampleBank | None = None,
) -> dict[Run, Program]:
    """The programs of these methods, for every question and seed; `bank` for those that show examples.

    Raises
    ------
    SkillmoeError
        No method or seed; an unknown method, one that this pool cannot run, one without routes or without
        a bank of examples; a choice or routes that name an expert of another pool.

    Warns
    -----
    UserWarning
        Two experts whose requests are equal: they share one text, which then votes twice.
    """
    if not names or not seeds:
        raise SkillmoeError(
            f"nothing to run: it takes a method and a seed at least, given {len(names)} and {len(seeds)}"
        )
    pool.subset([*choice.ranking, choice.aggregator, choice.best_single or choice.task_best])
    pool.subset(routes["expert"].unique().tolist())
    wanted = [find(name) for name in names]
    for method in wanted:
        if reason := method.left_out(pool, k=1):
            raise SkillmoeError(f"method {method.name!r} {reason}")
        if method.shows_examples and bank is None:
            raise SkillmoeError(
                f"method {method.name!r} needs the validation answers that it shows, given no bank of them"
            )
    if questions:
        _warn_of_twins(pool, questions[0])
    slots = _slots(routes, pool)
    made: dict[Run, Program] = {}
    for method in wanted:
        for seed in seeds:
            for question in questions:
                key = (method.route, seed, question.question_id)
                if method.route and key not in slots:
                    raise SkillmoeError(
                        f"no route of {method.route!r} for question {question.question_id!r}, seed {seed}"
                    )
                team = _team(pool, choice, slots.get(key, ()), method.name, bank or ExampleBank())
                made[Run(method.name, seed, question.question_id)] = method.program(question, team, seed)
    return made


def _warn_of_twins(pool: Pool, question: Question) -> None:
    first: dict[str, str] = {}
    for name, expert in pool.experts.items():
        twin = first.setdefault(prompts.solve(question, expert, seed=0).id, name)
        if twin != name:
            warnings.warn(
                f"experts {twin!r} and {name!r} are the same model with the same prompt and sampling: they "
                "share one text, which votes twice if both are recruited",
                stacklevel=3,
            )


def shows_examples(names: Iterable[str]) -> bool:
    """Whether one of these methods needs a bank of examples."""
    return any(find(name).shows_examples for name in names)


def _team(pool: Pool, choice: Choice, slots: Sequence[Slot], method: str, bank: ExampleBank) -> Team:
    takers = [name for name in choice.ranking if pool.experts[name].takes_examples]
    return Team(
        best=pool.experts[choice.task_best],
        top=tuple(pool.experts[name] for name in choice.ranking[:N_TOP]),
        best_single=pool.experts[choice.best_single or choice.task_best],
        aggregator=pool.experts[choice.aggregator],
        taught=pool.experts[takers[0] if takers else choice.task_best],
        slots=tuple(slots),
        threshold=choice.thresholds.get(method, 1.0),
        open_answers=choice.open_answers,
        bank=bank,
    )


def _slots(routes: pd.DataFrame, pool: Pool) -> dict[tuple[str, int, str], list[Slot]]:
    """Slots by method, seed and question, in slot order."""
    ordered = routes.sort_values("slot", kind="stable")
    numbers = [
        ordered[name].astype("Float64").to_numpy(float, na_value=float("nan"))
        for name in ("suitability", "probability")
    ]
    found: dict[tuple[str, int, str], list[Slot]] = {}
    for method, seed, question_id, expert, suitability, probability in zip(
        ordered["method"], ordered["seed"], ordered["question_id"], ordered["expert"], *numbers, strict=True
    ):
        slot = Slot(pool.experts[expert], float(suitability), float(probability))
        found.setdefault((method, int(seed), question_id), []).append(slot)
    return found


def _entries() -> list[Method | Bound]:
    return [*METHODS, *ORACLES]


def labels() -> dict[str, str]:
    """Name -> label of every method and bound."""
    return {entry.name: entry.label for entry in _entries()}


def described() -> dict[str, str]:
    """Name -> what it is in one line, with its source, for reports."""
    sources = {method.name: method.citation for method in METHODS if method.citation}
    return {
        entry.name: entry.about + (f" ({sources[entry.name]})" if entry.name in sources else "")
        for entry in _entries()
    }


def groups() -> dict[str, str]:
    """Name -> group, for figures: "baselines", "controls" and "bounds"; our own methods are in none."""
    return {entry.name: f"{entry.kind}s" for entry in _entries() if entry.kind != "method"}


def labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a column of readable labels next to each column of method names; no column is changed.

    `method` gets `label`, `baseline` gets `baseline_label`, `against` gets `against_label`. A name that
    is not a method's (an expert, a variant) is its own label.
    """
    known = labels()
    for column, label in _LABEL_OF.items():
        if column in frame and label not in frame:
            at = list(frame.columns).index(column) + 1
            shown = frame[column].map(lambda name: known.get(name, name))
            frame = pd.concat([frame.iloc[:, :at], shown.rename(label), frame.iloc[:, at:]], axis=1)
    return frame

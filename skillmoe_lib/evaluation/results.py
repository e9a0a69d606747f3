"""From outcomes of a scheduled run to the Scores and Results tables: read, grade, and count."""

from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd

from skillmoe_lib import answers, tables
from skillmoe_lib.answers.equivalence import first_equal
from skillmoe_lib.answers.extraction import Answer
from skillmoe_lib.evaluation import intervals
from skillmoe_lib.experts.pool import Expert
from skillmoe_lib.generation import Generation
from skillmoe_lib.inference import ledger
from skillmoe_lib.inference.schedule import Outcome
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods.single import Reply, Run, Single
from skillmoe_lib.questions.benchmark import Question

Equality = Literal["ours", "released"]


def equality_of(experts: Mapping[str, Expert]) -> Equality:
    """How mathematics is compared under the conventions that these experts share (`presets`)."""
    return next((expert.conventions.equality for expert in experts.values()), "ours")


def scores(
    outcomes: Mapping[Single, Outcome], questions: Sequence[Question], experts: Mapping[str, Expert]
) -> pd.DataFrame:
    """Grade single answers: the Scores table. `experts` give the conventions."""
    by_id = {question.question_id: question for question in questions}
    replies: list[Reply] = [outcome.result for outcome in outcomes.values()]
    pairs = [(by_id[key.question_id], reply.answer) for key, reply in zip(outcomes, replies, strict=True)]
    columns = {  # and not a mapping for each row: there may be a million
        "request_id": [outcome.request_ids[0] for outcome in outcomes.values()],
        "question_id": [key.question_id for key in outcomes],
        "expert": [key.expert for key in outcomes],
        "sample": [key.sample for key in outcomes],
        "answer": [reply.answer.value for reply in replies],
        "status": [reply.answer.status for reply in replies],
        "correct": answers.grade_many(pairs, equality=equality_of(experts)),
        "truncated": [reply.truncated for reply in replies],
    }
    return tables.check(pd.DataFrame(columns), tables.SCORES)


def answer_groups(scores: pd.DataFrame, questions: Sequence[Question]) -> pd.DataFrame:
    """Scores with each answer replaced by the first answer to its question that grading calls equal to it.

    Two answers to a question are then the same if and only if their texts are.
    """
    kinds = {question.question_id: question.kind for question in questions}
    same: dict[tuple[str, str], str] = {}
    for question_id, part in scores.dropna(subset="answer").groupby("question_id"):
        values = [str(value) for value in part["answer"].unique()]
        firsts = first_equal(kinds[str(question_id)], values)
        same |= {(str(question_id), value): values[i] for value, i in zip(values, firsts, strict=True)}
    found = [
        None if pd.isna(answer) else same[str(question_id), str(answer)]
        for question_id, answer in zip(scores["question_id"], scores["answer"], strict=True)
    ]
    return scores.assign(answer=pd.array(found, dtype="string"))


def spread(routes: pd.DataFrame) -> pd.DataFrame:
    """How many experts are really recruited: method, n_distinct (mean number of different experts per
    question), one_expert (share of questions with a single one), top_expert and top_share (of all slots)."""
    rows = []
    for method, part in routes.groupby("method", sort=False):
        distinct = part.groupby(["seed", "question_id"])["expert"].nunique()
        shares = part["expert"].value_counts(normalize=True)
        rows.append((method, distinct.mean(), (distinct == 1).mean(), shares.index[0], shares.iloc[0]))
    return pd.DataFrame(rows, columns=["method", "n_distinct", "one_expert", "top_expert", "top_share"])


def by_family(scores: pd.DataFrame, families: pd.Series) -> pd.DataFrame:
    """Every expert on every family of questions: family, expert, n, n_right, accuracy, low, high (Wilson).

    `families` is `questions.families`. Unparsed and cut answers and prompts that do not fit are wrong; what
    was not run is left out.
    """
    ran = scores[scores["status"] != "not_run"]
    ran = ran.assign(family=ran["question_id"].map(families), correct=ran["correct"].astype(int))
    found = ran.groupby(["family", "expert"], as_index=False)["correct"].agg(n="size", n_right="sum")
    spans = [intervals.wilson(row.n_right, row.n) for row in found.itertuples()]
    found["accuracy"] = [span.estimate for span in spans]
    found["low"], found["high"] = [span.low for span in spans], [span.high for span in spans]
    return pd.DataFrame(found)


def by_question(
    outcomes: Mapping[Single, Outcome], store: GenerationStore
) -> dict[str, dict[str, Generation]]:
    """Question id -> expert -> its generation; one without text if it was not run or did not fit."""
    stored = store.get(outcome.request_ids[0] for outcome in outcomes.values())
    nested: dict[str, dict[str, Generation]] = {}
    for key, outcome in outcomes.items():
        (request_id,) = outcome.request_ids
        found = stored.get(request_id) or Generation(request_id, "", outcome.result.answer.status, 0, 0)
        nested.setdefault(key.question_id, {})[key.expert] = found
    return nested


def used_requests(outcomes: Mapping[Run, Outcome]) -> pd.DataFrame:
    """One row per request that a program used, in the order asked: the Used table."""
    rows: list[tuple[str | int, ...]] = []
    for key, outcome in outcomes.items():
        rounds = [i for i, size in enumerate(outcome.round_sizes) for _ in range(size)]
        rounds = rounds or [0] * len(outcome.request_ids)
        rows += [(*key, *pair) for pair in zip(rounds, outcome.request_ids, strict=True)]
    return tables.check(pd.DataFrame(rows, columns=list(tables.USED.columns)), tables.USED)


def results_table(
    outcomes: Mapping[Run, Outcome],
    questions: Sequence[Question],
    store: GenerationStore,
    *,
    equality: Equality = "ours",
) -> pd.DataFrame:
    """Grade what the methods returned and add what they cost: the Results table."""
    by_id = {question.question_id: question for question in questions}
    pairs: list[tuple[Question, Answer]] = [(by_id[key.question_id], o.result) for key, o in outcomes.items()]
    columns = {
        "method": [key.method for key in outcomes],
        "seed": [key.seed for key in outcomes],
        "question_id": [key.question_id for key in outcomes],
        "benchmark": [question.benchmark for question, _ in pairs],
        "answer": [answer.value for _, answer in pairs],
        "status": [answer.status for _, answer in pairs],
        "correct": answers.grade_many(pairs, equality=equality),
    }
    costs = ledger.cost_by_question(used_requests(outcomes), store)
    frame = pd.DataFrame(columns).merge(costs, on=["method", "seed", "question_id"], how="left")
    return tables.check(frame, tables.RESULTS)


def oracles(scores: pd.DataFrame, questions: Sequence[Question], *, seed: int) -> pd.DataFrame:
    """Bounds, as Results rows without cost: they choose by the right answer, so no method can do this.

    `dataset_oracle` is the expert most accurate on these test questions; `instance_oracle` is right if any
    expert is. Both use one answer per expert (docs/method.md 4); ties by name. Answers that were not run do
    not count, unless there is no other.
    """
    ran = scores["status"] != "not_run"
    accuracy = scores[ran].groupby("expert")["correct"].mean()
    accuracy = accuracy.reindex(sorted(set(scores["expert"])), fill_value=-1.0)
    best = scores[scores["expert"] == accuracy.idxmax()]
    found = scores.assign(ran=ran).sort_values(["correct", "ran", "expert"], ascending=[False, False, True])
    any_right = found.drop_duplicates("question_id")
    benchmark = {question.question_id: question.benchmark for question in questions}
    rows = pd.concat([best.assign(method="dataset_oracle"), any_right.assign(method="instance_oracle")])
    rows["benchmark"] = rows["question_id"].map(benchmark)
    rows = rows.assign(seed=seed, calls=0, prompt_tokens=0, output_tokens=0, device_seconds=0.0)
    return tables.check(rows[list(tables.RESULTS.columns)], tables.RESULTS)

"""A few questions of Symbolic-MoE in full: keywords, experts, what each wrote, votes, answer, right answer.

Nobody picks them: ids are put in an order drawn from their digests, and the first that were answered right
and the first that were not are shown. All texts are plain text, with control characters written out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from skillmoe_lib import tables
from skillmoe_lib.cli.why import conventions_of, plain, questions_asked, read_again, reading
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.report_folder import store_of
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.seeding import digest

N_EACH = 2
RULE = (
    f"The first {N_EACH} that Symbolic-MoE answered right and the first {N_EACH} that it did not, "
    "in an order drawn from the questions' ids."
)
_STAGES = {"solve": "answer", "aggregate": "final answer, after reading the others"}


class Chain(NamedTuple):
    """One text: who wrote it, at which stage, and how it was read."""

    expert: str
    stage: str
    tokens: str
    read_as: str
    text: str


class InFull(NamedTuple):
    """One question with everything that led to its answer."""

    question_id: str
    text: str
    choices: Sequence[str]
    gold: str
    answer: str
    status: str
    correct: bool
    keywords: Sequence[str]
    experts: Sequence[str]
    chains: Sequence[Chain]
    votes: str
    note: str


def questions_in_full(folder: Path, *, method: str = "symbolic_moe", n_each: int = N_EACH) -> list[InFull]:
    """Right ones first; [] if the method was not run or its tables cannot be read.

    Texts come from the store that the report was made with. Where that is not at hand, the question is shown
    without them and says so.
    """
    try:
        results = tables.read(folder / "tables" / "results.parquet", tables.RESULTS)
        asked = questions_asked(folder)
    except SkillmoeError:
        return []
    mine = results[(results["method"] == method) & (results["status"] != "not_run")]
    mine = mine[mine["seed"] == mine["seed"].min()]
    drawn = mine["question_id"].map(lambda name: digest("in full", name)).sort_values()
    ordered = mine.loc[drawn.index]
    chosen = pd.concat([ordered[ordered["correct"]][:n_each], ordered[~ordered["correct"]][:n_each]])
    chains = _chains(folder, chosen, asked)
    frames = {name: _table(folder, name) for name in ("routes", "skills_test")}
    found = []
    for row in chosen.to_dict("records"):
        question_id = str(row["question_id"])
        if (question := asked.get(question_id)) is None:
            continue
        own, note = chains.get(
            question_id, ([], "The texts are not at hand: their store is not on this machine.")
        )
        found.append(
            InFull(
                question_id,
                plain(question.text),
                [f"({chr(65 + i)}) {plain(text)}" for i, text in enumerate(question.choices)],
                plain(question.gold),
                "none" if pd.isna(row["answer"]) else plain(str(row["answer"])),
                str(row["status"]),
                bool(row["correct"]),
                _keywords(frames["skills_test"], question_id),
                _experts(frames["routes"], method, question_id, int(row["seed"])),
                own,
                _votes(own),
                note,
            )
        )
    return found


def _chains(
    folder: Path, chosen: pd.DataFrame, asked: Mapping[str, Any]
) -> dict[str, tuple[list[Chain], str]]:
    """Question id -> its texts in the order asked, and what to say about them."""
    try:
        used = tables.read(folder / "tables" / "used.parquet", tables.USED)
        store, conventions = GenerationStore(store_of(folder)), conventions_of(folder)
        keys = chosen[["method", "seed", "question_id"]]
        requests = keys.merge(used, on=["method", "seed", "question_id"])
        written = store.get(requests["request_id"])
        if not written:
            return {}
        columns = ["request_id", "stage", "expert", "template"]
        about = store.generations(columns).drop_duplicates("request_id").set_index("request_id")
    except (SkillmoeError, OSError, ValueError):
        return {}
    found: dict[str, tuple[list[Chain], str]] = {}
    for question_id, part in requests.groupby("question_id", sort=False):
        own, n_absent = [], 0
        for request_id in part["request_id"]:
            if request_id not in written:
                n_absent += 1
                continue
            told, generation = about.loc[request_id], written[request_id]
            read_as = "the question is not on record"
            if question := asked.get(str(question_id)):
                answer = read_again(question, generation, str(told["template"]), conventions)
                read_as = reading(question, answer, conventions)
            stage, tokens = (
                _STAGES.get(str(told["stage"]), str(told["stage"])),
                f"{generation.output_tokens:,} tokens",
            )
            own.append(Chain(str(told["expert"]), stage, tokens, read_as, plain(generation.text.strip())))
        found[str(question_id)] = own, f"{n_absent} text(s) were not generated." if n_absent else ""
    return found


def _votes(chains: Sequence[Chain]) -> str:
    """How often each answer was given by the recruited experts (the aggregator does not vote)."""
    read = [chain.read_as.partition(" by rule ")[0] for chain in chains if chain.stage == _STAGES["solve"]]
    counts = pd.Series(read, dtype=object).value_counts(sort=True)
    return ", ".join(f"{answer} × {n}" for answer, n in counts.items())


def _keywords(skills: pd.DataFrame | None, question_id: str) -> list[str]:
    if skills is None:
        return []
    own = skills[skills["question_id"] == question_id].astype(object)
    return [
        plain(skill if pd.isna(named) or named == skill else f"{named} → {skill}")
        for skill, named in zip(own["skill"], own["matched_from"], strict=True)
    ]


def _experts(routes: pd.DataFrame | None, method: str, question_id: str, seed: int) -> list[str]:
    if routes is None:
        return []
    mine = (routes["method"] == method) & (routes["question_id"] == question_id) & (routes["seed"] == seed)
    slots = routes[mine].sort_values("slot")
    chances = slots["probability"].astype("Float64").tolist()
    return [
        str(expert) if pd.isna(p) else f"{expert} (p = {p:.2f})"
        for expert, p in zip(slots["expert"], chances, strict=True)
    ]


def _table(folder: Path, name: str) -> pd.DataFrame | None:
    schema = {"routes": tables.ROUTES, "skills_test": tables.SKILLS}[name]
    try:
        return tables.read(folder / "tables" / f"{name}.parquet", schema)
    except SkillmoeError:
        return None

"""What every expert of a pool answered to every question, as arrays: the ground of all what-if questions.

A method that asks each expert at most once can be replayed from these answers without generating anything:
votes over any recruits, sequential recruiting, the value of each expert (`what_if`, `pool`). What depends on
texts (an aggregator, a discussion) cannot.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skillmoe_lib import paths, recorded, seeding, tables
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.evaluation import results
from skillmoe_lib.inference import ledger
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.questions.benchmark import Question, as_questions
from skillmoe_lib.studies import routers

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
#: What an answer cost, cell by cell; NaN where it is not known.
COSTS = ("prompt_tokens", "output_tokens", "device_seconds", "money")
RIGHT, WRONG = "(right)", "(wrong)"
#: What stands in for columns of the Questions table that were not recorded.
_UNKNOWN = {
    "benchmark": "recorded", "split": "test", "text": "(not recorded)", "choices": "[]",
    "gold": "(not recorded)", "subject": "", "kind": "text", "checker": "{}",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The answers of a pool; arrays have the shape (n_questions, n_experts).

    Test questions that an expert was not run on are left out, so that all methods are judged on the same
    questions; on validation such an answer stays missing (status "not_run").

    Parameters
    ----------
    questions
        Index question_id; columns split ("validation" or "test"), benchmark, subject, text, gold and
        n_choices (0: an open answer). More columns are kept.
    experts
        Names, in the order of the columns.
    answer
        A number for each answer, -1 for none. Two answers to one question have the same number if grading
        calls them equal; numbers of different questions have nothing to do with each other.
    said
        The answers as they were read, None for none.
    correct, status
        As in the Scores table.
    prompt_tokens, output_tokens, device_seconds, money
        Cost of each answer, without loading the model; NaN if unknown.
    skills
        A Skills frame of all questions, those of test matched to validation's words.
    embeddings
        Index question_id, one column per dimension; None: routers that read embeddings read skills instead.
    left_out
        One line for each thing that is missing or was left out.
    """

    questions: pd.DataFrame
    experts: tuple[str, ...]
    answer: Ints
    said: NDArray[np.object_]
    correct: Bools
    status: NDArray[np.object_]
    prompt_tokens: Floats
    output_tokens: Floats
    device_seconds: Floats
    money: Floats
    skills: pd.DataFrame
    embeddings: pd.DataFrame | None = None
    left_out: tuple[str, ...] = ()

    @property
    def ran(self) -> Bools:
        """Whether the expert was run on the question."""
        return np.asarray(self.status != "not_run")

    def rows(self, split: str) -> Ints:
        """Positions of the questions of one split."""
        return np.flatnonzero(self.questions["split"] == split)

    def ids(self, split: str) -> pd.Index:
        """Ids of the questions of one split."""
        return self.questions.index[self.rows(split)]

    @cached_property
    def validation_scores(self) -> pd.DataFrame:
        """Scores frame of validation (question_id, expert, answer, correct, status), as routers read it.

        `answer` is the number of the answer, as text.
        """
        at = self.rows("validation")
        n = len(self.experts)
        number = self.answer[at].ravel()
        return pd.DataFrame(
            {
                "question_id": np.repeat(self.questions.index[at].to_numpy(object), n),
                "expert": np.tile(np.array(self.experts, dtype=object), len(at)),
                "answer": [None if n < 0 else str(n) for n in number],
                "correct": self.correct[at].ravel(),
                "status": self.status[at].ravel(),
            }
        )

    @cached_property
    def skill_matrix(self) -> pd.DataFrame:
        """How often each question names each skill: index question_id, one column per skill."""
        counts = pd.crosstab(self.skills["question_id"], self.skills["skill"])
        return counts.reindex(self.questions.index, fill_value=0).astype(float)

    def subset(self, experts: Collection[str]) -> "Outcomes":
        """The same questions with some of the experts, in the order of the whole pool."""
        if strangers := sorted(set(experts) - set(self.experts)):
            raise unknown("expert", strangers[0], self.experts)
        if not experts:
            raise SkillmoeError("a pool needs at least one expert, given none")
        if len(at := [i for i, name in enumerate(self.experts) if name in set(experts)]) == len(self.experts):
            return self
        grids = {name: getattr(self, name)[:, at] for name in _GRIDS}
        return replace(self, experts=tuple(self.experts[i] for i in at), **grids)

    def limited(self, n_validation: int, *, seed: int = 0) -> "Outcomes":
        """With `n_validation` of the validation questions, drawn by seed and id; a larger number keeps those
        of a smaller one."""
        ids = sorted(self.ids("validation"), key=lambda name: seeding.stable_seed("validation", seed, name))
        if not 1 <= n_validation <= len(ids):
            raise SkillmoeError(f"n_validation must be from 1 to {len(ids)}, given {n_validation}")
        kept = self.questions.index.isin(set(ids[:n_validation])) | (self.questions["split"] != "validation")
        return self._only(np.asarray(kept))

    def resplit(self, n_validation: int, *, seed: int = 0) -> "Outcomes":
        """All questions split anew, `n_validation` of them into validation, drawn by seed and id.

        Answers that were not run are left out of test, as always.
        """
        ids = sorted(self.questions.index, key=lambda name: seeding.stable_seed("split", seed, name))
        if not 1 <= n_validation < len(ids):
            raise SkillmoeError(f"n_validation must be from 1 to {len(ids) - 1}, given {n_validation}")
        chosen = self.questions.index.isin(set(ids[:n_validation]))
        split = np.where(chosen, "validation", "test")
        return replace(self, questions=self.questions.assign(split=split))._whole()

    def _only(self, kept: Bools) -> "Outcomes":
        grids = {name: getattr(self, name)[kept] for name in _GRIDS}
        questions = self.questions[kept]
        skills = self.skills[self.skills["question_id"].isin(questions.index)]
        return replace(self, questions=questions, skills=skills, **grids)

    def _whole(self) -> "Outcomes":
        """Without test questions that some expert was not run on."""
        torn = (~self.ran).any(axis=1) & (self.questions["split"] == "test").to_numpy()
        if not torn.any():
            return self
        names = ", ".join(
            name for name, n in zip(self.experts, (~self.ran)[torn].sum(axis=0), strict=True) if n
        )
        said = f"{torn.sum()} test questions that not every expert was run on (not run somewhere: {names})"
        return replace(self._only(~torn), left_out=(*self.left_out, said))


_GRIDS = ("answer", "said", "correct", "status", *COSTS)


def from_report(report: str | Path, store: GenerationStore | None = None) -> Outcomes:
    """The outcomes of a finished chain report: the answers of every expert to both splits.

    Parameters
    ----------
    report
        Name of a folder under `reports/`, or its path.
    store
        The store of its generations, for tokens and device seconds (`docs/cost.md`, loads not included);
        None: they are unknown.

    Raises
    ------
    SkillmoeError
        A table is not there yet; the line says which.
    """
    folder = Path(report) if Path(report).is_dir() else paths.project_root() / "reports" / str(report)
    read = {
        name: tables.read(folder / "tables" / f"{name}.parquet", schema)
        for name, schema in (
            ("questions", tables.QUESTIONS),
            ("skills", tables.SKILLS),
            ("skills_test", tables.SKILLS),
            ("scores_validation", tables.SCORES),
            ("scores_test", tables.SCORES),
        )
    }
    scores = pd.concat([read["scores_validation"], read["scores_test"]], ignore_index=True)
    both = set(read["scores_validation"]["expert"]) & set(read["scores_test"]["expert"])
    notes = [f"{name}: not run on both splits" for name in sorted(set(scores["expert"]) - both)]
    scores = scores[scores["expert"].isin(both)]
    if store is not None:
        stored = store.generations(["request_id", "prompt_tokens", "output_tokens"])
        scores = scores.merge(stored, on="request_id", how="left")
        used = scores.loc[scores["prompt_tokens"].notna(), ["question_id", "request_id"]]
        seconds = ledger.cost_by_request(used.assign(method="experts", seed=0, round=0), store)
        scores["device_seconds"] = [seconds.get((0, name), np.nan) for name in scores["request_id"]]
    test = read["questions"].loc[read["questions"]["split"] == "test", "question_id"]
    skills = read["skills"][~read["skills"]["question_id"].isin(set(test))]
    return from_recorded(
        read["questions"], scores, skills=pd.concat([skills, read["skills_test"]]), left_out=notes
    )


def from_recorded(
    questions: pd.DataFrame,
    answers: pd.DataFrame,
    *,
    skills: pd.DataFrame | None = None,
    embeddings: pd.DataFrame | None = None,
    n_validation: int = 0,
    seed: int = 0,
    left_out: Sequence[str] = (),
) -> Outcomes:
    """Outcomes of tidy tables of recorded answers.

    Parameters
    ----------
    questions
        question_id (a column or the index) and as many columns of the Questions table as are known, split
        among them unless `n_validation` is given; n_choices replaces choices.
    answers
        question_id, expert, correct; if known answer, status, sample and the costs in `COSTS`. Of several
        samples the first is used. Where answers are graded but their texts are not recorded, the right ones
        count as one answer and the wrong ones as another: the worst case for a vote.
    skills
        A Skills frame of all questions; None: a question's only skill is its subject.
    n_validation
        Split the questions anew, that many into validation (`Outcomes.resplit`); 0: as recorded.
    """
    asked = _completed(questions)
    notes = list(left_out)
    given, more = _tidy(answers, asked)
    notes += more
    experts = tuple(sorted(given["expert"].unique()))
    if not experts:
        raise SkillmoeError("no outcomes: none of the answers is to one of the questions")
    at = (
        asked.index.get_indexer(pd.Index(given["question_id"])),
        pd.Index(experts).get_indexer(given["expert"]),
    )
    shape = len(asked), len(experts)
    grids: dict[str, Any] = {
        name: _placed(at, given[name].to_numpy(float, na_value=np.nan), np.full(shape, np.nan))
        for name in COSTS
    }
    grids["correct"] = _placed(at, given["correct"].to_numpy(bool), np.zeros(shape, dtype=bool))
    grids["status"] = _placed(at, given["status"].to_numpy(object), np.full(shape, "not_run", dtype=object))
    grids["said"] = _placed(at, given["said"].to_numpy(object), np.full(shape, None, dtype=object))
    grids["answer"] = _placed(at, given["number"].to_numpy(np.int64), np.full(shape, -1))
    if skills is None:
        named = asked["subject"].rename("skill").rename_axis("question_id").reset_index()
        skills = named.assign(votes=1, matched_from=None, similarity=None)
    made = Outcomes(asked, experts, skills=skills, embeddings=embeddings, left_out=tuple(notes), **grids)
    made = made.resplit(n_validation, seed=seed) if n_validation else made._whole()
    if not len(made.rows("test")) or not len(made.rows("validation")):
        counts = made.questions["split"].value_counts().to_dict()
        raise SkillmoeError(
            f"outcomes need validation and test questions, given {counts or 'none'}: give n_validation"
        )
    return made


def from_mmlu_pro(data_dir: str | Path, *, experts: Sequence[str] = (), limit: int = 0) -> Outcomes:
    """Outcomes of the recorded MMLU-Pro answers that `studies.routers` reads; skill: the category.

    The answers have no token counts, and costs are unknown.
    """
    read = routers.load(data_dir, experts=experts, limit=limit)
    columns = {"category": "subject", "question": "text", "nopt": "n_choices"}
    asked = read.questions.rename(columns=columns).assign(benchmark="mmlu_pro", kind="choice")
    return from_recorded(asked, read.scores)


def opened(
    data_dir: str = "",
    *,
    report: str = "",
    store: str = "data/generations",
    recording: str = "",
    n_validation: int = 0,
    experts: str = "",
) -> Outcomes:
    """The outcomes that a notebook's parameters name: a recording, a report, or recorded MMLU-Pro answers.

    Parameters
    ----------
    data_dir
        Folder of recorded MMLU-Pro answers, for lack of a report and a recording.
    report
        Name of a finished report under `reports/`.
    store
        Folder of the report's generations.
    recording
        Name of a recording (`recorded.load`), which comes before a report.
    n_validation
        Split the questions of a recording anew, that many into validation; 0: as recorded.
    experts
        Names separated by commas; "": all; "mid_strength": the twelve recorded MMLU-Pro models of
        `studies.routers`, and all of a report or a recording.
    """
    names = [name.strip() for name in experts.split(",") if name.strip()]
    if experts == "mid_strength":
        names = [] if report or recording else list(routers.MID_STRENGTH)
    if recording:
        read = recorded.load(recording)
        found = from_recorded(read.questions, read.answers, n_validation=n_validation, left_out=read.missing)
    elif report:
        found = from_report(report, GenerationStore(paths.project_root() / store / "vllm"))
    else:
        return from_mmlu_pro(data_dir, experts=names)
    return found.subset(names) if names else found


def _completed(questions: pd.DataFrame) -> pd.DataFrame:
    """Every column that `Outcomes` and `as_questions` need, by question_id."""
    frame = questions.reset_index() if "question_id" not in questions else questions.copy()
    if "question_id" not in frame:
        raise SkillmoeError("questions need the column question_id")
    frame["question_id"] = frame["question_id"].astype(str)
    if frame["question_id"].duplicated().any():
        twice = frame.loc[frame["question_id"].duplicated(), "question_id"].iloc[0]
        raise SkillmoeError(f"questions must have one row for each question_id, given {twice!r} twice")
    for name, value in _UNKNOWN.items():
        frame[name] = frame[name].fillna(value) if name in frame else value
    if "n_choices" not in frame:
        frame["n_choices"] = [len(question.choices) for question in _questions(frame)]
    return frame.set_index("question_id")


def _questions(frame: pd.DataFrame) -> list[Question]:
    return as_questions(frame[list(tables.QUESTIONS.columns)])


def _tidy(answers: pd.DataFrame, asked: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """One row for each question and expert, every column there, equal answers with equal numbers."""
    if absent := [name for name in ("question_id", "expert", "correct") if name not in answers]:
        raise SkillmoeError(f"answers lack the column {absent[0]!r}")
    frame = answers.astype({"question_id": str, "expert": str})
    notes = []
    if strangers := (~frame["question_id"].isin(asked.index)).sum():
        notes.append(f"{strangers} answers to questions that are not there")
    frame = frame[frame["question_id"].isin(asked.index)]
    if "sample" in frame:
        frame = frame.sort_values("sample", kind="stable")
    first = frame.drop_duplicates(["question_id", "expert"]).copy()
    if more := len(frame) - len(first):
        notes.append(f"{more} further samples: the first of each question and expert is used")
    for name in ("answer", *COSTS):
        if name not in first:
            first[name] = None if name == "answer" else np.nan
    answered = np.where(first["answer"].isna() & ("answer" in answers), "unparsed", "answered")
    status = first["status"] if "status" in first else pd.Series(answered, index=first.index)
    ungraded = first["correct"].isna()
    if n := int((ungraded & (status != "not_run")).sum()):
        notes.append(f"{n} answers that were not graded: they count as not run")
    first["status"] = status.astype(object).where(~ungraded, "not_run")
    first["correct"] = first["correct"].astype(object).where(~ungraded, other=False).astype(float) >= 0.5
    first["said"] = first["answer"].astype(object).where(first["answer"].notna(), None)
    textless = (first["status"] == "answered") & first["answer"].isna()
    if textless.any():
        notes.append(
            f"{textless.sum()} answers without a text: right ones count as one answer, wrong ones as another"
        )
        told = first["question_id"].isin(set(first.loc[textless, "question_id"]))
        by_grade = first["answer"].astype(object).mask(told & first["correct"], RIGHT)
        first["answer"] = by_grade.mask(told & ~first["correct"] & (first["status"] == "answered"), WRONG)
    first["number"] = _numbers(first, asked)
    return first, notes


def _numbers(answers: pd.DataFrame, asked: pd.DataFrame) -> Ints:
    """The position of each answer among the different answers to its question; -1: none, or not run."""
    keyed = results.answer_groups(answers, _questions(asked.reset_index()))
    pairs = keyed["question_id"] + "\0" + keyed["answer"]
    pairs = pairs.where(keyed["status"] != "not_run")
    codes, _ = pd.factorize(pairs)
    frame = pd.DataFrame({"question_id": keyed["question_id"].to_numpy(), "code": codes})
    kinds = frame[frame["code"] >= 0].drop_duplicates()
    place = dict(zip(kinds["code"], kinds.groupby("question_id").cumcount(), strict=True))
    return np.array([place.get(code, -1) for code in codes], dtype=np.int64)


def _placed(at: tuple[Any, Any], values: Any, grid: Any) -> Any:
    grid[at] = values
    return grid

"""A recording: who answered what to which question, as tables, and what the recording does not say.

Readers of formats give rows (`Row`); `build` makes one recording of them, and `join` one of several. Both
settle what files disagree on, by rules that are said in `Recorded.missing`:

- A question in several versions (another text, other choices, another gold): the version that most experts
  answered counts; what was answered to another version does not.
- An answer that occurs twice: once if the rows are equal, an error if they differ.
- Experts that answered different questions: every question is kept, and what is lacking is `not_run`.

Correctness is as recorded; if it was not recorded, answers are graded against gold (`answers.grading`). A
score between 0 and 1 is right only at full marks.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from skillmoe_lib import answers as grading
from skillmoe_lib import tables
from skillmoe_lib.answers.equivalence import canonical
from skillmoe_lib.answers.extraction import Answer
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.paths import project_root
from skillmoe_lib.questions.benchmark import Question
from skillmoe_lib.recorded import answerable

#: The longest text of a cell, in characters.
MAX_CHARS = 2**24
_KEY = ["question_id", "expert", "sample"]
_NAME = re.compile(r"[A-Za-z0-9][\w.\-]*")
#: What a recording may lack as a whole or in part: (how it is called, its column of the answers).
_CELLS = (
    ("texts", "text"),
    ("answers", "answer"),
    ("prompt tokens", "prompt_tokens"),
    ("output tokens", "output_tokens"),
    ("money", "money"),
    ("finish reasons", "finish_reason"),
)
_OF_QUESTIONS = (("question texts", "text"), ("gold answers", "gold"), ("subjects", "subject"))
_GAPS = {name for name, _ in (*_CELLS, *_OF_QUESTIONS)} | {
    "choices", "repeats", "validation split", "requests", "question sets"
}  # fmt: skip
#: Notes that begin with a count; those of several files are added up.
_COUNTS = {"scores", "failures", "grades", "guesses", "repeated rows"}


class Row(NamedTuple):
    """One recorded answer, with what the recording says about its question.

    `correct` is a score in [0, 1], null to grade `answer` against `gold`. With `ran` false the expert was
    asked and failed. `status` is as recorded, for an answer that is none. `answer_known` is false if the
    format records only whether an answer is right.
    """

    question_id: str
    expert: str
    benchmark: str
    question: str | None = None
    choices: tuple[str, ...] = ()
    gold: str | None = None
    subject: str | None = None
    split: str | None = None
    kind: str = "text"
    sample: int = 0
    text: str | None = None
    answer: str | None = None
    correct: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    money: float | None = None
    finish_reason: str | None = None
    status: str = ""
    ran: bool = True
    answer_known: bool = True


@dataclass(frozen=True)
class Options:
    """What a reader may be told. A reader's `USES` names those that mean something to it; "" is not told.

    `expert` names the model of a file that does not say it; `metric` is the score that decides what is right;
    `filter` the answer filter of lm-evaluation-harness; `columns` our field -> the table's own column;
    `where` column -> value that a row must have; `questions` a table with the questions' own columns.
    `repeats`: rows for the same question and expert are repeats, numbered in their order.
    """

    expert: str = ""
    metric: str = ""
    filter: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)
    questions: Path | None = None
    repeats: bool = False


AS_IT_IS = Options()


@dataclass(frozen=True, eq=False)
class Recorded:
    """A recording.

    `questions` is a table `tables.RECORDED_QUESTIONS`, `answers` a table `tables.RECORDED`; `missing` says, a
    line each, what was not recorded and what was left out or interpreted in reading.
    """

    questions: pd.DataFrame
    answers: pd.DataFrame
    missing: list[str]

    def can_answer(self, routes: pd.DataFrame | None = None) -> pd.DataFrame:
        """What can be answered from this recording, and what needs new calls: see `answerable.table`."""
        return answerable.table(self.questions, self.answers, routes)


def build(rows: Iterable[Row], *, notes: Sequence[str] = (), repeats: bool = False) -> Recorded:
    """One recording of rows.

    Raises
    ------
    SkillmoeError
        If there are none, a text is longer than `MAX_CHARS`, rows contradict each other, or it is neither
        recorded nor known from gold whether an answer is right.
    """
    rows = [_clean(row) for row in rows]
    if not rows:
        raise SkillmoeError("nothing is recorded there: no row has an answer")
    versions: dict[tuple[Any, ...], int] = {}
    about: list[Row] = []
    of_row = []
    for row in rows:
        key = (row.question_id, row.question, row.choices, row.gold)
        if key not in versions:
            versions[key] = len(about)
            about.append(row)
        of_row.append(versions[key])
    questions = pd.DataFrame({
        "question_id": [row.question_id for row in about],
        "benchmark": [row.benchmark for row in about],
        "split": [row.split for row in about],
        "text": [row.question for row in about],
        "choices": [json.dumps(list(row.choices), ensure_ascii=False) for row in about],
        "gold": [row.gold for row in about],
        "subject": [row.subject for row in about],
        "kind": [row.kind for row in about],
        "checker": "{}",
        "version": range(len(about)),
    })  # fmt: skip
    right = _graded(rows)
    answers = pd.DataFrame({
        "question_id": [row.question_id for row in rows],
        "expert": [row.expert for row in rows],
        "sample": [row.sample for row in rows],
        "text": [row.text for row in rows],
        "answer": [row.answer if row.ran else None for row in rows],
        "status": [_status(row, correct) for row, correct in zip(rows, right, strict=True)],
        "correct": right,
        "prompt_tokens": [row.prompt_tokens for row in rows],
        "output_tokens": [row.output_tokens for row in rows],
        "money": [row.money for row in rows],
        "finish_reason": [row.finish_reason for row in rows],
        "version": of_row,
    })  # fmt: skip
    return _settled(questions, answers, [*notes, *_about_scores(rows, right)], repeats=repeats)


def join(parts: Sequence[Recorded], *, repeats: bool = False) -> Recorded:
    """One recording of several, such as a file for each expert."""
    if len(parts) == 1:
        return parts[0]
    questions = pd.concat([part.questions.assign(part=i) for i, part in enumerate(parts)], ignore_index=True)
    same = ["question_id", "text", "choices", "gold"]
    questions["version"] = questions.groupby(same, sort=False, dropna=False).ngroup()
    ran = [part.answers[part.answers["status"] != "not_run"].assign(part=i) for i, part in enumerate(parts)]
    answers = pd.concat(ran, ignore_index=True)
    answers = answers.merge(questions[["part", "question_id", "version"]], on=["part", "question_id"])
    questions = questions.drop(columns="part").drop_duplicates("version", ignore_index=True)
    notes = _summed([line for part in parts for line in part.missing])
    return _settled(questions, answers.drop(columns="part"), notes, repeats=repeats)


def folder_of(name: str) -> Path:
    """`data/recorded/NAME` of the project."""
    if not _NAME.fullmatch(name):
        raise SkillmoeError(f"the name of a recording must be letters, digits, _, - or .; got {name!r}")
    return project_root() / "data" / "recorded" / name


def write(recorded: Recorded, name: str, provenance: Mapping[str, Any]) -> Path:
    """Write a recording to its folder; returns the folder."""
    folder = folder_of(name)
    note = {**provenance, "missing": recorded.missing}
    tables.write(recorded.questions, folder / "questions.parquet", tables.RECORDED_QUESTIONS, note)
    tables.write(recorded.answers, folder / "answers.parquet", tables.RECORDED, note)
    return folder


def load(name: str | Path) -> Recorded:
    """A recording that was written, by its name in `data/recorded` or its folder.

    Raises
    ------
    SkillmoeError
        If there is none; the message lists those there are.
    """
    home = project_root() / "data" / "recorded"
    folder = next((f for f in (Path(name), home / name) if (f / "answers.parquet").is_file()), None)
    if folder is None:
        known = sorted(path.parent.name for path in home.glob("*/answers.parquet"))
        raise unknown("recording", name, [*known, "the folder of one"])
    answers = folder / "answers.parquet"
    return Recorded(
        tables.read(folder / "questions.parquet", tables.RECORDED_QUESTIONS),
        tables.read(answers, tables.RECORDED),
        list(tables.provenance(answers).get("missing", [])),
    )


def _clean(row: Row) -> Row:
    """The row without half characters (unpaired surrogates, which no file can hold): "?" in their place."""
    changed: dict[str, Any] = {}
    for name in ("question", "gold", "text", "answer", "question_id", "expert", "subject"):
        value = getattr(row, name)
        if value is None or (value.isascii() and len(value) <= MAX_CHARS):
            continue
        if len(value) > MAX_CHARS:
            raise SkillmoeError(
                f"question {row.question_id[:60]!r}, expert {row.expert[:60]!r}: its {name} has "
                f"{len(value):,} characters; at most {MAX_CHARS:,} are allowed"
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            changed[name] = value.encode("utf-8", "replace").decode()
    if any(not choice.isascii() for choice in row.choices):
        changed["choices"] = tuple(choice.encode("utf-8", "replace").decode() for choice in row.choices)
    return row._replace(**changed) if changed else row


def _graded(rows: Sequence[Row]) -> list[bool]:
    """Whether each answer is right: as recorded, or else by its gold."""
    right = [row.ran and row.correct is not None and row.correct >= 1 for row in rows]
    pairs: dict[int, tuple[Question, Answer]] = {}
    for i, row in enumerate(rows):
        if row.ran and row.correct is None:
            if row.gold is None:
                raise SkillmoeError(
                    f"whether {row.expert[:60]!r} answered {row.question_id[:60]!r} right is not known: "
                    "it needs a column with correct, or gold"
                )
            asked = Question("", "", "test", "", row.choices, row.gold, "", row.kind)
            pairs[i] = (asked, Answer(row.answer, "answered" if row.answer is not None else "unparsed"))
    for i, grade in zip(pairs, grading.grade_many(list(pairs.values())), strict=True):
        right[i] = grade
    return right


def _status(row: Row, correct: bool) -> str:
    if not row.ran:
        return "not_run"
    if row.answer is not None or correct or not row.answer_known:
        return "answered"
    if row.status in ("cut", "unparsed", "overflow"):
        return row.status
    return "cut" if row.finish_reason == "length" else "unparsed"


def _about_scores(rows: Sequence[Row], right: Sequence[bool]) -> list[str]:
    notes = []
    if n := sum(1 for row in rows if row.correct is not None and 0 < row.correct < 1):
        notes.append(f"scores: {n} between 0 and 1 count as wrong (right is full marks)")
    if n := sum(1 for row in rows if not row.ran):
        notes.append(f"failures: {n} calls failed when they were recorded; they are not_run")
    letters = [
        (canonical("choice", row.answer) == canonical("choice", row.gold)) != correct
        for row, correct in zip(rows, right, strict=True)
        if row.kind == "choice" and row.answer and row.gold and row.correct in (0, 1)
    ]
    if n := sum(letters):
        notes.append(f"grades: {n} recorded grades of choices differ from answer against gold")
    return notes


def _settled(questions: pd.DataFrame, answers: pd.DataFrame, notes: list[str], *, repeats: bool) -> Recorded:
    """One version of each question, one row for each answer, every expert on every question."""
    answers, about_versions = _one_version(questions, answers)
    ids = questions["question_id"].drop_duplicates()
    other = ~questions["version"].isin(answers["version"])
    questions = questions.assign(other=other).sort_values(
        "other", kind="stable"
    )  # the answered version first
    questions = questions.drop_duplicates("question_id").set_index("question_id").loc[ids].reset_index()
    questions = questions.drop(columns=["version", "other"])
    answers = answers.drop(columns="version")
    if repeats:
        answers["sample"] = answers.groupby(_KEY[:2], sort=False).cumcount()
    answers, about_repeated = _once(answers)
    answers, about_zeros = _without_zeros(answers)
    answers, about_sets = _filled(questions, answers)
    questions = tables.check(questions, tables.RECORDED_QUESTIONS)
    answers = tables.check(answers, tables.RECORDED)
    found = [*_gaps(questions, answers), *notes, *about_versions, *about_repeated, *about_zeros, *about_sets]
    return Recorded(questions, answers, list(dict.fromkeys(found)))


def _without_zeros(answers: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Tokens and prices that are 0 everywhere were not recorded."""
    notes = []
    for column in ("prompt_tokens", "output_tokens", "money"):
        cells = answers[column].dropna()
        if len(cells) and (cells == 0).all():
            notes.append(f"zeros: {column.replace('_', ' ')} is 0 everywhere; taken as not recorded")
            answers = answers.assign(**{column: None})
    return answers, notes


def _filled(questions: pd.DataFrame, answers: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """A row for every question and expert, in the order in which they first occur."""
    ids, experts = list(questions["question_id"]), list(dict.fromkeys(answers["expert"]))
    whole = pd.MultiIndex.from_product([ids, experts], names=_KEY[:2])
    lacking = whole.difference(pd.MultiIndex.from_frame(answers[_KEY[:2]]), sort=False).to_frame(index=False)
    notes = []
    if len(lacking):
        n = lacking.groupby("expert", sort=False).size()
        notes.append(
            f"question sets: {len(n)} of {len(experts)} experts lack some of the {len(ids)} questions; "
            f"kept as not_run ({_counted(n)})"
        )
        rows = lacking.assign(sample=0, status="not_run", correct=False).to_dict("list")
        added = {column: rows.get(column, [None] * len(lacking)) for column in answers.columns}
        answers = pd.DataFrame({column: [*answers[column], *added[column]] for column in answers.columns})
    place = pd.Categorical(answers["question_id"], ids), pd.Categorical(answers["expert"], experts)
    order = answers[["sample"]].assign(question=place[0].codes, expert=place[1].codes)
    return answers.loc[order.sort_values(["question", "expert", "sample"]).index], notes


def _one_version(questions: pd.DataFrame, answers: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    several = questions["question_id"].duplicated(keep=False)
    if not several.any():
        return answers, []
    known = answers.groupby(["question_id", "version"], as_index=False)["expert"].nunique()
    known = known.sort_values(["expert", "version"], ascending=[False, True])
    kept = answers["version"].isin(known.drop_duplicates("question_id")["version"])
    lost, every = answers.loc[~kept].groupby("expert").size(), answers.groupby("expert").size()
    for expert, n in lost.items():
        if n > every[expert] / 2:
            raise SkillmoeError(
                f"{n} of {every[expert]} questions of {str(expert)[:60]!r} have another text, other choices "
                "or another gold than the same ids have elsewhere: import them under another name"
            )
    n = questions.loc[several, "question_id"].nunique()
    return answers[kept], [
        f"versions: {n} questions were recorded with different texts, choices or gold; the version that most "
        f"experts answered is kept, answers to others are dropped ({_counted(lost)})"
    ]


def _once(answers: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    repeated = answers.duplicated(_KEY, keep=False)
    if not repeated.any():
        return answers, []
    again = answers[repeated].duplicated()
    once = answers.drop(index=again[again].index)
    clash = once[once.duplicated(_KEY)]
    if len(clash):
        first = clash.iloc[0]
        raise SkillmoeError(
            f"{len(clash)} answers are recorded twice and differ, the first of {first['expert'][:60]!r} to "
            f"{first['question_id'][:60]!r} (sample {first['sample']}): if they are repeats, add --repeats "
            "or name the column that counts them (--column sample=...)"
        )
    return once, [f"repeated rows: {int(again.sum())} rows occurred twice and are kept once"]


def _gaps(questions: pd.DataFrame, answers: pd.DataFrame) -> list[str]:
    """What is missing, a line each, beginning with one of `_GAPS`."""
    ran = answers[answers["status"] != "not_run"]
    found = []
    for name, column in _CELLS:
        rows = ran[ran["status"] == "answered"] if column == "answer" else ran
        found += _gap(name, rows[column], "answers")
    for name, column in _OF_QUESTIONS:
        found += _gap(name, questions[column], "questions")
    choices = questions.loc[questions["kind"] == "choice", "choices"]
    if (n := int((choices == "[]").sum())) and n == len(choices):
        found.append("choices: not recorded as such (they may stand in the questions' texts)")
    elif n:
        found.append(f"choices: missing for {n} of {len(choices)} questions")
    if not (ran["sample"] > 0).any():
        found.append("repeats: one answer for each question and expert")
    if not (questions["split"] == "validation").any():
        found.append("validation split: not recorded")
    if ran["text"].notna().any():
        found.append(
            "requests: prompts, revisions and sampling are not recorded as ours are, so these texts cannot "
            "stand in a generation store"
        )
    return found


def _gap(name: str, cells: pd.Series, of: str) -> list[str]:
    n = int(cells.isna().sum())
    if n and n == len(cells):
        return [f"{name}: not recorded"]
    return [f"{name}: missing for {n:,} of {len(cells):,} {of}"] if n else []


def _summed(lines: Sequence[str]) -> list[str]:
    """The notes of several files as one: counts of the same thing are added, what is found anew left out."""
    sums: dict[str, int] = {}
    kept = []
    for line in lines:
        about, _, rest = line.partition(": ")
        number, _, what = rest.partition(" ")
        if about in _COUNTS and number.isdecimal():
            sums[f"{about}: # {what}"] = sums.get(f"{about}: # {what}", 0) + int(number)
        elif about not in _GAPS:
            kept.append(line)
    return [*(line.replace("#", str(n), 1) for line, n in sums.items()), *dict.fromkeys(kept)]


def _counted(sizes: pd.Series) -> str:
    """`gemma 12, qwen 5` for the largest, and how many more there are."""
    largest = sizes.sort_values(ascending=False, kind="stable")
    shown = ", ".join(f"{str(name)[:60]} {n}" for name, n in largest.head(5).items())
    return shown + (f" and {len(largest) - 5} more" if len(largest) > 5 else "")

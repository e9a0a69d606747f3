"""How much a result depends on the keywords that happened to be drawn, and on the validation questions.

Another draw of keywords from the same model gives other profiles and other recruits, and so another accuracy;
an interval over test questions alone does not show that. Here the keyword passes of every question, the
validation questions and the test questions are resampled together, and skills, profiles and routes are made
again from what is stored: nothing is generated. The vote of the recruited experts is exact if their answers
are stored. The aggregator has read only some sets of chains: for recruits that it never read together the
vote is used instead, and a column says how often.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from skillmoe_lib import answers, pipeline, prompts, tables
from skillmoe_lib.aggregation.votes import read_answer, visible_text, vote
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.report_folder import ReportFolder
from skillmoe_lib.generation import Generation
from skillmoe_lib.methods.lineup import Choice
from skillmoe_lib.pipeline import Session, split
from skillmoe_lib.profiling import skills
from skillmoe_lib.questions.benchmark import Question
from skillmoe_lib.routing.skill_router import SkillRouter
from skillmoe_lib.seeding import generator

Passes = Mapping[str, Sequence[Sequence[str]]]
QUESTIONS_ONLY, ALL = "test questions", "test questions, keywords and validation questions"


class Settings(NamedTuple):
    """How a report was made, as far as its skills and routes depend on it."""

    pool: str
    preset: str
    keyword_seed: int
    votes: int
    min_votes: int
    max_chars: int
    recruiting: Mapping[str, Any]


def settings_of(folder: ReportFolder) -> Settings:
    """The settings that a report's skills and routes were made with, from their provenance."""
    folder.read("skills"), folder.read("routes")  # they are there and whole
    named = tables.provenance(folder.path / "tables" / "skills.parquet")
    routed = tables.provenance(folder.path / "tables" / "routes.parquet")
    try:
        return Settings(
            routed["pool"],
            routed["preset"],
            named["seed"],
            named["votes"],
            named["min_votes"],
            named["max_chars"],
            {name: routed[name] for name in ("k", "formula", "temperature", "trim")},
        )
    except KeyError as error:
        raise SkillmoeError(
            f"{folder.path}: the provenance of its skills and routes lacks {error}: run the notebooks "
            "02_skills and 05_recruit again"
        ) from None


def agreement(passes: Passes) -> pd.DataFrame:
    """How alike the passes over a question are: named_by_passes (1 to all), n_keywords that so many passes
    of their question name, and their share."""
    counts = [Counter(word for words in own for word in set(words)) for own in passes.values()]
    n_passes = max((len(own) for own in passes.values()), default=0)
    every = Counter(n for count in counts for n in count.values())
    rows = [(n, every[n], every[n] / max(every.total(), 1)) for n in range(1, n_passes + 1)]
    return pd.DataFrame(rows, columns=["named_by_passes", "n_keywords", "share"])


def of_report(
    folder: ReportFolder,
    session: Session,
    passes: Passes,
    settings: Settings,
    *,
    n_draws: int = 200,
) -> pd.DataFrame:
    """`keyword_variance` of a report's tables, with the column benchmark: of the first seed that was run."""
    asked, scores = folder.read("questions"), folder.read("scores_validation")
    named, routes, choice = folder.read("skills"), folder.read("routes"), folder.read_choice("decided")
    recruiting = pipeline.choose_router(
        settings.preset, asked, named, scores, pool_trim=session.pool.trim, **settings.recruiting
    )
    table = keyword_variance(
        session,
        asked,
        passes,
        scores,
        routes,
        choice,
        recruiting.router,
        n_draws=n_draws,
        min_votes=settings.min_votes,
        max_chars=settings.max_chars,
    )
    table.insert(1, "benchmark", asked["benchmark"].iloc[0])
    return table


def stored_passes(
    session: Session, questions: pd.DataFrame, *, seed: int = 0, votes: int = 5
) -> dict[str, list[list[str]]]:
    """Question id -> the keywords of each pass, from the store; a pass that was not run is left out.

    Raises `SkillmoeError` if no pass of some question is stored.
    """
    expert = session.pool.keyword_expert
    asked = {
        q.question_id: [prompts.keywords(q, expert, seed=seed, sample=i).id for i in range(votes)]
        for q in [*split(questions, "validation"), *split(questions, "test")]
    }
    found = session.store.get(request_id for ids in asked.values() for request_id in ids)
    named = {
        question_id: [skills.parse_keywords(found[i].text) for i in ids if i in found]
        for question_id, ids in asked.items()
    }
    if absent := [question_id for question_id, passes in named.items() if not passes]:
        raise SkillmoeError(
            f"no keyword pass of {len(absent)} question(s) is stored, such as {absent[0]!r}: "
            "run the notebook 02_skills first, with the same seed and pool"
        )
    return named


def keyword_variance(
    session: Session,
    questions: pd.DataFrame,
    passes: Passes,
    scores: pd.DataFrame,
    routes: pd.DataFrame,
    choice: Choice,
    router: SkillRouter,
    *,
    n_draws: int = 200,
    seed: int = 0,
    min_votes: int = 2,
    max_chars: int = 20,
    level: float = 0.95,
) -> pd.DataFrame:
    """Both intervals of `majority_vote` and `symbolic_moe`, with and without the draw of keywords.

    Parameters
    ----------
    passes
        From `stored_passes`.
    scores
        Scores of the validation questions.
    routes
        The routes that were run; those of `symbolic_moe` and `seed` are used.
    router
        The router with the settings of the run; it is fitted again in every draw.

    Returns
    -------
    One row per method and interval: method, resampled, accuracy, low, high, n_questions, n_draws, sd_draw
    (standard deviation of the accuracy over draws of keywords and validation questions, the test
    questions fixed; 0 if they are not drawn), stand_ins (share of outcomes of `symbolic_moe` for which the
    vote is used instead), reused (share of slots for which another sample of the expert is used instead).

    Notes
    -----
    Resampling five passes with replacement doubles some, so a word that one pass named can get two votes:
    draws keep more words than the passes did. The error that all draws share (the distance of their mean
    from the accuracy observed) is therefore subtracted; the spread is kept.
    """
    asked = split(questions, "test")
    outcomes = _Outcomes(session, asked, choice, seed)
    mine = routes[(routes["method"] == "symbolic_moe") & (routes["seed"] == seed)]
    observed = outcomes.of(mine)
    whole: dict[str, list[float]] = {"majority_vote": [], "symbolic_moe": []}
    fixed: dict[str, list[float]] = {name: [] for name in whole}
    draws = [generator("keyword variance", seed, i) for i in range(n_draws)]
    embed = _remembered()
    embed(sorted({word for own in passes.values() for words in own for word in words}))
    for draw in draws:
        drawn = outcomes.of(
            _rerouted(questions, passes, scores, router, draw, seed, min_votes, max_chars, embed)
        )
        at = draw.integers(len(asked), size=len(asked))
        for name, right in drawn.items():
            fixed[name].append(float(right.mean()))
            whole[name].append(float(right[at].mean()))
    rows: list[dict[str, Any]] = []
    tails = [(1 - level) / 2, (1 + level) / 2]
    for name, right in observed.items():
        accuracy = float(right.mean())
        random = generator("keyword variance", "questions", seed)
        alone = [float(right[random.integers(right.size, size=right.size)].mean()) for _ in range(n_draws)]
        both = np.array(whole[name]) - np.mean(fixed[name]) + accuracy
        for what, values, sd in (
            (QUESTIONS_ONLY, np.array(alone), 0.0),
            (ALL, both, float(np.std(fixed[name], ddof=1))),
        ):
            low, high = np.clip(np.quantile(values, tails), 0, 1)
            row = {"method": name, "resampled": what, "accuracy": accuracy}
            row |= {"low": min(float(low), accuracy), "high": max(float(high), accuracy)}
            row |= {"n_questions": len(asked), "n_draws": n_draws, "sd_draw": sd}
            shares = outcomes.shares()
            row |= {"stand_ins": shares.stand_ins if name == "symbolic_moe" else 0.0}
            rows.append(row | {"reused": shares.reused})
    return pd.DataFrame(rows)


def _rerouted(
    questions: pd.DataFrame,
    passes: Passes,
    scores: pd.DataFrame,
    router: SkillRouter,
    draw: np.random.Generator,
    seed: int,
    min_votes: int,
    max_chars: int,
    embed: skills.Embed,
) -> pd.DataFrame:
    """Routes of the test questions after one draw of keyword passes and of validation questions."""
    splits = questions.set_index("question_id")["split"]
    kept: dict[str, dict[str, Mapping[str, int]]] = {"validation": {}, "test": {}}
    for question_id, own in passes.items():
        named = [own[i] for i in draw.integers(len(own), size=len(own))]
        kept[splits[question_id]][question_id] = skills.consistent(
            named, min_votes=min_votes, max_chars=max_chars
        )
    validation = sorted(kept["validation"])
    again = [validation[i] for i in draw.integers(len(validation), size=len(validation))]
    named_as = pd.DataFrame({"question_id": again, "as": [f"{i}:{name}" for i, name in enumerate(again)]})
    learnt, graded = (
        frame.merge(named_as, on="question_id")
        .drop(columns="question_id")
        .rename(columns={"as": "question_id"})
        for frame in (skills.skills_table(kept["validation"]), scores)
    )
    fitted = clone(router).fit(learnt, graded)
    found = skills.match(skills.skills_table(kept["test"]), learnt["skill"], embed=embed)
    routes: pd.DataFrame = fitted.route(found, seed=seed, question_ids=list(kept["test"]))
    return routes


def _remembered() -> skills.Embed:
    """Sentence embeddings; each word is embedded once."""
    known: dict[str, NDArray[np.float32]] = {}

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        if new := [text for text in dict.fromkeys(texts) if text not in known]:
            known.update(zip(new, skills.embed(new, skills.load_encoder()), strict=True))
        return np.stack([known[text] for text in texts])

    return embed


class _Shares(NamedTuple):
    stand_ins: float
    reused: float


class _Solution(NamedTuple):
    """What one sample of an expert answered, and its chain of thought."""

    answer: answers.Answer
    chain: str


class _Outcomes:
    """Right or wrong for any recruits of a question, from stored texts alone; each computed once."""

    def __init__(self, session: Session, asked: Sequence[Question], choice: Choice, seed: int) -> None:
        self.session, self.asked, self.seed = session, asked, seed
        self.aggregator = session.pool.experts[choice.aggregator]
        self.answered: dict[str, Generation] = {}
        self.known: dict[tuple[str, tuple[str, ...]], tuple[bool, bool]] = {}
        self.solutions: dict[tuple[str, str, int], _Solution | None] = {}
        self.graded: dict[tuple[str, str | None], bool] = {}
        self.n_asked = self.n_stand_ins = self.n_slots = self.n_reused = 0

    def of(self, routes: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
        """Method -> right or wrong, one value per test question in the order asked."""
        slots = routes.sort_values("slot").groupby("question_id")["expert"].agg(tuple)
        pairs = []
        for question in self.asked:
            key = (question.question_id, slots[question.question_id])
            if key not in self.known:
                self.known[key] = self._outcome(question, key[1])
            pairs.append(self.known[key])
        voted, aggregated = zip(*pairs, strict=True)
        return {"majority_vote": np.array(voted), "symbolic_moe": np.array(aggregated)}

    def shares(self) -> _Shares:
        """Shares over the different sets of recruits that occurred, and over their slots."""
        return _Shares(self.n_stand_ins / max(self.n_asked, 1), self.n_reused / max(self.n_slots, 1))

    def _outcome(self, question: Question, recruits: tuple[str, ...]) -> tuple[bool, bool]:
        earlier: Counter[str] = Counter()
        solutions: list[_Solution] = []
        whole = True
        for name in recruits:
            solution = self._solution(question, name, earlier[name])
            self.n_slots += 1
            if solution is None and earlier[name]:
                self.n_reused, whole = self.n_reused + 1, False
                solution = self._solution(question, name, 0)
            if solution is None:
                raise SkillmoeError(
                    f"no answer of {name!r} to {question.question_id!r} with seed {self.seed} is "
                    "stored: run the notebook 06_methods first, where every expert answers once"
                )
            earlier[name] += 1
            solutions.append(solution)
        right = self._grade(question, vote(question, [solution.answer for solution in solutions]))
        self.n_asked += 1
        chains = [solution.chain for solution in solutions]
        final = self._stored(prompts.aggregate(question, self.aggregator, chains, seed=self.seed).id)
        if final is None or not whole:
            self.n_stand_ins += 1
            return right, right
        return right, self._grade(question, read_answer(question, self.aggregator, final))

    def _solution(self, question: Question, expert: str, sample: int) -> "_Solution | None":
        key = (question.question_id, expert, sample)
        if key not in self.solutions:
            asked = self.session.pool.experts[expert]
            found = self._stored(prompts.solve(question, asked, seed=self.seed, sample=sample).id)
            self.solutions[key] = (
                _Solution(read_answer(question, asked, found), visible_text(asked, found)) if found else None
            )
        return self.solutions[key]

    def _grade(self, question: Question, answer: answers.Answer) -> bool:
        key = (question.question_id, answer.value)
        if key not in self.graded:
            self.graded[key] = answers.grade(question, answer)
        return self.graded[key]

    def _stored(self, request_id: str) -> Generation | None:
        if not self.answered:
            columns = ["request_id", "stage"]
            about = self.session.store.generations().loc[:, columns]
            wanted = about.loc[about["stage"].isin(["solve", "aggregate"]), "request_id"]
            self.answered = self.session.store.get(wanted)
        return self.answered.get(request_id)

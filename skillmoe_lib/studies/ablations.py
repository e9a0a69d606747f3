"""Ablations: one setting at several values, everything else unchanged.

A variant learns everything on validation. Test results are shown, not used: choosing the setting that does
best there would be tuning on test.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args, get_type_hints

import pandas as pd
from sklearn.base import clone

from skillmoe_lib import pipeline
from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.experts.pool import Pool, read_examples
from skillmoe_lib.paths import project_files
from skillmoe_lib.pipeline import Session
from skillmoe_lib.routing.skill_router import SkillRouter
from skillmoe_lib.seeding import digest
from skillmoe_lib.studies.paper_tables import Learned
from skillmoe_lib.studies.variants import AGGREGATORS, Variant

#: What can be varied besides the settings of `SkillRouter`, and the type of its values.
OTHER_KINDS: dict[str, type] = {
    "votes": int,
    "validation_size": int,
    "n_experts": int,
    "aggregator": str,
    "keyword_model": str,
    "keyword_examples": str,
}


def settings(
    vary: str,
    values: str,
    pool: Pool,
    router: SkillRouter,
    *,
    votes: int = 5,
    aggregator: str = "task_specific",
    n_validation: int | None = None,
) -> list[Any]:
    """The values as written ("1, 3, 5"), typed and checked; the default first, added if it is missing.

    The default is given by `router`, `votes`, `aggregator` and the whole pool and validation split; the
    keyword model "own" is the pool's, and a threshold of -1 accepts everything. Without `n_validation`
    (before the questions are read) a validation size is only checked to be positive.

    Raises
    ------
    SkillmoeError
        The setting cannot be varied; a value is of another type, unknown, or out of range.
    """
    kind, truth = kind_of(vary), {"true": True, "false": False}
    sizes = {"n_experts": len(pool.experts)}
    if n_validation is not None:
        sizes["validation_size"] = n_validation
    defaults: dict[str, Any] = router.get_params() | {"validation_size": 1} | sizes
    defaults |= {"votes": votes, "aggregator": aggregator, "keyword_model": "own", "keyword_examples": "own"}
    found: list[Any] = [-1.0 if vary == "threshold" and defaults[vary] is None else defaults[vary]]
    for text in (part.strip() for part in values.split(",") if part.strip()):
        try:
            found.append(truth[text.lower()] if kind is bool else kind(text))
        except (ValueError, KeyError) as error:
            what = "true or false" if kind is bool else f"of type {kind.__name__}"
            raise SkillmoeError(f"values of {vary!r} must be {what}, given {text!r}") from error
    allowed: dict[str, Sequence[str]] = {
        "aggregator": [*AGGREGATORS, *pool.experts],
        "keyword_model": ["own", *pool.experts],
        "keyword_examples": ["own", *project_files("data/examples", "*.yaml")],
    }
    if kind is str and vary not in allowed:
        allowed[vary] = get_args(get_type_hints(SkillRouter.__init__)[vary])
    checked: list[tuple[str, Any]] = [("aggregator", aggregator), *((vary, value) for value in found)]
    for name, value in checked:
        if name in allowed and value not in allowed[name]:
            raise unknown(name, value, allowed[name])
        if kind is int and name == vary and not 1 <= value <= sizes.get(vary, value):
            upper = f"from 1 to {sizes[vary]}" if vary in sizes else "at least 1"
            raise SkillmoeError(f"{vary} must be {upper}, given {value}")
    return list(dict.fromkeys(found))


def kind_of(vary: str) -> type:
    """Type of the values of a setting."""
    router: dict[str, Any] = SkillRouter().get_params() | {"threshold": -1.0}
    if vary not in (kinds := {name: type(value) for name, value in router.items()} | OTHER_KINDS):
        raise unknown("setting to vary", vary, kinds)
    return kinds[vary]


def vary_setting(
    session: Session,
    questions: pd.DataFrame,
    ready: Learned,
    router: SkillRouter,
    vary: str,
    value: Any,
    *,
    seeds: Sequence[int],
    seed: int = 0,
    votes: int = 5,
    aggregator: str = "task_specific",
) -> Variant:
    """The pipeline with one setting changed, to a value of `settings`.

    votes: passes of the keyword model (a word is kept if two passes name it; with one pass, every word).
    keyword_model: an expert's weights, with the prompt of the pool's own keyword model. keyword_examples: its
    worked examples, by the name of their file. validation_size: everything (profiles, vocabulary, ranking,
    aggregator) is learned again from this many validation questions; a larger size contains the questions of
    a smaller one. n_experts: recruiting among this many of the experts most accurate on validation, the
    aggregator unchanged. Everything else is a setting of `SkillRouter`.
    """
    if vary == "votes":
        ready = _named_again(session, questions, ready, votes=value, seed=seed)
    elif vary == "keyword_model":
        ready = _named_again(_asking(session, value), questions, ready, votes=votes, seed=seed)
    elif vary == "keyword_examples":
        ready = _named_again(_shown(session, value), questions, ready, votes=votes, seed=seed)
    elif vary == "validation_size":
        ready = _learned_from(questions, ready, value, seed=seed)
    elif vary == "n_experts":
        kept = ready.scores["expert"].isin(ready.choice.ranking[:value])
        ready = ready._replace(scores=ready.scores[kept])
    elif vary == "aggregator":
        aggregator = value
    elif kind_of(vary):
        router = clone(router).set_params(**{vary: value})
    routes = pipeline.recruit([], router, questions, *ready.tables, seeds=seeds)
    return Variant(f"{vary} = {value}", routes, ready.choice, aggregator)


def _asking(session: Session, name: str) -> Session:
    """The session with an expert's weights, but the prompt and limits of the pool's keyword model."""
    if name == "own":
        return session
    other = replace(session.pool.keyword_expert, model=session.pool.experts[name].model)
    return session._replace(pool=replace(session.pool, keyword_expert=other))


def _shown(session: Session, name: str) -> Session:
    """The session with other worked examples for the pool's keyword model."""
    if name == "own":
        return session
    other = replace(session.pool.keyword_expert, examples=read_examples(name))
    return session._replace(pool=replace(session.pool, keyword_expert=other))


def _named_again(
    session: Session, questions: pd.DataFrame, ready: Learned, *, votes: int, seed: int
) -> Learned:
    named = pipeline.annotate(session, questions, seed=seed, votes=votes, min_votes=min(2, votes))
    return ready._replace(skills=named, test_skills=pipeline.matched(named, questions))


def _learned_from(questions: pd.DataFrame, ready: Learned, n: int, *, seed: int) -> Learned:
    """What is learned from the first n validation questions, in a separate order for each seed."""
    validation = questions.loc[questions["split"] == "validation", "question_id"]
    dropped = sorted(validation, key=lambda question_id: digest("learning curve", seed, question_id))[n:]
    skills, scores, rows = (
        frame[~frame["question_id"].isin(dropped)]
        for frame in (ready.skills, ready.scores, ready.examined.rows)
    )
    examined = ready.examined._replace(rows=rows)
    choice = pipeline.choose(scores, examined)
    return Learned(skills, scores, examined, choice, pipeline.matched(skills, questions))

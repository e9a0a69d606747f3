"""Ablations on the small world of `world`: ann knows sums, bob logic, dee reads well."""

import pytest
import world

from skillmoe_lib import pipeline
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import intervals
from skillmoe_lib.profiling import skills
from skillmoe_lib.routing.skill_router import SkillRouter
from skillmoe_lib.studies import ablations, variants
from skillmoe_lib.studies import paper_tables as paper

ROUTER = SkillRouter()


@pytest.fixture(autouse=True)
def _no_encoder(monkeypatch):
    monkeypatch.setattr(skills, "load_encoder", lambda: None)
    monkeypatch.setattr(skills, "embed", lambda texts, encoder=None: world._letters(texts))


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    session = world.session_at(tmp_path_factory.mktemp("store"))
    return session, world.QUESTIONS, paper.learn_from_validation(session, world.QUESTIONS), ROUTER


def changed(before, vary, value, **options):
    return ablations.vary_setting(*before, vary, value, seeds=[0], **options)


# -- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vary", "text", "values"),
    [
        ("k", "1, 3,5", [3, 1, 5]),
        ("k", "", [3]),
        ("temperature", "1, 0.5", [0.5, 1.0]),
        ("trim", "0", [0.05, 0.0]),
        ("formula", "published, released", ["fixed", "published", "released"]),
        ("replace", "true, False", [True, False]),
        ("threshold", "0.4", [-1.0, 0.4]),
        ("votes", "1,3", [5, 1, 3]),
        ("validation_size", "2, 8, 4", [8, 2, 4]),
        ("n_experts", "2", [4, 2]),
        ("aggregator", "vote,ann", ["task_specific", "vote", "ann"]),
        ("keyword_model", "bob", ["own", "bob"]),
    ],
)
def test_values_are_typed_and_the_default_is_first(before, vary, text, values):
    session, _, _, router = before
    found = ablations.settings(vary, text, session.pool, router, n_validation=8)
    assert found == values
    assert set(map(type, found)) == {ablations.kind_of(vary)}


def test_the_default_is_what_the_rest_of_the_run_has(before):
    session, *_ = before
    router = SkillRouter(k=2, threshold=0.3)
    for vary, default in {"k": 2, "threshold": 0.3, "votes": 7, "aggregator": "vote"}.items():
        found = ablations.settings(vary, "", session.pool, router, votes=7, aggregator="vote")
        assert found == [default]
    for vary in router.get_params():
        assert len(ablations.settings(vary, "", session.pool, router, n_validation=8)) == 1


@pytest.mark.parametrize(
    ("vary", "text", "message"),
    [
        ("k", "1, two", "values of 'k' must be of type int, given 'two'"),
        ("k", "1.5", "values of 'k' must be of type int, given '1.5'"),
        ("k", "0", "k must be at least 1, given 0"),
        ("votes", "-1", "votes must be at least 1, given -1"),
        ("n_experts", "5", "n_experts must be from 1 to 4, given 5"),
        ("validation_size", "0", "validation_size must be from 1 to 8, given 0"),
        ("replace", "yes", "values of 'replace' must be true or false, given 'yes'"),
        ("formula", "best", "unknown formula 'best': it must be one of fixed, published, released"),
        ("aggregator", "eve", "unknown aggregator 'eve': it must be one of adaptive, ann, "),
        ("keyword_model", "eve", "unknown keyword_model 'eve': it must be one of ann, bob, cid, dee, own"),
        ("seeds", "1", "unknown setting to vary 'seeds': it must be one of aggregator, "),
    ],
)
def test_a_wrong_value_is_named_before_anything_runs(before, vary, text, message):
    session, _, _, router = before
    session.engine.requests.clear()
    with pytest.raises(SkillmoeError, match=message):
        ablations.settings(vary, text, session.pool, router, n_validation=8)
    assert session.engine.requests == []


def test_an_unknown_aggregator_is_named_whatever_is_varied(before):
    session, _, _, router = before
    with pytest.raises(SkillmoeError, match="unknown aggregator 'eve'"):
        ablations.settings("k", "1", session.pool, router, aggregator="eve")


@pytest.mark.parametrize(
    "vary",
    ["k", "temperature", "threshold", "votes", "validation_size", "n_experts", "aggregator", "keyword_model"],
)
def test_the_default_value_changes_nothing(before, vary):
    session, questions, ready, router = before
    (default,) = ablations.settings(vary, "", session.pool, router, n_validation=8)
    found = changed(before, vary, default)
    routes = pipeline.recruit([], ROUTER, questions, *ready.tables, seeds=[0])
    assert found.name == f"{vary} = {default}"
    assert found.routes.equals(routes)
    assert (found.choice, found.aggregator) == (ready.choice, "task_specific")


# -- what each setting changes -------------------------------------------------------------------


def test_a_setting_of_the_router(before):
    assert changed(before, "k", 5).routes.groupby("question_id").size().unique().tolist() == [5]
    assert ROUTER.k == 3  # the default's router is not touched
    flat, sharp = (changed(before, "temperature", t).routes["probability"].max() for t in (100.0, 0.1))
    assert flat < 0.5 < sharp


def test_votes_ask_fewer_passes_and_share_them(before, tmp_path):
    session = world.session_at(tmp_path)
    ready = paper.learn_from_validation(session, world.QUESTIONS, votes=3)
    session.engine.requests.clear()
    ablations.vary_setting(session, world.QUESTIONS, ready, ROUTER, "votes", 1, seeds=[0])
    assert session.engine.requests == []  # the first of three passes
    ablations.vary_setting(session, world.QUESTIONS, ready, ROUTER, "votes", 4, seeds=[0])
    assert len(session.engine.requests) == 16


def test_a_keyword_model_keeps_the_prompt(before):
    session = before[0]
    session.engine.requests.clear()
    changed(before, "keyword_model", "ann", votes=2)
    asked = session.engine.requests
    assert {(r.expert, r.model.source, r.stage) for r in asked} == {("namer", "folder:ann", "keywords")}
    assert len(asked) == 2 * 16


def test_n_experts_recruits_among_the_best(before):
    _, _, ready, _ = before
    found = changed(before, "n_experts", 1)
    assert set(found.routes["expert"]) == {ready.choice.ranking[0]} == {"ann"}
    assert found.choice == ready.choice
    assert set(changed(before, "n_experts", 2).routes["expert"]) == {"ann", "bob"}


def test_a_smaller_validation_size_forgets_the_rest(before):
    _, questions, ready, _ = before
    parts = {n: ablations._learned_from(questions, ready, n, seed=0) for n in (2, 4, 8)}
    seen = {n: set(part.scores["question_id"]) for n, part in parts.items()}
    assert {n: len(ids) for n, ids in seen.items()} == {2: 2, 4: 4, 8: 8}
    assert seen[2] < seen[4] < seen[8]
    for n, part in parts.items():
        asked = pipeline.split_of(questions, part.skills)
        assert set(asked["validation"]["question_id"]) == seen[n]
        assert asked["test"]["question_id"].nunique() == 8
        assert set(part.examined.rows["question_id"]) <= seen[n]
    orders = {
        frozenset(ablations._learned_from(questions, ready, 2, seed=s).scores["question_id"])
        for s in range(9)
    }
    assert len(orders) > 1


def test_one_run_for_all_values_and_paired_differences(before):
    session, questions, ready, _ = before
    made = [changed(before, "aggregator", value) for value in ("task_specific", "vote", "cid", "adaptive")]
    run = variants.variant_programs(made, pipeline.split(questions, "test"), session.pool, seeds=[0])
    session.engine.requests.clear()
    done = pipeline.run_programs(session, run, questions, last=ready.choice.aggregator)
    solved = [request.id for request in session.engine.requests if request.stage == "solve"]
    assert len(solved) == len(set(solved)) == 8 * 3  # the same chains for all four
    compared = intervals.compare(done.results, baseline=made[0].name)
    assert compared["method"].tolist() == ["aggregator = vote", "aggregator = cid", "aggregator = adaptive"]
    assert compared["n_questions"].tolist() == [8, 8, 8]
    calls = done.results.groupby("method")["calls"].max().to_dict()
    assert calls == {v.name: 3 if v.aggregator == "vote" else 4 for v in made}

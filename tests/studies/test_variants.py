"""Variants on the small world of `world`: ann knows sums, bob logic, cid the even, dee reads well."""

import pandas as pd
import pytest
import scenes
import world
from scenes import says

from skillmoe_lib import pipeline
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import published
from skillmoe_lib.methods import lineup
from skillmoe_lib.methods.lineup import Choice
from skillmoe_lib.routing.skill_router import SkillRouter
from skillmoe_lib.studies import paper_tables as paper
from skillmoe_lib.studies import variants
from skillmoe_lib.studies.variants import Variant

ANN, BOB, CID = (scenes.expert(name) for name in ("ann", "bob", "cid"))
CHOICE = Choice(("bob", "ann", "cid"), "cid")
POOL = scenes.pool("ann", "bob", "cid", aggregators=("ann", "cid"))


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    session = world.session_at(tmp_path_factory.mktemp("store"))
    return session, paper.learn_from_validation(session, world.QUESTIONS)


# -- discussion ----------------------------------------------------------------------------------


def reply(request):
    """Alone ann says A and bob B; after the discussion both say C; cid reports what it reads first."""
    if request.stage == "solve":
        return says("A" if request.expert == "ann" else "B")
    return (
        says("C") if request.stage == "revise" else says(scenes.shown_to(request).split("answer is (")[1][0])
    )


def test_discussion_is_solve_revise_aggregate():
    driven = scenes.drive(variants.discuss(scenes.question(), [ANN, BOB], CID, seed=0), reply)
    assert [[r.stage for r in asked] for asked in driven.rounds] == [
        ["solve", "solve"],
        ["revise", "revise"],
        ["aggregate"],
    ]
    assert [r.expert for r in driven.rounds[1]] == ["ann", "bob"]
    own_first = [scenes.shown_to(r).index("(A)") < scenes.shown_to(r).index("(B)") for r in driven.rounds[1]]
    shown = [scenes.shown_to(r).partition("Proposed solutions:")[2] for r in driven.rounds[1]]
    assert own_first[0] and shown[0].index("(A)") < shown[0].index("(B)")
    assert shown[1].index("(B)") < shown[1].index("(A)")
    # The aggregator reads what was said after the discussion, not before.
    assert driven.result.value == "C"
    assert driven.calls == 2 * 2 + 1


def test_discussion_without_an_aggregator_votes():
    driven = scenes.drive(variants.discuss(scenes.question(), [ANN, BOB, ANN], None, seed=0), reply)
    assert (driven.result.value, driven.calls) == ("C", 6)
    assert len({request.id for request in driven.rounds[0]}) == 3  # ann's two slots are two samples


# -- who decides ---------------------------------------------------------------------------------


def slots(suitability, probability=(0.2, 0.5, 0.3)):
    frame = {"question_id": "q1", "seed": 0, "slot": [0, 1, 2], "expert": ["ann", "bob", "cid"]}
    frame |= {
        "suitability": pd.array(suitability, "Float64"),
        "probability": pd.array(probability, "Float64"),
    }
    return pd.DataFrame(frame)


@pytest.mark.parametrize(
    ("aggregator", "suitability", "expert"),
    [
        ("task_specific", (1, 2, 3), "cid"),
        ("task_best", (1, 2, 3), "bob"),
        ("adaptive", (1, 2, 3), "cid"),
        ("adaptive", (3, 3, 1), "ann"),  # the earlier of equals
        ("adaptive", (-5, -2, -4), "bob"),
        ("adaptive", (-5, None, -4), "cid"),
        ("adaptive", (None, None, None), "bob"),  # no known skill: the most probable
        ("vote", (1, 2, 3), ""),
        ("bob", (1, 2, 3), "bob"),
    ],
)
def test_who_decides(aggregator, suitability, expert):
    variant = Variant("v", pd.DataFrame(), CHOICE, aggregator)
    assert variants.decider(variant, slots(suitability), POOL, seed=0) == expert


def test_an_unknown_aggregator_is_named_with_the_known():
    variant = Variant("v", pd.DataFrame(), CHOICE, "dan")
    with pytest.raises(SkillmoeError, match="unknown aggregator 'dan': it must be one of adaptive, ann, bob"):
        variants.decider(variant, slots((1, 2, 3)), POOL, seed=0)


def test_the_random_aggregator_is_a_candidate_drawn_by_seed_and_question():
    variant = Variant("v", pd.DataFrame(), CHOICE, "random")
    rows = {i: slots((1, 2, 3)).assign(question_id=f"q{i}") for i in range(60)}
    drawn = {i: variants.decider(variant, row, POOL, seed=0) for i, row in rows.items()}
    counts = pd.Series(drawn).value_counts()
    assert set(counts.index) == {"ann", "cid"}  # bob is no candidate
    assert counts.min() > 15
    assert all(variants.decider(variant, rows[i], POOL, seed=0) == drawn[i] for i in reversed(rows))
    assert any(variants.decider(variant, rows[i], POOL, seed=1) != drawn[i] for i in rows)


# -- the paper's tables --------------------------------------------------------------------------


def test_the_papers_own_variant_asks_what_symbolic_moe_asks(ready):
    session, found = ready
    asked = pipeline.split(world.QUESTIONS, "test")
    routes = pipeline.recruit([], SkillRouter(), world.QUESTIONS, *found.tables, seeds=[0])
    (first, *_) = variants.discussions(routes, found.choice)
    assert first.name == "task_specific, without"
    ours = variants.variant_programs([first], asked, session.pool, seeds=[0])
    theirs = lineup.programs(["symbolic_moe"], asked, session.pool, routes, found.choice, seeds=[0])
    for (run, program), other in zip(ours.items(), theirs.values(), strict=True):
        assert run.method == "task_specific, without"
        one, two = (scenes.drive(p, world.reply) for p in (program, other))
        assert [[r.id for r in asked] for asked in one.rounds] == [
            [r.id for r in asked] for asked in two.rounds
        ]


def test_discussions_hold_every_published_cell():
    made = variants.discussions(pd.DataFrame(), CHOICE)
    assert len({variant.name for variant in made}) == len(made) == 8
    cells = {tuple(variant.name.split(", ")) for variant in made}
    table = published.load("discussion_aggregator")
    assert set(zip(table["aggregator"], table["discussion"], strict=True)) < cells
    assert {variant.discussion for variant in made if variant.name.endswith("without")} == {False}


def test_all_variants_of_a_table_share_one_run(ready):
    session, found = ready
    routes = pipeline.recruit([], SkillRouter(), world.QUESTIONS, *found.tables, seeds=[0])
    made = variants.discussions(routes, found.choice)
    run = variants.variant_programs(made, pipeline.split(world.QUESTIONS, "test"), session.pool, seeds=[0])
    done = pipeline.run_programs(session, run, world.QUESTIONS, last=found.choice.aggregator)
    calls = done.results.groupby("method")["calls"].agg(["min", "max"])
    assert all(
        (row["min"], row["max"]) == ((4, 4) if "without" in name else (7, 7))
        for name, row in calls.iterrows()
    )
    accuracy = done.results.groupby("method")["correct"].mean()
    assert accuracy["task_specific, without"] == accuracy["adaptive, without"] == 1
    assert done.scores.empty
    assert not set(done.results["method"]) & set(lineup.BOUNDS)


def test_recruiting_compares_recruiting_and_says_what_the_pool_is_too_small_for(ready):
    session, found = ready
    made, left_out = variants.recruitings(session, world.QUESTIONS, found, SkillRouter(), seeds=[0, 1])
    assert left_out == {"top_5": "needs 5 experts; the pool has 4"}
    wanted = set(published.load("recruiting")["variant"]) - {"unseen_task"}
    assert {variant.name for variant in made} | set(left_out) == wanted
    by_name = {variant.name: variant for variant in made}
    fixed = by_name["top_3"].routes.groupby(["seed", "question_id"])["expert"].agg(tuple)
    assert len(fixed) == 2 * 8
    assert set(fixed) == {("ann", "bob", "cid")}
    drawn = by_name["random_experts"].routes.groupby(["seed", "question_id"])["expert"].agg(frozenset)
    assert set(map(len, drawn)) == {3}
    assert len(set(drawn)) > 1
    assert {v.name: v.aggregator for v in made if v.aggregator != "task_specific"} == {
        "random_aggregator": "random",
        "majority_vote": "vote",
    }


def test_a_pool_of_two_keeps_what_it_can(tmp_path):
    session = world.session_at(tmp_path, pool=scenes.pool("ann", "bob"))
    found = paper.learn_from_validation(session, world.QUESTIONS)
    assert found.examined.rows.empty  # three chains are never there
    made, left_out = variants.recruitings(session, world.QUESTIONS, found, SkillRouter(), seeds=[0])
    assert [variant.name for variant in made] == ["adaptive", "random_aggregator", "majority_vote"]
    assert left_out["random_experts"] == "needs 3 experts; the pool has 2"


# -- the published tables ------------------------------------------------------------------------


def test_each_table_has_its_variants_and_its_baseline(ready):
    session, learned = ready
    plans = {
        table: variants.plan(table, session, world.QUESTIONS, learned, SkillRouter(), seeds=[0])
        for table in variants.TABLES
    }
    for plan in plans.values():
        assert plan.baseline in {variant.name for variant in plan.variants}
    assert {v.aggregator for v in plans["aggregators"].variants} == set(session.pool.aggregators)
    assert plans["aggregators"].baseline == learned.choice.aggregator
    assert len(plans["discussion"].variants) == 8
    assert plans["recruiting"].left_out == {"top_5": "needs 5 experts; the pool has 4"}
    with pytest.raises(SkillmoeError, match="unknown table 'main'"):
        variants.plan("main", session, world.QUESTIONS, learned, SkillRouter(), seeds=[0])


def test_each_table_is_set_beside_its_own_published_figures(ready):
    _, learned = ready
    row = {"benchmark": "gpqa", "accuracy": 0.5, "low": 0.4, "high": 0.6, "n_questions": 100}
    one = variants.beside_published("recruiting", pd.DataFrame([{"method": "adaptive", **row}]), learned)
    assert one["published"].tolist() == pytest.approx([0.5778])
    method = "task_specific, without"
    two = variants.beside_published("discussion", pd.DataFrame([{"method": method, **row}]), learned)
    assert two[["aggregator", "discussion"]].to_numpy().tolist() == [["task_specific", "without"]]
    three = variants.beside_published("aggregators", pd.DataFrame([{"method": "x", **row}]), learned)
    assert three["chosen"].tolist() == [learned.choice.aggregator]

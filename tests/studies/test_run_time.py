"""Run times: ratios computed by hand, and the ledger's figures for grouped and single runs."""

import math

import pandas as pd
import pytest
import scenes
import world

from skillmoe_lib import pipeline
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.inference.engines.scripted import ScriptedEngine
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.pipeline import Session
from skillmoe_lib.routing.skill_router import SkillRouter
from skillmoe_lib.studies import paper_tables as paper
from skillmoe_lib.studies import run_time


def test_ratio_of_sums_by_hand():
    # r = 12/4 = 3; residuals -2, 2, -1, 1: squares sum to 10; error sqrt(4/3 * 10) / 4; t(3) = 3.1824.
    found = run_time.ratio_of_sums(pd.Series([1.0, 5, 2, 4]), pd.Series([1.0, 1, 1, 1]))
    half = 3.182446 * math.sqrt(40 / 3) / 4
    assert (found.estimate, found.n) == (3, 4)
    assert found.high == pytest.approx(3 + half, abs=1e-4)
    assert found.low == pytest.approx(3 - half, abs=1e-4)


def test_ratio_of_sums_takes_rows_as_pairs():
    a, b = pd.Series([2.0, 4.0, 6.2]), pd.Series([1.0, 2.0, 3.0])
    paired, crossed = run_time.ratio_of_sums(a, b), run_time.ratio_of_sums(a, b[::-1])
    assert paired.estimate == crossed.estimate
    assert paired.high - paired.low < 0.3 < crossed.high - crossed.low


def test_one_question_gives_no_interval_and_no_verdict():
    frame = pd.DataFrame(
        {"way": ["one by one", "symbolic_moe"], "question_id": "q", "device_seconds": [90.0, 1.0]}
    )
    row = run_time.ratios(frame).iloc[0]
    assert (row["ratio"], row["n_questions"], row["verdict"]) == (90, 1, "cannot tell")
    assert math.isnan(row["low"]) and math.isnan(row["difference_high"])


def of(way, seconds):
    return pd.DataFrame(
        {"way": way, "question_id": [f"q{i}" for i in range(len(seconds))], "device_seconds": seconds}
    )


def test_ratios_beside_the_published():
    """196.92 / 25.76 = 7.644 and 45.98 / 25.76 = 1.785."""
    slow, near = of("one by one", [7.6, 7.7, 7.5, 7.8]), of("moa", [30.0, 31, 29, 30, 30])
    frame = pd.concat([of("symbolic_moe", [1.0] * 5), slow, near])
    found = run_time.ratios(frame).set_index("ratio_of")
    assert found["published"].round(3).to_dict() == {"one by one": 7.644, "moa": 1.785}
    assert found["n_questions"].to_dict() == {"one by one": 4, "moa": 5}
    assert found["verdict"].to_dict() == {"one by one": "agrees", "moa": "differs"}
    wide = pd.concat([of("symbolic_moe", [1.0] * 3), of("one by one", [2.0, 8, 14])])
    found = run_time.ratios(wide).set_index("ratio_of")["verdict"]
    assert found.to_dict() == {"one by one": "cannot tell", "moa": "not run"}


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    session = world.session_at(tmp_path_factory.mktemp("store"))
    found = paper.learn_from_validation(session, world.QUESTIONS)
    return (
        session,
        found,
        pipeline.recruit([], SkillRouter(temperature=0.125), world.QUESTIONS, *found.tables, seeds=[0]),
    )


def measure(before, questions=world.QUESTIONS, n=3):
    session, found, routes = before
    return run_time.measured(
        session, questions, routes, found.choice, ["symbolic_moe", "moa"], n_one_by_one=n
    )


def test_one_by_one_loads_for_every_question_and_the_store_is_left_alone(before):
    n_stored = len(before[0].store.generations())
    before[0].engine.loads.clear()
    times = run_time.run_times(measure(before)).set_index("way")
    # One by one a specialist and dee for each of three questions; all grouped, both specialists and dee
    # once. MoA: two proposers again in its second layer, cid's two layers in one load, then dee.
    assert times["model_loads"].to_dict() == {"symbolic_moe": 3, "moa": 6, "one by one": 6}
    assert times["n_questions"].to_dict() == {"symbolic_moe": 8, "moa": 8, "one by one": 3}
    assert times["calls"].to_dict() == {"symbolic_moe": 4, "moa": 7, "one by one": 4}
    assert len(before[0].engine.loads) == 3 + 6 + 6
    assert len(before[0].store.generations()) == n_stored
    assert (times["device_seconds"] > 0).all()
    assert (times["low"] <= times["device_seconds"]).all()


def test_the_sample_does_not_depend_on_the_order_of_questions(before):
    one, two = (measure(before, rows) for rows in (world.QUESTIONS, world.QUESTIONS[::-1]))
    picked = [set(frame.loc[frame["way"] == "one by one", "question_id"]) for frame in (one, two)]
    assert picked[0] == picked[1]
    assert len(picked[0]) == 3


def test_none_one_by_one(before):
    assert set(measure(before, n=0)["way"]) == {"symbolic_moe", "moa"}


def test_a_failed_request_is_an_unknown_time_not_a_short_one(before, tmp_path):
    """The aggregator fails for one question: its seconds are null, and the mean is of the others."""

    def reply(request):
        if request.stage == "aggregate" and request.question_id == "t-sums-0":
            return scenes.Failure(request.id, "broken")
        return world.reply(request)

    session = Session(before[0].pool, ScriptedEngine(reply), GenerationStore(tmp_path), skip=True)
    _, found, routes = before
    frame = run_time.measured(
        session, world.QUESTIONS, routes, found.choice, ["symbolic_moe"], n_one_by_one=0
    )
    assert frame.set_index("question_id")["device_seconds"].isna().sum() == 1
    times = run_time.run_times(frame)
    assert times["n_questions"].item() == 7


def test_what_was_measured_is_not_measured_again_and_replays(before, tmp_path):
    from skillmoe_lib.inference.engines.replay import ReplayEngine

    first = measure(before)
    before[0].engine.loads.clear()
    assert measure(before).equals(first)
    assert before[0].engine.loads == []
    replayed = before[0]._replace(engine=ReplayEngine())
    assert measure((replayed, *before[1:])).equals(first)
    with pytest.raises(SkillmoeError, match="engine 'replay' cannot make them"):
        measure((replayed._replace(store=GenerationStore(tmp_path)), *before[1:]))


def test_charged_against_measured_by_hand(before, tmp_path):
    """Charged 2 + 8 s, measured 2 + 9 s: close. Charged 4 + 8, measured 3 + 6: a third too much."""
    from skillmoe_lib.generation import Generation
    from skillmoe_lib.inference.store import Batch
    from skillmoe_lib.prompts import solve

    session = before[0]._replace(store=GenerationStore(tmp_path))
    request = solve(scenes.question("q"), scenes.expert("ann"), seed=0)
    for method, load_s, generate_s in (("cot", 2.0, 9.0), ("moa", 3.0, 6.0)):
        made = Generation(request.id, "text", "stop", 1, 1)
        about = Batch(method, "ann", "scripted", load_s, generate_s, 1, {}, "2020-01-01", False)
        run_time.store_of(session, method).append([(request, made)], about)
    loads = pd.DataFrame(
        [("cot", 0, 1, 2.0, 8.0), ("moa", 0, 2, 4.0, 8.0), ("cot", 1, 9, 9.0, 9.0)],
        columns=["method", "seed", "model_loads", "load_device_s", "generate_device_s"],
    )
    table = run_time.charged_against_measured(session, loads, ["cot", "moa", "debate"]).set_index("method")
    assert table["ratio"].to_dict() == pytest.approx({"cot": 10 / 11, "moa": 12 / 9})
    assert table["close"].to_dict() == {"cot": True, "moa": False}
    assert table.loc["moa", ["n_loads", "n_measured_loads", "charged_s", "measured_s"]].tolist() == [
        2,
        1,
        12,
        9,
    ]


def test_measuring_swaps_no_weights(before, tmp_path):
    """A cold load is what a method is charged, so it is what is measured."""
    from dataclasses import dataclass

    @dataclass
    class Swapping(ScriptedEngine):
        swap_weights: bool = True

        def load(self, model):
            assert not self.swap_weights
            return super().load(model)

    session = Session(before[0].pool, Swapping(world.reply), GenerationStore(tmp_path))
    _, found, routes = before
    run_time.measured(session, world.QUESTIONS, routes, found.choice, ["moa"], n_one_by_one=1)
    assert session.engine.swap_weights

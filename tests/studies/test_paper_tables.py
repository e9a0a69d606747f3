"""The paper's tables: comparisons with published figures by hand, and a whole experiment on a small world."""

import math

import pandas as pd
import pytest
import scenes
import world

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import intervals
from skillmoe_lib.evaluation.intervals import Interval
from skillmoe_lib.methods import lineup
from skillmoe_lib.methods.lineup import Choice
from skillmoe_lib.pipeline import Examined
from skillmoe_lib.profiling import skills
from skillmoe_lib.studies import paper_tables as paper


def results(right, *, benchmark="gpqa"):
    """Results of methods (or candidates) from strings of 1 and 0, one a question."""
    rows = [
        {"method": method, "benchmark": benchmark, "seed": 0, "question_id": f"q{i:03d}", "answer": "A",
         "status": "answered", "correct": mark == "1"}
        for method, marks in right.items()
        for i, mark in enumerate(marks)
    ]  # fmt: skip
    return pd.DataFrame(rows)


# -- verdicts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "half", "verdict"),
    [
        (Interval(0.05, 0.045, 0.055, 9), 0.05, 0.0, "agrees"),
        (Interval(0.05, 0.04, 0.06, 9), 0.05, 0.05, "cannot tell"),  # theirs is too uncertain
        (Interval(0.05, -0.10, 0.20, 9), 0.05, 0.0, "cannot tell"),
        (Interval(0.15, 0.10, 0.20, 9), 0.05, 0.0, "differs"),
        (Interval(0.15, 0.10, 0.20, 9), 0.05, 0.10, "cannot tell"),
        (Interval(-0.15, -0.20, -0.10, 9), 0.05, 0.0, "differs"),
        (Interval(0.05, math.nan, math.nan, 1), 0.9, 0.0, "cannot tell"),
        (Interval(0.05, 0.04, 0.06, 9), math.nan, 0.0, "not published"),
        (Interval(), 0.05, 0.0, "not run"),
    ],
)
def test_verdicts(ours, theirs, half, verdict):
    assert paper.against_published(ours, theirs, half=half, margin=0.02)["verdict"] == verdict


def test_distances_are_squared_and_added():
    row = paper.against_published(Interval(0.5, 0.47, 0.54, 9), 0.1, half=0.04, margin=0.02)
    assert row["difference"] == pytest.approx(0.4)
    assert row["difference_low"] == pytest.approx(0.4 - 0.05)  # 3, 4, 5
    assert row["difference_high"] == pytest.approx(0.4 + math.hypot(0.04, 0.04))


# -- headline ------------------------------------------------------------------------------------


def test_headline_sets_our_paired_gain_beside_the_published():
    ours = results(
        {"symbolic_moe": "1" * 60 + "0" * 40, "self_moa": "1" * 40 + "0" * 60, "cot_task_best": "0" * 100}
    )
    (row,) = paper.headline(ours).to_dict("records")
    assert (row["against"], row["n_questions"]) == ("self_moa", 100)  # no self_consistency was run
    assert row["gain"] == pytest.approx(0.2)
    assert 0.1 < row["gain_low"] < 0.2 < row["gain_high"] < 0.3
    assert row["published"] == pytest.approx(0.5778 - 0.5286)
    assert row["published_average"] == pytest.approx(0.0815)
    assert row["difference"] == pytest.approx(0.2 - 0.0492)
    # Two Wilson half-widths at n = 198 (.068 each) make .097; the published deviations .0209 and .0146 over
    # three seeds 4.3027 / sqrt(3) times that, .0519 and .0363; ours about .08.
    assert row["difference_high"] - row["difference_low"] == pytest.approx(
        2 * math.hypot(0.0965, 0.0519, 0.0363, 0.075), abs=0.005
    )
    assert row["verdict"] == "differs"


def test_headline_elsewhere_is_not_published_but_ours_is_shown():
    ours = results({"symbolic_moe": "1100", "self_consistency": "1000"}, benchmark="pocket")
    (row,) = paper.headline(ours).to_dict("records")
    assert (row["verdict"], row["gain"], row["published_average"]) == ("not published", 0.25, 0.0371)


def test_headlines_average_the_gains_of_the_benchmarks():
    table = pd.concat(
        [
            results({"symbolic_moe": "1" * 60 + "0" * 40, "self_moa": "1" * 40 + "0" * 60}),
            results({"symbolic_moe": "1" * 50, "self_moa": "1" * 40 + "0" * 10}, benchmark="medmcqa"),
        ]
    )
    rows = paper.headlines(table).set_index("benchmark")
    assert list(rows.index) == ["gpqa", "medmcqa", "average"]
    one, two, both = (rows.loc[name] for name in rows.index)
    assert both["gain"] == pytest.approx(0.2) == one["gain"] == two["gain"]
    below = math.hypot(one["gain"] - one["gain_low"], two["gain"] - two["gain_low"]) / 2
    assert both["gain_low"] == pytest.approx(0.2 - below)
    assert both["published"] == pytest.approx((one["published"] + two["published"]) / 2)
    assert both["difference"] == pytest.approx((one["difference"] + two["difference"]) / 2)
    assert (both["n_questions"], both["published_average"]) == (150, one["published_average"])
    assert both["verdict"] == "differs"
    pd.testing.assert_frame_equal(
        paper.headlines(table[table["benchmark"] == "gpqa"]),
        paper.headline(table[table["benchmark"] == "gpqa"]),
    )
    elsewhere = table.assign(benchmark=table["benchmark"].replace("medmcqa", "pocket"))
    assert paper.headlines(elsewhere)["verdict"].tolist()[1:] == ["not published", "not published"]


# -- several benchmarks --------------------------------------------------------------------------


def test_benchmarks_are_named_apart(monkeypatch):
    known = {
        name: scenes.frame([scenes.question(f"q{name[0]}", benchmark=name)]) for name in ("ab", "ac", "b")
    }
    monkeypatch.setattr(paper.questions_of, "load", lambda name, limit: known[name].head(limit or None))
    assert list(paper.load_benchmarks(" b , ab")) == ["b", "ab"]
    for given, says in (
        ("b,b", "different names, given 'b' twice"),
        ("ab,ac", "'ab' and 'ac' share the question id 'qa'"),
        (" , ", "at least one benchmark"),
    ):
        with pytest.raises(SkillmoeError, match=says) as error:
            paper.load_benchmarks(given)
        assert "\n" not in str(error.value)


# -- aggregators ---------------------------------------------------------------------------------


def items(right):
    rows = results(right).rename(columns={"method": "expert"})
    return Examined(rows[["expert", "question_id", "answer", "status", "correct"]], 3)


def test_candidates_on_items_and_in_the_pipeline():
    examined = items({"QwenR1": "1110", "Qwen": "1000"})
    table = paper.candidates(
        examined, results({"Qwen": "11110", "QwenR1": "11000"}), Choice(("Qwen",), "Qwen")
    )
    assert table["expert"].tolist() == ["QwenR1", "Qwen"]
    assert table["item_accuracy"].tolist() == [0.75, 0.25]
    assert table["accuracy"].tolist() == [0.4, 0.8]
    assert (table["n_items"].tolist(), table["n_questions"].tolist()) == ([4, 4], [5, 5])
    assert table["chosen"].tolist() == [False, True]
    assert table["published_choice"].tolist() == [True, False]  # on GPQA


def test_candidates_without_an_item_are_shown_with_a_gap():
    table = paper.candidates(
        Examined(items({"Qwen": "1"}).rows[:0], 9),
        results({"Qwen": "10"}),
        Choice(("Qwen",), "Qwen"),
    )
    assert table["n_items"].tolist() == [0]
    assert table["item_accuracy"].isna().all()
    assert table["accuracy"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("examined", "aggregator", "benchmark", "verdict", "n"),
    [
        ({"QwenR1": "1100", "Qwen": "1000"}, "QwenR1", "gpqa", "agrees", 0),
        ({"QwenR1": "1100", "Qwen": "1110"}, "Qwen", "gpqa", "cannot tell", 4),
        ({"QwenR1": "0" * 30, "Qwen": "1" * 30}, "Qwen", "gpqa", "differs", 30),
        ({"Phi": "1100", "Qwen": "1110"}, "Qwen", "gpqa", "not in this pool", 0),
        ({"QwenR1": "1100", "Qwen": "1110"}, "Qwen", "pocket", "not published", 0),
    ],
)
def test_our_aggregator_beside_the_published(examined, aggregator, benchmark, verdict, n):
    (row,) = paper.choice_beside(items(examined), Choice((aggregator,), aggregator), benchmark).to_dict(
        "records"
    )
    assert (row["verdict"], row["n_items"], row["chosen"]) == (verdict, n, aggregator)
    if verdict == "differs":
        assert row["difference"] == 1


# -- the whole -----------------------------------------------------------------------------------


def test_every_method_in_one_run(tmp_path, monkeypatch):
    monkeypatch.setattr(skills, "load_encoder", lambda: None)
    monkeypatch.setattr(skills, "embed", lambda texts, encoder=None: world._letters(texts))
    session = world.session_at(tmp_path)
    names = [name for name, reason in lineup.available(session.pool).items() if not reason]
    found = paper.full_experiment(
        session, world.QUESTIONS, names, seeds=[0, 1], preset="skillmoe", temperature=0.5
    )
    assert set(found.done.results["method"]) == {*names, *lineup.BOUNDS}
    assert found.ready.choice.aggregator == "dee"
    assert found.done.results.query("method == 'symbolic_moe'").groupby("seed").size().to_dict() == {
        0: 8,
        1: 8,
    }
    accuracy = found.done.results.groupby("method")["correct"].mean()
    assert accuracy["symbolic_moe"] == 1 > accuracy["cot_task_best"]
    used = found.done.used["request_id"]
    assert used.nunique() < len(used)
    assert set(used) <= set(session.store.generations()["request_id"])


def test_best_single_is_one_expert_over_several_benchmarks(tmp_path, monkeypatch):
    """ann is best on sums, bob on logic, cid half right on both: over the two cid is no worse than they."""
    monkeypatch.setattr(skills, "load_encoder", lambda: None)
    monkeypatch.setattr(skills, "embed", lambda texts, encoder=None: world._letters(texts))
    session = world.session_at(tmp_path)
    benchmarks = {
        topic: world.QUESTIONS[world.QUESTIONS["subject"] == topic].assign(benchmark=topic)
        for topic in ("sums", "logic")
    }
    # One more right answer of bob's on sums makes him the best over both.
    gold = benchmarks["sums"]["gold"].where(
        benchmarks["sums"]["question_id"] != "v-sums-1", world.wrong(world.TRUTH["v-sums-1"])
    )
    benchmarks["sums"] = benchmarks["sums"].assign(gold=gold)
    names = ["symbolic_moe", "cot_task_best", "best_single"]
    found = paper.several_benchmarks(
        session, benchmarks, names, seeds=[0], preset="skillmoe", temperature=0.125
    )
    assert {name: e.ready.choice.task_best for name, e in found.items()} == {"sums": "ann", "logic": "bob"}
    assert {name: e.ready.choice.best_single for name, e in found.items()} == {"sums": "bob", "logic": "bob"}
    whole = paper.together(found, benchmarks, session.store)
    assert len(whole.results) == sum(len(e.done.results) for e in found.values())
    assert whole.loads.groupby("benchmark")["method"].nunique().to_dict() == {"sums": 3, "logic": 3}
    assert set(whole.questions["question_id"]) == set(world.QUESTIONS["question_id"])
    chosen = paper.choices(found).set_index("benchmark")
    assert chosen["task_best"].to_dict() == {"sums": "ann", "logic": "bob"}
    assert chosen["best_single"].to_dict() == {"sums": "bob", "logic": "bob"}
    tables = [intervals.accuracy_table(e.done.results) for e in found.values()]
    shown = paper.side_by_side(pd.concat(tables)).set_index("method")
    assert list(shown) == [
        "label", "sums", "logic", "average", "average_low", "average_high", "n_benchmarks",
    ]  # fmt: skip
    assert shown.loc["cot_task_best", ["sums", "logic", "average"]].tolist() == [1, 1, 1]
    assert shown.loc["best_single", ["sums", "logic", "average"]].tolist() == [0, 1, 0.5]
    assert shown.loc["best_single", "label"] == "Chain of thought (Best-Single)"


def test_side_by_side_averages_benchmarks_not_questions():
    rows = [
        ("moa", "gpqa", 0.4, 0.37, 0.44),
        ("moa", "aime2024", 0.8, 0.76, 0.83),
        ("debate", "gpqa", 0.3, 0.2, 0.4),
    ]
    accuracy = pd.DataFrame(rows, columns=["method", "benchmark", "accuracy", "low", "high"])
    first, second = paper.side_by_side(accuracy).to_dict("records")
    assert (first["method"], first["label"], first["gpqa"], first["aime2024"]) == (
        "moa", "Mixture-of-Agents", 0.4, 0.8,
    )  # fmt: skip
    assert first["average"] == pytest.approx(0.6)
    assert first["average_low"] == pytest.approx(0.6 - 0.05 / 2)  # 3, 4, 5
    assert first["average_high"] == pytest.approx(0.6 + 0.05 / 2)
    assert math.isnan(second["average"])
    assert (first["n_benchmarks"], second["n_benchmarks"]) == (2, 1)
    with pytest.raises(SkillmoeError, match="one row a method and benchmark"):
        paper.side_by_side(pd.concat([accuracy, accuracy]))


def test_a_single_pass_keeps_every_keyword(tmp_path):
    session = world.session_at(tmp_path, pool=scenes.pool("ann", "bob"))
    assert set(paper.learn_from_validation(session, world.QUESTIONS, votes=1).skills["votes"]) == {1}
    assert len([r for r in session.engine.requests if r.stage == "keywords"]) == 16

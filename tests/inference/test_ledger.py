import json

import pandas as pd
import pytest
import scenes

from skillmoe_lib import methods, tables
from skillmoe_lib.evaluation import intervals, results
from skillmoe_lib.generation import Failure, Generation
from skillmoe_lib.inference import ledger
from skillmoe_lib.inference.store import Batch, GenerationStore
from skillmoe_lib.methods.single import Run
from skillmoe_lib.prompts import solve

ANN, BOB = scenes.expert("ann"), scenes.expert("bob")
QUESTIONS = {name: scenes.question(name) for name in ("q1", "q2", "q3")}


def batch(name, model, *, load_s, generate_s, devices=1):
    return Batch(name, model, "scripted", load_s, generate_s, devices, {"engine": "1.0"}, "2020-01-01")


@pytest.fixture
def two_batches(tmp_path):
    """Two batches, worked out by hand.

    ann: load 2 s, 10 s of generation on one device; computed tokens 10 + 10, 30 + 10 and (90 - 60) + 10:
    20, 40 and 40, so 2, 4 and 4 s. bob: load 3 s, 4 s on two devices, one request: 8 device seconds.
    """
    store = GenerationStore(tmp_path)
    requests = {name: solve(QUESTIONS[name], ANN, seed=0) for name in QUESTIONS}
    requests["b1"] = solve(QUESTIONS["q1"], BOB, seed=0)
    tokens = {"q1": (10, 10, 0), "q2": (30, 10, 0), "q3": (90, 10, 60), "b1": (5, 7, 0)}

    def made(name):
        prompt, output, cached = tokens[name]
        return requests[name], Generation(requests[name].id, "text", "stop", prompt, output, cached)

    store.append([made("q1")], batch("A", "ann", load_s=2, generate_s=3))
    store.append([made("q2"), made("q3")], batch("A", "ann", load_s=2, generate_s=7))
    store.append([made("b1")], batch("B", "bob", load_s=3, generate_s=4, devices=2))
    return store, {name: request.id for name, request in requests.items()}


def used(*rows):
    return pd.DataFrame(rows, columns=["method", "seed", "question_id", "request_id"])


def test_per_request_shares_a_batch_by_computed_tokens(two_batches):
    store, ids = two_batches
    frame = ledger.per_request(store)
    assert frame["device_s"].to_dict() == pytest.approx(
        {ids["q1"]: 2.0, ids["q2"]: 4.0, ids["q3"]: 4.0, ids["b1"]: 8.0}
    )
    assert frame.loc[ids["q3"], ["prompt_tokens", "output_tokens"]].tolist() == [90, 10]
    assert frame.groupby("batch_id")["device_s"].sum().to_dict() == pytest.approx({"A": 10.0, "B": 8.0})


def test_cost_by_question_charges_every_method_its_loads_in_full(two_batches):
    store, ids = two_batches
    rows = used(
        ("solo", 0, "q1", ids["q1"]),
        ("solo", 0, "q2", ids["q2"]),
        ("pair", 0, "q1", ids["q1"]),
        ("pair", 0, "q1", ids["b1"]),
        ("pair", 0, "q2", ids["q2"]),
        ("pair", 0, "q2", ids["q3"]),
    )
    costs = ledger.cost_by_question(rows, store).set_index(["method", "question_id"])
    assert costs["calls"].tolist() == [1, 1, 2, 2]
    assert costs["prompt_tokens"].tolist() == [10, 30, 15, 120]
    assert costs["output_tokens"].tolist() == [10, 10, 17, 20]
    # solo needs ann's load, 2 s over two questions; pair also bob's, 3 s on two devices: 8 over two.
    assert costs["device_seconds"].tolist() == pytest.approx([2 + 1, 4 + 1, 2 + 8 + 4, 4 + 4 + 4])
    loads = ledger.loads_by_method(rows, store).set_index("method")
    assert loads["model_loads"].to_dict() == {"solo": 1, "pair": 2}
    assert loads["load_device_s"].to_dict() == {"solo": 2.0, "pair": 8.0}


def test_a_methods_costs_do_not_hang_on_what_ran_beside_it(two_batches):
    store, ids = two_batches
    mine = [("solo", 0, "q1", ids["q1"]), ("solo", 0, "q2", ids["q2"])]
    alone = ledger.cost_by_question(used(*mine), store)
    beside = ledger.cost_by_question(
        used(*mine, ("other", 0, "q1", ids["q1"]), ("solo", 1, "q1", ids["q1"])), store
    )
    pd.testing.assert_frame_equal(alone, beside.head(2))
    # Each seed is a pass of its own and pays its loads: the one question of seed 1 carries both seconds.
    assert beside.iloc[3]["device_seconds"] == pytest.approx(2 + 2)


def test_a_request_that_was_not_run_makes_the_seconds_null_and_its_calls_count(two_batches):
    store, ids = two_batches
    rows = used(("m", 0, "q1", ids["q1"]), ("m", 0, "q1", "lost"), ("m", 0, "q2", ids["q2"]))
    costs = ledger.cost_by_question(rows, store)
    assert costs["calls"].tolist() == [2, 1]
    assert costs["prompt_tokens"].tolist() == [10, 30]
    assert costs["device_seconds"].isna().tolist() == [True, False]


def test_nothing_was_run_at_all(tmp_path):
    costs = ledger.cost_by_question(used(("m", 0, "q1", "lost")), GenerationStore(tmp_path))
    assert costs[["calls", "prompt_tokens", "output_tokens"]].to_numpy().tolist() == [[1, 0, 0]]
    assert costs["device_seconds"].isna().all()


def test_a_failure_in_a_scheduled_run_is_charged_like_that(tmp_path):
    def reply(request):
        return Failure(request.id, "down") if request.expert == "bob" else "The answer is (B)"

    question = QUESTIONS["q1"]
    programs = {
        Run("vote", 0, "q1"): methods.majority_vote(question, [ANN, BOB], seed=0),
        Run("cot", 0, "q1"): methods.cot(question, ANN, seed=0),
    }
    costs = scenes.play(programs, reply, tmp_path).costs.set_index("method")
    assert costs["calls"].to_dict() == {"vote": 2, "cot": 1}
    assert costs["output_tokens"].to_dict() == {"vote": 4, "cot": 4}
    assert costs["device_seconds"].isna().to_dict() == {"vote": True, "cot": False}


def test_what_two_processes_generated_twice_is_one_request(two_batches):
    """Of two generations of one request the earlier counts; the later batch is not charged for it."""
    store, ids = two_batches
    again = solve(QUESTIONS["q1"], ANN, seed=0)
    late = Generation(again.id, "later", "stop", 10, 500)
    store.append([(again, late)], batch("late", "ann", load_s=9, generate_s=9))
    assert ledger.per_request(store).loc[ids["q1"], "output_tokens"] == 10
    costs = ledger.cost_by_question(used(("m", 0, "q1", ids["q1"])), store)
    assert costs["device_seconds"].item() == pytest.approx(2 + 2)


def test_sharing():
    assert ledger.sharing(["a", "b", "a", "a"]) == (4, 2)
    assert ledger.sharing([]) == (0, 0)


def result_rows():
    """Two seeds of one method over two questions, and a bound that costs nothing."""
    rows = [
        ("m", 0, "q1", True, 2, 10, 5, 3.0),
        ("m", 0, "q2", False, 2, 20, 5, 4.0),
        ("m", 1, "q1", True, 4, 30, 5, 5.0),
        ("m", 1, "q2", True, 4, 40, 7, None),
        ("instance_oracle", 0, "q1", True, 0, 0, 0, 0.0),
        ("instance_oracle", 0, "q2", True, 0, 0, 0, 0.0),
    ]
    columns = ["method", "seed", "question_id", "correct", "calls", "prompt_tokens", "output_tokens"]
    frame = pd.DataFrame(rows, columns=[*columns, "device_seconds"])
    return tables.check(frame.assign(benchmark="b", answer="A", status="answered"), tables.RESULTS)


def test_summary_is_the_mean_pass_over_seeds():
    frame = result_rows()
    loads = pd.DataFrame({"method": ["m", "m"], "seed": [0, 1], "model_loads": [2, 3]})
    summary = ledger.summary(intervals.accuracy_table(frame), frame, loads)
    assert list(summary.columns) == tables.SUMMARY_COLUMNS
    row = summary.set_index("method").loc["m"]
    assert row["accuracy"] == 0.75
    # Sums over questions, 4 and 8 calls, 30 and 70, 10 and 12 tokens, then the mean over the seeds. The
    # second of q2, seed 1, is unknown: what is known is 7 and 5 s.
    wanted = {"calls": 6, "prompt_tokens": 50, "output_tokens": 11, "device_seconds": 6.0, "model_loads": 2.5}
    assert row[list(wanted)].astype(float).to_dict() == wanted
    assert row["n_questions"] == 2
    bound = summary.set_index("method").loc["instance_oracle"]
    assert bound[["calls", "device_seconds", "model_loads"]].tolist() == [0, 0, 0]


def test_summary_of_seconds_that_nobody_knows_is_null():
    frame = result_rows().assign(device_seconds=pd.NA)
    loads = pd.DataFrame({"method": ["m"], "seed": [0], "model_loads": [1]})
    summary = ledger.summary(intervals.accuracy_table(frame), frame, loads).set_index("method")
    assert pd.isna(summary.loc["m", "device_seconds"])


def test_costs_of_a_scheduled_run_add_up_to_the_batches(tmp_path):
    """All device seconds on the ledger are charged to someone, once for a single method."""
    programs = {
        Run("vote", 0, name): methods.majority_vote(question, [ANN, BOB, ANN], seed=0)
        for name, question in QUESTIONS.items()
    }
    played = scenes.play(programs, lambda r: "The answer is (B)", tmp_path)
    batches = ledger.batches_table(played.store)
    assert played.costs["device_seconds"].sum() == pytest.approx(
        (batches["load_s"] + batches["generate_s"]).sum()
    )
    assert len(batches) == len(played.engine.loads) == 2
    assert batches["n_requests"].sum() == played.costs["calls"].sum() == 9
    loads = ledger.loads_by_method(results.used_requests(played.outcomes), played.store)
    assert loads["model_loads"].tolist() == [2]


def test_batches_table_spells_versions_out(two_batches):
    store, _ = two_batches
    table = ledger.batches_table(store).set_index("batch_id")
    assert table["versions"].tolist() == ["engine 1.0"] * 2
    assert json.loads(store.batches()["versions"].iloc[0]) == {"engine": "1.0"}
    assert table.loc["A", ["n_requests", "load_s", "generate_s"]].tolist() == [3, 2.0, 10.0]

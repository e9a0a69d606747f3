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


#: Device seconds of a prompt token, an output token, a request and a step, and who takes how much longer.
RATES = (0.01, 0.1, 0.05, 0.2)
SLOWER = {"ann": 1, "bob": 2, "cid": 3, "dee": 1}


def batch(name, model, *, load_s, generate_s, devices=1, swapped=False):
    return Batch(
        name, model, "scripted", load_s, generate_s, devices, {"engine": "1.0"}, "2020-01-01", swapped
    )


def takes(expert, *tokens, n_devices=1):
    """Wall seconds of one batch of requests of (prompt, output) tokens, by the rates above."""
    prompts, outputs = zip(*tokens, strict=True)
    work = (sum(prompts), sum(outputs), len(tokens), max(outputs))
    return SLOWER[expert] * sum(rate * n for rate, n in zip(RATES, work, strict=True)) / n_devices


def asked(expert, name):
    return solve(scenes.question(name), scenes.expert(expert), seed=0)


def answer(store, batch_id, expert, said, *, load_s, generate_s=None, swapped=False, devices=1, cached=0):
    """Append one batch: question -> (prompt, output) tokens."""
    generate_s = takes(expert, *said.values(), n_devices=devices) if generate_s is None else generate_s
    pairs = []
    for name, (prompt, output) in said.items():
        request = asked(expert, name)
        pairs.append((request, Generation(request.id, "text", "stop", prompt, output, cached)))
    about = batch(batch_id, expert, load_s=load_s, generate_s=generate_s, devices=devices, swapped=swapped)
    store.append(pairs, about)


def known_machine(root):
    """A store whose batches tell how fast this machine is: five of ann, loads of 2 s; five of bob, swaps."""
    store = GenerationStore(root)
    shapes = [(100, 2, 1), (3, 40, 1), (5, 5, 9), (60, 10, 3), (7, 25, 4)]
    for expert in ("ann", "bob"):
        for i, (prompt, output, n) in enumerate(shapes):
            said = {f"{expert}{i}{j}": (prompt, output) for j in range(n)}
            load_s, swapped = (2.0, False) if expert == "ann" else (0.02, True)
            answer(store, f"{expert}{i}", expert, said, load_s=load_s, swapped=swapped)
    return store


def used(*rows):
    """Rows of method, question, expert and round, seed 0."""
    frame = pd.DataFrame(rows, columns=["method", "question_id", "expert", "round"]).assign(seed=0)
    pairs = zip(frame.pop("expert"), frame["question_id"], strict=True)
    return frame.assign(request_id=[asked(*pair).id for pair in pairs])


def seconds(rows, store):
    costs = ledger.cost_by_question(rows, store)
    return costs.set_index(["method", "question_id"])["device_seconds"].to_dict()


# -- rates ----------------------------------------------------------------------------------------


def test_rates_and_cold_loads_by_hand(tmp_path):
    """bob was only ever swapped in: a cold load of his is one of the process that he was swapped into."""
    table = ledger.rates(known_machine(tmp_path))
    for name in ("ann", "bob"):
        row = table.loc[f"folder:{name}@0"]
        assert row[[*ledger.RATES]].tolist() == pytest.approx(
            [SLOWER[name] * rate for rate in RATES], rel=1e-3
        )
        assert row["load_s"] == 2.0
    assert table["n_batches"].tolist() == [5, 5]
    assert table["n_loads"].tolist() == [5, 0]


def test_few_batches_take_the_proportions_of_others(tmp_path):
    """One batch of a third model, three times as slow: its level is its own, its proportions are theirs."""
    store = known_machine(tmp_path)
    answer(store, "cid", "cid", {"x": (50, 20)}, load_s=5)
    row = ledger.rates(store).loc["folder:cid@0"]
    assert row[[*ledger.RATES]].tolist() == pytest.approx([3 * rate for rate in RATES], rel=1e-3)
    assert row["load_s"] == 5


def test_one_slow_batch_does_not_move_the_rates_much(tmp_path):
    """The machine was busy: a tenth batch of known shape took ten times as long."""
    store = known_machine(tmp_path)
    answer(store, "busy", "ann", {"x": (60, 10)}, load_s=20, generate_s=10 * takes("ann", (60, 10)))
    row = ledger.rates(store).loc["folder:ann@0"]
    fair = takes("ann", (60, 10), (30, 20))
    work = (90, 30, 2, 20)
    assert sum(row[rate] * n for rate, n in zip(ledger.RATES, work, strict=True)) == pytest.approx(
        fair, rel=0.3
    )
    assert row["load_s"] == 2.0


def test_loads_without_a_word_on_how_are_told_apart_by_their_time(tmp_path):
    """As batches were written before they said so."""
    store = GenerationStore(tmp_path)
    for name, expert, load_s in (("a", "ann", 1.7), ("b", "bob", 0.02)):
        answer(store, name, expert, {"q1": (1, 1)}, load_s=load_s, swapped=None)
    assert ledger.rates(store)["load_s"].to_dict() == {"folder:ann@0": 1.7, "folder:bob@0": 1.7}


def test_rates_of_nothing(tmp_path):
    assert ledger.rates(GenerationStore(tmp_path)).empty


# -- charges --------------------------------------------------------------------------------------


@pytest.fixture
def busy_store(tmp_path):
    """A run that was killed, its resumption, a swap, a second writer, and requests that two methods share."""
    store = known_machine(tmp_path)
    answer(store, "run", "ann", {"q1": (10, 10), "q2": (30, 10)}, load_s=2)
    answer(store, "resumed", "ann", {"q3": (90, 20)}, load_s=2)
    answer(store, "swap", "bob", {"q1": (5, 7), "q2": (5, 7), "q3": (5, 9)}, load_s=0.02, swapped=True)
    answer(store, "late", "ann", {"q1": (10, 500), "q2": (30, 500)}, load_s=9, generate_s=90)
    return store


SOLO = [("solo", name, "ann", 0) for name in ("q1", "q2", "q3")]
PAIR = [("pair", name, expert, 0) for name in ("q1", "q2", "q3") for expert in ("ann", "bob")]


def test_every_charge_by_hand(busy_store):
    """solo: one load of 2 s, one batch of ann's. pair: two loads of 2 s, ann's batch and bob's.

    ann's batch of three: .01 a prompt token, .1 an output token, .05 a request; its 20 steps cost 4 s, shared
    by output tokens, 10, 10 and 20 of 40: 1, 1 and 2 s. bob's takes twice that; of his 9 steps (3.6 s)
    7/23, 7/23 and 9/23.
    """
    found = seconds(used(*SOLO, *PAIR), busy_store)
    ann = {"q1": 0.1 + 1 + 0.05 + 1, "q2": 0.3 + 1 + 0.05 + 1, "q3": 0.9 + 2 + 0.05 + 2}
    bob = {name: 2 * (0.05 + 0.1 * n + 0.05) + 3.6 * n / 23 for name, n in (("q1", 7), ("q2", 7), ("q3", 9))}
    for name in ann:
        assert found["solo", name] == pytest.approx(ann[name] + 2 / 3, rel=1e-3)
        assert found["pair", name] == pytest.approx(ann[name] + bob[name] + 4 / 3, rel=1e-3)
    whole = takes("ann", (10, 10), (30, 10), (90, 20)) + 2
    assert sum(found["solo", name] for name in ann) == pytest.approx(whole, rel=1e-3)
    loads = ledger.loads_by_method(used(*SOLO, *PAIR), busy_store).set_index("method")
    assert loads["model_loads"].to_dict() == {"solo": 1, "pair": 2}
    assert loads["load_device_s"].to_dict() == pytest.approx({"solo": 2, "pair": 4})


@pytest.mark.parametrize("order", ["resumed first", "other rows first", "alone"])
def test_a_charge_does_not_hang_on_who_came_first(busy_store, tmp_path_factory, order):
    rows = used(*SOLO, *PAIR)
    expected = seconds(rows, busy_store)
    store = busy_store
    if order == "resumed first":  # one run, no second writer, everything cold
        store = known_machine(tmp_path_factory.mktemp("other"))
        answer(store, "b", "bob", {"q3": (5, 9), "q2": (5, 7), "q1": (5, 7)}, load_s=2)
        answer(store, "a", "ann", {"q3": (90, 20), "q2": (30, 10), "q1": (10, 10)}, load_s=2)
    elif order == "other rows first":
        rows = rows[::-1]
    else:
        rows = used(*SOLO)
    found = seconds(rows, store)
    assert found == pytest.approx({key: expected[key] for key in found}, rel=1e-3)


def test_a_request_used_twice_is_one_generation_and_two_calls(busy_store):
    """As best_of_n and a vote over the same samples would: alone, too, it is generated once."""
    twice = used(("m", "q1", "ann", 0), ("m", "q1", "ann", 1))
    costs = ledger.cost_by_question(twice, busy_store)
    assert costs[["calls", "prompt_tokens", "output_tokens"]].to_numpy().tolist() == [[2, 20, 20]]
    assert costs["device_seconds"].item() == pytest.approx(takes("ann", (10, 10)) + 2, rel=1e-3)


def test_each_seed_is_a_pass_of_its_own(busy_store):
    rows = pd.concat([used(*SOLO), used(*SOLO).assign(seed=1)])
    costs = ledger.cost_by_question(rows, busy_store)
    one, other = costs.groupby("seed")["device_seconds"].sum()
    assert one == other
    assert ledger.loads_by_method(rows, busy_store)["model_loads"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("rounds", "n"),
    [
        ([{"ann"}], 1),
        ([{"ann"}, {"ann"}, {"ann"}], 1),  # debate, self-refine: nothing else is waited for
        ([{"ann", "bob", "cid"}, {"bob"}], 3),  # Symbolic-MoE: the aggregator is one of the recruited
        ([{"ann", "bob"}, {"cid"}], 3),
        ([{"ann", "bob", "cid"}, {"ann", "bob", "cid"}, {"dee"}], 6),  # Mixture-of-Agents: 3 + 2 + 1
        ([{"ann", "bob", "cid"}] * 3, 7),  # ReConcile
        ([{"ann", "bob"}, {"ann", "bob"}, {"ann", "bob"}], 4),
    ],
)
def test_loads_of_a_wave(tmp_path, rounds, n):
    """A model that the wave before left in memory is not loaded again."""
    store = GenerationStore(tmp_path)
    rows = []
    for i, needed in enumerate(rounds):
        for expert in sorted(needed):
            answer(store, f"{expert}{i}", expert, {f"q{i}": (1, 1)}, load_s=2)
            rows.append(("m", f"q{i}", expert, i))
    loads = ledger.loads_by_method(used(*rows), store)
    assert (loads["model_loads"].item(), loads["load_device_s"].item()) == (n, 2 * n)


def test_devices_count(tmp_path):
    """Two devices for half the time: the same device seconds, and twice for the load."""
    store = GenerationStore(tmp_path)
    answer(store, "A", "ann", {"q1": (10, 10)}, load_s=3, devices=2)
    assert seconds(used(("m", "q1", "ann", 0)), store)["m", "q1"] == pytest.approx(takes("ann", (10, 10)) + 6)


def test_a_prefix_cache_counts_as_it_would_for_the_method_alone(tmp_path):
    """Blocks of 16. Whoever asked the same prompt before, a method pays for one copy of it; of its own two
    samples the second finds the first one's blocks. So charges do not hang on the order of arrival."""
    store = GenerationStore(tmp_path)
    question, expert = scenes.question("q"), scenes.expert("ann")
    samples = [solve(question, expert, seed=0, sample=i) for i in range(3)]
    for i, cached in enumerate((0, 32, 32)):
        made = Generation(samples[i].id, "text", "stop", 40, 1, cached)
        store.append([(samples[i], made)], batch(f"b{i}", "ann", load_s=1, generate_s=0.01 * (40 - cached)))
    rows = [("one", "0", samples[1].id)] + [("two", "0", samples[i].id) for i in (0, 2)]
    frame = pd.DataFrame(rows, columns=["method", "question_id", "request_id"]).assign(seed=0)
    costs = ledger.cost_by_question(frame, store).set_index("method")["device_seconds"]
    assert costs["one"] == pytest.approx(0.01 * 40 + 1)
    assert costs["two"] == pytest.approx(0.01 * (40 + 8) + 1)


def test_a_request_that_was_not_run_makes_the_seconds_null_and_its_calls_count(busy_store):
    rows = used(("m", "q1", "ann", 0), ("m", "q1", "dee", 0), ("m", "q2", "ann", 0))
    costs = ledger.cost_by_question(rows, busy_store)
    assert costs["calls"].tolist() == [2, 1]
    assert costs["prompt_tokens"].tolist() == [10, 30]
    assert costs["device_seconds"].isna().tolist() == [True, False]


def test_a_prompt_that_did_not_fit_is_a_call_that_takes_no_time(busy_store, monkeypatch):
    rows = used(("m", "q1", "ann", 0), ("m", "q1", "dee", 0))
    ledger_of_failures = pd.DataFrame({"request_id": [asked("dee", "q1").id], "status": ["overflow"]})
    monkeypatch.setattr(busy_store, "failures", lambda: ledger_of_failures)
    costs = ledger.cost_by_question(rows, busy_store)
    assert costs["calls"].tolist() == [2]
    assert costs["device_seconds"].item() == pytest.approx(takes("ann", (10, 10)) + 2, rel=1e-3)


def test_nothing_was_run_at_all(tmp_path):
    costs = ledger.cost_by_question(used(("m", "q1", "ann", 0)), GenerationStore(tmp_path))
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


# -- what really ran ------------------------------------------------------------------------------


def test_what_really_ran_by_hand(tmp_path):
    """One batch, load 2 s, 6 s: q1 and q2 alike, 3 s and half the load each; q1 is shared by two methods."""
    store = GenerationStore(tmp_path)
    answer(store, "A", "ann", {"q1": (10, 10), "q2": (10, 10)}, load_s=2, generate_s=6)
    answer(store, "B", "bob", {"q1": (1, 1)}, load_s=5, generate_s=1)
    rows = used(("one", "q1", "ann", 0), ("two", "q1", "ann", 0), ("two", "q2", "ann", 0))
    found = ledger.ran(rows, store).set_index(["method", "question_id"])["ran_device_s"].to_dict()
    assert found == pytest.approx({("one", "q1"): 2, ("two", "q1"): 2, ("two", "q2"): 4})
    assert ledger.not_used(rows, store) == pytest.approx(6)


def test_what_really_ran_adds_up_to_the_batches(busy_store):
    rows = used(*SOLO, *PAIR)
    batches = busy_store.batches()
    total = (batches["load_s"] + batches["generate_s"]).sum()
    really = ledger.ran(rows, busy_store)["ran_device_s"].sum()
    assert really + ledger.not_used(rows, busy_store) == pytest.approx(total)
    # The run, its resumption and the swap; the late writer's 99 s are nobody's.
    ours = batches.set_index("batch_id").loc[["run", "resumed", "swap"]]
    assert really == pytest.approx((ours["load_s"] + ours["generate_s"]).sum())


def test_a_batch_that_was_overtaken_in_part_is_charged_in_part(tmp_path):
    """Of two requests of the second writer one was answered first by the other: half of its seconds count."""
    store = GenerationStore(tmp_path)
    answer(store, "first", "ann", {"q1": (10, 10)}, load_s=2, generate_s=4)
    answer(store, "second", "ann", {"q1": (10, 10), "q2": (10, 10)}, load_s=2, generate_s=8)
    rows = used(("m", "q1", "ann", 0), ("m", "q2", "ann", 0))
    assert ledger.ran(rows, store)["ran_device_s"].tolist() == pytest.approx([6, 5])
    assert ledger.not_used(rows, store) == pytest.approx(5)


# -- tables ---------------------------------------------------------------------------------------


def test_preparation_is_apart_from_what_a_test_question_takes(busy_store):
    rows = used((ledger.KEYWORDS_AT_TEST, "q1", "ann", 0), ("validation answers", "q2", "bob", 0))
    table = ledger.preparation(rows, busy_store).set_index("step")
    assert table["when"].tolist() == ["test", "preparation"]
    assert table[["n_questions", "calls", "model_loads"]].to_numpy().tolist() == [[1, 1, 1]] * 2
    expected = [takes("ann", (10, 10)) + 2, takes("bob", (5, 7)) + 2]
    assert table["device_seconds"].tolist() == pytest.approx(expected, rel=1e-3)
    assert len(ledger.preparation(rows[:0], busy_store)) == 0


def test_engines_of_the_requests_that_were_used(busy_store):
    assert ledger.engines(used(*SOLO, *PAIR), busy_store) == {"scripted engine 1.0": 6}


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


def test_summary_of_several_benchmarks_takes_each_one_s_loads():
    frame = pd.concat([result_rows(), result_rows().assign(benchmark="other")])
    loads = pd.DataFrame({"method": "m", "seed": 0, "benchmark": ["b", "other"], "model_loads": [2, 5]})
    loads.loc[0, "benchmark"] = frame["benchmark"].iloc[0]
    summary = ledger.summary(intervals.accuracy_table(frame), frame, loads)
    assert summary.loc[summary["method"] == "m", "model_loads"].tolist() == [2, 5]
    assert summary.loc[summary["method"] == "instance_oracle", "model_loads"].tolist() == [0, 0]


def test_summary_of_seconds_that_nobody_knows_is_null():
    frame = result_rows().assign(device_seconds=pd.NA)
    loads = pd.DataFrame({"method": ["m"], "seed": [0], "model_loads": [1]})
    summary = ledger.summary(intervals.accuracy_table(frame), frame, loads).set_index("method")
    assert pd.isna(summary.loc["m", "device_seconds"])


def test_a_skill_routed_method_has_a_price_beside_its_own(busy_store):
    """Keyword calls of the test questions stand beside the calls of the method, and are nothing to others."""
    frame = result_rows()
    loads = pd.DataFrame({"method": ["m"], "seed": [0], "model_loads": [2], "ran_device_s": [1.5]})
    prepared = ledger.preparation(used((ledger.KEYWORDS_AT_TEST, "q1", "ann", 0)), busy_store)
    accuracy = intervals.accuracy_table(frame)
    table = ledger.summary(accuracy, frame, loads, prepared=prepared, skill_routed=["m"]).set_index("method")
    keywords = ["keyword_calls", "keyword_prompt_tokens", "keyword_output_tokens"]
    assert table.loc["m", keywords].tolist() == [1, 10, 10]
    assert table.loc["m", "keyword_device_seconds"] == pytest.approx(takes("ann", (10, 10)) + 2, rel=1e-3)
    assert table.loc["instance_oracle", [*keywords, "keyword_device_seconds"]].tolist() == [0, 0, 0, 0]
    assert table.loc["m", ["calls", "ran_device_seconds", "n_not_run", "n_overflow"]].tolist() == [
        6,
        1.5,
        0,
        0,
    ]
    unknown = ledger.summary(accuracy, frame, loads, skill_routed=["m"]).set_index("method")
    assert pd.isna(unknown.loc["m", "keyword_calls"])


def test_costs_of_a_scheduled_run_add_up_to_the_batches(tmp_path):
    """All device seconds on the ledger are somebody's, once for a single method."""
    programs = {
        Run("vote", 0, name): methods.majority_vote(question, [ANN, BOB, ANN], seed=0)
        for name, question in QUESTIONS.items()
    }
    played = scenes.play(programs, lambda r: "The answer is (B)", tmp_path)
    batches = ledger.batches_table(played.store)
    rows = results.used_requests(played.outcomes)
    really = ledger.ran(rows, played.store)["ran_device_s"].sum()
    assert really == pytest.approx((batches["load_s"] + batches["generate_s"]).sum())
    assert len(batches) == len(played.engine.loads) == 2
    assert batches["n_requests"].sum() == played.costs["calls"].sum() == 9
    assert ledger.loads_by_method(rows, played.store)["model_loads"].tolist() == [2]


def test_batches_table_spells_versions_out(tmp_path):
    store = GenerationStore(tmp_path)
    answer(store, "A", "ann", {"q1": (1, 1)}, load_s=2, generate_s=3)
    answer(store, "A", "ann", {"q2": (1, 1), "q3": (1, 1)}, load_s=2, generate_s=7)
    table = ledger.batches_table(store).set_index("batch_id")
    assert table["versions"].tolist() == ["engine 1.0"]
    assert json.loads(store.batches()["versions"].iloc[0]) == {"engine": "1.0"}
    assert table.loc["A", ["n_requests", "load_s", "generate_s", "swapped"]].tolist() == [3, 2.0, 10.0, False]

import os
import sys
from dataclasses import asdict

import pytest

from skillmoe_lib.generation import Generation, Message, Model, Request, Sampling
from skillmoe_lib.inference import forecast, schedule
from skillmoe_lib.inference import store as store_module
from skillmoe_lib.inference.engines.scripted import ScriptedEngine
from skillmoe_lib.inference.engines.vllm import peak_bytes
from skillmoe_lib.inference.store import Batch, GenerationStore

SERVED = Model("gpt-4o-mini", "served by openai", path="server:openai")


def fill(store, model, sizes, *, per_token=0.01, load_s=2.0, peak=0, swapped=False, name="b"):
    """One batch for each size: so many requests of 100 prompt tokens and 10 output tokens each."""
    for i, n in enumerate(sizes):
        rows = []
        for j in range(n):
            messages = (Message("user", f"{name} {i} {j}"),)
            request = Request("solve", f"q{j}", model.source, model, messages, Sampling(max_tokens=50))
            rows.append((request, Generation(request.id, "text", "stop", 100, 10)))
        batch = Batch(f"{name}{i}", model.source, "vllm", load_s, per_token * 10 * n, 1, {},
                      f"2026-01-01T00:00:0{i}+00:00", swapped=swapped, peak_bytes=peak)  # fmt: skip
        store.append(rows, batch)
    return store


def forecast_of(tmp_path, past_model, new_model, *, peak=0, n=30):
    past = GenerationStore(tmp_path / "past")
    if past_model:
        fill(past, past_model, [10, 20, 40], peak=peak)
    made = fill(GenerationStore(tmp_path / "made"), new_model, [n], per_token=0.0, name="new")
    known = forecast.calibrate(past)
    weights = f"{new_model.source}@{new_model.revision}"
    return forecast.requests([made], set(), known, {weights: new_model}), known, weights


def test_a_model_takes_its_own_rates(tmp_path):
    model = Model("folder:ann-1b", "1")
    rows, _, _ = forecast_of(tmp_path, model, model)
    assert rows["basis"].unique() == ["own"]
    assert rows["generate_s"].sum() == pytest.approx(3.0, rel=0.01)  # 300 tokens at 0.01 s
    assert rows["load_s"].sum() == pytest.approx(2.0)
    assert rows["low_s"].sum() <= 5.01
    assert rows["high_s"].sum() >= 4.99


def test_another_revision_of_a_model_is_that_model(tmp_path):
    rows, _, _ = forecast_of(tmp_path, Model("folder:ann-1b", "1"), Model("folder:ann-1b", "2"))
    assert rows["basis"].unique() == ["own"]


def test_a_model_that_was_never_run_is_scaled_from_the_nearest(tmp_path):
    rows, _, _ = forecast_of(tmp_path, Model("org/ann-1b", "1"), Model("org/bob-2b", "1"))
    own, _, _ = forecast_of(tmp_path / "own", Model("org/ann-1b", "1"), Model("org/ann-1b", "1"))
    assert rows["basis"].unique() == ["scaled"]
    assert own["generate_s"].sum() <= rows["generate_s"].sum() <= 2 * own["generate_s"].sum() + 1e-9
    assert (rows["high_s"] > rows["low_s"]).all()


def test_where_nothing_was_run_the_seconds_are_a_guess(tmp_path):
    small, _, _ = forecast_of(tmp_path / "a", None, Model("org/ann-1b", "1"))
    large, _, _ = forecast_of(tmp_path / "b", None, Model("org/ann-7b", "1"))
    assert small["basis"].unique() == ["guess"]
    assert 0 < small["generate_s"].sum() < large["generate_s"].sum()


def test_money_of_a_served_model_comes_from_the_price_list(tmp_path):
    rows, known, weights = forecast_of(tmp_path, None, SERVED, n=2)
    price = forecast.prices.price_of("gpt-4o-mini")
    assert price is not None
    assert rows["money"].sum() == pytest.approx(2 * price.of(prompt_tokens=100, output_tokens=10))
    assert set(rows["currency"]) == {price.currency}
    assert forecast.memory_of(weights, SERVED, known) == 0


def test_local_models_cost_no_money(tmp_path):
    rows, _, _ = forecast_of(tmp_path, None, Model("org/ann-1b", "1"))
    assert rows["money"].isna().all()


def test_memory_is_the_recorded_peak_or_that_of_another_model_or_a_guess(tmp_path):
    ann, bob = Model("org/ann-1b", "1"), Model("org/bob-2b", "1")
    _, known, weights = forecast_of(tmp_path, ann, ann, peak=5_000_000_000)
    assert forecast.memory_of(weights, ann, known) == 5e9
    assert forecast.memory_of("org/bob-2b@1", bob, known) == pytest.approx(5e9 + 1.2 * 2 * 1e9)
    _, nothing, _ = forecast_of(tmp_path / "none", None, ann)
    assert forecast.memory_of(weights, ann, nothing) > 1.2 * 2 * 1e9


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("org/ann-1.1b-chat", 1.1e9), ("org/Bob-135M", 135e6), ("org/cid", forecast.PARAMETERS),
        ("meta-llama/Llama-3.3-70B-Instruct", 70e9), ("Qwen/Qwen2.5-7B", 7e9),
        ("b2b/model", forecast.PARAMETERS),
    ],
)  # fmt: skip
def test_parameters_are_read_from_the_name(name, size):
    assert forecast.parameters(name, None) == size


def test_swaps_take_what_swaps_took(tmp_path):
    model = Model("folder:ann-1b", "1")
    past = fill(GenerationStore(tmp_path / "past"), model, [10, 20], load_s=3.0)
    fill(past, model, [10], load_s=0.25, swapped=True, name="s")
    made = fill(GenerationStore(tmp_path / "made"), model, [5], swapped=True, name="new")
    rows = forecast.requests([made], set(), forecast.calibrate(past), {})
    assert rows["load_s"].sum() == pytest.approx(0.25)
    assert rows["swapped"].all()


def test_nothing_asked_is_an_empty_frame(tmp_path):
    empty = GenerationStore(tmp_path)
    rows = forecast.requests([empty], set(), forecast.calibrate(empty), {})
    assert rows.empty
    assert {"generate_s", "low_s", "money", "basis"} <= set(rows)


# -- peaks of memory --------------------------------------------------------------------------------


def test_a_load_records_the_peak_of_its_memory(tmp_path):
    class Heavy(ScriptedEngine):
        peak_bytes = 3_000_000_000

    store = GenerationStore(tmp_path)
    request = Request("solve", "q", "ann", Model("folder:ann", "1"), (Message("user", "?"),), Sampling())
    schedule.run({"q": asking(request)}, Heavy(lambda _: "yes"), store)
    assert store.batches()["peak_bytes"].tolist() == [3_000_000_000]
    assert forecast.calibrate(store).peaks == {"folder:ann@1": 3e9}


def asking(request):
    yield [request]


def test_a_store_of_before_has_no_peaks(tmp_path, monkeypatch):
    def as_before(thing):
        return {name: value for name, value in asdict(thing).items() if name != "peak_bytes"}

    monkeypatch.setattr(store_module, "asdict", as_before)
    store = fill(GenerationStore(tmp_path), Model("folder:ann-1b", "1"), [3])
    assert store.batches()["peak_bytes"].tolist() == [0]
    assert forecast.calibrate(store).peaks == {}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what the peak was")
def test_the_peak_of_a_process_is_read():
    assert peak_bytes(os.getpid()) > 10_000_000
    assert peak_bytes(None) == 0

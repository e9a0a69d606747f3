"""Money of served models: from stored tokens, by the price of the day; unknown where there is no price."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from skillmoe_lib.cli.status import status
from skillmoe_lib.generation import Generation, Message, Model, Request, Sampling
from skillmoe_lib.inference import money, prices
from skillmoe_lib.inference.store import Batch, GenerationStore

LIST = """model,input,cached_input,output,currency,per_tokens,dated,source
big,2,1,10,USD,1000,2026-01-01,made up
big,4,,20,USD,1000,2026-06-01,made up
"""


def request(source: str, question_id: str) -> Request:
    return Request("solve", question_id, "e", Model(source, "1"), (Message("user", question_id),), Sampling())


BIG, LATER, LOCAL, OTHER = (
    request(*x) for x in [("big", "q1"), ("big", "q2"), ("org/a", "q1"), ("odd", "q1")]
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GenerationStore]:
    (tmp_path / "prices.csv").write_text(LIST)
    monkeypatch.setattr(prices, "project_files", lambda *_: {"prices": tmp_path / "prices.csv"})
    prices.price_list.cache_clear()
    kept = GenerationStore(tmp_path / "store")
    for i, (one, engine, day) in enumerate(
        [(BIG, "openai", "2026-03-01"), (LATER, "openai", "2026-07-01"), (LOCAL, "vllm", "2026-03-01"),
         (OTHER, "openai", "2026-03-01")]
    ):  # fmt: skip
        batch = Batch(f"b{i}", one.model.source, engine, 0.0, 1.0, 1, {}, f"{day}T00:00:00+00:00")
        kept.append([(one, Generation(one.id, "x", "stop", 100, 30, 40))], batch)
    yield kept
    prices.price_list.cache_clear()


def test_the_price_is_that_of_the_day_and_of_cached_tokens(store: GenerationStore) -> None:
    found = money.by_request(store)
    assert set(found.index) == {BIG.id, LATER.id, OTHER.id}  # what runs here is not paid
    assert found.loc[BIG.id, "money"] == pytest.approx((60 * 2 + 40 * 1 + 30 * 10) / 1000)
    assert found.loc[LATER.id, "money"] == pytest.approx((60 * 4 + 40 * 4 + 30 * 20) / 1000)
    assert pd.isna(found.loc[OTHER.id, "money"])
    assert found.loc[[BIG.id, LATER.id, OTHER.id], "dated"].tolist() == ["2026-01-01", "2026-06-01", ""]


def test_status_tells_what_was_paid_and_what_is_unknown(store: GenerationStore) -> None:
    said = status(store.root)
    assert "paid: 0.46 USD for 1 answers of big (price of 2026-01-01)" in said
    assert "paid: 1 USD for 1 answers of big (price of 2026-06-01)" in said
    assert "no price is known for 1 answers of odd" in said


def test_a_method_pays_for_each_of_its_requests_once(store: GenerationStore) -> None:
    used = pd.DataFrame(
        [
            ("a", "q1", BIG.id), ("a", "q1", BIG.id), ("a", "q2", LATER.id), ("b", "q1", LOCAL.id),
            ("b", "q1", BIG.id), ("c", "q1", OTHER.id), ("d", "q1", LOCAL.id),
        ],
        columns=["method", "question_id", "request_id"],
    ).assign(seed=0, round=0)  # fmt: skip
    found = money.by_method(used, store).set_index("method")
    assert found["money"].fillna(-1).round(6).to_dict() == {"a": 1.46, "b": 0.46, "c": -1}
    assert found["money_per_question"].fillna(-1).round(6).to_dict() == {"a": 0.73, "b": 0.46, "c": -1}
    assert found["n_paid"].to_dict() == {"a": 2, "b": 1, "c": 0}
    assert found["n_unknown"].to_dict() == {"a": 0, "b": 0, "c": 1}


def test_without_served_models_there_is_no_table(tmp_path: Path) -> None:
    kept = GenerationStore(tmp_path)
    batch = Batch("b", "org/a", "vllm", 0.0, 1.0, 1, {}, "2026-03-01T00:00:00+00:00")
    kept.append([(LOCAL, Generation(LOCAL.id, "x", "stop", 100, 30))], batch)
    used = pd.DataFrame(
        {"method": ["a"], "seed": [0], "question_id": ["q1"], "round": [0], "request_id": [LOCAL.id]}
    )
    assert money.by_method(used, kept).empty
    assert "paid" not in status(tmp_path)

"""Cards state what was measured, in figures and in words."""

from pathlib import Path

import pandas as pd
import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.pocket.cards import Card, held_out, own_accuracy, own_and_others, read_card, write_card

ROOT = Path(__file__).resolve().parents[2]
ROWS = (
    {"family": "gcd", "n": 10, "correct": 9, "accuracy": 0.9, "low": 0.6, "high": 0.98},
    {"family": "aiw", "n": 10, "correct": 1, "accuracy": 0.1, "low": 0.02, "high": 0.4},
)
CARD = Card("Divisors", "specialist", ("gcd",), 820_000, 1000, "numbers", 2000, 3.2, 0, 0.7, ROWS)


def test_a_card_reads_back(tmp_path: Path) -> None:
    write_card(CARD, tmp_path)
    assert read_card(tmp_path) == CARD
    readme = (tmp_path / "README.md").read_text()
    assert "| gcd | yes | 10 | 0.90 | 0.60 | 0.98 |" in readme
    assert "Licence: MIT" in readme


def test_own_and_others() -> None:
    assert own_accuracy(CARD) == 0.9
    assert own_accuracy(CARD, others=True) == 0.1


def test_held_out_is_a_row_a_family() -> None:
    rows = held_out([CARD])[["family", "expert", "own", "n", "n_right", "accuracy"]].to_numpy().tolist()
    assert rows == [["gcd", "Divisors", True, 10, 9, 0.9], ["aiw", "Divisors", False, 10, 1, 0.1]]


def test_own_and_others_pool_the_questions_of_their_families() -> None:
    rows = [("gcd", "Divisors", 40, 36), ("aiw", "Divisors", 40, 2), ("spelling", "Divisors", 20, 1)]
    known = pd.DataFrame([*rows, ("gcd", "Sums", 40, 0)], columns=["family", "expert", "n", "n_right"])
    (row,) = own_and_others(known, [CARD]).to_dict("records")
    assert (row["expert"], row["families"], row["own_n"], row["others_n"]) == ("Divisors", "gcd", 40, 60)
    assert (row["own_accuracy"], row["others_accuracy"]) == (0.9, 0.05)
    assert row["others_low"] < 0.05 < row["others_high"]
    assert list(own_and_others(known, [])) == list(row)  # a pool without cards


def test_a_missing_or_spoilt_card_is_named(tmp_path: Path) -> None:
    with pytest.raises(SkillmoeError, match=r"no card at .*card\.json"):
        read_card(tmp_path)
    (tmp_path / "card.json").write_text('{"name": "x"}')
    with pytest.raises(SkillmoeError, match=r"card .*card\.json is not readable"):
        read_card(tmp_path)

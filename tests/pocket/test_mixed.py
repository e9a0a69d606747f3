"""Mixed questions are reproducible and have both answers as gold."""

from pathlib import Path

import pytest

from skillmoe_lib.pocket.families import FAMILIES, Worked
from skillmoe_lib.pocket.mixed import compose, mixed_questions, write_benchmark

ROOT = Path(__file__).resolve().parents[2]
SUM = Worked("chain_sum", "1 + 1 =", "1 + 1 = 2", "2")
WORD = Worked("spell_backward", "Spell: sun", "From the last letter:", "nus")


def test_both_halves() -> None:
    item = compose(SUM, WORD)
    assert item.question.endswith("First task: 1 + 1 =\nSecond task: Spell: sun")
    assert item.chain == "First task:\n1 + 1 = 2\nSecond task:\nFrom the last letter:"
    assert item.answer == "2; nus"


@pytest.mark.parametrize(("known", "answer"), [((True, False), "2; ?"), ((False, True), "?; nus")])
def test_a_half_may_be_left_open(known: tuple[bool, bool], answer: str) -> None:
    item = compose(SUM, WORD, known=known)
    assert item.answer == answer
    assert "unknown" in item.chain


def test_the_halves_are_of_different_areas() -> None:
    for _item, first, second in mixed_questions(seed=5, size=40):
        assert FAMILIES[first].area != FAMILIES[second].area


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_files_in_the_project_are_what_the_code_writes(tmp_path: Path, split: str) -> None:
    write_benchmark(tmp_path)
    name = f"pocket_mixed_{split}.jsonl"
    assert (tmp_path / name).read_bytes() == (ROOT / "data" / "benchmarks" / name).read_bytes()

"""The shared tokenizer: lossless on its characters, and it keeps everything that a question is about."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillmoe_lib.pocket.tokenizer import CHARACTERS, SPECIAL, TAILS, build_tokenizer, phrases

DOCUMENTS = {"sums": [f"Please work out the sum of {i} and {i + 1} for me" for i in range(40)]}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer(DOCUMENTS, ["spider", "praying mantis"])


def test_phrases_stop_at_digits() -> None:
    assert phrases(DOCUMENTS) == ["Please work out the sum of "]


def test_phrases_stop_at_lone_letters_and_kept_words() -> None:
    group = [f"How often is the letter {letter} in the big red word Monday" for letter in "bcdefgh"]
    assert phrases({"g": group}, ["Monday"]) == ["How often is the letter ", " in the big red word "]


def test_digits_and_letters_are_single_tokens(tokenizer: Any) -> None:
    assert tokenizer.tokenize("Please work out the sum of 12 and") == [
        "Please work out the sum of ",
        "1",
        "2",
        *" and",
    ]
    assert tokenizer.tokenize("2 spiders or spider") == ["2", " ", *"spiders", " ", "o", "r", " ", "spider"]


def test_the_answer_line_is_one_token(tokenizer: Any) -> None:
    assert tokenizer.tokenize(f"7{TAILS[0]}") == ["7", TAILS[0]]


def test_a_character_outside_the_set_is_unknown(tokenizer: Any) -> None:
    assert tokenizer.tokenize("é") == ["<unk>"]


@given(st.text(alphabet=CHARACTERS, max_size=60))
def test_text_comes_back_as_it_was(text: str) -> None:
    tokenizer = build_tokenizer({}, ["spider"])
    if any(special in text for special in SPECIAL):
        return
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text

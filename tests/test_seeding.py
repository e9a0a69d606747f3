"""Seeds depend only on their parts: not on the process, the order of draws or numpy's global state."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillmoe_lib.seeding import digest, generator, stable_seed

ROOT = Path(__file__).resolve().parents[1]
# `printf '["a",1]' | sha256sum`, and so on.
GOLDEN = [
    (("a", 1), "135f17a475a61afdeeaf3759ad2e45ad1c7abb192395abe47e41fc8e395dc1a9"),
    (("é",), "0b657be394b1d432f8d1942406ed09c213604cbcd87b299641cf994bcaf84b11"),
    (({"b": [2], "a": 1},), "260e4ee6b9489ceeb7d1d1575a03d2afd269b98ebb449d366e8e2aa73b39038a"),
]


@pytest.mark.parametrize(("parts", "expected"), GOLDEN)
def test_digest_is_sha256_of_canonical_json(parts, expected):
    assert digest(*parts) == expected


def test_a_seed_is_the_first_31_bits_that_fit():
    assert stable_seed("a", 1) == 0x135F17A4
    assert stable_seed({"a": 1, "b": [2]}) == 0x260E4EE6
    assert stable_seed("é") == 0x0B657BE3


def test_where_a_part_ends_matters():
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest(["ab", "c"])}) == 4
    assert digest("1") != digest(1)


@given(st.lists(st.text() | st.integers() | st.booleans() | st.none(), max_size=4))
def test_seeds_are_in_range_and_come_again(parts):
    assert 0 <= stable_seed(*parts) < 2**31
    assert stable_seed(*parts) == stable_seed(*parts)


def test_another_process_with_another_hash_seed_draws_the_same():
    code = "from skillmoe_lib.seeding import generator; print(generator('draw', 'q1', 3).integers(10**9))"
    done = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        for hash_seed in ("1", "2")
    ]
    here = generator("draw", "q1", 3).integers(10**9)
    assert [int(run.stdout) for run in done] == [here, here]


def test_draws_of_a_question_do_not_depend_on_other_questions():
    def draws(questions):
        return {question: generator(7, question).random(3).tolist() for question in questions}

    alone, together = draws(["q2"]), draws(["q9", "q2", "q1"])
    assert alone["q2"] == together["q2"]
    assert len({tuple(values) for values in together.values()}) == 3


def test_the_global_generator_is_neither_read_nor_moved():
    np.random.seed(1)  # noqa: NPY002 - the global state is what is looked at
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    first = generator("a").random()
    np.random.seed(2)  # noqa: NPY002
    assert generator("a").random() == first
    np.random.seed(1)  # noqa: NPY002
    generator("a").random(100)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002

"""The scaling benchmark at a small size: it runs, and it measures growth correctly."""

import pandas as pd
import pytest

from benchmarks import scale
from skillmoe_lib.inference.store import GenerationStore


def test_the_chain_runs_at_a_small_size(tmp_path):
    stages = dict(scale.once(320, tmp_path / "store"))
    assert list(stages) == ["annotate", "validate", "recruit", "compete", "compete again"]
    store = GenerationStore(tmp_path / "store")
    n_test = 320 // scale.N_EXPERTS
    kinds = store.generations(["stage"])["stage"].value_counts()
    assert kinds["keywords"] == 2 * (scale.N_VALIDATION + n_test)
    assert kinds.sum() >= kinds["keywords"] + scale.N_EXPERTS * (scale.N_VALIDATION + n_test)
    assert len(list((store.root / "parts").iterdir())) <= 1 + 2 * scale.N_EXPERTS + 1, "one a load"


def test_exponents_are_those_of_the_growth():
    measured = pd.DataFrame(
        {"linear": [1.0, 4.0], "square": [1.0, 16.0], "same": [2.0, 2.0]}, index=[100, 400]
    )
    (row,) = scale.exponents(measured).to_dict("records")
    assert row == {"linear": pytest.approx(1), "square": pytest.approx(2), "same": 0}

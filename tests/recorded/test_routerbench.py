"""RouterBench's wide table: a pickle is converted in a process of its own, which refuses what is no table."""

import io
import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.recorded import routerbench, unpickle

WIDE = pd.DataFrame({
    "sample_id": ["mmlu-law.1", "gsm.2", "mbpp.3"],
    "prompt": ["['Pick one of A) and B).']", "['What is 2 + 2?']", "['Write code.']"],
    "eval_name": ["mmlu-law", "grade-school-math", "mbpp"],
    "org/a": [1.0, 0.75, 0.0],
    "gpt": [0.0, 1.0, np.nan],
    "org/a|model_response": ["['B']", "['It is 4. The answer is 5.']", "['def f(): ...']"],
    "gpt|model_response": ["['A']", "['#### 4']", None],
    "org/a|total_cost": [0.001, 0.002, 0.003],
    "gpt|total_cost": [0.01, 0.02, 0.03],
    "oracle_model_to_route_to": ["org/a", "gpt", "no_model_correct"],
})  # fmt: skip
TEXTS = [name for name in WIDE if not pd.api.types.is_numeric_dtype(WIDE[name])]
WIDE = WIDE.astype(dict.fromkeys(TEXTS, object))  # as pandas 1 and 2 held texts
WIDE.columns = WIDE.columns.astype(object)


@pytest.mark.parametrize("suffix", [".pkl", ".csv", ".parquet"])
def test_the_wide_table_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"routerbench_0shot{suffix}"
    match suffix:
        case ".pkl":
            WIDE.to_pickle(path)
        case ".csv":
            WIDE.to_csv(path, index=False)
        case _:
            WIDE.to_parquet(path)
    found = routerbench.read(path)
    rows = found.answers[["question_id", "expert", "answer", "status", "correct"]].astype(object)
    assert rows.where(rows.notna(), None).to_numpy().tolist() == [
        ["mmlu-law.1", "org/a", "B", "answered", True],
        ["mmlu-law.1", "gpt", "A", "answered", False],
        ["gsm.2", "org/a", "5", "answered", False],
        ["gsm.2", "gpt", "4", "answered", True],
        ["mbpp.3", "org/a", None, "answered", False],
        ["mbpp.3", "gpt", None, "not_run", False],
    ]
    assert found.answers["money"][0] == 0.001
    assert found.questions["text"].tolist() == ["Pick one of A) and B).", "What is 2 + 2?", "Write code."]
    assert "scores: 1 between 0 and 1 count as wrong (right is full marks)" in found.missing
    assert "gold answers: not recorded" in found.missing


def test_a_pickle_of_an_older_pandas_and_numpy_is_read() -> None:
    """Modules as numpy 1 and pandas 1 named them; protocol 4, in which names are plain text."""
    old = pickle.dumps(WIDE, 4)
    old = old.replace(b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray")
    assert b"numpy.core." in old
    assert b"numpy._core." not in old
    unframed = old[:2] + old[11:]  # a frame says how long it is, and the names are not
    again = unpickle.table(unframed)
    assert again["sample_id"].tolist() == WIDE["sample_id"].tolist()
    assert again["org/a"].tolist() == WIDE["org/a"].tolist()
    find = unpickle.Restricted(io.BytesIO()).find_class
    assert find("pandas.core.frame", "DataFrame") is pd.DataFrame
    assert find("pandas.core.indexes.numeric", "Int64Index") is pd.Index


class Calls:
    """Pickled, it is a call of a function when it is loaded."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


FORBIDDEN = [
    (os.system, "true"),
    (eval, "1"),
    (print, "here"),
    (subprocess.getoutput, "true"),
    (pd.eval, "1 + 1"),
    (pd.read_pickle, "x.pkl"),
    (np.load, "x.npy"),
    (getattr, "x", "y"),
    (io.open, "x"),
]


@pytest.mark.parametrize(("function", "arguments"), [(f, rest) for f, *rest in FORBIDDEN], ids=str)
def test_whatever_is_no_part_of_a_table_is_refused_before_it_is_called(function, arguments) -> None:
    for content in (Calls(function, *arguments), WIDE.assign(bad=[Calls(function, *arguments)] * 3)):
        with pytest.raises(pickle.UnpicklingError, match=r"it names [\w.]+, which is not allowed"):
            unpickle.table(pickle.dumps(content, 4))


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match="it holds a dict, not a table"):
        unpickle.table(pickle.dumps({"a": 1}))


def test_a_refused_pickle_is_one_line_and_nothing_has_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "x.pkl", tmp_path / "mark"
    path.write_bytes(pickle.dumps(Calls(os.system, f"touch {mark}")))
    with pytest.raises(
        SkillmoeError, match=r"x\.pkl: the pickle is refused: UnpicklingError: it names \w+\.system"
    ):
        routerbench.read(path)
    assert not mark.exists()
    path.write_bytes(pickle.dumps(WIDE)[:-100])
    with pytest.raises(SkillmoeError, match=r"x\.pkl: the pickle is refused: ") as caught:
        routerbench.read(path)
    assert "\n" not in str(caught.value)


def test_a_table_of_another_kind_is_one_line(tmp_path: Path) -> None:
    WIDE[["sample_id", "prompt"]].to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(SkillmoeError, match="it must have sample_id, prompt, eval_name and MODEL"):
        routerbench.read(tmp_path / "x.csv")

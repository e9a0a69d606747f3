import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from skillmoe_lib import paths, questions, tables
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.questions import benchmark as benchmarks

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "paper_splits"
COLUMNS = {"text": "q", "gold": "g"}


@pytest.fixture
def benchmark(tmp_path: Path) -> Callable[..., str]:
    """Write a file benchmark; rows are (text, gold) or dicts."""

    def write(validation: list, test: list, /, **settings: object) -> str:
        for split, rows in {"validation": validation, "test": test}.items():
            records = [row if isinstance(row, dict) else {"q": row[0], "g": row[1]} for row in rows]
            (tmp_path / f"{split}.json").write_text(json.dumps(records))
        whole = {"source": "file", "kind": "math", "columns": COLUMNS, **settings}
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({"validation": "validation.json", "test": "test.json", **whole}))
        return str(path)

    return write


def table(rows: list[tuple[str, str, list[str]]]) -> pd.DataFrame:
    """Questions table from (split, text, choices); ids q0, q1, ..."""
    frame = pd.DataFrame(rows, columns=["split", "text", "choices"])
    frame["choices"] = frame["choices"].map(json.dumps)
    frame = frame.assign(benchmark="b", gold="A", subject="s", kind="choice", checker="{}")
    return frame.assign(question_id=[f"q{i}" for i in range(len(frame))])


def test_load_gives_the_questions_table(benchmark: Callable[..., str]) -> None:
    frame = questions.load(benchmark([("1+1?", 2)], [("2+2?", 4), ("3+3?", "6")]))
    assert list(frame.columns) == list(tables.QUESTIONS.columns)
    assert frame["split"].tolist() == ["validation", "test", "test"]
    assert frame["gold"].tolist() == ["2", "4", "6"]
    assert frame["subject"].unique().tolist() == ["mine"]
    assert frame.attrs["dropped"] == []


def test_as_questions(benchmark: Callable[..., str]) -> None:
    rows = [{"q": "Sky?", "g": "B", "c": ["red", "blue"]}]
    path = benchmark(rows, [{**rows[0], "q": "Sea?"}], kind="choice", columns={**COLUMNS, "choices": "c"})
    first, second = questions.as_questions(questions.load(path))
    assert (first.text, first.choices, first.gold, first.kind) == ("Sky?", ("red", "blue"), "B", "choice")
    assert (second.split, second.benchmark, second.checker) == ("test", "mine", "{}")


def test_unknown_benchmark_lists_the_known() -> None:
    with pytest.raises(SkillmoeError, match=r"unknown benchmark 'poket'.*mmlu_pro.*pocket"):
        questions.load("poket")


def test_every_benchmark_file_is_sound() -> None:
    """What can be checked without the hub: all keys, up to the first reading."""
    for path in sorted((paths.project_root() / "data" / "benchmarks").glob("*.yaml")):
        settings = yaml.safe_load(path.read_text())
        assert settings["source"] in benchmarks.SOURCES, path
        assert settings["description"], path


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "web"}, r"mine.yaml: source: it must be one of file, hub, reasoning_gym; got 'web'"),
        ({"gold_si": "letter"}, r"mine.yaml: unknown key 'gold_si': it must be one of .*gold_is"),
        ({"gold_is": "number"}, r"mine.yaml: gold_is: it must be one of letter, index, text; got 'number'"),
        ({"kind": "essay"}, r"mine.yaml: kind: it must be one of choice, math, text; got 'essay'"),
        ({"columns": {"text": "q", "glod": "g"}}, r"mine.yaml: columns: unknown key 'glod': .*gold"),
        ({"columns": {"text": "q"}}, r"the key 'gold' is missing"),
        ({"columns": {**COLUMNS, "subject": "topic"}}, r"unknown column in test of 'mine' 'topic'.*g, q"),
        ({"validation": "nowhere.json"}, r"no validation file at nowhere.json"),
        ({"validation": {"path": "test.json", "sise": 3}}, r"mine.yaml: validation: unknown key 'sise'"),
        (
            {"test": {"path": "test.json", "minus": "test"}},
            r"mine.yaml: test: `minus: test` belongs to validation",
        ),
        ({"columns": {**COLUMNS, "choices": ["q", "g", "q"]}}, r"columns: choices: a column occurs twice"),
        (
            {"columns": {**COLUMNS, "question_id": False}},
            r"question_id: it must be a column's name: text \(put",
        ),
        (
            {"columns": {**COLUMNS, "subject": None}},
            r"columns: subject: it must be a column's name: text; got N",
        ),
        (
            {"source": ["file"]},
            r"mine.yaml: source: it must be one of file, hub, reasoning_gym; got \['file'\]",
        ),
        ({"test": {"path": ["test.json"]}}, r"mine.yaml: test: path: it must be text; got \['test.json'\]"),
        (
            {"test": {"path": "test.json", "per_subject": "1"}},
            r"test: per_subject: it must be a whole number",
        ),
        (
            {"test": {"path": "test.json", "where": ["q", 1]}},
            r"test: where: it must be columns, each with a value",
        ),
        ({"index_from": 2}, r"mine.yaml: index_from: it must be 0 or 1; got 2"),
        ({"shuffle_choices": True}, r"mine.yaml: shuffle_choices: it must be a whole number; got True"),
        ({"expect": 3}, r"mine.yaml: expect: it must be a mapping with the keys test, validation; got 3"),
        ({"expect": {"tets": 1}}, r"mine.yaml: expect: unknown key 'tets'"),
    ],
)
def test_mistakes_in_the_yaml(benchmark: Callable[..., str], settings: dict, message: str) -> None:
    with pytest.raises(SkillmoeError, match=message) as caught:
        questions.load(benchmark([("1+1?", 2)], [("2+2?", 4)], **settings))
    assert "\n" not in str(caught.value)


def test_yaml_that_is_none(tmp_path: Path) -> None:
    broken = tmp_path / "b.yaml"
    broken.write_text("source: [file")
    with pytest.raises(SkillmoeError, match=r"b.yaml is not readable as YAML") as caught:
        questions.load(str(broken))
    assert "\n" not in str(caught.value)
    broken.write_text("just words")
    with pytest.raises(SkillmoeError, match=r"it must be a mapping with the key source; got 'just words'"):
        questions.load(str(broken))
    with pytest.raises(SkillmoeError, match=r"no benchmark file at"):
        questions.load(str(tmp_path / "c.yaml"))


def test_empty_split(benchmark: Callable[..., str]) -> None:
    path = benchmark([("1+1?", 2)], [("2+2?", 4)], test={"path": "test.json", "where": {"q": ["9+9?"]}})
    with pytest.raises(SkillmoeError, match="its test split is empty"):
        questions.load(path)


def test_duplicate_question_id(benchmark: Callable[..., str]) -> None:
    rows = [{"q": f"{i}?", "g": i, "n": min(i, 2)} for i in range(4)]
    with pytest.raises(SkillmoeError, match=r"question id 'mine/test/2' occurs more than once \(1 such rows"):
        questions.load(benchmark(rows[:2], rows, columns={**COLUMNS, "question_id": "n"}))


def test_row_without_gold(benchmark: Callable[..., str]) -> None:
    rows = ([("1+1?", 2)], [("2+2?", 4), ("3+3?", None), ("4+4?", " ")])
    with pytest.raises(SkillmoeError, match=r"2 of 3 test rows have no gold answer \(first: test row 2\)"):
        questions.load(benchmark(*rows))
    with pytest.warns(UserWarning, match="left out 2 rows without gold"):
        frame = questions.load(benchmark(*rows, missing_gold="drop"))
    assert frame.attrs["dropped"] == ["test row 2", "test row 3"]
    assert len(frame) == 2


def test_limit_goes_round_the_subjects_and_is_nested(benchmark: Callable[..., str]) -> None:
    rows = [{"q": f"{i}?", "g": i, "s": s} for i, s in enumerate("aaaaaaaabbbc")]
    path = benchmark(rows, rows[1:], columns={**COLUMNS, "subject": "s"})
    before: set[str] = set()
    for limit in range(1, 13):
        frame = questions.load(path, limit=limit)
        sizes = frame.groupby("split").size()
        assert sizes.to_dict() == {"validation": limit, "test": min(limit, 11)}
        assert before <= set(frame["question_id"])
        before = set(frame["question_id"])
        counts = frame[frame["split"] == "validation"]["subject"].value_counts()
        # Even: no subject has two more than another that still has questions left.
        left = {"a": 8, "b": 3, "c": 1}
        for subject, n in left.items():
            if counts.get(subject, 0) < n:
                assert counts.max() - counts.get(subject, 0) <= 1
    with pytest.raises(SkillmoeError, match="limit must be 0"):
        questions.load(path, limit=-1)


def test_limit_does_not_hang_on_the_order_of_rows(benchmark: Callable[..., str]) -> None:
    rows = [(f"{i}?", i) for i in range(20)]
    one = questions.load(benchmark(rows, rows), limit=5)
    other = questions.load(benchmark(rows[::-1], rows[::-1]), limit=5)
    assert set(one["question_id"]) == set(other["question_id"])


OVERLAPPING = [
    ("validation", "Sky colour?", ["red", "blue"]),  # q0
    ("test", "sky  colour", ["blue", "red"]),  # q1: leak of q0, same choices in another order
    ("test", "Sky colour:", ["red", "green"]),  # q2: leak of q0 by stem
    ("test", "Sea colour?", ["red", "blue"]),  # q3
    ("validation", "Sea  colour?", ["red"]),  # q4: leak by stem, though test came first
    ("validation", "Grass?", ["green"]),  # q5
]


def test_overlaps_by_hand() -> None:
    found = questions.overlaps(table(OVERLAPPING))
    assert sorted(map(tuple, found.to_numpy().tolist())) == [
        ("q0", "q1", "leak stem and choices"),
        ("q0", "q2", "leak stem"),
        ("q1", "q2", "duplicate stem"),
        ("q4", "q3", "leak stem"),
    ]
    assert questions.overlaps(table(OVERLAPPING[-1:])).empty


def test_drop_overlaps_by_hand() -> None:
    frame = table(OVERLAPPING)
    strict = questions.drop_overlaps(frame)
    assert strict["question_id"].tolist() == ["q1", "q3", "q5"]
    assert strict.attrs["overlaps_dropped"] == ["q0", "q2", "q4"]
    assert questions.drop_overlaps(frame, by="stem and choices")["question_id"].tolist() == [
        "q1",
        "q2",
        "q3",
        "q4",
        "q5",
    ]
    with pytest.raises(SkillmoeError, match="unknown kind of overlap 'text'"):
        questions.drop_overlaps(frame, by="text")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["validation", "test"]),
            st.sampled_from(["x", "X?", "y", "z"]),
            st.just(["a", "b"]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_nothing_overlaps_after_dropping(rows: list[tuple[str, str, list[str]]]) -> None:
    frame = table(rows)
    kept = questions.drop_overlaps(frame)
    assert questions.overlaps(kept).empty
    # Every text of the test split is still asked there once.
    texts = {questions.normalised(text) for split, text, _ in rows if split == "test"}
    assert {questions.normalised(text) for text in kept.loc[kept["split"] == "test", "text"]} == texts


@pytest.mark.parametrize(
    ("name", "columns", "sizes", "kinds", "twice"),
    [
        # Four stems in both splits; four test questions occur twice with their choices (docs/method.md 2).
        (
            "MMLU_Pro",
            {"subject": "category"},
            {"validation": 350, "test": 2100},
            {
                "leak stem": 3,
                "leak stem and choices": 1,
                "duplicate stem": 7,
                "duplicate stem and choices": 4,
            },
            0,
        ),
        # Twenty duplicate stems.
        (
            "MedMCQA",
            {},
            {"validation": 504, "test": 4183},
            {"duplicate stem": 7, "duplicate stem and choices": 13},
            5,
        ),
    ],
)
def test_published_splits(
    tmp_path: Path, name: str, columns: dict, sizes: dict, kinds: dict, twice: int
) -> None:
    if not SHARED.is_dir():
        pytest.skip("../shared is absent: the paper's own splits cannot be counted")
    settings = {
        "source": "file",
        "inlined_choices": "The options are:",
        "columns": {"text": "question", "gold": "gold_answer", **columns},
        "validation": str(SHARED / f"{name}_train.json"),
        "test": str(SHARED / f"{name}_test.json"),
    }
    (tmp_path / "published.yaml").write_text(yaml.safe_dump(settings))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = questions.load(str(tmp_path / "published.yaml"))
    said = re.findall(
        r"(\d+) \w+ questions have the right choice twice", "\n".join(str(w.message) for w in caught)
    )
    assert (len(said), sum(map(int, said))) == (len(caught), twice)
    assert frame.groupby("split").size().to_dict() == sizes
    assert questions.overlaps(frame)["kind"].value_counts().to_dict() == kinds


def test_import_is_light() -> None:
    code = (
        "import sys, skillmoe_lib.questions; "
        "print(sorted({'torch', 'datasets', 'reasoning_gym'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_family_is_that_of_the_generator_or_else_the_subject() -> None:
    rows = {"question_id": ["a", "b"], "subject": ["algebra", "law"], "checker": ['{"family": "gcd"}', "{}"]}
    assert questions.families(pd.DataFrame(rows)).to_dict() == {"a": "gcd", "b": "law"}

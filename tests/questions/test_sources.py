import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from skillmoe_lib import questions
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.questions import sources

COMMIT = "0123456789" * 4
BENCHMARKS = Path(__file__).resolve().parents[2] / "data" / "benchmarks"


def write(folder: Path, content: dict, name: str = "mine") -> str:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


# --- reasoning-gym -----------------------------------------------------------------------------------


def gym(families: list[dict], *, validation: int = 3, test: int = 4, seeds: tuple[int, int] = (1, 2)) -> dict:
    return {
        "source": "reasoning_gym",
        "validation": {"seed": seeds[0], "size": validation},
        "test": {"seed": seeds[1], "size": test},
        "families": families,
    }


LEGS = {"family": "leg_counting", "kind": "math", "config": {"min_animals": 1, "max_animals": 1}}


@pytest.fixture(scope="module")
def pocket() -> pd.DataFrame:
    return questions.load(str(BENCHMARKS / "pocket.yaml"))


def test_pocket_has_the_sizes_asked_for(pocket: pd.DataFrame) -> None:
    families = pocket["question_id"].str.split("/").str[2]
    counts = pocket.groupby(["split", families]).size()
    assert len(counts["validation"]) == len(counts["test"]) == 16
    assert (counts["validation"] == 20).all()
    assert (counts["test"] == 40).all()
    assert pocket["text"].str.split().str.len().max() < 120
    assert pocket.loc[families == "leg_counting", "subject"].unique().tolist() == ["arithmetic"]
    assert pocket["question_id"].str.match(r"^pocket/(validation|test)/[a-z_]+/\d{4}$").all()


def test_pocket_has_no_question_twice(pocket: pd.DataFrame) -> None:
    assert questions.overlaps(pocket).empty


def test_pocket_golds_are_right_by_the_questions_own_grader(pocket: pd.DataFrame) -> None:
    for row in pocket.itertuples():
        assert sources.checker_correct(row.checker, row.gold), row.question_id
        assert not sources.checker_correct(row.checker, "certainly not"), row.question_id


def test_made_again_alike_and_limited_evenly(pocket: pd.DataFrame) -> None:
    sources._dataset.cache_clear()
    again = questions.load(str(BENCHMARKS / "pocket.yaml"), limit=8)
    merged = again.merge(pocket, on=list(pocket.columns))
    assert len(merged) == len(again) == 16
    assert again["question_id"].str.split("/").str[2].value_counts().eq(2).all()


def test_a_larger_validation_split_changes_no_test_question(tmp_path: Path) -> None:
    small = questions.load(write(tmp_path, gym([LEGS], validation=2)))
    large = questions.load(write(tmp_path, gym([LEGS], validation=30)))
    pick = small["split"] == "test"
    assert small[pick]["text"].tolist() == large[large["split"] == "test"]["text"].tolist()
    assert set(small["question_id"]) < set(large["question_id"])


def test_neighbouring_seeds_are_kept_apart_by_text(tmp_path: Path) -> None:
    """Entry i of seed 1 is entry i - 1 of seed 2 in most families: only the text tells."""
    frame = questions.load(write(tmp_path, gym([LEGS], validation=20, test=20)))
    assert len(frame) == 40
    assert frame["text"].map(questions.normalised).is_unique


def test_a_family_that_runs_dry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LAST_INDEX", 300)
    sources._dataset.cache_clear()
    bits = {"family": "count_bits", "kind": "math", "config": {"min_n": 1, "max_n": 5}}
    with pytest.raises(SkillmoeError, match=r"'count_bits' has only 5 different questions.*3 more"):
        questions.load(write(tmp_path, gym([bits])))
    sources._dataset.cache_clear()


def test_asked_sentence_is_added(tmp_path: Path) -> None:
    frame = questions.load(write(tmp_path, gym([{**LEGS, "ask": "Reply with a number."}])))
    assert frame["text"].str.endswith("\nReply with a number.").all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            gym([{**LEGS, "family": "leg_conting"}]),
            r"family \(a name that the installed reasoning-gym lacks\) 'leg_conting'",
        ),
        (gym([LEGS], seeds=(5, 5)), r"must have different seeds, both are 5"),
        (gym([{**LEGS, "knid": "math"}]), r"mine.yaml: families\[1\]: unknown key 'knid': .*kind"),
        (
            gym([{**LEGS, "kind": "choice"}]),
            r"families\[1\]: kind: it must be one of math, text; got 'choice'",
        ),
        (
            gym([{**LEGS, "grade": "llm"}]),
            r"families\[1\]: grade: it must be one of checker, exact; got 'llm'",
        ),
        (
            gym([{**LEGS, "config": {"min_animal": 1}}]),
            r"family 'leg_counting' does not take the config.*min_animal",
        ),
        (
            gym([{**LEGS, "config": {"min_animals": 9, "max_animals": 2}}]),
            r"does not take the config.*max_animals",
        ),
        (gym([LEGS, LEGS]), r"'leg_counting' is listed 2 times"),
        (gym([]), r"its validation split is empty"),
        (gym([LEGS], test=0), r"its test split is empty"),
        ({**gym([LEGS]), "test": {"seed": 1}}, r"mine.yaml: test: the key 'size' is missing"),
        (
            {**gym([LEGS]), "test": {"seed": 1, "size": "ten"}},
            r"test: size: it must be a whole number of at least 0, not text.*got 'ten'",
        ),
    ],
)
def test_mistakes_in_a_reasoning_gym_benchmark(tmp_path: Path, content: dict, message: str) -> None:
    with pytest.raises(SkillmoeError, match=message) as caught:
        questions.load(write(tmp_path, content))
    assert "\n" not in str(caught.value)


def checker(family: str, config: dict, grade: str) -> str:
    return json.dumps({"family": family, "config": config, "seed": 2, "index": 0, "grade": grade})


def test_checker_counts_only_where_it_is_asked_for() -> None:
    config = {"min_word_len": 3, "max_word_len": 4}
    gold = sources._entry(checker("spell_backward", config, "exact"))["answer"]
    other_case = gold.swapcase()
    assert other_case != gold
    assert sources.checker_correct(checker("spell_backward", config, "exact"), f" {gold} ")
    assert not sources.checker_correct(checker("spell_backward", config, "exact"), other_case)
    assert sources.checker_correct(checker("spell_backward", config, "checker"), other_case)


def test_partial_marks_are_wrong() -> None:
    made_from = checker("leg_counting", {}, "checker")
    gold = sources._entry(made_from)["answer"]
    assert not sources.checker_correct(made_from, f"It is {gold}")
    assert not sources.checker_correct(made_from, "")


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["fraction_simplification", "number_sorting", "calendar_arithmetic", "simple_geometry"]),
    st.text(),
)
def test_no_answer_breaks_a_checker(family: str, answer: str) -> None:
    made_from = checker(family, {}, "checker")
    correct = sources.checker_correct(made_from, answer)
    assert correct is False or answer.strip() != ""


def test_a_question_without_checker() -> None:
    with pytest.raises(SkillmoeError, match="no checker of its own"):
        sources.checker_correct("{}", "4")


# --- local files -------------------------------------------------------------------------------------

ROWS = [
    {
        "n": "007",
        "ask": "Which is none, NA or null?",
        "right": "B",
        "one": "null",
        "two": "NA",
        "area": "logic",
    },
    {"n": "8", "ask": "Which is red,\nreally?", "right": "A", "one": "blood", "two": "sky", "area": "colour"},
]
CHOICE_COLUMNS = {
    "question_id": "n",
    "text": "ask",
    "gold": "right",
    "choices": ["one", "two"],
    "subject": "area",
}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "parquet"])
def test_every_kind_of_file_reads_alike(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame(ROWS)
    file = tmp_path / f"rows.{suffix}"
    if suffix == "csv":
        frame.to_csv(file, index=False)
    elif suffix == "parquet":
        frame.to_parquet(file)
    elif suffix == "json":
        file.write_text(json.dumps(ROWS))
    else:
        file.write_text(
            "\n".join(json.dumps({**row, "line": "a\u2028b"}, ensure_ascii=False) for row in ROWS) + "\n\n",
            encoding="utf-8",
        )
    content = {"source": "file", "columns": CHOICE_COLUMNS, "validation": file.name, "test": file.name}
    loaded = questions.load(write(tmp_path, content))
    test = loaded[loaded["split"] == "test"]
    assert test["question_id"].tolist() == ["mine/test/007", "mine/test/8"]
    assert test["choices"].map(json.loads).tolist() == [["null", "NA"], ["blood", "sky"]]
    assert test["gold"].tolist() == ["B", "A"]
    assert test["subject"].tolist() == ["logic", "colour"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", '{"ask": 1}\n{"ask":', r"cannot read rows.jsonl"),
        ("rows.json", '{"ask": 1}', r"cannot read rows.json: it must hold a list of objects"),
        ("rows.parquet", "not parquet", r"cannot read rows.parquet"),
        ("rows.csv", 'a,b\n"1,2\n', r"cannot read rows.csv"),
        (
            "rows.xml",
            "<a/>",
            r"unknown kind of file 'rows.xml': it must be one of .csv, .json, .jsonl, .parquet",
        ),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    settings = {"source": "file", "columns": CHOICE_COLUMNS, "validation": name, "test": name}
    with pytest.raises(SkillmoeError, match=message) as caught:
        questions.load(write(tmp_path, settings))
    assert "\n" not in str(caught.value)


def test_repeated_rows_get_ids_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"q": "1+1?", "g": 2}] * 3))
    content = {"source": "file", "kind": "math", "columns": {"text": "q", "gold": "g"}}
    frame = questions.load(write(tmp_path, {**content, "validation": "rows.json", "test": "rows.json"}))
    first, second, third = frame.loc[frame["split"] == "test", "question_id"]
    assert (second, third) == (f"{first}-2", f"{first}-3")
    assert questions.overlaps(frame)["kind"].value_counts().to_dict() == {
        "leak stem and choices": 9,
        "duplicate stem and choices": 6,
    }


# --- the hub, as local folders in its own layout -----------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a data set as the hub lays it out: {config: {split: rows}} -> folder. No network, own cache."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()

    def lay_out(name: str, configs: dict[str, dict[str, list[dict]]]) -> Path:
        folder = tmp_path / name
        card = []
        for config, splits in configs.items():
            files = []
            for split, rows in splits.items():
                file = Path("data") / config / f"{split}-00000-of-00001.parquet"
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                pd.DataFrame(rows).to_parquet(folder / file)
                files.append({"split": split, "path": file.as_posix()})
            card.append({"config_name": config, "data_files": files})
        (folder / "README.md").write_text("---\n" + yaml.safe_dump({"configs": card}) + "---\n")
        return folder

    return lay_out


def localised(tmp_path: Path, name: str, folders: dict[str, Path], **changes: object) -> str:
    """A benchmark of the project with its data sets' ids replaced by local folders."""
    content = yaml.safe_load((BENCHMARKS / f"{name}.yaml").read_text())
    for part in (content, content["validation"], content["test"]):
        if "path" in part:
            part["path"] = str(folders[part["path"]])
            part.pop("revision", None)
    for key, value in changes.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    return write(tmp_path, content, name)


def mmlu_rows(n: int) -> list[dict]:
    return [
        {"question_id": i, "question": f"Question {i}?", "options": [f"{i}a", f"{i}b", f"{i}c"],
         "answer": "ABC"[i % 3], "category": f"subject {i % 4}"}
        for i in range(n)
    ]  # fmt: skip


SMALL = {
    "validation": {"per_subject": 2},
    "test": {"per_subject": 5},
    "expect": {"validation": 8, "test": 20},
}


def test_mmlu_pro(tmp_path: Path, hub: Callable[..., Path]) -> None:
    rows = mmlu_rows(60)
    rows[1]["question"] = rows[5]["question"]  # the same stem twice in one subject
    folder = hub("mmlu", {"default": {"test": rows}})
    frame = questions.load(localised(tmp_path, "mmlu_pro", {"TIGER-Lab/MMLU-Pro": folder}, **SMALL))
    counts = frame.groupby(["split", "subject"]).size()
    assert counts["validation"].tolist() == [2] * 4
    assert counts["test"].tolist() == [5] * 4
    assert questions.overlaps(frame).empty
    row = frame.iloc[0]
    number = int(row["question_id"].split("/")[2])
    assert row["text"] == f"Question {number}?"
    assert json.loads(row["choices"]) == [f"{number}a", f"{number}b", f"{number}c"]
    assert row["gold"] == "ABC"[number % 3]


def test_sampling_hangs_on_seed_and_id_alone(tmp_path: Path, hub: Callable[..., Path]) -> None:
    rows = mmlu_rows(60)
    ids = []
    for n, order in enumerate([rows, rows[::-1]]):
        folder = hub(f"mmlu{n}", {"default": {"test": order}})
        frame = questions.load(localised(tmp_path, "mmlu_pro", {"TIGER-Lab/MMLU-Pro": folder}, **SMALL))
        ids.append(set(frame["question_id"]))
    assert ids[0] == ids[1]
    other = questions.load(localised(tmp_path, "mmlu_pro", {"TIGER-Lab/MMLU-Pro": folder}, **SMALL, seed=1))
    assert set(other["question_id"]) != ids[0]


def test_a_subject_with_too_few(tmp_path: Path, hub: Callable[..., Path]) -> None:
    folder = hub("mmlu", {"default": {"test": mmlu_rows(24)}})
    with pytest.raises(SkillmoeError, match=r"validation of 'mmlu_pro': subject 'subject 0' has 1 different"):
        questions.load(localised(tmp_path, "mmlu_pro", {"TIGER-Lab/MMLU-Pro": folder}, **SMALL))


def gpqa_rows(ids: list[int]) -> list[dict]:
    wrong = {f"Incorrect Answer {k}": f"wrong {k}" for k in (1, 2, 3)}
    return [
        {"Record ID": f"rec{i}", "Question": f"Hard question {i}?", "Correct Answer": f"right {i}", **wrong,
         "High-level domain": "Physics"}
        for i in ids
    ]  # fmt: skip


def test_gpqa_validation_is_main_outside_diamond_and_choices_are_shuffled(
    tmp_path: Path, hub: Callable[..., Path]
) -> None:
    configs = {
        "gpqa_main": {"train": gpqa_rows(list(range(60)))},
        "gpqa_diamond": {"train": gpqa_rows(list(range(20, 40)))},
    }
    path = localised(
        tmp_path, "gpqa", {"Idavidrein/gpqa": hub("gpqa", configs)}, expect={"validation": 40, "test": 20}
    )
    frame = questions.load(path)
    test = frame[frame["split"] == "test"]
    assert set(test["text"]) == {f"Hard question {i}?" for i in range(20, 40)}
    assert questions.overlaps(frame).empty
    for row in frame.itertuples():
        choices = json.loads(row.choices)
        assert choices["ABCD".index(row.gold)].startswith("right")
        assert len(set(choices)) == 4
    # Sixty fair draws: none of the four places stays empty, none holds most.
    places = frame["gold"].value_counts()
    assert len(places) == 4
    assert places.max() < 30
    assert questions.load(path).equals(frame)


def test_unexpected_size_is_said(tmp_path: Path, hub: Callable[..., Path]) -> None:
    configs = {"gpqa_main": {"train": gpqa_rows([1, 2])}, "gpqa_diamond": {"train": gpqa_rows([2])}}
    path = localised(tmp_path, "gpqa", {"Idavidrein/gpqa": hub("gpqa", configs)}, expect={"test": 1})
    with pytest.warns(UserWarning, match="'gpqa': 1 validation questions, 249 expected"):
        questions.load(path)


def test_aime_takes_two_data_sets_with_columns_of_their_own(tmp_path: Path, hub: Callable[..., Path]) -> None:
    old = [
        {"ID": f"{y}-I-1", "Year": y, "Question": f"Old {y}?", "Answer": str(y - 1900)}
        for y in (1983, 2012, 2023, 2024)
    ]
    new = [{"id": i, "problem": f"New {i}?", "answer": f"{i:03d}"} for i in (60, 61)]
    folders = {
        "gneubig/aime-1983-2024": hub("old", {"default": {"train": old}}),
        "HuggingFaceH4/aime_2024": hub("new", {"default": {"train": new}}),
    }
    frame = questions.load(localised(tmp_path, "aime2024", folders, expect={"validation": 2, "test": 2}))
    assert frame["question_id"].tolist() == [
        "aime2024/validation/2012-I-1", "aime2024/validation/2023-I-1",
        "aime2024/test/60", "aime2024/test/61",
    ]  # fmt: skip
    assert frame["gold"].tolist() == ["112", "123", "060", "061"]
    assert frame["kind"].eq("math").all()


def test_medmcqa(tmp_path: Path, hub: Callable[..., Path]) -> None:
    def rows(prefix: str, n: int) -> list[dict]:
        return [
            {"id": f"{prefix}{i}", "question": f"{prefix} {i}?", "opa": "w", "opb": "x", "opc": "y",
             "opd": "z", "cop": i % 4, "subject_name": f"subject {i % 2}"}
            for i in range(n)
        ]  # fmt: skip

    train, official = rows("train", 80), rows("official", 9)
    train[0]["question"] = official[0]["question"]
    folder = hub("med", {"default": {"train": train, "validation": official}})
    path = localised(
        tmp_path, "medmcqa", {"openlifescienceai/medmcqa": folder}, expect={"validation": 48, "test": 9}
    )
    frame = questions.load(path)
    assert frame.groupby("split").size().to_dict() == {"validation": 48, "test": 9}
    assert frame.loc[frame["split"] == "test", "gold"].tolist() == list("ABCDABCDA")
    assert questions.overlaps(frame).empty


HUB = {
    "source": "hub",
    "path": "o/d",
    "columns": {"text": "q", "gold": "g"},
    "validation": {"split": "train"},
    "test": {"split": "test"},
}


@pytest.mark.parametrize("revision", [None, "main"])
def test_an_unpinned_data_set(tmp_path: Path, revision: str | None) -> None:
    with pytest.raises(SkillmoeError, match=r"o/d is not pinned yet: run `python -m skillmoe_lib pin mine`"):
        questions.load(write(tmp_path, {**HUB, "revision": revision}))


@pytest.mark.parametrize(("revision", "asked"), [(None, "f" * 40), ("main", "f" * 40), (COMMIT, COMMIT)])
def test_the_commit_comes_from_the_yaml_or_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str | None, asked: str
) -> None:
    import datasets

    def load_dataset(path: str, name: None, **options: str) -> datasets.Dataset:
        assert (path, name) == ("o/d", None)
        seen.append(options)
        return datasets.Dataset.from_dict({"q": [f"{options['split']}?"], "g": ["1"]})

    seen: list[dict[str, str]] = []
    remote = SimpleNamespace(config=SimpleNamespace(data_files={}))
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda **where: remote)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    (tmp_path / "mine.pins.yaml").write_text(yaml.safe_dump({"o/d": {"revision": "f" * 40}}))
    questions.load(write(tmp_path, {**HUB, "kind": "math", "revision": revision}))
    assert [(told["split"], told["revision"]) for told in seen] == [("train", asked), ("test", asked)]
    assert {Path(told["cache_dir"]).name for told in seen} == {asked}, "each commit has a cache of its own"


@pytest.mark.parametrize(
    ("error", "gated", "message"),
    [
        (ConnectionError("Couldn't reach\nthe Hub"), True, r"connect to it"),
        (FileNotFoundError("Dataset 'o/d' is a gated dataset on the Hub."), False, r"gated.*HF_TOKEN"),
        (FileNotFoundError("Dataset 'o/d' doesn't exist or cannot be accessed."), True, r"gated.*HF_TOKEN"),
        (
            FileNotFoundError("Revision doesn't exist for dataset"),
            False,
            rf"revision '{COMMIT}' is gone.*pin",
        ),
        (
            ValueError("Unknown split 'tset'"),
            False,
            r"check `path`, `name`, `split` and `revision` \(Unknown split",
        ),
    ],
)
def test_a_data_set_that_does_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, gated: bool, message: str
) -> None:
    import datasets

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset_builder", refuse)
    content = {**HUB, "revision": COMMIT, "gated": gated}
    with pytest.raises(SkillmoeError, match="data set o/d cannot be read: .*" + message) as caught:
        questions.load(write(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_missing_split_of_a_real_folder(tmp_path: Path, hub: Callable[..., Path]) -> None:
    folder = hub("mmlu", {"default": {"train": mmlu_rows(3)}})
    with pytest.raises(SkillmoeError, match=r"cannot be read: check `path`.*test") as caught:
        questions.load(localised(tmp_path, "mmlu_pro", {"TIGER-Lab/MMLU-Pro": folder}, **SMALL))
    assert "\n" not in str(caught.value)


def test_a_csv_of_a_local_data_set_is_read_as_it_stands(tmp_path: Path, hub: Callable[..., Path]) -> None:
    """Through `datasets` None, NA and null are nothing, and 007 and 1.50 are numbers."""
    (tmp_path / "mine").mkdir()
    for split in ("train", "test"):
        text = f"n,q,A,B,C,g\n007,{split}?,None,NA,null,C\n008,Which is 1.5?,2.0,010,1.50,A\n"
        (tmp_path / "mine" / f"{split}.csv").write_text(text)
    columns = {"question_id": "n", "text": "q", "gold": "g", "choices": ["A", "B", "C"]}
    frame = questions.load(write(tmp_path, {**HUB, "path": "mine", "columns": columns}, "bench"))
    test = frame[frame["split"] == "test"]
    assert test["question_id"].tolist() == ["bench/test/007", "bench/test/008"]
    assert test["choices"].map(json.loads).tolist() == [["None", "NA", "null"], ["2.0", "010", "1.50"]]
    assert test["gold"].tolist() == ["C", "A"]


def test_a_csv_of_the_hub_keeps_none_and_na(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(path: str, **options: object) -> datasets.Dataset:
        seen.append((options["keep_default_na"], options["na_values"]))
        return datasets.Dataset.from_dict({"q": ["Which?"], "g": ["None"]})

    seen: list[tuple] = []
    remote = SimpleNamespace(config=SimpleNamespace(data_files={}, keep_default_na=True))
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda **where: remote)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    frame = questions.load(write(tmp_path, {**HUB, "kind": "text", "revision": COMMIT}))
    assert frame["gold"].tolist() == ["None", "None"]
    assert seen == [(False, [""])] * 2

"""The published tables against figures typed in a second time, and ours beside them."""

import math
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import published
from skillmoe_lib.evaluation.intervals import Interval, verdict_against

ROOT = Path(__file__).resolve().parents[2]
TABLES = [
    "aggregators", "avengers", "discussion_aggregator", "headline", "main_table", "recruiting", "runtime",
    "splits",
]  # fmt: skip
METHODS = {
    "cot_task_best", "self_refine", "self_consistency", "debate", "self_moa", "moa", "reconcile",
    "symbolic_moe", "majority_vote", "weighted_vote", "random_k", "top_k", "best_single", "dataset_oracle",
    "instance_oracle",
    "cluster_router", "knn_router", "logistic_router", "fusion_of_n", "best_of_n", "complexity_vote",
    "confidence_sized",
}  # fmt: skip
# published_as, model: MMLU-Pro, AIME, GPQA, MedMCQA, average; typed from the source, not from the CSV.
MAIN = {
    ("CoT", "GPT-4o-mini"): (63.95, 10.00, 42.93, 68.18, 46.27),
    ("CoT", "Gemini 1.5 Pro"): (76.38, 36.67, 61.62, 72.68, 61.84),
    ("CoT", "DeepSeek-V3"): (76.29, 26.00, 60.10, 74.09, 59.12),
    ("CoT", "Qwen2.5 72B"): (71.54, 25.55, 51.02, 69.02, 54.28),
    ("CoT", "Llama3.3 70B"): (69.26, 32.22, 51.44, 59.78, 53.18),
    ("CoT", "QwenR1"): (52.57, 55.93, 44.95, 38.72, 48.04),
    ("CoT", "Task-Best"): (54.89, 55.93, 48.43, 55.44, 53.62),
    ("Self-Refine", "Task-Best"): (53.74, 53.33, 50.84, 49.57, 51.87),
    ("Self-Consistency", "Task-Best x5"): (56.71, 67.78, 53.54, 56.85, 58.72),
    ("Debate", "Task-Best x3"): (56.21, 56.67, 50.51, 51.63, 53.76),
    ("Self-MoA", "Task-Best x3"): (55.43, 55.56, 52.86, 53.27, 54.28),
    ("MoA", "Top-3"): (61.78, 41.11, 52.86, 59.29, 53.76),
    ("ReConcile", "Top-3"): (56.46, 50.00, 47.98, 60.74, 53.80),
    ("Symbolic-MoE", "adaptive"): (63.71, 68.88, 57.78, 59.35, 62.43),
}
BENCHMARKS = ["mmlu_pro", "aime2024", "gpqa", "medmcqa", "average"]


def accuracies(method, table="main_table"):
    frame = published.load(table)
    return frame[frame["method"] == method].set_index("benchmark")["accuracy"]


def cells(frame, columns, value):
    return frame.set_index(columns)[value].to_dict()


def ours(*rows):
    columns = ["method", "benchmark", "accuracy", "low", "high", "n_questions"]
    return pd.DataFrame(rows, columns=columns).astype(
        {"accuracy": "Float64", "low": "Float64", "high": "Float64"}
    )


def test_the_tables_are_these():
    assert sorted(path.stem for path in published.folder().glob("*.csv")) == TABLES
    with pytest.raises(
        SkillmoeError, match=r"unknown published table 'main': it must be one of aggregators, .*splits"
    ):
        published.load("main")


@pytest.mark.parametrize("table", TABLES)
def test_every_row_says_where_it_was_seen(table):
    frame = published.load(table)
    assert set(frame["seen"]) <= {"primary", "secondary", "independent", "derived"}
    assert frame["source"].notna().all()
    if "method" in frame:
        assert set(frame["method"].dropna()) <= METHODS
    assert not frame.duplicated().any()


def test_main_table_is_as_printed():
    frame = published.load("main_table")
    keys = ["published_as", "model", "benchmark"]
    assert cells(frame, keys, "accuracy") == {
        (*key, benchmark): figure
        for key, row in MAIN.items()
        for benchmark, figure in zip(BENCHMARKS, row, strict=True)
    }
    std = cells(frame.dropna(subset=["method", "std"]), ["published_as", "benchmark"], "std")
    assert [std["Symbolic-MoE", name] for name in BENCHMARKS[:4]] == [0.43, 5.08, 2.09, 0.14]
    assert [std["ReConcile", name] for name in BENCHMARKS[:4]] == [0.10, 7.20, 2.32, 0.43]
    assert frame.loc[frame["benchmark"] == "average", "std"].isna().all()
    assert frame.loc[frame["family"] == "closed", "std"].isna().all()
    sizes = frame.groupby("benchmark")["n_test"].unique().map(list).to_dict()
    assert sizes["mmlu_pro"] == [2100]
    assert sizes["aime2024"] == [30]
    assert sizes["gpqa"] == [198]
    assert sizes["medmcqa"] == [4183]


def test_averages_recompute_in_every_row_but_one():
    """Four figures rounded to .01 leave their mean within .005, and the printed mean adds .005."""
    off = {
        key: round(sum(row[:4]) / 4, 2)
        for key, row in MAIN.items()
        if abs(sum(row[:4]) / 4 - row[4]) > 0.0101
    }
    assert off == {("CoT", "Task-Best"): 53.67}  # printed 53.62; the README says so


def test_figures_that_three_runs_cannot_give_are_those_of_the_readme():
    """A mean of r runs is a multiple of 1 / (r n); rounded or cut, it is printed less than .01 away."""
    frame = published.load("main_table").dropna(subset="n_test")
    runs = frame["std"].isna().map({True: 1, False: 3})
    off = set()
    for row, n in zip(frame.itertuples(), runs * frame["n_test"], strict=True):
        near = round(row.accuracy * n / 100)
        if all(abs(count / n * 100 - row.accuracy) >= 0.01 for count in (near - 1, near, near + 1)):
            off.add((row.model, row.benchmark, row.accuracy))
    assert off == {
        ("Llama3.3 70B", "gpqa", 51.44), ("Task-Best", "gpqa", 48.43), ("Task-Best", "aime2024", 55.93),
        ("QwenR1", "aime2024", 55.93), ("adaptive", "gpqa", 57.78), ("DeepSeek-V3", "aime2024", 26.0),
    }  # fmt: skip


def test_headline_is_against_self_moa_and_less_against_self_consistency():
    assert accuracies("symbolic_moe")["average"] - accuracies("self_moa")["average"] == pytest.approx(8.15)
    headline = published.load("headline").set_index(["against", "benchmark"])
    assert headline.loc[("self_moa", "average"), ["difference", "claimed_by_authors"]].tolist() == [
        8.15,
        "yes",
    ]
    gains = accuracies("symbolic_moe") - accuracies("self_consistency")
    assert gains["average"] == pytest.approx(3.71)
    for (against, benchmark), row in headline.iterrows():
        if against == "self_consistency":
            assert gains[benchmark] == pytest.approx(row["difference"])
            assert row["claimed_by_authors"] == "no"


def test_unpaired_z_of_the_gain_over_self_consistency():
    sizes = {"mmlu_pro": 2100, "medmcqa": 4183, "gpqa": 198, "aime2024": 30}
    z = published.load("headline").dropna(subset="unpaired_z").set_index("benchmark")["unpaired_z"]
    assert z.to_dict() == {"mmlu_pro": 4.7, "medmcqa": 2.3, "gpqa": 0.9, "aime2024": 0.1}
    for benchmark, n in sizes.items():
        a, b = (accuracies(method)[benchmark] / 100 for method in ("symbolic_moe", "self_consistency"))
        assert (a - b) / math.sqrt((a * (1 - a) + b * (1 - b)) / n) == pytest.approx(z[benchmark], abs=0.06)


def test_run_time_discussion_recruiting_and_independent_figures():
    runtime = published.load("runtime")
    got = set(zip(runtime["published_as"], runtime["n_devices"], runtime["question_s"], strict=True))
    assert got == {
        ("sequential loading", 1, 196.92), ("MoA", 1, 45.98), ("MoA", 4, 21.66),
        ("Symbolic-MoE", 1, 25.76), ("Symbolic-MoE", 4, 10.85),
    }  # fmt: skip
    discussion = published.load("discussion_aggregator")
    assert cells(discussion, ["aggregator", "discussion", "benchmark"], "accuracy") == {
        ("adaptive", "with", "mmlu_pro"): 59.07, ("adaptive", "with", "gpqa"): 57.01,
        ("adaptive", "without", "mmlu_pro"): 57.12, ("adaptive", "without", "gpqa"): 58.01,
        ("task_best", "with", "mmlu_pro"): 57.81, ("task_best", "with", "gpqa"): 57.78,
        ("task_best", "without", "mmlu_pro"): 56.67, ("task_best", "without", "gpqa"): 57.01,
        ("task_specific", "with", "mmlu_pro"): 63.83, ("task_specific", "with", "gpqa"): 57.72,
        ("task_specific", "without", "mmlu_pro"): 63.71, ("task_specific", "without", "gpqa"): 57.78,
    }  # fmt: skip
    recruiting = published.load("recruiting").set_index(["variant", "benchmark"])
    assert recruiting.loc[recruiting["seen"] == "secondary", "accuracy"].to_dict() == {
        ("top_3", "gpqa"): 52.86, ("top_5", "gpqa"): 47.68, ("random_experts", "gpqa"): 42.61,
        ("random_aggregator", "gpqa"): 51.52, ("random_aggregator", "mmlu_pro"): 52.29,
        ("majority_vote", "gpqa"): 53.54, ("unseen_task", "omnimath"): 49.32,
    }  # fmt: skip
    avengers = published.load("avengers").set_index("method")["accuracy"].to_dict()
    assert avengers == {
        "symbolic_moe": 58.60, "best_single": 60.93, "dataset_oracle": 69.59, "instance_oracle": 83.68,
    }  # fmt: skip


def test_splits_and_aggregators():
    splits = published.load("splits")
    assert cells(splits, ["benchmark", "split"], "n_questions") == {
        ("mmlu_pro", "validation"): 350, ("mmlu_pro", "test"): 2100,
        ("gpqa", "validation"): 249, ("gpqa", "test"): 198,
        ("aime2024", "validation"): 354, ("aime2024", "test"): 30,
        ("medmcqa", "validation"): 504, ("medmcqa", "test"): 4183,
    }  # fmt: skip
    counted = splits.dropna(subset=["n_subjects", "n_per_subject"])
    assert (counted["n_subjects"] * counted["n_per_subject"] == counted["n_questions"]).all()
    chosen = published.load("aggregators").set_index("benchmark")["aggregator"].to_dict()
    assert chosen == {"mmlu_pro": "LlamaR1", "aime2024": "QwenR1", "gpqa": "QwenR1", "medmcqa": "Exaone"}
    pool = yaml.safe_load((ROOT / "data" / "pools" / "paper16.yaml").read_text(encoding="utf-8"))
    models = {expert["name"]: expert["model"] for expert in pool["experts"]}
    for row in published.load("aggregators").itertuples():
        assert models[row.aggregator] == row.model


def test_benchmarks_are_named_as_the_projects_own():
    names = {path.stem for path in (ROOT / "data" / "benchmarks").glob("*.yaml")}
    if not names:
        pytest.skip("data/benchmarks is empty")
    assert set(published.load("splits")["benchmark"]) <= names


def test_beside_subtracts_and_keeps_our_rows_in_order():
    table = published.beside(
        ours(
            ("symbolic_moe", "pocket", 0.90, 0.87, 0.92, 640),
            ("symbolic_moe", "gpqa", 0.60, 0.53, 0.67, 198),
            ("random_k", "gpqa", 0.40, 0.33, 0.47, 198),
            ("debate", "mmlu_pro", pd.NA, pd.NA, pd.NA, 0),
        )
    )
    assert table["verdict"].tolist() == ["not published", "cannot tell", "not published", "not run"]
    assert table["benchmark"].tolist() == ["pocket", "gpqa", "gpqa", "mmlu_pro"]
    empty = [
        "published_as",
        "published",
        "published_std",
        "published_n",
        "seen",
        "difference",
        "difference_low",
    ]
    assert table.loc[[0, 2], empty].isna().all(axis=None)
    row = table.iloc[1]
    assert row["published"] == pytest.approx(0.5778)
    assert row["published_std"] == pytest.approx(0.0209)
    assert row["published_n"] == 198
    assert row["difference"] == pytest.approx(0.0222)
    expected = verdict_against(0.5778, Interval(0.60, 0.53, 0.67, 198), n=198, std=0.0209)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((expected.low, expected.high))
    assert table["published"].dtype == "Float64"


# MMLU-Pro at n = 2,100 and the narrow interval of 12,000 questions of ours: se of theirs is about 1.05
# points, of ours 0.44, so a difference of 10 points is real, and none is within 4 points but not within 2.
VERDICTS = [
    (0.7371, 0.7291, 0.7449, 0.02, "differs"),
    (0.5371, 0.5282, 0.5460, 0.02, "differs"),
    (0.6371, 0.6285, 0.6457, 0.04, "agrees"),
    (0.6371, 0.6285, 0.6457, 0.02, "cannot tell"),
]


@pytest.mark.parametrize(("accuracy", "low", "high", "margin", "verdict"), VERDICTS)
def test_beside_verdicts(accuracy, low, high, margin, verdict):
    frame = ours(("symbolic_moe", "mmlu_pro", accuracy, low, high, 12_000))
    assert published.beside(frame, margin=margin)["verdict"].tolist() == [verdict]


@settings(deadline=None, max_examples=25)
@given(accuracy=st.floats(0.01, 0.99), half=st.floats(0.001, 0.3))
def test_beside_interval_holds_the_difference_and_is_wider_than_ours(accuracy, half):
    low, high = max(0.0, accuracy - half), min(1.0, accuracy + half)
    row = published.beside(ours(("moa", "medmcqa", accuracy, low, high, 500))).iloc[0]
    assert row["difference"] == pytest.approx(accuracy - 0.5929)
    assert row["difference_high"] - row["difference_low"] > high - low
    assert row["difference_low"] < row["difference"] < row["difference_high"]


def test_beside_other_tables_by_their_own_columns():
    frame = pd.DataFrame(
        {"variant": ["top_5", "unseen_task"], "benchmark": ["gpqa", "omnimath"], "accuracy": [0.45, 0.5],
         "low": [0.38, 0.4], "high": [0.52, 0.6], "n_questions": [198, 100]}
    )  # fmt: skip
    table = published.beside(frame, "recruiting", on=("variant", "benchmark"))
    assert table["seen"].tolist() == ["secondary", "secondary"]
    assert table["difference"].tolist() == pytest.approx([-0.0268, 0.0068])
    # OmniMATH is published without its number of questions: a difference, but no interval.
    assert table.loc[1, ["difference_low", "difference_high"]].isna().all()
    assert table.loc[1, "verdict"] == "cannot tell"
    cell = frame.iloc[:1].assign(aggregator="adaptive", discussion="with")
    table = published.beside(cell, "discussion_aggregator", on=["aggregator", "discussion", "benchmark"])
    assert table["published"].tolist() == pytest.approx([0.5701])


WRONG = [
    (
        "recruiting",
        ("method", "benchmark"),
        "published table 'recruiting': `on` (method, benchmark) must say one row",
    ),
    (
        "runtime",
        ("method", "benchmark"),
        "published table 'runtime' must have the columns method, benchmark, accuracy",
    ),
    ("main_table", ("seed", "benchmark"), "our results must have the columns seed, benchmark, accuracy"),
    ("absent", ("method", "benchmark"), "unknown published table 'absent'"),
]


@pytest.mark.parametrize(("table", "on", "message"), WRONG)
def test_beside_refuses_what_it_cannot_match(table, on, message):
    with pytest.raises(SkillmoeError, match=re.escape(message)):
        published.beside(ours(("moa", "gpqa", 0.5, 0.4, 0.6, 198)), table, on=on)


def test_beside_refuses_two_rows_of_ours_for_one_published():
    row = ("moa", "gpqa", 0.5, 0.4, 0.6, 198)
    with pytest.raises(
        SkillmoeError, match=r"our results: .* given method 'moa', benchmark 'gpqa' more than once"
    ):
        published.beside(ours(row, row))


def test_the_papers_pool_is_as_the_paper_says():
    pool = yaml.safe_load((ROOT / "data" / "pools" / "paper16.yaml").read_text(encoding="utf-8"))
    assert set(pool) <= {
        "name", "description", "sampling", "keyword_model", "experts", "aggregators", "baselines", "servers",
    }  # fmt: skip
    assert pool["sampling"] == {"temperature": 0.7, "top_p": 1.0, "max_tokens": 4096}
    experts = {expert["name"]: expert for expert in pool["experts"]}
    assert {name: expert["model"] for name, expert in experts.items()} == {
        "Llama": "meta-llama/Meta-Llama-3.1-8B-Instruct",
        "Qwen": "Qwen/Qwen2.5-7B-Instruct",
        "Mistral": "mistralai/Mistral-Nemo-Instruct-2407",
        "Phi": "microsoft/Phi-3.5-mini-instruct",
        "Gemma": "google/gemma-2-9b-it",
        "GLM": "THUDM/glm-4-9b-chat",
        "Exaone": "LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct",
        "Granite": "ibm-granite/granite-3.1-8b-instruct",
        "QwenMath": "Qwen/Qwen2.5-Math-7B",
        "QwenCode": "Qwen/Qwen2.5-Coder-7B-Instruct",
        "DeepSeekMath": "deepseek-ai/deepseek-math-7b-instruct",
        "QwenR1": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
        "LlamaR1": "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
        "InternLM": "internlm/internlm3-8b-instruct",
        "Mathstral": "mistralai/Mathstral-7B-v0.1",
        "BioLlama": "ContactDoctor/Bio-Medical-Llama-3-8B",
    }
    assert {name: expert["max_tokens"] for name, expert in experts.items() if "max_tokens" in expert} == {
        "QwenR1": 32768, "LlamaR1": 32768,
    }  # fmt: skip
    assert {name for name, expert in experts.items() if expert.get("reasoning")} == {"QwenR1", "LlamaR1"}
    limits = {name: expert["max_model_len"] for name, expert in experts.items() if "max_model_len" in expert}
    assert limits == {"Mistral": 16000, "Phi": 16000, "DeepSeekMath": 4096}
    assert sorted(pool["aggregators"]) == sorted(experts)
    for baseline in pool["baselines"]:
        price = baseline.get("price")
        assert price is None or set(price) == {"input", "output", "currency", "per_tokens", "dated", "source"}
        assert price or "left open" in baseline["note"]

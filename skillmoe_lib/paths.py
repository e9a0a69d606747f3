"""Where the project's files are: pools, benchmarks, published figures, notebooks, reports.

A run reads and writes in one folder, the project. A package installed from a wheel includes the files of
`data/` and `notebooks/` too (pyproject.toml says which); they are read if the project has none of its own.
"""

import os
from pathlib import Path

from skillmoe_lib.errors import SkillmoeError

#: `data/` and `notebooks/` as a wheel includes them; in a source checkout there is no such folder.
CARRIED = Path(__file__).resolve().parent / "_project"


def project_root() -> Path:
    """The folder whose `data/` and `notebooks/` are read first and whose `reports/` are written.

    The environment variable SKILLMOE_HOME if set; else the nearest folder at or above the working
    directory with `data/pools`; else the source checkout that holds this module; else, for a package
    installed from a wheel, the working directory.

    Raises
    ------
    SkillmoeError
        If SKILLMOE_HOME does not name a folder.
    """
    if home := os.environ.get("SKILLMOE_HOME"):
        folder = Path(home).expanduser().resolve()
        if not folder.is_dir():
            raise SkillmoeError(f"SKILLMOE_HOME must name a folder that exists, got {home!r}")
        return folder
    here, checkout = Path.cwd(), Path(__file__).resolve().parents[1]
    for folder in (here, *here.parents, checkout):
        if (folder / "data" / "pools").is_dir():
            return folder
    return here


def project_file(name: str) -> Path:
    """`NAME`, a path relative to the project: the project's own, or else the one included in the package.

    If neither exists the project's own is returned, so that the caller can say what is missing.
    """
    own, carried = project_root() / name, CARRIED / name
    return carried if carried.exists() and not own.exists() else own


def project_files(folder: str, pattern: str) -> dict[str, Path]:
    """Files under `FOLDER` of the project and, for names that it lacks, those included in the package.

    Parameters
    ----------
    folder
        Such as `data/pools`, relative to the project.
    pattern
        Such as `*.yaml`, or `**/*.ipynb`.

    Returns
    -------
    dict
        Path below `folder` without its suffix (`pocket`, `chain/01_questions`) -> file, sorted by name.

    Raises
    ------
    SkillmoeError
        If there is none; the message names the folders that were looked in.
    """
    roots = [root / folder for root in (CARRIED, project_root())]  # the later one wins
    found = {
        path.relative_to(root).with_suffix("").as_posix(): path
        for root in roots
        for path in root.glob(pattern)
    }
    if not found:
        places = " or ".join(str(root) for root in reversed(roots) if root != roots[0] or CARRIED.is_dir())
        raise SkillmoeError(
            f"no {pattern.rpartition('/')[2]} in {places}: start in the project's folder, or set "
            "SKILLMOE_HOME to the folder that holds data/ and notebooks/"
        )
    return dict(sorted(found.items()))


def report_folder(report: str) -> Path:
    """`reports/NAME` of the project, with its `tables` and `figures`, created if they do not exist."""
    folder = project_root() / "reports" / report
    for part in ("tables", "figures"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    return folder

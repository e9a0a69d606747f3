"""Write a pool or a benchmark to start from: commented files that work unchanged.

The texts are `templates/pool.yaml`, `templates/benchmark.yaml` and `templates/benchmark.csv`, in which `NAME`
is replaced by the name given.
"""

import re
from importlib import resources
from pathlib import Path

from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.paths import project_root

#: The files written for each kind, into one folder; the last part of a template's name is kept.
_TEMPLATES = {"pool": ("pool.yaml",), "benchmark": ("benchmark.yaml", "benchmark.csv")}


def write_new(kind: str, name: str) -> list[Path]:
    """Write the files of a new pool or benchmark, and return where they are.

    Parameters
    ----------
    kind
        "pool" or "benchmark".
    name
        Its name, for files in `data/pools` or `data/benchmarks`; or the path of a YAML file.

    Raises
    ------
    SkillmoeError
        The name is not plain; a file is there already (nothing is written then); the folder cannot be
        written to.
    """
    if kind not in _TEMPLATES:
        raise unknown("kind", kind, _TEMPLATES)
    is_path = name.endswith((".yaml", ".yml"))
    target = Path(name) if is_path else project_root() / "data" / f"{kind}s" / f"{name}.yaml"
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", target.stem, re.ASCII) or (not is_path and target.stem != name):
        raise SkillmoeError(
            f"the name of a {kind} must be made of letters, digits, _ and -, or be the path of a "
            f".yaml file, got {name!r}"
        )
    folder = resources.files("skillmoe_lib.cli").joinpath("templates")
    texts = {}
    for template in _TEMPLATES[kind]:
        path = target if template.endswith(".yaml") else target.with_suffix(Path(template).suffix)
        text = folder.joinpath(template).read_text(encoding="utf-8")
        texts[path] = text.replace("NAME", target.stem)
    for path in texts:
        if path.exists():
            raise SkillmoeError(f"{path} is there already and is not overwritten: choose another name")
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
        except OSError as error:
            raise SkillmoeError(f"cannot write {path}: {error.strerror or error}") from error
    return list(texts)

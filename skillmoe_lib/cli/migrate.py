"""`skillmoe migrate`: what the prompts of an older store were, told by model.

The work is done by `inference.migration`; generations are not touched.
"""

from functools import partial
from pathlib import Path

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts import model_files
from skillmoe_lib.experts.pool import pool_file
from skillmoe_lib.inference import migration
from skillmoe_lib.inference.store import GenerationStore


def migrate(root: Path, *, pool: str = "") -> str:
    """Migrate the stores under `root` (one folder per engine, or a store itself); what was found, as text.

    `pool` names the pool beside whose file `folder:` models are searched first.
    """
    folders = [root] if (root / "parts").is_dir() else sorted(path.parent for path in root.glob("*/parts"))
    if not folders:
        raise SkillmoeError(f"no generations at {root}: give a store, or the folder that holds stores")
    locate = partial(model_files.locate, beside=pool_file(pool) if pool else None, fetch=False)
    return "\n".join(line for folder in folders for line in _told(folder, locate))


def _told(folder: Path, locate: migration.Locate) -> list[str]:
    found = migration.migrate(GenerationStore(folder), locate)
    if found.empty:
        return [f"{folder.name}: every part says what its prompts were; nothing to do"]
    same, another, left = (int(found[name].sum()) for name in ("n_same", "n_another", "n_left"))
    lines = [
        f"{folder.name}: {same:,} prompts are the same today, {another:,} are not, {left:,} are not resolved"
    ]
    columns = ["model", "n_another", "n_left", "reason"]
    for model, n_another, n_left, reason in found[columns].to_numpy():
        if n_another:
            lines.append(
                f"  {model}: {n_another:,} prompts have another number of tokens today; a run that asks for "
                "them is refused"
            )
        if n_left:
            lines.append(f"  {model}: {n_left:,} not resolved, used as before ({reason})")
    return lines

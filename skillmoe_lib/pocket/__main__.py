"""Train the pocket pool, or only the members named, into data/pocket.

Members are trained in parallel, one per core: at this size a second thread gains little.
"""

import argparse
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from skillmoe_lib.errors import SkillmoeError, require, unknown
from skillmoe_lib.paths import project_root
from skillmoe_lib.pocket.pool import ROSTER, SCHOOLS, train_member, train_school


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; 0 if all was trained, 2 if a name is unknown."""
    parser = argparse.ArgumentParser(prog="python -m skillmoe_lib.pocket", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"experts to train (default: all): {', '.join(ROSTER)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=project_root() / "data" / "pocket")
    parser.add_argument("--keep-schools", action="store_true", help="start from the schools that are there")
    given = parser.parse_args(arguments)
    try:
        for name in given.names:
            if name not in ROSTER:
                raise unknown("pocket expert", name, ROSTER)
        require("training the pocket pool", "torch", "transformers", "reasoning_gym", extra="models,data")
        if not given.keep_schools:
            _side_by_side(partial(train_school, folder=given.out, seed=given.seed), list(SCHOOLS))
        _side_by_side(partial(train_member, folder=given.out, seed=given.seed), given.names or list(ROSTER))
    except SkillmoeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _side_by_side(work: Callable[[str], object], names: Sequence[str]) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the new processes when they load torch
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as processes:
        list(processes.map(work, names))


if __name__ == "__main__":
    sys.exit(main())

"""What-if questions answered from recorded answers: the tables, the checks, and how long they take.

First the recorded MMLU-Pro answers of twelve models (2,089 test questions), then the pool study of a finished
report and its store. Nothing is generated. A part whose data are not there is skipped. Printed for each step:
seconds on the clock, and seconds of processor time, which another process on the same cores does not change.

    python benchmarks/study_desk.py
    python benchmarks/study_desk.py --recorded DIR --report pocket --store data/generations
"""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.studies import outcomes, pool, six_questions
from skillmoe_lib.studies.outcomes import COSTS, Outcomes

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT.parent / "shared" / "data" / "recorded_mmlu_pro"
SIZES = (10, 25, 50, 100, 150, 200, 250)
#: Seconds of processor time that each part may take.
ALLOWED_S = {"recorded": 60.0, "report": 30.0}
Made = TypeVar("Made")


class Clock:
    """Seconds on the clock and of the processor since it was made, and a line for each step."""

    def __init__(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def spent(self) -> tuple[float, float]:
        """Seconds on the clock, seconds of the processor."""
        return time.perf_counter() - self._started[0], time.process_time() - self._started[1]

    def step(self, name: str, make: Callable[[], Made]) -> Made:
        """Do a step and print what it made, with its seconds."""
        before = self.spent()
        made = make()
        wall, cpu = (after - start for after, start in zip(self.spent(), before, strict=True))
        print(f"\n== {name}: {wall:.1f} s, {cpu:.1f} s of the processor")
        if isinstance(made, pd.DataFrame):
            shown = made.drop(columns=[column for column in COSTS if column in made])
            print(shown.round(4).to_string(index=False))
        return made


def study(answered: Outcomes, clock: Clock, *, k: int = 3, n_draws: int = 5) -> None:
    """The tables of the notebook study_pool, and the two checks of the Shapley values."""
    print(
        f"{len(answered.experts)} experts, {answered.questions['split'].value_counts().to_dict()} questions"
    )
    by_k = clock.step(
        "routers at k = 1, 3, 5", lambda: pool.by_k(answered, ks=(1, 3, 5), seeds=(0, 1, 2), reference=k)
    )
    missed = clock.step("leave one out", lambda: pool.leave_one_out(answered))
    played = pool.game(answered, "vote", k=k)
    values = clock.step("Shapley values", lambda: pool.shapley(played))
    check_values(played, values)
    clock.step("redundancy", lambda: pool.redundancy(answered).nlargest(3, "error_correlation"))
    small = clock.step("smallest pool", lambda: pool.smallest_pool(answered))
    print(f"{len(small.experts)} of {len(answered.experts)} experts: {', '.join(small.experts)}")
    print(f"accuracy {small.accuracy}, difference to the whole pool {small.difference}")
    kinds = pool.best_subjects(answered)
    clock.step("one more expert", lambda: last_size(pool.gains_by_size(played, kinds)))
    sizes = [n for n in SIZES if n < len(answered.rows("validation"))]
    curve = clock.step(
        "learning curve", lambda: pool.learning_curve(answered, sizes=sizes, n_draws=n_draws, k=k)
    )
    enough = clock.step("enough validation", lambda: pool.enough_validation(curve))
    budgets = [1 + step / 2 for step in range(2 * min(7, len(answered.experts) - 1) + 1)]
    spent = clock.step("budget", lambda: pool.by_k(answered, methods=("top_k", "sequential"), ks=budgets))
    clock.step("six questions", lambda: six_questions.answers(by_k, missed, small, enough, spent))


def last_size(gains: pd.DataFrame) -> pd.DataFrame:
    """The gains for the present pool, largest first."""
    return gains[gains["size"] == gains["size"].max()].sort_values("gain", ascending=False)


def check_values(played: pool.Game, values: pd.DataFrame) -> None:
    """Print how far the values are from the pool's accuracy in sum, and each from shapiq's exact one."""
    whole = float(played.play(np.array([played.whole])).mean())
    print(f"the values add up to {values['value'].sum():.6f}, the pool's accuracy is {whole:.6f}", end="; ")
    print(f"they differ by {abs(values['value'].sum() - whole):.1e}")
    with suppress(ImportError):
        import shapiq

        n = len(played.experts)
        accuracy = played.play(np.arange(2**n)).mean(axis=1)
        bits = 1 << np.arange(n)
        theirs = shapiq.ExactComputer(lambda pools: accuracy[pools @ bits], n_players=n)("SV", 1)
        ours = values.set_index("expert")["value"]
        gap = max(abs(ours[name] - theirs[(i,)]) for i, name in enumerate(played.experts))
        print(f"largest difference to shapiq's exact values: {gap:.1e}")


def main(arguments: list[str] | None = None) -> int:
    """Run both parts; 1 if one of them took longer than it may."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recorded", type=Path, default=RECORDED, help="folder of recorded MMLU-Pro answers")
    parser.add_argument("--report", default="pocket", help="a finished report, by name or folder")
    parser.add_argument("--store", default="data/generations", help="its generations")
    given = parser.parse_args(arguments)
    pd.set_option("display.width", 200, "display.max_columns", 30)
    parts: dict[str, Callable[[], Outcomes]] = {
        "recorded": lambda: outcomes.opened(str(given.recorded), experts="mid_strength"),
        "report": lambda: outcomes.opened(report=given.report, store=given.store),
    }
    late = []
    for name, opened in parts.items():
        print(f"\n#### {name}")
        clock = Clock()
        try:
            answered = clock.step("open", opened)
        except SkillmoeError as error:
            print(f"skipped: {error}")
            continue
        study(answered, clock)
        wall, cpu = clock.spent()
        print(f"\n#### {name}: {wall:.1f} s, {cpu:.1f} s of the processor (at most {ALLOWED_S[name]:.0f})")
        late += [name] * (cpu > ALLOWED_S[name])
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())

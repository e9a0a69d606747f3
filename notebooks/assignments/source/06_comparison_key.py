"""Key of 06_comparison: by the library's paired tests and intervals."""

import pandas as pd

from skillmoe_lib.classroom import Variant, recording
from skillmoe_lib.classroom.checks import check_table, check_values
from skillmoe_lib.evaluation.intervals import flips, holm, mcnemar_exact, paired_bootstrap
from skillmoe_lib.tables import BOUNDS

BASELINE = "symbolic_moe"


def own(variant: Variant) -> pd.DataFrame:
    """Results of the student's methods on the student's questions."""
    results = recording.load("results")
    others = variant.choose(set(results["method"]) - {BASELINE, *BOUNDS}, 6, "methods")
    drawn = variant.questions(results["question_id"], 200)
    kept = results["method"].isin([BASELINE, *others]) & results["question_id"].isin(drawn)
    return results[kept].sort_values("question_id")


def outcomes(variant: Variant) -> tuple[dict[str, list[bool]], list[bool]]:
    """Right and wrong of each other method and of the baseline, by question."""
    found = {str(name): list(part["correct"]) for name, part in own(variant).groupby("method")}
    return found, found.pop(BASELINE)


def check_pairs(value: list[dict[str, object]], variant: Variant) -> tuple[float, str]:
    """Two points in four parts."""
    others, base = outcomes(variant)
    rows = [(name, *flips(right, base)[:4]) for name, right in others.items()]
    columns = ["method", "both", "only_method", "only_baseline", "neither"]
    return check_table(value, pd.DataFrame(rows, columns=columns), key=["method"], points=2)


def check_differences(value: list[dict[str, object]], variant: Variant) -> tuple[float, str]:
    """Two points: one for the differences, one for both ends of the intervals."""
    others, base = outcomes(variant)
    rows = []
    for name, right in others.items():
        found = paired_bootstrap(right, base, n_boot=5000)
        if right == base:  # resampled by hand, an interval without any difference has no width
            found = found._replace(low=0.0, high=0.0)
        rows.append((name, *found[:3]))
    truth = pd.DataFrame(rows, columns=["method", "difference", "low", "high"])
    exact = check_table(value, truth[["method", "difference"]], key=["method"], points=1, tolerance=1e-4)
    ends = check_table(value, truth[["method", "low", "high"]], key=["method"], points=1, tolerance=0.015)
    return exact[0] + ends[0], exact[1] or ends[1]


def tests(variant: Variant) -> pd.DataFrame:
    """McNemar's p of each method, and Holm's."""
    others, base = outcomes(variant)
    p = {name: mcnemar_exact(right, base) for name, right in others.items()}
    adjusted = holm(p)
    return pd.DataFrame([(name, p[name], adjusted[name]) for name in p], columns=["method", "p", "p_holm"])


def check_corrected(value: list[dict[str, object]], variant: Variant) -> tuple[float, str]:
    """Three points in two parts."""
    return check_table(value, tests(variant), key=["method"], points=3, tolerance=1e-4)


def check_cost(value: list[dict[str, object]], variant: Variant) -> tuple[float, str]:
    """Two points in two parts."""
    spent = own(variant).groupby("method").agg(right=("correct", "sum"), tokens=("output_tokens", "sum"))
    rows = []
    for name, mine in spent.iterrows():
        dominated = any(
            theirs.right >= mine.right
            and theirs.tokens <= mine.tokens
            and (theirs.right, theirs.tokens) != (mine.right, mine.tokens)
            for _, theirs in spent.iterrows()
        )
        rows.append((name, mine.tokens / mine.right, dominated))
    truth = pd.DataFrame(rows, columns=["method", "tokens_a_right_answer", "dominated"])
    return check_table(value, truth, key=["method"], points=2, tolerance=0.01)


def check_finding(value: dict[str, object], variant: Variant) -> tuple[float, str]:
    """One point in six parts."""
    others, base = outcomes(variant)
    truth = {}
    for row in tests(variant).itertuples():
        gain = sum(others[row.method]) - sum(base)
        truth[row.method] = "cannot tell" if row.p_holm >= 0.05 else "better" if gain > 0 else "worse"
    return check_values(value, truth, points=1)

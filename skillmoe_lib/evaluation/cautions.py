"""Warnings that a reader of a report needs before its numbers, found in the report's own tables.

A run can succeed and still measure the wrong thing: experts whose answers cannot be read, a benchmark whose
splits overlap, profiles that do not distinguish experts. Each check reads one table and gives one sentence;
the page shows them at the top and `run` prints them at its end.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from scipy import stats

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.report_folder import SCHEMAS, out_of_date, read_note

#: A larger share of texts without a readable answer than this is reported.
UNPARSED = 1 / 3
#: "Certainly" below chance: a one-sided exact binomial test at this level, for one expert or method.
_SURE = 0.01
_MOST_NAMES = 4


def cautions(folder: Path) -> list[str]:
    """Sentences about a report, most serious first; [] if there is nothing to report.

    A missing table is not checked; one that cannot be read is itself a caution.
    """
    found = []
    for check in (_stale, _unparsed, _chance, _overlaps, _profiles, _aggregator, _left_out, _mixed_batches):
        try:
            found += list(check(folder))
        except (SkillmoeError, OSError, ValueError, KeyError) as error:
            found.append(f"A check of this report failed: {' '.join(str(error).split())}.")
    return found


def _stale(folder: Path) -> Iterator[str]:
    """One sentence for all files that are out of date, with the command that makes them again."""
    stale = out_of_date(folder)
    if not stale:
        return
    names = list(dict.fromkeys(Path(item.file).stem for item in stale))
    notebooks = sorted({item.notebook for item in stale})
    first = stale[0]
    yield (
        f"This page mixes runs: {_listed(names)} {'is' if len(names) == 1 else 'are'} out of date "
        f"({first.file}: {first.reason}). Run {' '.join(notebooks)} again."
    )


def _left_out(folder: Path) -> Iterator[str]:
    """Methods and tables left out, grouped by reason."""
    by_reason: dict[str, list[str]] = {}
    for reasons in read_note(folder)["left_out"].values():
        for name, reason in reasons.items():
            names = by_reason.setdefault(reason, [])
            names += [name] if name not in names else []
    for reason, names in by_reason.items():
        yield f"Left out: {', '.join(names)} {reason}."


def _unparsed(folder: Path) -> Iterator[str]:
    for what, frame in _answers(folder):
        ran = frame[frame["status"] != "not_run"]
        share = (ran["status"] == "unparsed").groupby(ran["who"]).mean()
        high = share[share > UNPARSED].sort_values(ascending=False)
        if len(high):
            names = _listed([f"{name} {value:.0%}" for name, value in high.items()])
            yield (
                f"No answer can be read in more than a third of what was written on {what}: {names}. "
                "These count as wrong; compare the answer format with what the models write."
            )


def _chance(folder: Path) -> Iterator[str]:
    """Worse than guessing among the choices: all experts together, or certainly one of them."""
    questions = _table(folder, "questions")
    if questions is None:
        return
    n_choices = {row.question_id: len(json.loads(str(row.choices))) for row in questions.itertuples()}
    by_guessing = {name: 1 / n for name, n in n_choices.items() if n > 1}
    for what, frame in _answers(folder):
        ran = frame[frame["status"] != "not_run"]
        ran = ran.assign(chance=ran["question_id"].map(by_guessing)).dropna(subset="chance")
        if ran.empty:
            continue
        by_who = ran.groupby("who").agg(
            n=("correct", "size"), n_right=("correct", "sum"), chance=("chance", "mean")
        )
        rates = by_who["n_right"] / by_who["n"]
        by_luck = stats.binom.cdf(by_who["n_right"], by_who["n"], by_who["chance"])
        low = [f"{name} {rate:.0%}" for name, rate in rates[by_luck < _SURE].items()]
        mean, chance = ran["correct"].mean(), ran["chance"].mean()
        if mean < chance - 0.005:  # what a reader sees in percent
            worst = f", worst {_listed(low)}" if low else ""
            yield (
                f"Accuracy on {what} is below guessing: {mean:.0%} over all{worst}, where guessing among the "
                f"choices gives {chance:.0%}."
            )
        elif low:
            yield f"Accuracy on {what} is below guessing ({chance:.0%}) for {_listed(low)}."


def _overlaps(folder: Path) -> Iterator[str]:
    overlaps, questions = _csv(folder, "overlaps"), _table(folder, "questions")
    if overlaps is None or questions is None:
        return
    leaked = set(overlaps.loc[overlaps["kind"].str.startswith("leak"), "other_id"])
    n_test = int((questions["split"] == "test").sum())
    if len(leaked) == n_test > 0:
        yield "Validation and test are the same questions: every accuracy here is too optimistic."
    elif leaked:
        yield (
            f"The splits overlap: {len(leaked)} of {n_test} test questions are in validation too "
            "(overlaps.csv)."
        )


def _profiles(folder: Path) -> Iterator[str]:
    profiles, skills = _table(folder, "profiles"), _table(folder, "skills_test")
    if profiles is not None:
        rates = profiles.assign(rate=profiles["score"] / profiles["n"])
        if rates.empty or rates.groupby("skill")["rate"].nunique().le(1).all():
            yield (
                "The profiles say nothing: "
                + ("no skill was named" if rates.empty else "every expert has the same score for every skill")
                + ". Recruiting by skill can then do no better than overall accuracy."
            )
    questions = _table(folder, "questions")
    if skills is not None and questions is not None:
        test = questions.loc[questions["split"] == "test", "question_id"]
        without = 1 - test.isin(set(skills["question_id"])).mean()
        if without > 0.5:
            yield f"{without:.0%} of the test questions have no skill: nothing but overall accuracy recruits."


def _aggregator(folder: Path) -> Iterator[str]:
    judged = _csv(folder, "aggregators")
    if judged is not None and not (len(judged) and judged["n_items"].sum()):
        yield (
            "No aggregator could be examined: no validation question has one right and two wrong chains. "
            "The most accurate expert aggregates."
        )


def _mixed_batches(folder: Path) -> Iterator[str]:
    batches = _csv(folder, "batches")
    if batches is None:
        return
    if "this_run" in batches and (n := int((~batches["this_run"].astype(bool)).sum())):
        yield (
            f"{n} of the {len(batches)} loads in batches.csv belong to other runs on the same store; they "
            "generated nothing that is shown here."
        )
        batches = batches[batches["this_run"].astype(bool)]
    kinds = (batches["engine"] + " " + batches["versions"].fillna("")).drop_duplicates()
    if len(kinds) > 1:
        names = _listed(kinds.tolist())
        yield f"This run's answers come from {len(kinds)} different engines or versions: {names}."


def _answers(folder: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Graded answers and where they are from: validation and test by expert, and the methods' results."""
    for name, what in (("scores_validation", "validation"), ("scores_test", "test")):
        frame = _table(folder, name)
        if frame is not None and len(frame):
            yield what, frame.rename(columns={"expert": "who"})
    results = _table(folder, "results")
    if results is not None:
        yield "test by the methods", results[results["calls"] > 0].rename(columns={"method": "who"})


def _table(folder: Path, name: str) -> pd.DataFrame | None:
    path = folder / "tables" / f"{name}.parquet"
    return pd.read_parquet(path, columns=list(SCHEMAS[name].columns)) if path.is_file() else None


def _csv(folder: Path, name: str) -> pd.DataFrame | None:
    path = folder / "tables" / f"{name}.csv"
    return pd.read_csv(path) if path.is_file() else None


def _listed(names: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more

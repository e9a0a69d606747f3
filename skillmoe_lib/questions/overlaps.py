"""Questions that occur twice: leaks between the splits, and duplicates within one."""

import json
from collections import defaultdict

import pandas as pd

from skillmoe_lib.errors import unknown
from skillmoe_lib.questions.rows import normalised


def overlaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Pairs of questions with the same normalised text.

    Returns
    -------
    One row for each pair: `question_id`, `other_id`, `kind`. Kind begins with "duplicate" (both in one
    split; `other_id` is the later row) or "leak" (`question_id` in validation, `other_id` in test),
    and ends with "stem and choices" (the same choices too, in any order) or "stem" (other choices,
    so perhaps another question: many stems only say "which of these is true").
    """
    groups: dict[str, list[tuple[str, str, list[str]]]] = defaultdict(list)
    for row in frame.itertuples():
        choices = sorted(normalised(choice) for choice in json.loads(str(row.choices)))
        groups[normalised(str(row.text))].append((str(row.split), str(row.question_id), choices))
    pairs = []
    for group in groups.values():
        for i, first in enumerate(group):
            for second in group[i + 1 :]:
                what = "stem and choices" if first[2] == second[2] else "stem"
                kind = "duplicate" if first[0] == second[0] else "leak"
                one, other = (
                    (second, first) if (first[0], second[0]) == ("test", "validation") else (first, second)
                )
                pairs.append({"question_id": one[1], "other_id": other[1], "kind": f"{kind} {what}"})
    return pd.DataFrame(pairs, columns=["question_id", "other_id", "kind"]).astype("string")


def drop_overlaps(frame: pd.DataFrame, *, by: str = "stem") -> pd.DataFrame:
    """Leave out validation questions that are in test too, and all but the first of duplicates.

    `by`: "stem" (the default, the stricter) or "stem and choices". The test split loses only its own
    later duplicates. `attrs["overlaps_dropped"]` lists the ids left out.
    """
    if by not in ("stem", "stem and choices"):
        raise unknown("kind of overlap", by, ["stem", "stem and choices"])
    pairs = overlaps(frame)
    pairs = pairs[pairs["kind"].str.endswith(by) | (by == "stem")]
    leaks = pairs["kind"].str.startswith("leak")
    out = set(pairs.loc[leaks, "question_id"]) | set(pairs.loc[~leaks, "other_id"])
    kept = frame[~frame["question_id"].isin(out)].reset_index(drop=True)
    kept.attrs = {**frame.attrs, "overlaps_dropped": sorted(out)}
    return kept

"""What a recording can answer exactly, and what would need new calls of models, and how many.

A vote, a single expert, a router and sequential recruiting only choose among answers, so the recording has
all they need. An aggregator writes a text of its own (docs/method.md 1.7), which no recording of single
experts has.
"""

import pandas as pd

from skillmoe_lib.answers.equivalence import canonical

#: Keyword passes for each question (docs/method.md 1.1).
KEYWORD_PASSES = 5
_COLUMNS = ["what", "exact", "n_questions", "new_calls", "note"]


def table(questions: pd.DataFrame, answers: pd.DataFrame, routes: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row for each kind of method: what, exact, n_questions, new_calls, note.

    Parameters
    ----------
    routes
        Columns question_id and expert, and method and seed if there are several: who is recruited. Without
        it all experts are, which gives the largest number of aggregator calls that any choice can need.

    Returns
    -------
    `n_questions` is how many questions can be answered from the recording alone. `new_calls` is how many
    calls of models the others need; null if a recording of another kind is needed. For "k experts and an
    aggregator" it is one call for each question whose recruits do not all give the same answer: where they
    agree, the aggregator is taken to repeat them, which is an assumption and no record.
    """
    ran = answers[answers["status"] != "not_run"]
    n, n_experts = len(questions), answers["expert"].nunique()
    asked = ran.drop_duplicates(["question_id", "expert"])
    whole = int((asked.groupby("question_id")["expert"].nunique() == n_experts).sum())
    lacking = n * n_experts - len(asked)
    lacks = f"{lacking} answers of experts were not run" if lacking else ""
    unknown_answers = bool(((ran["status"] == "answered") & ran["answer"].isna()).any())
    votes = _voted(questions, ran, n_experts)
    on_votes = "answers are not recorded" if unknown_answers else lacks
    samples = int(ran.groupby(["question_id", "expert"]).size().min()) if len(ran) else 0
    subjects, validation = questions["subject"].notna().all(), (questions["split"] == "validation").any()
    on_routing = "" if validation else "on a validation split that you choose yourself"
    calls, every, k = _aggregator_calls(questions, ran, routes)
    rows = [
        ("single experts", lacking == 0, whole, lacking, lacks),
        ("votes of experts", votes == n, votes, None if unknown_answers else lacking, on_votes),
        ("sequential recruiting", votes == n, votes, None if unknown_answers else lacking, on_votes),
        (
            "votes of repeats of one expert", samples > 1 and not unknown_answers, n if samples > 1 else 0,
            0 if samples > 1 else n, f"up to {samples} a question" if samples > 1 else
            "one call a question for each further repeat of one expert",
        ),
        (
            "routing by subject", bool(subjects) and lacking == 0, whole if subjects else 0,
            lacking if subjects else None, on_routing if subjects else "subjects are not recorded",
        ),
        (
            "routing by skill", False, 0, KEYWORD_PASSES * n,
            f"{KEYWORD_PASSES} keyword calls a question; then exact {on_routing}".strip(),
        ),
        (
            f"{k} experts and an aggregator", False, every - calls, calls,
            f"one for each question whose recruits disagree; {every} if the aggregator is asked always",
        ),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    return frame.astype({"exact": bool, "n_questions": "Int64", "new_calls": "Int64"})


def _voted(questions: pd.DataFrame, ran: pd.DataFrame, n_experts: int) -> int:
    """Questions to which every expert's answer is known (or known to be none)."""
    known = ran[~((ran["status"] == "answered") & ran["answer"].isna())]
    n = known.drop_duplicates(["question_id", "expert"]).groupby("question_id")["expert"].nunique()
    return int((n.reindex(questions["question_id"], fill_value=0) == n_experts).sum())


def _aggregator_calls(
    questions: pd.DataFrame, ran: pd.DataFrame, routes: pd.DataFrame | None
) -> tuple[int, int, str]:
    """Calls where recruits disagree, calls if always asked, and how many are recruited, as text."""
    kinds = dict(zip(questions["question_id"], questions["kind"], strict=True))
    first = ran[ran["sample"] == 0]
    given = pd.DataFrame({
        "question_id": first["question_id"],
        "expert": first["expert"],
        "key": [
            None if pd.isna(answer) else canonical(kinds[question_id], answer)
            for question_id, answer in zip(first["question_id"], first["answer"], strict=True)
        ],
    })  # fmt: skip
    if routes is None:
        team, by, k = given, ["question_id"], "all"
    else:
        by = [column for column in ("method", "seed") if column in routes] + ["question_id"]
        team = routes[[*by, "expert"]].merge(given, on=["question_id", "expert"], how="left")
        sizes = routes.groupby(by).size()
        k = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
    groups = team.groupby(by, sort=False)["key"]
    agree = groups.nunique(dropna=False).eq(1) & groups.count().gt(0)
    return int((~agree).sum()), len(agree), k

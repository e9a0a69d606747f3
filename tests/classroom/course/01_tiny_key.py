"""Key of 01_tiny: what each exercise is worth, from the student's own variant."""

from skillmoe_lib.classroom import Variant

QUESTIONS = [f"q{i:02d}" for i in range(20)]


def check_total(value: object, variant: Variant) -> tuple[float, str]:
    """Two points: the sum of the numbers in the ids of the student's questions."""
    truth = sum(int(name[1:]) for name in variant.questions(QUESTIONS, 5))
    return (2, "") if value == truth else (0, "not the sum over your five questions")


def check_table(value: object, variant: Variant) -> tuple[float, str]:
    """Three points: one row a question; a point for the ids, two for the parities."""
    truth = {name: int(name[1:]) % 2 == 0 for name in variant.questions(QUESTIONS, 5)}
    rows = {row["question_id"]: row["even"] for row in value}
    if rows.keys() != truth.keys():
        return 0, "the questions are not your five"
    wrong = sum(rows[name] != truth[name] for name in truth)
    return (3, "") if not wrong else (1, f"even is wrong in {wrong} of 5 rows")

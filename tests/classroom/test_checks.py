"""What a key says about right, wrong and malformed answers."""

import pandas as pd
import pytest

from skillmoe_lib.classroom.checks import check_table, check_values, same

TRUTH = pd.DataFrame({"expert": ["a", "b"], "score": [3, -1], "p": [0.25, float("nan")]})
RIGHT = [{"expert": "b", "score": -1, "p": None}, {"expert": "a", "score": 3.0, "p": 0.2500001}]


@pytest.mark.parametrize(
    ("given", "truth", "equal"),
    [
        (3, 3.0, True),
        (3.0000001, 3, True),
        (3.1, 3, False),
        ("3", 3, False),
        (True, 1, False),  # true is no number
        (1, True, False),
        (None, float("nan"), True),
        (0, float("nan"), False),
        (None, 0, False),
        ("A", "A", True),
        ([1], 1, False),
    ],
)
def test_same(given: object, truth: object, equal: bool) -> None:
    assert same(given, truth) is equal


def test_rows_may_come_in_any_order_and_columns_are_worth_a_part_each() -> None:
    assert check_table(RIGHT, TRUTH, key=["expert"], points=4) == (4, "")
    wrong = [RIGHT[0], {**RIGHT[1], "score": 2}]
    assert check_table(wrong, TRUTH, key=["expert"], points=4) == (2, "wrong: score (1 of 2 rows)")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (RIGHT[:1], "1 rows are missing (1 given)"),
        ([*RIGHT, {"expert": "c"}], "1 rows are not asked for (3 given)"),
        ([*RIGHT, RIGHT[0]], "1 rows have the same expert as another"),
    ],
)
def test_rows_that_are_not_the_right_ones_earn_nothing(rows: list[dict[str, object]], reason: str) -> None:
    assert check_table(rows, TRUTH, key=["expert"], points=4) == (0, reason)


def test_values_are_worth_a_part_each_and_a_reason_never_names_the_truth() -> None:
    assert check_values({"x": 1, "y": "A"}, {"x": 1, "y": "B"}, points=3) == (1.5, "wrong: y")
    assert check_values({}, {"x": 1, "y": "B"}, points=3) == (0, "wrong: x, y")

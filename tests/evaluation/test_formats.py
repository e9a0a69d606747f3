"""One rule for numbers and names, wherever a reader sees them."""

import pandas as pd
import pytest

from skillmoe_lib.evaluation import formats


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (408 / 640, "63.8"), (0.6375, "63.8"), (0.63749, "63.7"), (0.0005, "0.1"), (0.00049, "0.0"),
        (1, "100.0"),
        (-0.0004, "0.0"), (None, "–"), (float("nan"), "–"), (pd.NA, "–"),
    ],
)  # fmt: skip
def test_halves_of_a_percent_are_rounded_away_from_zero(fraction: object, text: str) -> None:
    """63.75 was 63.7 in one place and 63.8 in another: 100 * 0.6375 is a little less than 63.75."""
    assert formats.percent(fraction) == text


def test_points_have_a_sign_and_are_rounded_as_percent() -> None:
    assert [formats.points(x) for x in (0.15475, -0.0125, 0.0, 0.8 - 0.6375)] == [
        "+15.5", "-1.3", "+0.0", "+16.3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.62375, "0.624"), (0.1, "0.1"), (0.75, "0.75"), (0.0125, "0.0125"), (0.00125, "0.00125"),
        (123.456, "123"),
        (99.95, "100"), (1234.5, "1,235"), (12345.6, "12,346"), (640, "640"),
        (12000, "12,000"), (-3, "-3"), (2.5, "2.5"),
        (1e-05, "1e-05"), (0, "0"), (None, "–"), (float("nan"), "–"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_numbers_have_three_significant_digits(value: object, text: str) -> None:
    assert formats.number(value) == text


@pytest.mark.parametrize(("p", "text"), [(0.0004, "<0.001"), (0.0125, "0.013"), (1.0, "1.000"), (None, "–")])
def test_p_values(p: object, text: str) -> None:
    assert formats.p_value(p) == text


@pytest.mark.parametrize(("ratio", "text"), [(0.904, "0.9"), (1.25, "1.3"), (12.3, "12"), (1.0, "1")])
def test_times(ratio: float, text: str) -> None:
    assert formats.times(ratio) == text


FRAME = pd.DataFrame(
    {
        "method": ["symbolic_moe", "moa"],
        "label": ["Symbolic-MoE", "<b>MoA</b> & co_1"],
        "accuracy": [0.6375, None],
        "low": [0.6, None],
        "n_questions": [640, 0],
        "device_seconds": [12.3456, 1234.5],
        "p_holm": [0.0001, 0.5],
        "sure": [True, False],
    }
)


def test_readers_see_labels_percent_and_words() -> None:
    shown = formats.for_readers(FRAME)
    assert list(shown) == ["method", "accuracy (%)", "low (%)", "questions", "device s", "p (Holm)", "sure"]
    assert shown.iloc[0].tolist() == ["Symbolic-MoE", "63.8", "60.0", "640", "12.3", "<0.001", "yes"]
    assert shown.iloc[1].tolist()[1:] == ["–", "–", "0", "1,235", "0.500", "no"]
    assert formats.is_numeric(FRAME) == [False, True, True, True, True, True, False]


def test_bounds_take_the_kind_of_the_estimate() -> None:
    span = {"low": [0.012], "high": [0.034]}
    assert formats.for_readers(pd.DataFrame({"difference": [0.02], **span})).iloc[0].tolist() == [
        "+2.0", "+1.2", "+3.4",
    ]  # fmt: skip
    # Seconds, and ratios with their differences, are neither percent nor points.
    assert formats.for_readers(pd.DataFrame({"device_seconds": [0.02], **span})).iloc[0, 1] == "0.012"
    ratios = pd.DataFrame({"ratio": [7.5], "difference": [0.5], **span})
    assert list(formats.for_readers(ratios)) == ["ratio", "difference", "low", "high"]


def test_latex_has_booktabs_rules_and_escaped_text() -> None:
    text = formats.as_latex(FRAME)
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert rule in text
    assert r"\begin{tabular}{lrrrrrl}" in text
    assert r"<b>MoA</b> \& co\_1 & -- & --" in text
    assert r"accuracy (\%)" in text


def test_html_is_escaped() -> None:
    page = formats.as_html(FRAME, "a table")
    assert "&lt;b&gt;MoA&lt;/b&gt; &amp; co_1" in page
    assert "<b>" not in page


def test_long_texts_are_cut() -> None:
    assert formats.text("x" * 121) == "x" * 120 + " …"

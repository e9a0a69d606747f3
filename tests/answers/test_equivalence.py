"""Equality of answers: canonical forms computed by hand; math-verify under faults and time limits."""

import subprocess
import sys
import threading
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillmoe_lib.answers import equivalence
from skillmoe_lib.answers.equivalence import (
    ComparisonWarning,
    canonical,
    equivalent,
    equivalent_many,
)

#: An integer power so long that neither a signal nor a thread can interrupt its process.
ENDLESS = "9^{9^{9^{9}}}"


@pytest.mark.parametrize(
    ("kind", "value", "key"),
    [
        ("choice", "b", "B"),
        ("choice", "(b)", "B"),
        ("text", "  The  Quick\nfox ", "the quick fox"),
        ("text", "007", "007"),
        ("math", "1,000", "1000"),
        ("math", "12,345,678.50", "24691357/2"),
        ("math", "3.0", "3"),
        ("math", "003", "3"),
        ("math", "025.", "25"),
        ("math", "-0", "0"),
        ("math", "+4", "4"),
        ("math", "−4", "-4"),
        ("math", ".5", "1/2"),
        ("math", "0.5", "1/2"),
        ("math", "$2$.", "2"),
        ("math", "$2.$", "2"),
        ("math", r"\(2\)", "2"),
        ("math", "$18", "18"),
        ("math", r"\$18", "18"),
        ("math", r"\frac{1}{2}", "1/2"),
        ("math", r"\dfrac{2}{4}", "1/2"),
        ("math", r"-\frac12", "-1/2"),
        ("math", r"\frac{-1}{2}", "-1/2"),
        ("math", "2 / 4", "1/2"),
        ("math", "1{,}000", "1000"),
        ("math", r"50\%", "50%"),
        ("math", "2 1/4", "9/4"),
        ("math", r"-2\frac{1}{2}", "-5/2"),
        ("math", "1¾", "7/4"),
        ("math", "6.5e-3", "13/2000"),
        ("math", r"2 \times 10^{3}", "2000"),
        ("math", r"0.1\overline{6}", "1/6"),
        ("math", "0.666...", "2/3"),
        ("math", "101_2", "5"),
        ("math", "5 million dollars", "5000000"),
        ("math", "EUR 7", "7"),
        ("math", "7 km/h", "7"),
        ("math", "7, not 8", "7"),
        ("math", "seven", "7"),
        ("math", r"\text{No Solution}", "no solution"),
        ("text", r"\text{New\ York}", "new york"),
        ("text", "**Paris**.", "paris"),
        ("text", r"R\&D", "r&d"),
        ("text", "don’t", "don't"),
        ("text", r"\textbf{caf\'e}", "café"),
        ("text", "cafe\u0301", "café"),
        ("text", "5²", "5²"),
        ("text", ".", "."),
        # left as they are
        ("math", "1,2", "1,2"),
        ("math", "(1,000)", "(1,000)"),
        ("math", r"\frac123", r"\frac123"),
        ("math", r"\frac{1}{0}", r"\frac{1}{0}"),
        ("math", "3/0", "3/0"),
        ("math", "1e9", "1000000000"),
        ("math", "1e999999999", "1e999999999"),
        ("math", "x + 1", "x+1"),
        ("math", "X", "X"),
        ("math", r"\leftarrow", r"\leftarrow"),
        ("math", "", ""),
        ("math", "$", ""),
        ("math", "+", "+"),
        ("math", "1" * 5000, "1" * 5000),
    ],
)
def test_canonical(kind: str, value: str, key: str) -> None:
    assert canonical(kind, value) == key


@given(st.integers(-(10**9), 10**9))
def test_canonical_groups_the_writings_of_a_number(number: int) -> None:
    writings = {f"{number:,}", f"{number}.0", f" {number}.", f"${number}$", rf"\frac{{{2 * number}}}{{2}}"}
    assert {canonical("math", writing) for writing in writings} == {str(number)}


@given(st.text(max_size=40))
def test_canonical_takes_any_text(value: str) -> None:
    for kind in ("choice", "math", "text"):
        assert isinstance(canonical(kind, value), str)


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        ("1000", "1,000", True),
        ("25", "025", True),
        (r"\frac{1}{2}", "0.5", True),
        ("x^2+2x+1", "(x+1)^2", True),
        (r"\{1,2\}", r"\{2,1\}", True),
        ("3", "x=3", True),
        (r"\sqrt{8}", r"2\sqrt{2}", True),
        ("10", r"10 \text{ cm}", True),
        ("12", "13", False),
        ("12", "I do not know", False),
        ("12", "", False),
        ("5", r"\frac{", False),
        ("5", "\x00\ud800", False),
    ],
)
def test_equivalent(gold: str, answer: str, equal: bool) -> None:
    assert equivalent(gold=gold, answer=answer, timeout_s=60) is equal


# What each pair shows stands beside it; answers are compared in both orders.
@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        # layout, units, currency, remarks
        ("31", r"\underline{31}", True),
        ("31", "31 (thirty-one)", True),
        ("31", "31 total marbles", True),
        ("31", "about 31", True),
        ("31", "31, as required", True),
        ("31", "£31", True),
        ("31", "31 or 32", False),
        ("31", "31 squared", False),
        ("31", "at least 31", False),
        ("31", "31 or more", False),
        ("3", "3 apples and 2 pears", False),
        ("2", "2 hours 15 minutes", False),
        ("6", "6'2''", False),
        (r"2\pi", r"2\pi \text{ cm}", True),
        ("2t", "2", False),
        ("x+2t", "2t+x", True),
        # numbers in their many forms
        ("7/4", "1 3/4", True),
        ("3/4", "1 3/4", False),
        ("110_2", "110_3", False),
        ("0.5", r"50\%", True),
        ("50", r"50\%", True),
        ("5%", r"50\%", False),
        ("1/3", "0.333333", True),
        ("1/3", "0.333", False),
        ("4e-7", "5e-7", False),
        (r"2^{-80}", r"2^{-81}", False),
        (r"\frac{2^{300}+1}{2^{301}}", r"\frac{1}{2^{301}}", False),
        ("1,234", "1.234", False),
        # signs of unicode, functions without a backslash
        (r"2\sqrt{7}", "2√7", True),
        ("2", "2√7", False),
        ("9", "3²", True),
        ("3", "3²", False),
        (r"\frac{\pi}{3}", "pi/3", True),
        (r"e^{5}", "exp(5)", True),
        (r"(-\infty, 4]", "(−∞, 4]", True),
        (r"\emptyset", "∅", True),
        ("3-i", "3.0 + -1.0i", True),
        # sets, pairs, sequences, words
        (r"\{4,-4\}", r"\pm 4", True),
        ("(1,4)", "(4,1)", False),
        ("x>2", r"(2,\infty)", True),
        (r"1, 4, \ldots, n^2", r"1, 8, \ldots, n^3", False),
        (r"\text{listen}", r"\text{silent}", False),
        ("live", "evil", False),
        ("north", r"\textbf{North}.", True),
        ("0", r"\text{no solution}", False),
    ],
)
def test_equivalent_in_both_orders(one: str, other: str, equal: bool) -> None:
    assert equivalent(gold=one, answer=other, timeout_s=60) is equal
    assert equivalent(gold=other, answer=one, timeout_s=60) is equal


def test_the_first_equal_answer_stands_for_its_group() -> None:
    assert equivalence.first_equal("math", ["9", "1+x", "x+1", "9.0", "2x", "x + 1"]) == [0, 1, 1, 0, 4, 1]
    assert equivalence.first_equal("choice", ["B", "a", "(A)"]) == [0, 1, 1]
    assert equivalence.first_equal("text", ["Ann", r"\text{ann}", "Anna"]) == [0, 0, 2]
    assert equivalence.first_equal("math", []) == []


def test_equal_pairs_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Counting:
        def compare(self, gold: str, answer: str, timeout_s: float) -> bool:
            asked.append((gold, answer))
            return True

    monkeypatch.setattr(equivalence, "_PROCESS", Counting())
    monkeypatch.setattr(equivalence, "_KNOWN", {})
    pairs = [("x+1", "1+x"), ("x + 1", "1+x"), ("5", "6"), ("5", "5.0")] * 1000
    assert equivalent_many(pairs) == [True, True, False, True] * 1000
    assert equivalent_many(pairs[:1]) == [True]
    assert len(asked) == 2, "numbers need no process, and no pair is asked for twice"


def test_equal_text_needs_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivalence, "_PROCESS", None)
    assert equivalent(gold="1,000", answer="1000.0")


def test_an_endless_comparison_is_stopped_counted_and_followed_by_others() -> None:
    assert equivalent(gold="2+3", answer="5", timeout_s=60)
    pairs = [("5", ENDLESS), ("5", ENDLESS), ("2+3", "5"), ("7", "8")]
    with pytest.warns(ComparisonWarning, match=r"1 of 3 .* no result within 2 s"):
        assert equivalent_many(pairs, timeout_s=2) == [False, False, True, False]


def test_a_failure_is_counted_not_silently_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = {"error": "ZeroDivisionError in math-verify"}
    monkeypatch.setattr(equivalence._PROCESS, "_ask", lambda process, line, timeout_s: reply)
    monkeypatch.setattr(equivalence._PROCESS, "_running", lambda: None)
    with pytest.warns(ComparisonWarning, match="1 of 1 .* ZeroDivisionError"):
        assert equivalent(gold="x", answer="y^2") is False


def test_a_killed_process_is_started_again() -> None:
    assert equivalent(gold="x+1", answer="1+x", timeout_s=60)
    process = equivalence._PROCESS._process
    assert process is not None
    process.kill()
    process.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert equivalent(gold="x+2", answer="2+x", timeout_s=60)
    assert equivalence._PROCESS._process is not process


def test_works_in_threads() -> None:
    results: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda i=i: results.append(equivalent(gold=f"x+{i}", answer=f"{i}+x", timeout_s=60))
        )
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


def test_an_unguarded_script_can_compare_and_leaves_no_process(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from skillmoe_lib.answers import equivalence\n"
        "print(equivalence.equivalent(gold='x+1', answer='1+x', timeout_s=60))\n"
        "print(equivalence._PROCESS._process.pid)\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=120
    )
    answer, pid = done.stdout.split()
    assert (done.returncode, done.stderr, answer) == (0, "", "True")
    import psutil

    assert not psutil.pid_exists(int(pid))

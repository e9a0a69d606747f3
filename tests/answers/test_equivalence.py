"""Equality of answers: canonical forms worked out by hand; math-verify under faults and time limits."""

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

#: An integer power so long that neither a signal nor a thread in its process is heard again.
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
        # left as they are
        ("math", "1,2", "1,2"),
        ("math", "(1,000)", "(1,000)"),
        ("math", r"\frac123", r"\frac123"),
        ("math", r"\frac{1}{0}", r"\frac{1}{0}"),
        ("math", "3/0", "3/0"),
        ("math", "1e9", "1e9"),
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


def test_equal_text_needs_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivalence, "_WORKER", None)
    assert equivalent(gold="1,000", answer="1000.0")


def test_an_endless_comparison_is_stopped_counted_and_followed_by_others() -> None:
    assert equivalent(gold="2+3", answer="5", timeout_s=60)
    pairs = [("5", ENDLESS), ("5", ENDLESS), ("2+3", "5"), ("7", "8")]
    with pytest.warns(ComparisonWarning, match=r"1 of 3 .* no result within 2 s"):
        assert equivalent_many(pairs, timeout_s=2) == [False, False, True, False]


def test_a_failure_is_counted_not_silently_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = {"error": "ZeroDivisionError in math-verify"}
    monkeypatch.setattr(equivalence._WORKER, "_ask", lambda process, line, timeout_s: reply)
    monkeypatch.setattr(equivalence._WORKER, "_running", lambda: None)
    with pytest.warns(ComparisonWarning, match="1 of 1 .* ZeroDivisionError"):
        assert equivalent(gold="5", answer="6") is False


def test_a_killed_process_is_started_again() -> None:
    assert equivalent(gold="x+1", answer="1+x", timeout_s=60)
    process = equivalence._WORKER._process
    assert process is not None
    process.kill()
    process.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert equivalent(gold="x+2", answer="2+x", timeout_s=60)
    assert equivalence._WORKER._process is not process


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
        "from skillmoe_lib import equivalence\n"
        "print(equivalence.equivalent(gold='x+1', answer='1+x', timeout_s=60))\n"
        "print(equivalence._WORKER._process.pid)\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=120
    )
    answer, pid = done.stdout.split()
    assert (done.returncode, done.stderr, answer) == (0, "", "True")
    import psutil

    assert not psutil.pid_exists(int(pid))

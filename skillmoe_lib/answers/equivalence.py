r"""When two answers are the same: a canonical form for votes, math-verify for mathematics.

math-verify (Hugging Face) is not symmetric (gold comes first), cannot run in threads, and keeps its time
limits by signals, which a long integer power never hears: `9^{9^{9^{9}}}` blocks its process for good.
So it works in a process of its own, which is killed and started anew when the time is up. That process
is a plain interpreter that reads lines of JSON, not a `multiprocessing` pool: a pool's workers import
the caller's main module, which fails in unguarded scripts, and a pool cannot end one worker.

The released code compares with gold and answer swapped and reads every exception as wrong; here what
could not be compared is not equivalent either, but it is counted in a warning.
"""

import atexit
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from skillmoe_lib.errors import SkillmoeError

START_LIMIT_S = 120.0
_NUMBER = re.compile(r"[+-]?(?:\d{1,60}|\d{1,3}(?:,\d{3}){1,20})?(?:\.\d{1,60})?")
_OVER = r"(?:\{([+-]?\d{1,60})\}|(\d))"
_FRACTION = re.compile(rf"([+-]?)\\[dt]?frac{_OVER}{_OVER}|([+-]?\d{{1,60}})/(\d{{1,60}})")


class ComparisonWarning(UserWarning):
    """Some answers could not be compared with their gold."""


def canonical(question_kind: str, value: str) -> str:
    r"""The key by which equal answers are grouped (votes).

    Letters in upper case; text in lower case, its white space collapsed. Numbers as exact fractions in
    lowest terms: "1,000" -> "1000", "3.0" and "003" -> "3", "\frac{1}{2}" and "0.5" -> "1/2". Other
    mathematics without spaces, delimiters and a trailing full stop; its letters keep their case.
    """
    if question_kind == "choice":
        return value.strip().strip("()").upper()
    if question_kind == "text":
        return " ".join(value.casefold().split())
    return _canonical_math(value)


def _canonical_math(value: str) -> str:
    text = value.strip().rstrip(".").strip()
    for opening, closing in (("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if len(text) > len(opening) and text.startswith(opening) and text.endswith(closing):
            text = text[len(opening) : -len(closing)].strip()
    text = re.sub(r"^\\?\$", "", text).rstrip(".").replace("{,}", ",").replace("−", "-").replace("\\%", "%")
    text = re.sub(r"\s+|\\[,;!]|\\left(?![a-z])|\\right(?![a-z])", "", text)
    if text.strip("+-") and _NUMBER.fullmatch(text):
        return str(Fraction(text.replace(",", "")))
    if match := _FRACTION.fullmatch(text):
        sign, *parts = match.groups()
        over, under = (int(part) for part in parts if part)
        return str(Fraction(-over if sign == "-" else over, under)) if under else text
    return text


def equivalent(*, gold: str, answer: str, timeout_s: float = 5.0) -> bool:
    """Whether two mathematical answers are equal: by canonical form, else by math-verify."""
    return equivalent_many([(gold, answer)], timeout_s=timeout_s)[0]


def equivalent_many(pairs: Sequence[tuple[str, str]], *, timeout_s: float = 5.0) -> list[bool]:
    """Compare (gold, answer) pairs, each at most `timeout_s` seconds; equal pairs only once.

    Warns
    -----
    ComparisonWarning
        How many pairs ran out of time or failed; they are given as not equivalent.
    """
    outcomes: dict[tuple[str, str], bool | str] = {}
    for gold, answer in pairs:
        if (gold, answer) not in outcomes:
            same = canonical("math", gold) == canonical("math", answer)
            outcomes[gold, answer] = same or _WORKER.compare(gold, answer, timeout_s)
    if reasons := [outcome for outcome in outcomes.values() if isinstance(outcome, str)]:
        warnings.warn(
            f"{len(reasons)} of {len(outcomes)} different (gold, answer) pairs could not be compared and "
            f"count as not equivalent: {', '.join(sorted(set(reasons)))}",
            ComparisonWarning,
            stacklevel=2,
        )
    return [outcomes[gold, answer] is True for gold, answer in pairs]


class _Worker:
    """One process that compares; started when first needed, and again after it was killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def compare(self, gold: str, answer: str, timeout_s: float) -> bool | str:
        """True, False, or in words why it could not be compared."""
        with self._lock:
            reply = self._ask(self._running(), json.dumps([gold, answer]), timeout_s)
            return reply["equal"] if "equal" in reply else str(reply["error"])

    def _running(self) -> subprocess.Popen[str]:
        # A forked copy of this process must not share its parent's worker.
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self.stop()
            paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
            self._owner = os.getpid()
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from skillmoe_lib.equivalence import _serve; _serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUTF8": "1"},
            )
            # A first comparison that loads what later ones need, outside their time limit.
            warm_up = json.dumps(["x^2+2x+1", "(x+1)^2"])
            if "error" in (reply := self._ask(self._process, warm_up, START_LIMIT_S)):
                raise SkillmoeError(f"the process that compares answers does not start: {reply['error']}")
        return self._process

    def _ask(self, process: subprocess.Popen[str], line: str, timeout_s: float) -> dict[str, Any]:
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(timeout_s, expire)
        timer.start()
        reply = ""
        try:
            with contextlib.suppress(OSError):
                print(line, file=process.stdin, flush=True)
                reply = process.stdout.readline() if process.stdout else ""
        finally:
            timer.cancel()
            timer.join()
            if (
                expired.is_set() or not reply
            ):  # also when interrupted: a late reply would be taken for the next one
                self.stop()
        if expired.is_set():
            return {"error": f"no result within {timeout_s:g} s"}
        return dict(json.loads(reply)) if reply else {"error": "math-verify's process died"}

    def stop(self) -> None:
        """End the process."""
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            with contextlib.suppress(OSError):
                self._process.communicate()
        self._process = None


def _serve() -> None:
    """The worker: a JSON line [gold, answer] in, a JSON line {"equal": bool} or {"error": str} out."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    def parsed(text: str) -> list[Any]:
        forms = [LatexExtractionConfig(), ExprExtractionConfig()]
        return list(parse(f"${text}$", forms, parsing_timeout=None, raise_on_error=True))

    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        gold, answer = json.loads(line)
        reply: dict[str, bool | str]
        try:
            target = parsed(answer)
            equal = verify(parsed(gold), target, timeout_seconds=None, raise_on_error=True)
            reply = {"equal": bool(equal)}
        except Exception as error:
            reply = {"error": f"{type(error).__name__} in math-verify"}
        print(json.dumps(reply), file=out, flush=True)


_WORKER = _Worker()
atexit.register(_WORKER.stop)

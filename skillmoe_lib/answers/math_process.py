r"""A separate process in which math-verify compares answers, so that it can be ended when it hangs.

math-verify (Hugging Face) cannot run in threads, and enforces its time limits by signals, which do not
interrupt a long integer power: `9^{9^{9^{9}}}` blocks its process for ever.
docs/decisions/0007-comparing-answers.md says why no library's process pool is used. The file is both sides:
imported, it is the caller's `MathProcess`; run as a script, which imports nothing of this package, it reads
lines of JSON [gold, answer, as released?] and writes lines {"equal": bool} or {"error": str}.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

START_LIMIT_S = 120.0


class MathProcess:
    """The process that compares; started when first needed, and restarted after it was ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def compare(self, gold: str, answer: str, timeout_s: float, *, released: bool = False) -> bool | str:
        """Whether they are equal, or the reason why they could not be compared.

        `released`: plain math-verify, with gold and answer swapped.
        """
        with self._lock:
            reply = self._ask(self._running(), json.dumps([gold, answer, released]), timeout_s)
            return reply["equal"] if "equal" in reply else str(reply["error"])

    def _running(self) -> subprocess.Popen[str]:
        # A forked copy of this process must not share its parent's.
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self.stop()
            self._owner = os.getpid()
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and this file
                [sys.executable, "-P", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                env={**os.environ, "PYTHONUTF8": "1"},
            )
            # A first comparison loads what later ones need, outside their time limit.
            warm_up = json.dumps(["x^2+2x+1", "(x+1)^2", False])
            if "error" in (reply := self._ask(self._process, warm_up, START_LIMIT_S)):
                raise RuntimeError(f"the process that compares answers does not start: {reply['error']}")
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
            # Also when interrupted: a late reply would be read as the next one.
            if expired.is_set() or not reply:
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


def serve() -> None:
    """Answer the lines of stdin until it is closed."""
    from dataclasses import replace

    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    # `notation` has removed units already; here a variable would be read as one: "2t" would be 2.
    latex = LatexExtractionConfig()
    latex = replace(latex, normalization_config=replace(latex.normalization_config, units=False))
    forms = [latex, ExprExtractionConfig()]

    @lru_cache(maxsize=10_000)
    def parsed(text: str) -> tuple[Any, ...]:
        return tuple(parse(f"${text}$", forms, parsing_timeout=None, raise_on_error=True))

    def equal(one: Sequence[Any], other: Sequence[Any]) -> bool:
        if one and other and _plainly_differ(one[0], other[0]):
            return False
        # math-verify is not symmetric: it splits equations only in the answer.
        settings: dict[str, Any] = {
            "timeout_seconds": None,
            "raise_on_error": True,
            "allow_set_relation_comp": True,
        }
        return bool(verify(list(one), list(other), **settings) or verify(list(other), list(one), **settings))

    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        reply: dict[str, bool | str]
        try:
            gold, answer, released = json.loads(line)
            if released:
                swapped = parse(f"${answer}$"), parse(f"${gold}$")
                reply = {"equal": bool(verify(*swapped, timeout_seconds=None))}
            else:
                reply = {"equal": bool(equal(parsed(gold), parsed(answer)))}
        except Exception as error:
            reply = {"error": f"{type(error).__name__} in math-verify"}
        print(json.dumps(reply), file=out, flush=True)


def _plainly_differ(one: Any, other: Any) -> bool:
    """Whether two SymPy values differ by their size, or one is a number and the other has variables.

    math-verify calls tiny numbers equal, because it rounds their difference to nothing, and spends most of
    its time on comparing numbers with polynomials.
    """
    if any(str(value) in {"zoo", "nan"} for value in (one, other)):
        return True  # a ratio such as 12:00 read as a division by zero: no value to compare
    numbers = [getattr(value, "is_number", False) for value in (one, other)]
    if all(numbers):
        try:
            size = max(abs(one.evalf(30)), abs(other.evalf(30)))
            return bool(abs((one - other).evalf(30)) > size * 1e-5)
        except (ArithmeticError, TypeError, ValueError):
            return False
    return any(numbers) and any(map(_has_variables, (one, other)))


def _has_variables(value: Any) -> bool:
    """A sum with variables; math-verify reads the imaginary unit as a symbol too."""
    return getattr(value, "is_Add", False) and any(symbol.name != "i" for symbol in value.free_symbols)


if __name__ == "__main__":
    serve()

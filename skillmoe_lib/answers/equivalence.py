r"""Whether two answers are the same: one definition, shared by votes and grading.

Letters and words are compared as written, apart from layout (`notation.plain_text`). Mathematics is read
by `notation.mathematics`; numbers are compared exactly, and everything else by math-verify (Hugging Face) in
a separate process.

The released code compares with gold and answer swapped and counts every exception as wrong. Here the order
does not matter; pairs that could not be compared are not equal either, but a warning counts them.
"""

import atexit
import warnings
from collections.abc import Sequence
from fractions import Fraction

from skillmoe_lib.answers.math_process import MathProcess
from skillmoe_lib.answers.notation import Mathematics, mathematics, plain_text

#: A rounded decimal equals the number it was rounded from: largest absolute and relative distance.
TOLERANCE = 1e-6


class ComparisonWarning(UserWarning):
    """Some answers could not be compared."""


def canonical(question_kind: str, value: str) -> str:
    r"""A key for an answer: equal keys, equal answers.

    Letters in upper case; text in lower case without layout; numbers as exact fractions in lowest terms
    ("1,000" -> "1000"; "3.0" and "003" -> "3"; `\frac{1}{2}`, "0.5" and "½" -> "1/2"); other mathematics
    as LaTeX without spaces. Equal mathematics may have two keys ("x+1", "1+x"): see `first_equal`.
    """
    if question_kind == "choice":
        return value.strip().strip("()").upper()
    if question_kind == "text":
        return plain_text(value).casefold()
    return mathematics(value).key


def first_equal(question_kind: str, values: Sequence[str]) -> list[int]:
    """For each answer, the position of the first one that is the same; equal positions form a group."""
    keys = [canonical(question_kind, value) for value in values]
    places = {key: keys.index(key) for key in dict.fromkeys(keys)}
    if question_kind == "math" and len(places) > 1:
        firsts = list(places.values())
        pairs = [(i, j) for n, j in enumerate(firsts) for i in firsts[:n]]
        equal = equivalent_many([(values[i], values[j]) for i, j in pairs])
        for (i, j), same in zip(pairs, equal, strict=True):
            # Only the first of a group takes others in; the earliest group wins.
            if same and places[keys[j]] == j and places[keys[i]] == i:
                places[keys[j]] = i
    return [places[key] for key in keys]


def equivalent(*, gold: str, answer: str, timeout_s: float = 5.0) -> bool:
    """Whether two mathematical answers are equal."""
    return equivalent_many([(gold, answer)], timeout_s=timeout_s)[0]


def equivalent_many(pairs: Sequence[tuple[str, str]], *, timeout_s: float = 5.0) -> list[bool]:
    """Compare pairs of mathematical answers, each for at most `timeout_s` seconds; equal pairs only once.

    Warns
    -----
    ComparisonWarning
        How many pairs ran out of time or failed; they count as not equivalent.
    """
    outcomes: dict[tuple[str, str], bool | str] = {}
    for gold, answer in pairs:
        if (gold, answer) not in outcomes:
            outcomes[gold, answer] = _compare(mathematics(gold), mathematics(answer), timeout_s)
    if reasons := [outcome for outcome in outcomes.values() if isinstance(outcome, str)]:
        warnings.warn(
            f"{len(reasons)} of {len(outcomes)} different (gold, answer) pairs could not be compared and "
            f"count as not equivalent: {', '.join(sorted(set(reasons)))}",
            ComparisonWarning,
            stacklevel=2,
        )
    return [outcomes[gold, answer] is True for gold, answer in pairs]


def equal_as_released(pairs: Sequence[tuple[str, str]], *, timeout_s: float = 5.0) -> list[bool]:
    """Compare (gold, answer) pairs as the released code does (docs/method.md 1.9).

    That is math-verify alone, with gold and answer swapped; what cannot be compared is wrong, uncounted.
    """
    outcomes = {pair: _PROCESS.compare(*pair, timeout_s, released=True) for pair in set(pairs)}
    return [outcomes[pair] is True for pair in pairs]


def _compare(one: Mathematics, other: Mathematics, timeout_s: float) -> bool | str:
    """Whether they are equal, or the reason why they could not be compared."""
    if one.key == other.key:
        return True
    if one.is_opaque or other.is_opaque:
        return False
    if one.is_words or other.is_words:
        return one.number is None and other.number is None and _words(one) == _words(other)
    if one.number is not None and other.number is not None:
        return _equal_numbers(one, other, one.number, other.number)
    pair = (one.latex, other.latex)
    if pair not in _KNOWN:
        outcome = _PROCESS.compare(*pair, timeout_s)
        if isinstance(outcome, str):
            return outcome
        _KNOWN[pair] = outcome
    return _KNOWN[pair]


def _words(answer: Mathematics) -> list[str]:
    return plain_text(answer.latex).casefold().split()


def _equal_numbers(one: Mathematics, other: Mathematics, x: Fraction, y: Fraction) -> bool:
    """Equal exactly, or within the rounding of a decimal; 50% is 1/2, and 50 if the sign was left out."""
    if one.is_percent != other.is_percent:
        percent, number = (x, y) if one.is_percent else (y, x)
        return number in (percent / 100, percent)
    distance = abs(x - y)
    largest = max(abs(x), abs(y))
    rounded = one.is_decimal or other.is_decimal
    return rounded and distance < TOLERANCE and distance < 2 * TOLERANCE * largest


#: Results of math-verify, because votes compare the same pairs again and again.
_KNOWN: dict[tuple[str, str], bool] = {}
_PROCESS = MathProcess()
atexit.register(_PROCESS.stop)

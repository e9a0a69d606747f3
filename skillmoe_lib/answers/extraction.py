r"""Reading an answer out of a generation, and grading it.

Prompts ask for a fixed last line (METHOD section 2). The strict rule, the last "answer is (X)", comes
first; then named fallbacks, in the order of `CHOICE_RULES` and `TEXT_RULES`; where none applies the
answer is null, never a guess. A rule reads its *last* statement only: if that names a letter beyond the
choices there is no answer, and an earlier one is not put in its place. "The answer is (A) and (B)" is
read as its X, A, under the rule's other name `SEVERAL`; fallbacks give null there.
`Answer.extractor` names the rule, so that `extraction_audit` can show what hangs on it.

The released code (March 2025) reads a letter anywhere in the text instead; `extract_released` keeps
that for comparison. It also hands a reasoning model's unfinished `<think>` block on as an answer;
`strip_think` does not.
"""

import re
from collections.abc import Callable
from functools import partial
from string import ascii_uppercase
from typing import NamedTuple

from skillmoe_lib.generation import Generation
from skillmoe_lib.questions.benchmark import Question

#: The rule "the last 'answer is (X)'", and the name it goes by where it found "(X) and (Y)".
STRICT = "answer_is"
SEVERAL = "first_of_several"


class Answer(NamedTuple):
    """What was read from a generation.

    `value` is null unless `status` is "answered"; the other statuses say why: "unparsed" (ended without
    an answer), "cut" (stopped by the token limit before one), "overflow" (the prompt left no room),
    "not_run". `extractor` names the rule.
    """

    value: str | None
    status: str
    extractor: str | None = None


class Found(NamedTuple):
    """An answer and the rule that found it; both null where none did."""

    value: str | None = None
    rule: str | None = None


# Layout that may stand between "answer is" and the answer: spaces, markdown, quotes, LaTeX delimiters.
# Bounded here and below, so that a degenerate text (thousands of spaces) costs no more than another.
_LAYOUT = r"(?:[\s*`\"'$:]|\\[(\[]){0,20}"
_WRAP = r"(?:\\(?:boxed|text|textbf|mathrm|mathbf)\s{0,3}\{\s{0,3}){0,4}"
# A letter as a choice: "(b)", or a bare capital that is not the start of a word, a variable in a formula
# or a possessive. "A" and "I" are also words: bare, they need an end or a reason after them.
_LETTER = (
    _WRAP + r"(?:\([A-Za-z]\)|\(?(?:[B-HJ-Z](?![\w'’-]|[ \t]{0,9}(?:[=^+/]|\\(?![)\]]|text)))"
    r"|[AI](?=[ \t]{0,9}(?:[.,;:!?()\]}*`\"$\n–—]|\\[)\]]|\\text|$|(?:because|since|as|and|or)\b))))"
)
_BETWEEN = r"[}*$]{0,4}\s{0,9}(?:,\s{0,9}(?:and\b|or\b)?|and\b|or\b|&|/)\s{0,9}[*$]{0,4}"
_LETTERS = rf"({_LETTER}(?:{_BETWEEN}{_LETTER}){{0,9}})"
_STATED = rf"{_LAYOUT}(?:(?:[Oo]ption|[Cc]hoice)\s)?{_LAYOUT}{_LETTERS}"

_ANSWER_IS = re.compile(rf"(?i:\banswer\s+is)\b{_STATED}")
_ANSWER_COLON = re.compile(rf"(?i:\banswer)[*`]{{0,3}}\s?:{_STATED}")
_OPTION_IS = re.compile(
    r"(?i:\b(?:correct|right|best|closest|nearest)\s(?:answer|option|choice|match|one)\b[^.\n]{0,60}?"
    rf"(?:\b(?:is|should be|would be)\b|:)){_STATED}"
)
_STARTS_WITH_LETTERS = re.compile(_LETTERS)
_LAST_LINE = re.compile(r"[*`$]{0,3}(\([A-Za-z]\)|[A-Z])[.)*`$]{0,4}\Z")
_LONE_LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")
_BOX = re.compile(r"\\f?box(?:ed)?\s?\{")
_ANSWER_IS_BOX = re.compile(rf"(?i:\banswer\s+is)\b{_LAYOUT}\\f?box(?:ed)?\s?\{{")
_RUN_ON = re.compile(
    r"\n[#*\s]{0,9}(?:(?:Question|Problem|Exercise)[*\s]{0,3}\d{0,3}[*\s]{0,3}(?::|\Z)|Q\s?\d{0,3}\s?[:.]"
    r"|(?:User|Human):|<\|)"
)
# Stands where a cut text would go on: a letter, so that what ends there has no end of its own.
_GOES_ON = "ꙮ"


def strip_think(text: str, *, reasoning: bool = False) -> str | None:
    """What follows the last `</think>` (METHOD 1.7); null if thinking was cut before it.

    `reasoning`: the chat template opens the block, so that its text need not hold `<think>` itself.
    """
    _, closed, after = text.rpartition("</think>")
    if "<think>" in after or (reasoning and not closed):
        return None
    return after


def first_turn(text: str) -> str:
    r"""The text up to where a model starts another question of its own ("\nQuestion:", "\n\nQ: ...").

    A base model, asked plainly, does not stop after its answer: it writes the next question and
    answers that too, and the *last* answer in the text is then to a question nobody asked. Chat models
    end their turn themselves and may restate the question, so they are not cut. A run-on at the very
    start, with nothing before it, is not cut either.
    """
    for match in _RUN_ON.finditer(text):
        if before := text[: match.start()].strip():
            return before
    return text


def extract_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` or `\fbox{...}`, braces balanced; null if that one is open."""
    return _last_box(_BOX, text)


def _last_box(opening: re.Pattern[str], text: str) -> str | None:
    starts = [match.end() for match in opening.finditer(text)]
    depth = 1
    for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, starts[-1]) if starts else ():
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return text[starts[-1] : brace.start()].strip()
    return None


def _last(pattern: re.Pattern[str]) -> Callable[[str], str | None]:
    def statement(text: str) -> str | None:
        matches = pattern.findall(text)
        return str(matches[-1]) if matches else None

    return statement


def _boxed_letters(text: str) -> str | None:
    match = _STARTS_WITH_LETTERS.match(extract_boxed(text) or "")
    return match.group(1) if match else None


def _last_line(text: str) -> str | None:
    match = _LAST_LINE.match(text.strip().rsplit("\n", 1)[-1].strip())
    return match.group(1) if match else None


#: (name, rule) in order; a rule gives the letters its last statement names, as written, or null.
CHOICE_RULES: tuple[tuple[str, Callable[[str], str | None]], ...] = (
    (STRICT, _last(_ANSWER_IS)),
    ("answer_colon", _last(_ANSWER_COLON)),
    ("boxed", _boxed_letters),
    ("option_is", _last(_OPTION_IS)),
    ("last_line", _last_line),
)


def find_choice(text: str, n_choices: int) -> Found:
    """The letter the text gives as its answer, and the rule that found it."""
    for name, rule in CHOICE_RULES:
        if statement := rule(text):
            letters = [letter.upper() for letter in _LONE_LETTER.findall(statement)]
            several = len(set(letters)) > 1
            if letters[0] not in ascii_uppercase[:n_choices] or (several and name != STRICT):
                return Found()
            return Found(letters[0], SEVERAL if several else name)
    return Found()


def extract_choice(text: str, n_choices: int) -> str | None:
    """The letter the text gives as its answer, among the first `n_choices`; null if it gives none."""
    return find_choice(text, n_choices).value


def extract_released(text: str, n_choices: int) -> str | None:
    """The released code's reading, for comparison: the last capital before a ")", else the last capital.

    "The answer is C. Options A) and B) are wrong." gives B. Its character class also takes "|", which
    is no letter: null here.
    """
    letters = ascii_uppercase[:n_choices]
    found = re.findall(rf"([{letters}|])\)", text) or re.findall(rf"[{letters}|]", text)
    return found[-1] if found and found[-1] != "|" else None


def _phrase(pattern: str) -> Callable[[str], str | None]:
    """The last phrase after `pattern`, to the end of its line or sentence, without its layout."""
    compiled = re.compile(rf"(?i:{pattern}){_LAYOUT}([^\n]+?)(?=\.(?:[\s*]|$)|\n|$)")

    def phrase(text: str) -> str | None:
        matches = compiled.findall(text)
        return re.sub(r"[\s*`\"'$]+$|\\[)\]]$", "", matches[-1]) or None if matches else None

    return phrase


#: (name, rule) in order, for mathematics and short free answers; a rule gives its last value or null.
TEXT_RULES: tuple[tuple[str, Callable[[str], str | None]], ...] = (
    ("answer_is_boxed", partial(_last_box, _ANSWER_IS_BOX)),
    ("boxed", extract_boxed),
    ("answer_is", _phrase(r"\banswer\s+is\b")),
    ("answer_colon", _phrase(r"\banswer[*`]*\s*:")),
    ("hashes", _phrase(r"(?:^|\n)####")),
)


def _find_text(text: str) -> Found:
    return next((Found(value, name) for name, rule in TEXT_RULES if (value := rule(text))), Found())


def extract_text(text: str) -> str | None:
    r"""A short free answer: `The answer is \boxed{X}`, else the fallbacks of `TEXT_RULES`; null if none."""
    return _find_text(text).value


def read(
    question: Question, generation: Generation, *, reasoning: bool = False, plain: bool = False
) -> Answer:
    """Read the answer to a question of any kind.

    Parameters
    ----------
    reasoning
        The expert writes a `<think>` block first; only what follows it is read.
    plain
        The expert was asked without a chat template: only its `first_turn` is read.

    Notes
    -----
    In a text stopped by the token limit, an answer without an end of its own ("The answer is 12", which
    might have become 125) is not one: the status is "cut".
    """
    if generation.finish_reason in ("overflow", "not_run"):
        return Answer(None, generation.finish_reason)
    cut = generation.finish_reason == "length"
    text = strip_think(generation.text, reasoning=reasoning) or ""
    whole = first_turn(text) if plain else text
    if cut and whole == text:
        whole += _GOES_ON
    found = find_choice(whole, len(question.choices)) if question.kind == "choice" else _find_text(whole)
    if found.value is None or _GOES_ON in found.value:
        return Answer(None, "cut" if cut else "unparsed")
    return Answer(found.value, "answered", found.rule)

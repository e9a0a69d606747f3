r"""Reading an answer out of a generation, and grading it.

Prompts ask for a fixed last line (docs/method.md 2). The strict rule, the last "answer is (X)", comes
first; then named fallbacks, in the order of `CHOICE_RULES` and `TEXT_RULES`; if none applies the
answer is null, never a guess. A rule reads its *last* statement only: if that names a letter beyond the
choices there is no answer, and no earlier statement replaces it. "The answer is (A) and (B)" is
read as A, under the rule's other name `SEVERAL`; fallbacks give null for such a text.
`Answer.extractor` names the rule, so that `studies/extraction.py` can show how much depends on it.

Statements are ignored if they are denied, doubted or attributed to others ("Answer: B? No",
"(A), which is wrong", "the student's answer is (A)"); so are the prompt's own "(X)", an empty box, and the
text of a think block. A bare letter is read only if what follows cannot belong to it: "A because", "A." and
"A - Paris", not "A person", "B cells" or "C = 5". The rule is the same for all letters, so that A, which is
also an English word, is read as often as B.

The released code (March 2025) reads a letter anywhere in the text instead; `extract_released` keeps
that for comparison. It also passes on a reasoning model's unfinished `<think>` block as an answer;
`strip_think` does not.
"""

import re
from collections.abc import Callable
from functools import partial
from string import ascii_uppercase
from typing import Literal, NamedTuple

from skillmoe_lib.answers.notation import plain_text
from skillmoe_lib.generation import Generation
from skillmoe_lib.questions.benchmark import Question

#: The rule "the last 'answer is (X)'", and its other name, used where it found "(X) and (Y)".
STRICT = "answer_is"
SEVERAL = "first_of_several"


#: The longest answer in words that is accepted.
MAX_CHARS = 4000


class Answer(NamedTuple):
    """The answer read from a generation.

    `value` is null unless `status` is "answered"; the other statuses say why: "unparsed" (ended without
    an answer), "cut" (stopped by the token limit before one), "overflow" (the prompt left no room),
    "not_run". `extractor` names the rule.
    """

    value: str | None
    status: str
    extractor: str | None = None


class Found(NamedTuple):
    """An answer and the rule that found it; both null if none did."""

    value: str | None = None
    rule: str | None = None


# Repetitions are bounded here and below, so that a degenerate text (thousands of spaces) is read as fast as
# any other.
_STYLE = (
    r"\\(?:f?box(?:ed)?|framebox|text\w{0,6}|math(?!bb|cal)\w{2,6}|mbox|bf|rm|it|displaystyle|underline|[lL]arge)"
    r"(?![a-z])"
)
# Layout that may stand between "answer is" and the answer: spaces, markdown, quotes, brackets, LaTeX.
_OPEN = rf"(?:[\s*_`\"'$:{{\[]|\\[(\[]|{_STYLE}\s{{0,3}}\{{?){{0,20}}"
_NOUN = rf"(?:(?:the\s)?(?i:option|choice|letter|statement|answer)(?![a-z]))?{_OPEN}"
_CLOSE = r"[)\]}*_`\"'$]{0,6}"
# What must follow a bare capital: an end, or a word that cannot continue it as "cells" continues "B".
_WORDS_AFTER = (
    r"(?:because|since|as|and|or|which|whose|if|when|where|while|for|from|with|without|by|based|due|given|in|on"
    r"|at|here|is|are|but|not|that|so|only|according|per|after|under|among|rather|thus|hence|therefore)\b"
)
_END = (
    rf"(?={_CLOSE}[ \t]{{0,9}}(?:[.,;:!)\]}}$\n…–—→&`\"]|\*\*|\\[)\]\\]|\\text|\Z|<[|/]|-{{1,2}}[ >])"
    rf"|[*_'](?![\w(|\\])|{_CLOSE}[ \t]{{1,9}}(?:\(|{_WORDS_AFTER}))"
)
# "(b)", "( **B** )"; a bare capital; a bare small letter only at the end of a line or clause.
_LETTER = (
    rf"{_OPEN}(?:\(\s?[*_`\"']{{0,3}}[A-Za-z][*_`\"']{{0,3}}\s?\)|\(?[A-Z]{_END}"
    rf"|[a-z](?={_CLOSE}(?:[.,;:)](?!\w)|\n|\Z)))"
)
_BETWEEN = r"[}*$\]]{0,4}\s{0,9}(?:,\s{0,9}(?:and\b|or\b)?|and\b|or\b|&|/)\s{0,9}[*$\[]{0,4}"
_LETTERS = rf"({_LETTER}(?:{_BETWEEN}{_LETTER}){{0,9}})"
_STATED = rf"{_OPEN}{_NOUN}{_LETTERS}"

_IS = r"\banswer\s+(?:is|(?:would|should|must|will)\s+(?:then\s|therefore\s|thus\s)?be|has\s+to\s+be)\b"
_ANSWER_IS = re.compile(rf"(?i:{_IS}){_STATED}")
#: "Answer: C" anywhere; at the start of a line also "Answer = C", "Answer - C", "Answer (C)", "Ans. (C)".
_ANSWER_COLON = re.compile(
    rf"(?:(?i:\banswer)[*_`\"']{{0,3}}\s?:|(?:\A|\n)[#*_\s]{{0,9}}(?i:(?:final\s|correct\s|my\s)?ans(?:wer)?\b)"
    rf"[*_`]{{0,3}}\.?\s?[*_`]{{0,3}}(?:[:=–-]|(?=\()))(?![a-z]){_STATED}"
)
_OPTION_IS = re.compile(
    r"(?:(?i:\b(?:correct|right|best|closest|nearest)\s(?:answer|option|choice|match|one|letter|statement)\b)"
    r"[^.\n]{0,60}?(?i:\b(?:is|should be|would be|must be|has to be)\b|:)"
    r"|(?i:\b(?:my|final)\s(?:choice|selection|pick)(?:\sis\b|:)|\bcorrect:)"
    rf"|\bI(?:'d|'ll|\swould|\swill)?\s(?:choose|select|pick|chose|selected|go with)\b){_STATED}"
)
_IS_CORRECT = re.compile(
    r"(?:\A|[\n.,;:!]|\b(?i:so|thus|hence|therefore|that|option|choice|answer|statement)\b)\s{0,9}[*_`\"'$\[]{0,6}"
    rf"{_NOUN}(\(\s?[A-Za-z]\s?\)|[A-Z]){_CLOSE}\sis\s(?:therefore\s|thus\s)?(?:the\s)?(?:only\s|most\s)?"
    r"(?:correct|right|best)\b(?:\s(?:answer|option|choice|one))?(?!\s(?:about|that|but|and|if|in)\b)"
)
_IN_BOX = re.compile(
    rf"{_OPEN}(?i:(?:the\s)?(?:(?:correct|final|best)\s)?(?:(?:answer|option|choice|letter)\b)?(?:\sis\b)?)"
    rf"{_STATED}"
)
_MARKS = r"[*_`$\s\-•>#\[\"']{0,9}"
_LAST_LINE = re.compile(
    rf"{_MARKS}(?:(?:Option|Choice|Letter)\s?:?\s)?[*_`$\[\"']{{0,4}}(\([A-Za-z]\)|[A-Za-z])"
    r"[.):*_`$\]\"']{0,5}\Z"
)
#: A choice with its own text: "C) Golgi", "(C) 42", "C. Paris", "C: 42", "C - 42"; and how each begins.
_LABEL = rf"{_MARKS}(?:(?:Option|Choice)\s)?[*_`]{{0,3}}(\([A-Z]\)|[A-Z](?=[*_`]{{0,3}}[.):]|\s[-–—]\s))"
_LABEL_FIRST = re.compile(_LABEL)
_LABELLED = re.compile(
    rf"{_LABEL}"
    r"[*_`.):]{0,4}(?:\s[-–—])?[*_`]{0,3}\s{1,3}(?!(?:is|are|was|can|has|does|would|should|isn't|may|might)\b"
    r"|[Ll]et's\b)\S.{0,160}\Z"
)
_LONE_LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")
_BOX = re.compile(r"\\f?(?:frame)?box(?:ed)?\s?\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_LAYOUT = r"(?:[\s*`\"“'$:]|\\[(\[]){0,20}"
_ANSWER_IS_BOX = re.compile(rf"(?i:{_IS}){_LAYOUT}\\f?(?:frame)?box(?:ed)?\s?\{{")
_BLANK = re.compile(r"(?:[\s.…_?$*{}]|\\[lc]?dots\b|\\(?:text|q?quad)\b)*")
#: What joins two boxes into one answer: "\boxed{1} and \boxed{2}".
_JOINS = re.compile(
    r"[\s$)\\]{0,9}(?:,\s{0,3}(?:and|or)?|;|and|or|\\text\{\s{0,3},?\s{0,3}(?:and|or)\s{0,3}\})[\s$(\\]{0,9}"
)
_RUN_ON = re.compile(
    r"\n[#*\s]{0,9}(?:(?:Question|Problem|Exercise)[*\s]{0,3}\d{0,3}[*\s]{0,3}(?::|\Z)|Q\s?\d{0,3}\s?[:.]"
    r"|(?:User|Human):|<\|)"
)
# A statement is ignored after the first of these, and before the second.
_NOT_MINE = re.compile(
    r"(?:\b(?:his|her|their|someone's|(?:student|friend|teacher|classmate|user|author|model)(?:'s|s'))\s"
    r"(?:own\s|first\s|final\s)?|\b(?-i:[A-Z][a-z]{1,15})'s\s"
    r"|\b(?:might|may|could|would)\s(?:be\stempted\sto\s)?(?:think|say|argue|guess|believe|assume)\b[^.\n]{0,30}"
    r"|\b(?:if|suppose|assuming|whether|unless|why)\s(?:that\s)?(?:the\s)?(?:correct\s)?|\bnot\sthat\sthe\s)\Z",
    re.I,
)
_DENIED = re.compile(
    rf"{_CLOSE}\s{{0,3}}(?:\?|[,(]?\s?(?:which\s|that\s|but\s)?(?:this\s|it\s|that\s)?"
    r"(?:(?:is|are|was|were|must\sbe|would\sbe|seems|looks)\s(?:\w{1,12}ly\s|also\s|both\s)?(?:incorrect|wrong|false|invalid"
    r"|impossible|unlikely|ruled\sout|not\s(?:the\s|an?\s)?(?:correct|right|true|valid|possible|answer|option))"
    r"|(?:isn't|can't|cannot|could\snot|can\snot)\s(?:be\s)?(?:the\s)?(?:correct|right|true|valid|answer))"
    r"|,?\s?only\sif\b"
    r"|[^.\n]{0,80},\s?but\s(?:it\b|that\b|this\b|actually\b|wait\b|no\b|the\s(?:question|answer|correct|right|real)\b))",
    re.I,
)
_THOUGHT = r"(?:think|thinking|thought|reasoning|scratchpad)>|\[{}THINK\]|<\|{}_of_thought\|>"
_OPENED = re.compile("<" + _THOUGHT.format("", "begin"))
_CLOSED = re.compile("</" + _THOUGHT.format("/", "end"))
_TAGGED = re.compile(r"<answer>\s{0,9}([^<]{1,400}?)\s{0,9}</answer>", re.I)
#: Marks that end a turn, if an engine leaves them in; HTML; typographic characters and their plain forms.
_TURN_END = re.compile(r"</s>|<\|?(?:eot_id|im_end|end|endoftext|end_of_turn|eos|end_of_text)\|?>")
_HTML = re.compile(r"</?(?:b|i|em|strong|u|code|span|p|mark)>|<br ?/?>")
_PLAIN = str.maketrans(
    {"（": "(", "）": ")", "：": ":", "“": '"', "”": '"', "‘": "'", "’": "'", "\u00a0": " "}
)
# Put where a cut text would continue: a letter, so that an answer at the very end does not look complete.
_GOES_ON = "ꙮ"


def strip_think(text: str, *, reasoning: bool = False) -> str | None:
    """The text after the last `</think>` (docs/method.md 1.7) or similar mark; null if cut before it.

    `reasoning`: the chat template opens the block, so the text need not contain `<think>` itself.
    """
    closed = [match.end() for match in _CLOSED.finditer(text)]
    after = text[closed[-1] :] if closed else text
    if _OPENED.search(after) or (reasoning and not closed):
        return None
    return after


def first_turn(text: str) -> str:
    r"""The text up to where a model starts another question of its own ("\nQuestion:", "\n\nQ: ...").

    A base model without a chat template does not stop after its answer: it writes another question and
    answers that too, and the *last* answer in the text then belongs to a question that was not asked. Chat
    models end their turn themselves and may restate the question, so they are not cut. A new question at
    the very start, with nothing before it, is not cut either.
    """
    for match in _RUN_ON.finditer(text):
        if before := text[: match.start()].strip():
            return before
    return text


def extract_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}`, braces balanced; null if it is not closed.

    Empty boxes do not count. Boxes joined by "and", "or" or a comma are one answer: "1, 2".
    """
    return _boxed(_BOX, text)


def _boxed(opening: re.Pattern[str], text: str) -> str | None:
    """The last box that `opening` finds, with the boxes joined to it before and after."""
    boxes = _boxes(text)
    if not boxes:
        return None
    starts = {match.end() for match in opening.finditer(text)}
    chosen = next((n for n in reversed(range(len(boxes))) if boxes[n][1] in starts), None)
    if chosen is None or boxes[chosen][2] is None:
        return None
    first = last = chosen
    while first > 0 and _joined(text, boxes[first - 1], boxes[first]):
        first -= 1
    while last + 1 < len(boxes) and _joined(text, boxes[last], boxes[last + 1]):
        last += 1
    return ", ".join(dict.fromkeys(text[start:end].strip() for _, start, end in boxes[first : last + 1]))


def _boxes(text: str) -> list[tuple[int, int, int | None]]:
    r"""Where each box opens and its content starts and ends (null: still open), empty ones left out."""
    opens = {match.end(): match.start() for match in _BOX.finditer(text)}
    found: list[tuple[int, int, int | None]] = []
    unclosed: list[int] = []
    for brace in _BRACE.finditer(text, min(opens.values())) if opens else ():
        if brace.group() == "{":
            unclosed.append(brace.end())
        elif brace.group() == "}" and unclosed:
            start = unclosed.pop()
            if start in opens and not _BLANK.fullmatch(text, start, brace.start()):
                found.append((opens[start], start, brace.start()))
    return sorted([*found, *((opens[start], start, None) for start in unclosed if start in opens)])


def _joined(text: str, one: tuple[int, int, int | None], other: tuple[int, int, int | None]) -> bool:
    return one[2] is not None and other[2] is not None and bool(_JOINS.fullmatch(text, one[2] + 1, other[0]))


def _own_words(text: str) -> str:
    """The text without thinking, marks that end a turn, HTML, and typographic quotes and brackets."""
    after = strip_think(text)
    if after is not None and not after.strip() and (opened := _OPENED.search(text)):
        after = text[: opened.start()]
    after = _HTML.sub("", _TURN_END.sub("\n", text if after is None else after)).translate(_PLAIN)
    return re.sub(r"(\s)\1{2,}", r"\1\1", after)


def _passed_over(text: str, match: re.Match[str]) -> bool:
    """Whether a statement is attributed to others, denied or in doubt."""
    return bool(
        _NOT_MINE.search(text[max(0, match.start() - 80) : match.start()]) or _DENIED.match(text, match.end())
    )


#: A rule gives its statements, the last one first; a statement is the letters it names, as written.
ChoiceRule = Callable[[str], list[str]]


def _statements(pattern: re.Pattern[str]) -> ChoiceRule:
    def statements(text: str) -> list[str]:
        found = [match.group(1) for match in pattern.finditer(text) if not _passed_over(text, match)]
        return found[::-1]

    return statements


def _letters_in(value: str | None) -> list[str]:
    match = _IN_BOX.match(plain_text(value)) if value else None
    return [match.group(1)] if match else []


def _boxed_letters(text: str) -> list[str]:
    return _letters_in(extract_boxed(text))


def _tagged_letters(text: str) -> list[str]:
    return [letters for value in reversed(_TAGGED.findall(text)) for letters in _letters_in(value)]


def _is_correct(text: str) -> list[str]:
    """ "C is correct", if no other letter is called correct too."""
    found = _statements(_IS_CORRECT)(text)
    return found if len({letter.strip("() ").upper() for letter in found}) == 1 else []


def _last_line(text: str) -> list[str]:
    match = _LAST_LINE.match(text.strip().rsplit("\n", 1)[-1].strip())
    return [match.group(1)] if match else []


def _labelled_line(text: str) -> list[str]:
    """The last line is a choice with its text, and no other line begins like one: a list is not an answer."""
    *lines, last = [line for line in text.split("\n") if line.strip()] or [""]
    match = _LABELLED.match(last)
    if match is None or any(_LABEL_FIRST.match(line) or line.lstrip().startswith("Q:") for line in lines):
        return []
    return [match.group(1)]


#: (name, rule) in order.
CHOICE_RULES: tuple[tuple[str, ChoiceRule], ...] = (
    (STRICT, _statements(_ANSWER_IS)),
    ("answer_tag", _tagged_letters),
    ("answer_colon", _statements(_ANSWER_COLON)),
    ("boxed", _boxed_letters),
    ("option_is", _statements(_OPTION_IS)),
    ("is_correct", _is_correct),
    ("last_line", _last_line),
    ("labelled_line", _labelled_line),
)


def find_choice(text: str, n_choices: int) -> Found:
    """The letter the text gives as its answer, and the rule that found it."""
    choices = ascii_uppercase[:n_choices]
    own = _own_words(text)
    for name, rule in CHOICE_RULES:
        for statement in rule(own):
            written = _LONE_LETTER.findall(statement)
            letters = [letter.upper() for letter in written]
            if letters[0] not in choices and (
                letters == ["X"] or (written[0].islower() and "(" not in statement)
            ):
                continue  # the prompt's own "(X)", or a variable
            several = len(set(letters)) > 1
            if letters[0] not in choices or (several and name != STRICT):
                return Found()
            return Found(letters[0], SEVERAL if several else name)
    return Found()


def extract_choice(text: str, n_choices: int) -> str | None:
    """The letter the text gives as its answer, among the first `n_choices`; null if it gives none."""
    return find_choice(text, n_choices).value


def extract_released(text: str, n_choices: int) -> str | None:
    """As the released code reads, for comparison: the last capital before a ")", else the last capital.

    "The answer is C. Options A) and B) are wrong." gives B. Its character class also matches "|", which
    is not a letter: null here.
    """
    letters = ascii_uppercase[:n_choices]
    found = re.findall(rf"([{letters}|])\)", text) or re.findall(rf"[{letters}|]", text)
    return found[-1] if found and found[-1] != "|" else None


# A full stop that does not end a sentence, and words that begin one nevertheless.
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mrs?|Ms|Dr|St|Mt|Ft|Prof|Jr|Sr|No|vs|Rev|Gen|Capt)|(?:\A|[\s.])[A-Za-z]\.[A-Za-z])\Z"
)
_NEW_SENTENCE = re.compile(
    r"\s+(?:It|This|The|That|These|We|So|Thus|Therefore|Hence|Because|He|She|They|I|In|Here|Note|If|As)\b"
)
#: "The answer is positive, as it should be" describes an answer given before.
_DESCRIBES = re.compile(
    r"(?:therefore |indeed |also |clearly )?(?:in)?(?:correct|right|wrong|positive|negative|consistent"
    r"|helpful"
    r"|reasonable|plausible|sensible|valid|expected|as expected|clear|obvious"
    r"|unique|verified|confirmed|indeed|found|obtained|given by"
    r"|accurate|complete|exact|useful|simplified|already|in (?:its|the|terms|units)"
    r"|an? (?:positive|negative|whole|integer|number|real))\b",
    re.I,
)
_OF_THIS = re.compile(
    r"\b(?:this|that|whether the|hope the|hope my|sure the|check that the|verify that the)\s\Z", re.I
)
_HEADING = re.compile(r"(?:\A|\n)[#*_ ]{1,9}(?i:(?:the )?(?:final )?answer)[*_ ]{0,5}\n\s{0,9}")
_HASHES = re.compile(r"(?:\A|\n)####(?!#)[ \t]{0,9}")
_NUMERIC = re.compile(r"[*\s]{0,5}[-+−]?\s?(?:\\?\$|[£€¥₹]|\\)?\s?[\d.]*\d(?![\d.]*[.)]\s+[A-Za-z])")
_LONE_VALUE = re.compile(
    r"(?:\*\*([^*\n]{1,80})\*\*|\$\$?([^$\n]{1,80})\$\$?|\\\(([^\n]{1,80})\\\)|(-?[\d.,/]{1,40}))\.?"
)


def _line_at(text: str, position: int) -> str | None:
    """The text from there to the end of its line or sentence, without layout; null if it is empty."""
    line = text[position : position + MAX_CHARS].partition("\n")[0]
    for stop in re.finditer(r"\.(?=[\s*_`\"')\]]|$)", line):
        before, after = line[: stop.start()], line[stop.end() :]
        lower = before[-1:].isalpha() and re.match(r"\s+[a-z]", after)
        abbreviation = _ABBREVIATION.search(before[-12:]) and not _NEW_SENTENCE.match(after)
        if not (after.strip() and (lower or abbreviation)):
            line = before
            break
    return re.sub(r"[\s*`\"'$]+$|\\[)\]]$", "", line) or None


def _phrase(pattern: str) -> Callable[[str], str | None]:
    """The phrase after the last `pattern` that states a value; if all only describe one, the last."""
    compiled = re.compile(rf"(?i:{pattern}){_LAYOUT}")

    def phrase(text: str) -> str | None:
        described = None
        for match in reversed(list(compiled.finditer(text))):
            before = text[max(0, match.start() - 80) : match.start()]
            if (value := _line_at(text, match.end())) and not _NOT_MINE.search(before):
                if not (_DESCRIBES.match(value) or _OF_THIS.search(before)):
                    return value
                described = described or value
        return described

    return phrase


def _heading(text: str) -> str | None:
    matches = list(_HEADING.finditer(text))
    return _line_at(text, matches[-1].end()) if matches else None


def _hashes(text: str) -> str | None:
    """GSM8K's "#### 18": a number, or the last line; another "#### ..." is a heading."""
    for match in reversed(list(_HASHES.finditer(text))):
        if _NUMERIC.match(text, match.end()) or "\n" not in text[match.end() :].strip():
            return _line_at(text, match.end())
    return None


def _lone_value(text: str) -> str | None:
    """A text that is only a number, or one phrase in bold or in dollar signs."""
    match = _LONE_VALUE.fullmatch(text.strip())
    return next((group.strip() for group in match.groups() if group), None) if match else None


def _tagged(text: str) -> str | None:
    return next(reversed(_TAGGED.findall(text)), None)


#: (name, rule) in order, for mathematics and short free answers; a rule gives its last value or null.
TEXT_RULES: tuple[tuple[str, Callable[[str], str | None]], ...] = (
    ("answer_is_boxed", partial(_boxed, _ANSWER_IS_BOX)),
    ("boxed", extract_boxed),
    ("answer_tag", _tagged),
    ("answer_is", _phrase(_IS)),
    ("answer_colon", _phrase(r"\bans(?:wer)?\b[*`]*\s*[:=]")),
    ("hashes", _hashes),
    ("heading", _heading),
    ("lone_value", _lone_value),
)


def _find_text(text: str) -> Found:
    own = _own_words(text)
    return next((Found(value, name) for name, rule in TEXT_RULES if (value := rule(own))), Found())


def extract_text(text: str) -> str | None:
    r"""A short free answer: `The answer is \boxed{X}`, else the fallbacks of `TEXT_RULES`; null if none."""
    return _find_text(text).value


def read(
    question: Question,
    generation: Generation,
    *,
    reasoning: bool = False,
    plain: bool = False,
    extractor: Literal["rules", "released"] = "rules",
    cut_thinking: bool = False,
) -> Answer:
    """Read the answer to a question of any kind.

    Parameters
    ----------
    reasoning
        The expert writes a `<think>` block first; only what follows it is read.
    plain
        The expert was prompted without a chat template: only its `first_turn` is read.
    extractor
        How a choice's letter is found: by our "rules", or "released" (`extract_released`).
    cut_thinking
        Read a `<think>` block that never ended (as the released code does).

    Notes
    -----
    In a text stopped by the token limit, an answer that may not be complete ("The answer is 12" could have
    become 125) does not count: the status is "cut".
    """
    if generation.finish_reason in ("overflow", "not_run"):
        return Answer(None, generation.finish_reason)
    cut = generation.finish_reason == "length"
    after = strip_think(generation.text, reasoning=reasoning)
    text = generation.text if after is None and cut_thinking else after or ""
    whole = first_turn(text) if plain else text
    if cut and whole == text:
        whole += _GOES_ON
    if question.kind != "choice":
        found = _find_text(whole)
    elif extractor == "released":
        found = Found(extract_released(text, len(question.choices)), "released")
    else:
        found = find_choice(whole, len(question.choices))
    if found.value is None or _GOES_ON in found.value:
        return Answer(None, "cut" if cut else "unparsed")
    return Answer(found.value, "answered", found.rule)

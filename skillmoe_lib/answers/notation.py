r"""Notation of answers: layout, units and remarks are removed, the value stays.

Models write one value in many ways: `\text{Paris}`, `**Paris**` and "Paris."; "2 1/4", `2\frac14` and
"2.25"; "$18", "18 USD" and "18 dollars". `plain_text` removes the layout of words. `mathematics` reads what
it can as an exact number, and prepares the rest for math-verify, which reads only LaTeX and drops what it
does not know: it reads "5 feet 7 inches" as 5, "1011_2" as 1011, and "live" as "evil", a product of letters.
"""

import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

# -- layout ----------------------------------------------------------------------------------------

_STYLE = (
    r"text(?:bf|it|rm|tt|sf|sc|sl|up|md|normal)?|math(?:rm|bf|it|sf|tt|normal)|mbox|hbox|emph|operatorname\*?"
    r"|boldsymbol|bm|underline|boxed|fbox|framebox"
)
_STYLED = re.compile(rf"\\(?:{_STYLE})\s*\{{([^{{}}]*)\}}")
_SWITCH = re.compile(r"\\(?:displaystyle|textstyle|bfseries|bf|rm|it|sf|tt|large|Large|huge)(?![a-zA-Z])\s*")
_SPACE = re.compile(r"\\[,;:! ]|\\q?quad(?![a-zA-Z])|(?<!\\)~|[\u00a0\u2009\u202f]")
_ACCENT = re.compile(r"\\(['`^\"~])(?:\{([A-Za-z])\}|([A-Za-z]))")
_COMBINING = {"'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303"}
_ENCLOSING = (
    ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("__", "__"), ("*", "*"),
    ("_", "_"), ("```", "```"), ("`", "`"), ('"', '"'), ("'", "'"), ("{", "}"),
)  # fmt: skip
_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"'})


def _repeated(step: Callable[[str], str], text: str) -> str:
    """A step repeated until it changes nothing, at most twenty times."""
    for _ in range(20):
        if (changed := step(text)) == text:
            break
        text = changed
    return text


def _unwrapped(text: str) -> str:
    """The text without marks that enclose all of it: `**x**`, `$x$`, "x", `{x}`."""
    text = text.strip()
    for opening, closing in _ENCLOSING:
        inner = text[len(opening) : -len(closing)]
        whole = text.startswith(opening) and text.endswith(closing) and inner.strip()
        if whole and opening not in inner and closing not in inner:
            return inner.strip()
    return text


def plain_text(value: str) -> str:
    r"""A text answer without the layout of LaTeX and markdown, its white space collapsed; case is kept.

    `\text{New\ York}` -> "New York"; `R\&D` -> "R&D"; `**Paris**.` -> "Paris".
    """
    text = unicodedata.normalize("NFC", value).translate(_QUOTES)
    text = _ACCENT.sub(lambda m: unicodedata.normalize("NFC", (m[2] or m[3]) + _COMBINING[m[1]]), text)
    text = _SWITCH.sub("", _repeated(lambda t: _STYLED.sub(r"\1", t), text))
    text = re.sub(r"\\([%_#&$])|\\\Z", r"\1", _SPACE.sub(" ", text))
    text = _repeated(lambda t: _unwrapped(re.sub(r"(?<=[^\s.])\.$", "", t.strip())), text)
    return " ".join(text.split()) or " ".join(value.split())


# -- mathematics -----------------------------------------------------------------------------------


class Mathematics(NamedTuple):
    """A mathematical answer, read.

    `latex` is passed to math-verify. `number` is the exact value if the answer is one number; for a
    percentage it is the number before the sign (`is_percent`). `is_decimal`: written with a decimal point, so
    perhaps rounded. `is_words`: no mathematics in it. `is_opaque`: math-verify would drop a part of it, so it
    equals only answers written in the same way.
    """

    latex: str
    number: Fraction | None = None
    is_percent: bool = False
    is_decimal: bool = False
    is_words: bool = False
    is_opaque: bool = False

    @property
    def key(self) -> str:
        """Answers with the same key are equal; equal answers may have different keys ("x+1", "1+x")."""
        if self.number is not None:
            return f"{self.number}%" if self.is_percent else str(self.number)
        return " ".join(self.latex.casefold().split()) if self.is_words else re.sub(r"\s+", "", self.latex)


_SIGNS = str.maketrans(
    {
        "∞": r"\infty ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "×": r"\times ", "÷": r"\div ",
        "≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ", "±": r"\pm ", "∪": r"\cup ", "∩": r"\cap ",
        "∈": r"\in ", "∅": r"\emptyset ", "°": r"^\circ ", "≈": r"\approx ", "ℝ": r"\mathbb{R}", "−": "-",
        "‒": "-", "…": r"\ldots ", "⋯": r"\ldots ", "′": "'", "″": "''", "→": r"\to ", "∣": "|", "∶": ":",
        "⁄": "/", "º": r"^\circ ",
    }
)  # fmt: skip
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_SUBSCRIPTS = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_ROOT = re.compile(
    r"(?:√|(?<![a-zA-Z])\\?sqrt)\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+(?:\.\d+)?|[a-zπ])(?![a-zA-Z]))"
)
_GREEK = re.compile("[α-ρσ-ωΓΔΘΛΞΠΣΦΨΩ]")

# A number. The number of digits is bounded: int() and Fraction() of a degenerate text must be fast.
_DIGITS = r"(?:\d{1,3}(?:,\d{3}){1,20}(?!\d)|\d{1,3}(?: \d{3}){1,20}(?!\d)|\d{1,60})"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d{{0,60}})?|\.\d{{1,60}})"
_TIMES_TEN = r"(?:[eE]|\s*(?:\\times|\\cdot|\*|x)\s*10\s*(?:\^|\*\*)\s*)\{?\s*([+-]?\d{1,3})(?!\d)\}?"
_OVER = r"(?:\{\s*([+-]?\d{1,60})\s*\}|(\d))"
_FRAC = rf"\\[dtc]?frac\s*{_OVER}\s*{_OVER}"
_SLASH = r"(\d{1,60})\s*/\s*(\d{1,60})"
_REPEATING = r"(\d{1,60}\.\d{0,60})(?:\\(?:overline|bar|dot)\s*\{?(\d{1,60})\}?|\((\d{1,60})\))"
#: "0.333...", "0.1212...": one digit three times or a block twice, then dots.
_AND_SO_ON = r"(\d{1,20}\.\d{0,20}?)(?:(\d)\2\2+|(\d{2,9})\3+)\s*\\ldots"
_BASE = r"(\d[0-9A-F]{0,60}|[0-9A-F]{2,60})(?:_\{?\s*(\d{1,2})\s*\}?|,? \(?(?:in )?base (\d{1,2})\)?)"


def _in_base(match: re.Match[str]) -> Fraction | None:
    try:
        return Fraction(int(match[1], int(match[2] or match[3])))
    except ValueError:
        return None


def _repeating(match: re.Match[str]) -> Fraction:
    start, block = match[1], match[2] or match[3]
    scale = 10 ** len(start.partition(".")[2])
    return _decimal(start) + Fraction(int(block), (10 ** len(block) - 1) * scale)


def _over(match: re.Match[str]) -> Fraction | None:
    over, under = (int(part) for part in match.groups() if part)
    return Fraction(over, under) if under else None


def _mixed(match: re.Match[str]) -> Fraction | None:
    whole, over, under = (int(part) for part in match.groups() if part)
    return whole + Fraction(over, under) if 0 < over < under else None


def _decimal(text: str) -> Fraction:
    return Fraction(re.sub("[, ]", "", text).rstrip("."))


def _scientific(match: re.Match[str]) -> Fraction:
    return _decimal(match[1]) * Fraction(10) ** int(match[2])


#: Ways to write a number, in the order tried, each with its reader; a reader returns null if it does not fit.
_NUMBERS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Fraction | None]], ...] = (
    (re.compile(_BASE), _in_base),
    (re.compile(_REPEATING), _repeating),
    (re.compile(_AND_SO_ON), _repeating),
    (re.compile(rf"(\d{{1,60}})(?:\s*{_FRAC}|\s+{_SLASH})"), _mixed),
    (re.compile(_FRAC), _over),
    (re.compile(_SLASH), _over),
    (re.compile(rf"({_DECIMAL}){_TIMES_TEN}"), _scientific),
    (re.compile(r"(1)0\^\{?([+-]?\d{1,3})\}?(?![\d.])"), _scientific),
    (re.compile(_DECIMAL), lambda match: _decimal(match[0])),
)

_MAGNITUDES = {
    "dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
_MAGNITUDE = re.compile(rf"\s*({'|'.join(_MAGNITUDES)})s?\b", re.I)
_PERCENT = re.compile(r"\s*(?:\\?%|(?:percent(?:age)?|per cent|pct)\b\.?)", re.I)
_CURRENCY = r"(?:(?:US|A|C|HK|NZ)?[$€£¥₹₩₽₺₪]|(?:USD|EUR|GBP|JPY|INR|CNY|RMB|CHF|CAD|AUD|Rs)\b\.?)"
_BEFORE = re.compile(
    rf"(?:\s|=|\\approx|\\sim|~|(?i:approximately|about|roughly|around|nearly|approx\.?|exactly)\s|{_CURRENCY}"
    r"|[+-](?=[^+-]))*"
)
# What may follow a number without changing it. A unit is words with powers and slashes; the words
# listed here continue the value instead ("5 or 6", "5 mod 7", "5 squared").
_NO_UNIT = (
    r"(?:and|or|not|p?mod|remainder|rem|times|plus|minus|to|through|over|by|of|is|are|if|then|base|less|more"
    r"|pi|sqrt|sin|cos|tan|cot|ln|log|exp|infinity|inf|squared|cubed|factorial|choose|half|halves|thirds?"
    r"|quarters?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?|hundredths?|thousandths?"
    r"|dozen|hundred|thousand|million|billion|trillion|percent|percentage|pct|alpha|beta|gamma|theta)\b"
)
_POWER = r"(?:\s?\^\s?\{?-?\d\}?)?"
_WORD = rf"(?!(?i:{_NO_UNIT}))[A-Za-zµμΩ]{{2,30}}\.?{_POWER}"
_LETTER = rf"(?:(?<=[ /])[A-Z]|[gmshlL])(?![A-Za-z]){_POWER}"
_UNIT = (
    rf"(?:\^\s?\{{?\\circ\s?\}}?\s*[CFK]?(?![A-Za-z])|{_CURRENCY}|(?:{_WORD}|{_LETTER})"
    rf"(?:(?:\s?/\s?|\s?\\cdot\s?|\*|[ -]| of (?:an? |the )?)(?:{_WORD}|{_LETTER})){{0,7}})"
)
# A remark gives a reason, repeats the answer in other words, or says what it is not.
_REMARK = (
    r"(?:[,;(]?\s*(?:and |but )?not\b.*|[,;]?\s*(?:because|since|rather than|instead of)\b.*"
    r"|[,;]\s*(?:as|which|so|hence|thus)\b.*|\((?!\s*p?mod)[^()\d\\=<>+*/^]{3,60}\))"
)
_AFTER = re.compile(rf"\s*(?:{_UNIT})?\s*(?:{_REMARK})?[\s.,;:?*]*(?:\\ldots)?\s*")
_COMPOUND = re.compile(
    rf"\d\s*{_UNIT},?\s*(?:and\s+)?\d+(?:\.\d+)?\s*{_UNIT}|\d\s*'\s*\d|\bremainder\b|\d_\{{?\d"
    r"|\A\d{4}-\d\d?-\d\d?\Z|\A[\d\s./+-]*\d\s+\d[\d\s./+-]*\Z",
    re.I,
)
_NUMBER_WORDS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
]  # fmt: skip
_BOUND = re.compile(
    r"\A(?:[<>]|\\[lgn]eq?(?![a-z]))|\d\s*(?:\+|''?)\Z|\bor (?:more|less|fewer|greater)\b", re.I
)
_DOTS = re.compile(r"\\[lcdv]?dots(?![a-zA-Z])")
_FUNCTION_NAMES = (
    r"pi|ln|log|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|alpha|beta|gamma|delta|theta|lambda|sigma|omega"
    r"|phi|infty|infinity"
)
_FUNCTION = re.compile(rf"(?<![\\a-zA-Z])({_FUNCTION_NAMES})(?![a-zA-Z])")
_PROSE = re.compile(r"[A-Za-z][A-Za-z' .,-]*[A-Za-z]\.?")
_LONG_WORD = re.compile(rf"(?<![a-zA-Z])(?!(?:{_FUNCTION_NAMES}|sqrt)(?![a-zA-Z]))[a-zA-Z]{{4,}}")
_TEXT_UNIT = re.compile(
    rf"(?<=[\w)}}\]\s%])\s*\\(?:text(?:bf|it|rm|normal)?|math(?:rm|it|bf)|mbox)\s*\{{[\s~]*{_UNIT}\s*\}}{_POWER}\s*\Z"
)
_WORD_UNIT = re.compile(rf"(?<=[\d)}}\]i])\s+{_WORD}(?:(?:\s?/\s?|[ -]){_WORD}){{0,7}}\s*\Z")


@lru_cache(maxsize=100_000)
def mathematics(value: str) -> Mathematics:
    """Read a mathematical answer; see `Mathematics`."""
    latex = _tidy(value)
    flat = " ".join(_SPACE.sub(" ", _repeated(lambda t: _STYLED.sub(r" \1 ", t), latex)).split())
    if (number := _read_number(flat)) is not None:
        return number
    if flat.casefold() in _NUMBER_WORDS:
        count = _NUMBER_WORDS.index(flat.casefold())
        return Mathematics(str(count), Fraction(count))
    if _PROSE.fullmatch(flat) and (_LONG_WORD.search(flat) or _STYLED.search(latex)):
        return Mathematics(flat.rstrip("."), is_words=True)
    if _COMPOUND.search(flat) or _BOUND.search(flat) or _DOTS.search(flat):
        return Mathematics(flat, is_opaque=True)
    return Mathematics(_for_math_verify(latex))


def _tidy(value: str) -> str:
    """LaTeX for Unicode symbols, without enclosing marks and without layout between digits."""
    text = _SUPERSCRIPTS.sub(
        lambda m: f"^{{{unicodedata.normalize('NFKC', m[0])}}}", value.translate(_QUOTES)
    )
    text = _SUBSCRIPTS.sub(lambda m: f"_{{{unicodedata.normalize('NFKC', m[0])}}}", text)
    text = re.sub(r"\A\s*–(?=\s*[\d.\\])", "-", text)
    text = _VULGAR.sub(lambda m: f" {unicodedata.normalize('NFKC', m[0]).replace('⁄', '/')} ", text)
    text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SIGNS)
    text = _GREEK.sub(lambda m: f"\\{_greek_name(m[0])} ", text)
    text = re.sub(r"</s>|<\|[^|<>]*\|>|<<[^<>]*>>", "", text).replace("{,}", ",").replace("\\%", "%")
    text = re.sub(r"\\left(?![a-z])|\\right(?![a-z])|\\!\s*", "", _SWITCH.sub("", text))
    text = re.sub(r"(?<=\d)\\[,;: ]\s*(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"\\([lgn])e(?![a-z])", r"\\\1eq", re.sub(r"\.\.\.+", r"\\ldots ", text)).replace(
        "\\$", "$"
    )
    text = _repeated(
        lambda t: _unwrapped(re.sub(r"\A[*\s`\"]+|(?:[.,;:*\s`\"]|\\+(?=\s*\Z))+\Z", "", t)), text
    )
    text = re.sub(r"\$(?!\s*[\d.-])", "", re.sub(r"\\(?:boxed|fbox|underline)\s*\{(.*)\}", r"\1", text))
    text = re.sub(r"(?<=[\d)}])\s*-\s*\+|\+\s*-", "-", text)
    return text.strip()


def _greek_name(letter: str) -> str:
    """ "α" -> "alpha", "Γ" -> "Gamma"."""
    *_, size, _, name = ("", *unicodedata.name(letter).split(" "))[-4:]
    return (
        name.capitalize().replace("Lamda", "Lambda")
        if size == "CAPITAL"
        else name.lower().replace("lamda", "lambda")
    )


def _read_number(flat: str) -> Mathematics | None:
    if (before := _BEFORE.match(flat)) is None:
        return None
    sign = -1 if before[0].count("-") % 2 else 1
    for pattern, reader in _NUMBERS:
        match = pattern.match(flat, before.end())
        if match is None or (value := reader(match)) is None:
            continue
        end = match.end()
        while magnitude := _MAGNITUDE.match(flat, end):
            value, end = value * _MAGNITUDES[magnitude[1].lower()], magnitude.end()
        if percent := _PERCENT.match(flat, end):
            end = percent.end()
        if _AFTER.fullmatch(flat, end):
            # A letter directly after the digits may be a variable: math-verify is given both.
            written = ("-" if sign < 0 else "") + flat[before.end() : end]
            written = flat if flat[end : end + 1].isalpha() else _for_math_verify(written)
            return Mathematics(
                written, sign * value, bool(percent), "." in match[0] and reader is not _repeating
            )
    return None


def _for_math_verify(latex: str) -> str:
    """What math-verify reads correctly: no units, no currency, functions and roots as LaTeX commands."""
    text = re.sub(r"[,;(]\s*(?:and |but )?not\b.*\Z|(?<=\S) (?:and |but )not\b.*\Z", "", latex)
    text = re.sub(
        r"(?<!\\)\bexp\s*\(([^()]*)\)|\\exp\s*\(([^()]*)\)", lambda m: f"e^{{{m[1] or m[2]}}}", text
    )
    text = _ROOT.sub(lambda m: f"\\sqrt{{{m[1] or m[2] or m[3]}}}", text)
    text = (
        _FUNCTION.sub(r"\\\1 ", text).replace("\\infinity", "\\infty").replace("\\varnothing", "\\emptyset")
    )
    text = re.sub(r"(?<![\w.])(\d+(?:\.\d+)?)[eE]([+-]?\d{1,3})(?![\w.])", r"\1 \\times 10^{\2}", text)
    text = re.sub(r"(?<![\d.])(\d+)\.0+(?!\d)", r"\1", text)
    # math-verify recognises the imaginary unit only if it stands alone.
    text = re.sub(r"(?<=\d)i(?![a-zA-Z])", " i", re.sub(r"(?<![\d.])1i(?![a-zA-Z])", "i", text))
    text = _WORD_UNIT.sub("", _TEXT_UNIT.sub("", text))
    return re.sub(_CURRENCY, "", text).strip()

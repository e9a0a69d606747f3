"""The tokenizer that all pocket experts share: single characters, and whole phrases of the prompts.

A model of a million parameters that reads letter by letter can spell, count and sort letters; the fixed
wording around a question would only cost it time, so each phrase of it is one token. Phrases are found
by counting, not listed by hand. Characters outside the set become `<unk>`: they are read, never written.
"""

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>", "<user>", "<assistant>"]
CHAT_TEMPLATE = (
    "<bos>{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<assistant>{{ message['content'] }}<eos>"
    "{% else %}<user>{{ message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
]  # fmt: skip
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
#: Pieces of the chains of thought and of answers. Some are no longer used by any chain: the vocabulary is
#: that of the committed weights.
PIECES = [
    " + ", " - ", " * ", " = ", " % ", " / ", " < ", ".0", "', '", "['", "']", ", ", "0i)", ") + (", ") - (",
    "The answer is \\boxed{", "}\nConfidence: 0.", "It is correct.", "It is wrong.\n", "The best is [",
    "From the last letter:\n", "From the last word:\n", "Compare letter by letter:\n", " sides: ",
    "add previous", " then ", "double", "halve", "square", "multiply by ", "add ", "First task:\n",
    "Second task:\n", "unknown", "\n\nThink step by step. End with the line: The answer is \\boxed{X}",
    " End with the line: The answer is \\boxed{X}", "(no solution)", "no\n",
    "Solve for ", "Starting from ", "Count backward ", "Count forward ", " days from ", " days ago",
    " days before", " days after", "-day jump", " days?",
]  # fmt: skip
#: Wording of `prompts` that ends nearly every prompt: kept whole.
TAILS = [
    "\n\nThink step by step. End with the line: The answer is \\boxed{X}",
    " End with the line: The answer is \\boxed{X}",
    "\n\nProposed solutions:\n",
]
END = "\0"
ENDS = '":' + END
SENTENCE = re.compile(r"(?<=[.?!]\s)")
CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " \n°"


def phrases(
    documents: Mapping[str, Sequence[str]], keep: Iterable[str] = (), *, share: float = 0.04, words: int = 3
) -> list[str]:
    """Runs of at least `words` words that occur in at least `share` of a group's documents.

    `documents` maps a group (family or stage) to its prompts. Words of `keep`, single letters (except the
    article) and text after a colon or quotation mark are the subject of a question, so these end a phrase;
    digits may occur inside wording that nearly every document of the group has. Sorted, longest first.
    """
    span = 2 * words - 1
    apart = set(keep)
    found: set[str] = set()
    for group in documents.values():
        pieces = [re.findall(r"[A-Za-z]+|\d|[^A-Za-z\d]", _without_tails(document)) for document in group]
        seen = Counter(gram for piece in pieces for gram in set(_grams(piece, span, apart)))
        few, many = share * len(group), 0.8 * len(group)
        frequent = {
            gram
            for gram, count in seen.items()
            if gram and count >= (many if any(token.isdigit() for token in gram) else few)
        }
        runs: Counter[str] = Counter()
        for piece in pieces:
            covered = [False] * len(piece)
            for at, gram in enumerate(_grams(piece, span, apart)):
                if gram in frequent:
                    covered[at : at + span] = [True] * span
            runs.update(
                {part for run in _runs(piece, covered) for part in SENTENCE.split(run) if len(part) > 3}
            )
        found |= {run for run, count in runs.items() if count >= few}
    return sorted(found, key=lambda phrase: (-len(phrase), phrase))


def _without_tails(document: str) -> str:
    for tail in TAILS:
        document = document.replace(tail, END)
    return document


def _grams(piece: Sequence[str], span: int, apart: set[str]) -> Iterable[tuple[str, ...]]:
    ends = [
        token in apart or (len(token) == 1 and (token in ENDS or token.isalpha()) and token != "a")
        for at, token in enumerate(piece)
    ]
    for at in range(len(piece) - span + 1):
        yield () if any(ends[at : at + span]) else tuple(piece[at : at + span])


def _runs(piece: Sequence[str], covered: Sequence[bool]) -> Iterable[str]:
    run = ""
    for token, inside in zip([*piece, ""], [*covered, False], strict=True):
        if inside:
            run += token
        elif run:
            yield run
            run = ""


def build_tokenizer(documents: Mapping[str, Sequence[str]], words: Iterable[str]) -> Any:
    """A `PreTrainedTokenizerFast` over characters, `words` (whole words only) and mined phrases."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {*words, *DAYS, *MONTHS}
    mined = phrases(documents, [part for word in words for part in word.split()])
    whole = sorted(words, key=lambda word: (-len(word), word))
    fixed = sorted({*mined, *PIECES, *TAILS}, key=lambda phrase: (-len(phrase), phrase))
    tokens = list(dict.fromkeys([*SPECIAL, *CHARACTERS, *whole, *fixed]))
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_pattern(fixed, whole)), behavior="isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=["<user>", "<assistant>"],
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _pattern(fixed: Sequence[str], whole: Sequence[str]) -> str:
    """Longest piece first, grouped by first letter, so that most letters fail after one comparison."""
    groups: dict[str, list[str]] = {}
    for piece in fixed:
        groups.setdefault(piece[0], []).append(re.escape(piece[1:]))
    for word in whole:
        groups.setdefault(word[0], []).append(rf"(?<=\b{re.escape(word[0])}){re.escape(word[1:])}\b")
    parts = [f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in sorted(groups.items())]
    return "|".join([*parts, r"[\s\S]"])


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write the tokenizer's files next to a model's weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(str(folder))

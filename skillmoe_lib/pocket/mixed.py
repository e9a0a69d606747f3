"""Mixed questions: two tasks of different areas in one question, so that no specialist knows both.

A specialist answers its own half and writes `?` for the other; an aggregator that reads two such
solutions can combine them into the whole answer. Composed from reasoning-gym entries, by seed.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from skillmoe_lib.pocket.families import FAMILIES, Worked, entries, normalised, worked
from skillmoe_lib.seeding import generator

#: Split -> (seed, number of questions).
SPLITS = {"test": (4_000_003, 120), "validation": (5_000_003, 60)}
UNKNOWN = "?"
#: The text before each half of a mixed question, normalised.
HALVES = r"(?:first|second) task: "


def compose(first: Worked, second: Worked, *, known: Sequence[bool] = (True, True)) -> Worked:
    """Two worked questions as one; a half that is not `known` is left open in chain and answer."""
    question = (
        f"Two tasks in one. Give both answers in order, with a semicolon between them.\n"
        f"First task: {first.question}\nSecond task: {second.question}"
    )
    halves = [
        (part.chain or "", part.answer) if known_ else ("unknown", UNKNOWN)
        for part, known_ in zip((first, second), known, strict=True)
    ]
    (one, _), (two, _) = halves
    chain = f"First task:\n{one}\nSecond task:\n{two}"
    return Worked("mixed", question, chain, "; ".join(half[1] for half in halves))


def write_benchmark(folder: Path) -> None:
    """The mixed benchmark's two files, `pocket_mixed_SPLIT.jsonl`; the same bytes every time."""
    seen: set[str] = set()
    for split, (seed, size) in SPLITS.items():
        rows: list[str] = []
        for item, first, second in mixed_questions(seed=seed, size=2 * size):
            if normalised(item.question) not in seen and len(rows) < size:
                seen.add(normalised(item.question))
                subject = f"{FAMILIES[first].area} and {FAMILIES[second].area}"
                row = {"question_id": f"{first}+{second}/{len(rows):04d}", "text": item.question}
                rows.append(json.dumps({**row, "gold": item.answer, "subject": subject}, ensure_ascii=False))
        (folder / f"pocket_mixed_{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def mixed_questions(*, seed: int, size: int) -> list[tuple[Worked, str, str]]:
    """`size` mixed questions with the names of their two families, which are of different areas."""
    draw = generator("pocket mixed", seed)
    names = list(FAMILIES)
    rows: list[tuple[Worked, str, str]] = []
    for i in range(size):
        first, second = draw.choice(names, size=2, replace=False)
        while FAMILIES[first].area == FAMILIES[second].area:
            first, second = draw.choice(names, size=2, replace=False)
        halves = [
            worked(name, next(entries(name, seed=seed + 1000 * i + at, size=1)))
            for at, name in enumerate((first, second))
        ]
        rows.append((compose(*halves), str(first), str(second)))
    return rows

"""The card next to an expert's weights: its training data and its accuracy on held-out questions.

`card.json` is the record; `README.md` is the same in words. Accuracies are on held-out questions made
for this purpose, which are in no benchmark split and in no training set, at the temperature used in runs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation.intervals import Interval, wilson
from skillmoe_lib.experts.pool import Pool
from skillmoe_lib.paths import project_root


@dataclass(frozen=True)
class Card:
    """Description of an expert; `held_out` has one entry per family (a row of `pool.accuracy`)."""

    name: str
    kind: str
    families: tuple[str, ...]
    n_parameters: int
    trained_tokens: int
    school: str
    school_tokens: int
    train_s: float
    seed: int
    temperature: float
    held_out: tuple[Mapping[str, Any], ...]
    licence: str = "MIT"


def own_accuracy(card: Card, *, others: bool = False) -> float:
    """Mean accuracy over the expert's own families, or over those that are not."""
    kept = [row["accuracy"] for row in card.held_out if (row["family"] in card.families) != others]
    return float("nan") if not kept else sum(kept) / len(kept)


def write_card(card: Card, folder: Path) -> None:
    """Write `card.json` and `README.md` into the expert's folder."""
    text = json.dumps(asdict(card), indent=1, ensure_ascii=False)
    (folder / "card.json").write_text(text + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_readme(card), encoding="utf-8")


def read_card(folder: Path) -> Card:
    """Read a folder's card.

    Raises
    ------
    SkillmoeError
        If there is none, or it is not a card.
    """
    path = folder / "card.json"
    if not path.is_file():
        raise SkillmoeError(f"no card at {path}: train the expert again to write one")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        for name in ("families", "held_out"):
            fields[name] = tuple(fields[name])
        return Card(**fields)
    except (ValueError, TypeError, KeyError) as error:
        raise SkillmoeError(f"card {path} is not readable: {' '.join(str(error).split())[:120]}") from error


def of_pool(pool: Pool) -> list[Card]:
    """The cards of a pool's experts that have one: models in folders of the project."""
    sources = [expert.model.source for expert in pool.experts.values()]
    folders = [
        project_root() / name.removeprefix("folder:") for name in sources if name.startswith("folder:")
    ]
    return [read_card(folder) for folder in folders if (folder / "card.json").is_file()]


def own_and_others(by_family: pd.DataFrame, cards: Sequence[Card]) -> pd.DataFrame:
    """Each expert on the families it was trained on and on all others, pooled over their questions.

    `by_family` is a frame of `results.by_family`. Columns: expert, kind, families, and for "own" and
    "others" n, accuracy, low and high (95% Wilson); nulls and n = 0 if there is no such question.
    """
    rows = []
    for card in cards:
        part = by_family[by_family["expert"] == card.name]
        row: dict[str, Any] = {"expert": card.name, "kind": card.kind, "families": ", ".join(card.families)}
        for name, kept in (("own", True), ("others", False)):
            chosen = part[part["family"].isin(card.families) == kept]
            span = wilson(chosen["n_right"].sum(), int(chosen["n"].sum())) if len(chosen) else Interval()
            values = {"n": span.n, "accuracy": span.estimate, "low": span.low, "high": span.high}
            row |= {f"{name}_{key}": value for key, value in values.items()}
        rows.append(row)
    parts = [f"{name}_{key}" for name in ("own", "others") for key in ("n", "accuracy", "low", "high")]
    return pd.DataFrame(rows, columns=["expert", "kind", "families", *parts])


def held_out(cards: Sequence[Card]) -> pd.DataFrame:
    """The cards' results on held-out questions: family, expert, own, n, n_right, accuracy, low, high."""
    rows = [
        {"expert": card.name, "own": row["family"] in card.families, **row}
        for card in cards
        for row in card.held_out
    ]
    frame = pd.DataFrame(rows).rename(columns={"correct": "n_right"})
    return frame[["family", "expert", "own", "n", "n_right", "accuracy", "low", "high"]]


def _readme(card: Card) -> str:
    lines = [
        f"# {card.name}",
        "",
        f"A pocket {card.kind} of the `skillmoe` project: a Llama of {card.n_parameters / 1e6:.2f} million",
        "parameters, trained from scratch by the project on questions of reasoning-gym. "
        f"Licence: {card.licence}.",
        "",
        f"- families: {', '.join(card.families)}",
        f"- tokens seen: {card.trained_tokens:,}, after {card.school_tokens:,} in the {card.school!r} school",
        f"- training time: {card.train_s:.0f} s of one CPU core; seed {card.seed}",
        f"- mean accuracy: {own_accuracy(card):.1%} on its own families",
        "",
        f"Held-out questions (in no benchmark, never trained on), temperature {card.temperature}, with "
        "95% Wilson intervals:",
        "",
        "| family | own | n | accuracy | low | high |",
        "|---|---|---|---|---|---|",
    ]
    for row in card.held_out:
        own = "yes" if row["family"] in card.families else ""
        values = " | ".join(f"{row[name]:.2f}" for name in ("accuracy", "low", "high"))
        lines.append(f"| {row['family']} | {own} | {row['n']} | {values} |")
    return "\n".join(lines) + "\n"

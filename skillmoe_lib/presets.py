"""Presets: one switch for all differences between the paper, its released code and this project.

docs/method.md lists the differences with their sources. `paper` is the method as the paper describes it;
`released` is what the authors' code of March 2025 does, bugs included; `skillmoe` is what we recommend.
Only `paper` gets a verdict against published figures.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from skillmoe_lib.errors import unknown


@dataclass(frozen=True)
class Conventions:
    """How experts are prompted and how their texts are read: the points in which the released code differs.

    Parameters
    ----------
    prompt_wrapped_twice
        At test time the prompt, instruction included, is put into the prompt's frame once more.
    extractor
        How a letter is read: by our "rules", or as "released": the last capital letter anywhere.
    cut_thinking_shown
        A reasoning model's text that was cut before `</think>` is read and passed on whole.
    letter_asked_of_aggregator
        Aggregators of mathematics are asked for "(X)", as for choices.
    items
        How aggregators are examined: "published" shows them chains as at test time and grades as there;
        "released" puts the question first, keeps the think text, shows missing chains as empty strings,
        and compares answers as strings.
    equality
        How mathematics is compared: "ours" reads numbers itself and asks math-verify in both orders;
        "released" is math-verify alone with gold and answer swapped, and every exception counts as wrong.
    seed_reaches_engine
        Each seed samples new texts. In the released code no seed reaches the engine, so seeds differ only
        in which experts are recruited.
    """

    prompt_wrapped_twice: bool = False
    extractor: Literal["rules", "released"] = "rules"
    cut_thinking_shown: bool = False
    letter_asked_of_aggregator: bool = False
    items: Literal["published", "released"] = "published"
    equality: Literal["ours", "released"] = "ours"
    seed_reaches_engine: bool = True


@dataclass(frozen=True)
class Preset:
    """A name, the settings of `SkillRouter` that it means, and its conventions.

    `tuned`: temperature and prior are chosen on validation (`routing.tuning`). If `router` does not set
    trimming, the pool does.
    """

    name: str
    router: Mapping[str, Any]
    conventions: Conventions = field(default_factory=Conventions)
    tuned: bool = False


PAPER = Preset(
    "paper",
    MappingProxyType(
        {
            "formula": "published", "temperature": 0.5, "trim": 0.05, "refill": "slots", "replace": True,
            "expert_order": "name",
        }
    ),
)  # fmt: skip
RELEASED = Preset(
    "released",
    MappingProxyType(
        {"formula": "released", "trim": 0.0, "refill": "slots", "replace": True, "expert_order": "as_given"}
    ),
    Conventions(
        prompt_wrapped_twice=True,
        extractor="released",
        cut_thinking_shown=True,
        letter_asked_of_aggregator=True,
        items="released",
        equality="released",
        seed_reaches_engine=False,
    ),
)
SKILLMOE = Preset(
    "skillmoe",
    MappingProxyType({"formula": "fixed", "refill": "slots", "replace": True, "expert_order": "name"}),
    tuned=True,
)
PRESETS: Mapping[str, Preset] = MappingProxyType({p.name: p for p in (PAPER, RELEASED, SKILLMOE)})


def find_preset(name: str) -> Preset:
    """The preset of this name; a `SkillmoeError` names those there are."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]

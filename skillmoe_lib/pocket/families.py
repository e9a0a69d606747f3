"""The question families of the pocket pool: reasoning-gym entries with a worked chain of thought.

Questions come from `reasoning-gym` (Apache-2.0), which checks its own answers.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from skillmoe_lib.errors import SkillmoeError, unknown
from skillmoe_lib.pocket import chains
from skillmoe_lib.pocket.chains import Entry


class Family(NamedTuple):
    """A reasoning-gym family at one difficulty; `chain` turns an entry into the lines of thought.

    `ask` is a sentence added to questions that do not say what is asked.
    """

    area: str
    config: Mapping[str, Any]
    chain: Callable[[Entry], list[str]]
    ask: str = ""


class Worked(NamedTuple):
    """A question with its chain of thought and its answer, all as text."""

    family: str
    question: str
    chain: str
    answer: str


_ASK_NEXT = "Which number comes next in this sequence?"
#: Difficulties are chosen so that a specialist can master them and the space of questions is large.
FAMILIES: Mapping[str, Family] = {
    "chain_sum": Family(
        "arithmetic", {"min_terms": 2, "max_terms": 2, "min_digits": 2, "max_digits": 2}, chains.chain_sum
    ),
    "leg_counting": Family(
        "arithmetic", {"min_animals": 2, "max_animals": 2, "max_instances": 5}, chains.leg_counting
    ),
    "simple_equations": Family(
        "algebra", {"min_terms": 2, "max_terms": 2, "min_value": 2, "max_value": 9}, chains.simple_equations
    ),
    "complex_arithmetic": Family(
        "algebra", {"operations": ["+", "-"], "operations_weights": [0.5, 0.5]}, chains.complex_arithmetic
    ),
    "gcd": Family("number theory", {"min_value": 2, "max_value": 60}, chains.gcd),
    "fraction_simplification": Family(
        "number theory",
        {"min_value": 1, "max_value": 20, "min_factor": 2, "max_factor": 9, "styles": ["plain"]},
        chains.fraction_simplification,
    ),
    "base_conversion": Family(
        "base conversion",
        {"min_base": 2, "max_base": 4, "min_value": 8, "max_value": 127},
        chains.base_conversion,
    ),
    "count_bits": Family("base conversion", {"max_n": 1000}, chains.count_bits),
    "calendar_arithmetic": Family(
        "calendar and time",
        {"tasks": ["weekday_offset"], "offset_upper_bound": 60},
        chains.calendar_arithmetic,
    ),
    "time_intervals": Family("calendar and time", {"task_types": ["time"]}, chains.time_intervals),
    "letter_counting": Family("counting", {"min_words": 3, "max_words": 4}, chains.letter_counting),
    "spell_backward": Family("spelling", {"min_word_len": 4, "max_word_len": 9}, chains.spell_backward),
    "word_sequence_reversal": Family(
        "spelling", {"min_words": 3, "max_words": 3}, chains.word_sequence_reversal
    ),
    "number_sorting": Family(
        "sorting",
        {"min_numbers": 3, "max_numbers": 4, "max_decimals": 0, "min_value": 0.0, "max_value": 9.0},
        chains.number_sorting,
    ),
    "simple_geometry": Family("geometry", {"min_sides": 3, "max_sides": 3}, chains.simple_geometry),
    "path_star": Family(
        "graphs",
        {"degree": 2, "node_range": 10, "min_path_length": 2, "max_path_length": 2},
        chains.path_star,
    ),
    "aiw": Family("logic", {"task_type_weights": [0.5, 0.5, 0.0], "max_entities": 20}, chains.aiw),
    "number_sequence": Family(
        "sequences",
        {"max_complexity": 1, "min_terms": 4, "max_terms": 6},
        chains.number_sequence,
        _ASK_NEXT,
    ),
}


def entries(family: str, *, seed: int, size: int) -> Iterator[Entry]:
    """`size` reasoning-gym entries of a family at the pocket difficulty.

    Raises `SkillmoeError` for an unknown family, or one that the installed reasoning-gym lacks.
    """
    if family not in FAMILIES:
        raise unknown("pocket family", family, FAMILIES)
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if family not in DATASETS:
        version = getattr(reasoning_gym, "__version__", "unknown")
        raise SkillmoeError(f"reasoning-gym {version} has no family {family!r}: install reasoning-gym 0.1.25")
    yield from reasoning_gym.create_dataset(family, seed=seed, size=size, **FAMILIES[family].config)


def worked(family: str, entry: Entry) -> Worked:
    """The entry as question, chain and answer."""
    about = FAMILIES[family]
    question = f"{entry['question']}\n{about.ask}" if about.ask else entry["question"]
    chain = "\n".join(line for line in about.chain(entry) if line)
    return Worked(family, question.strip(), chain, entry["answer"])


def normalised(text: str) -> str:
    """Text for comparing training and held-out questions: case and spacing are ignored."""
    return " ".join(text.lower().split())

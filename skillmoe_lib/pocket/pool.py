"""The members of the pocket pool and their training.

Every expert starts from one of two shared schools (`primer`) and then learns its own lessons, on 2 million
tokens unless the roster says more; the generalists learn all families, so they are good at none. Moderators
learn to read solutions and write down the right one. Everything is determined by seeds; `make pocket` runs
all of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from skillmoe_lib.errors import require, unknown
from skillmoe_lib.pocket import training
from skillmoe_lib.pocket.cards import Card, write_card
from skillmoe_lib.pocket.families import FAMILIES, Worked
from skillmoe_lib.pocket.lessons import (
    Books,
    Lesson,
    book,
    forbidden_texts,
    held_out,
    moderator,
    prompt_text,
    specialist,
)
from skillmoe_lib.pocket.primer import LETTERS_SCHOOL, NUMBERS_SCHOOL, Task, primer
from skillmoe_lib.pocket.start import copying_start
from skillmoe_lib.pocket.tokenizer import build_tokenizer
from skillmoe_lib.prompts import solve
from skillmoe_lib.seeding import stable_seed

BENCHMARKS = ("pocket", "pocket_hard", "pocket_mixed")
HELD_OUT = 100
BOOK = 6000
ALL = tuple(FAMILIES)
#: All experts train on these, none masters them: in the benchmark pocket_hard, not in pocket.
HARD = ("path_star", "number_sequence")


class School(NamedTuple):
    """A shared start: the families it introduces, its drills, and its budget of tokens."""

    families: tuple[str, ...]
    tasks: tuple[Task, ...]
    solutions_share: float
    budget_tokens: int


class Pupil(NamedTuple):
    """What an expert learns: its families, its school, the kind of lessons, and its budget of tokens."""

    families: tuple[str, ...]
    school: str
    kind: str = "specialist"
    budget_tokens: int = 2_000_000


_LETTERS = (
    "letter_counting",
    "spell_backward",
    "word_sequence_reversal",
    "number_sorting",
    "path_star",
    "aiw",
)
SCHOOLS: Mapping[str, School] = {
    "letters": School(_LETTERS, LETTERS_SCHOOL, 0.05, 1_500_000),
    "numbers": School(tuple(name for name in ALL if name not in _LETTERS), NUMBERS_SCHOOL, 0.0, 2_000_000),
}
KINDS: Mapping[str, Callable[..., Iterator[Lesson]]] = {"specialist": specialist, "moderator": moderator}
ROSTER: Mapping[str, Pupil] = {
    "Sums": Pupil(("chain_sum", "leg_counting"), "numbers"),
    "Algebra": Pupil(("simple_equations", "complex_arithmetic"), "numbers"),
    "Divisors": Pupil(("gcd", "fraction_simplification"), "numbers", budget_tokens=5_000_000),
    "Bases": Pupil(("base_conversion", "count_bits"), "numbers", budget_tokens=3_500_000),
    "Calendar": Pupil(("calendar_arithmetic", "time_intervals"), "numbers"),
    "Counting": Pupil(("letter_counting",), "letters"),
    "Spelling": Pupil(("spell_backward", "word_sequence_reversal"), "letters"),
    "Sorting": Pupil(("number_sorting",), "letters"),
    "Geometry": Pupil(("simple_geometry",), "numbers"),
    "Relations": Pupil(("aiw",), "letters"),
    "Generalist-1": Pupil(ALL, "letters"),
    "Generalist-2": Pupil(ALL, "numbers"),
    "Generalist-3": Pupil(ALL, "numbers"),
    "Moderator-1": Pupil(ALL, "letters", "moderator", 2_500_000),
    "Moderator-2": Pupil(ALL, "numbers", "moderator", 2_500_000),
}


def library(*, seed: int = 0, size: int = BOOK, families: Sequence[str] = ALL) -> dict[str, list[Worked]]:
    """Training questions of each family, none of which is in a benchmark or among the held-out questions."""
    forbidden = forbidden_texts(BENCHMARKS, held_out_size=HELD_OUT)
    seeds = {name: stable_seed("pocket book", seed, name) % 10**8 + 10**7 for name in families}
    return {name: book(name, seed=seeds[name], size=size, forbidden=forbidden) for name in families}


def tokenizer_for(books: Books) -> Any:
    """The shared tokenizer, built from the wording of all prompts."""
    from reasoning_gym.arithmetic.leg_counting import ANIMALS
    from reasoning_gym.logic.aiw import AliceInWonderlandConfig

    documents = {name: [prompt_text(solve, item) for item in items[:400]] for name, items in books.items()}
    lessons = [
        *islice(specialist(books, list(books), seed=1), 3000),
        *islice(moderator(books, list(books), seed=1), 2000),
        *islice(school_lessons(SCHOOLS["letters"], books, seed=1), 1000),
    ]
    for mark in ("Proposed solutions", "Confidence", "Two tasks in one"):
        documents[mark] = [lesson.prompt for lesson in lessons if mark in lesson.prompt][:1000]
    people = AliceInWonderlandConfig()
    animals = [animal + plural for animal in ANIMALS for plural in ("", "s")]
    return build_tokenizer(documents, [*animals, *people.male_names, *people.female_names])


def school_lessons(school: School, books: Books, *, seed: int) -> Iterator[Lesson]:
    """The school's lessons, without end."""
    return primer(books, school.families, school.tasks, solutions_share=school.solutions_share, seed=seed)


def check_pupil(pupil: Pupil) -> None:
    """Raise `SkillmoeError` if its school, its kind or one of its families is unknown."""
    families = [("pocket family", family, FAMILIES) for family in pupil.families]
    for what, name, known in [
        ("school", pupil.school, SCHOOLS),
        ("kind of pupil", pupil.kind, KINDS),
        *families,
    ]:
        if name not in known:
            raise unknown(what, name, known)


def lessons_for(pupil: Pupil, books: Books, *, seed: int) -> Iterator[Lesson]:
    """The pupil's lessons, without end."""
    return KINDS[pupil.kind](books, list(pupil.families), seed=seed)


def accuracy(
    model: Any, tokenizer: Any, sizes: Mapping[str, int], *, temperature: float = 0.7, seed: int = 0
) -> pd.DataFrame:
    """Share of held-out questions answered right, at the temperature used in runs; `sizes`: family -> number.

    Returns
    -------
    One row per family: `family`, `n`, `correct`, `accuracy`, `low`, `high` (95% Wilson).
    """
    from statsmodels.stats.proportion import proportion_confint

    items = [item for family, size in sizes.items() for item in held_out(family, size=size)]
    prompts = [prompt_text(solve, item) for item in items]
    replies = training.generate(model, tokenizer, prompts, max_tokens=110, temperature=temperature, seed=seed)
    rows = []
    for family in sizes:
        own = [
            (reply, item.answer) for reply, item in zip(replies, items, strict=True) if item.family == family
        ]
        marks = [boxed(reply) == answer for reply, answer in own]
        low, high = proportion_confint(sum(marks), len(marks), method="wilson")
        rows.append((family, len(marks), sum(marks), sum(marks) / len(marks), low, high))
    return pd.DataFrame(rows, columns=["family", "n", "correct", "accuracy", "low", "high"])


def boxed(reply: str) -> str | None:
    """The content of the last `\\boxed{}` of a reply; null if there is none."""
    _, mark, tail = reply.rpartition("\\boxed{")
    return tail.partition("}")[0].strip() if mark and "}" in tail else None


class Classroom(NamedTuple):
    """What every training shares: worked questions, the tokenizer and the folder of the schools."""

    books: Books
    tokenizer: Any
    schools: Path


def open_classroom(folder: Path, *, seed: int = 0, book_size: int = BOOK) -> Classroom:
    """Books of `book_size` questions per family, and the schools under `folder` with their tokenizer.

    Raises
    ------
    SkillmoeError
        If a school is missing or damaged.
    """
    require("training a pocket expert", "torch", "transformers", "reasoning_gym", extra="models,data")
    tokenizer = training.load(folder / next(iter(SCHOOLS))).tokenizer
    return Classroom(library(seed=seed, size=book_size), tokenizer, folder)


def train_school(name: str, *, folder: Path, seed: int = 0, show: Callable[[str], None] = print) -> None:
    """Train a school from new weights that can copy, and write it to a folder of its name."""
    books, school = library(seed=seed), SCHOOLS[name]
    tokenizer = tokenizer_for(books)
    model = training.new_model(tokenizer, seed=seed)
    copying_start(model, seed=seed)
    out = training.train(
        model,
        tokenizer,
        school_lessons(school, books, seed=seed),
        budget_tokens=school.budget_tokens,
        seed=stable_seed("school", seed, name),
        show=lambda line: show(f"{name}: {line}"),
    )
    training.save(out.model, tokenizer, folder / name)


def train_expert(
    name: str,
    pupil: Pupil,
    classroom: Classroom,
    out_dir: Path,
    *,
    seed: int = 0,
    hidden: int = 0,
    measured: Sequence[str] = ALL,
    held_out_size: int = HELD_OUT,
    others_size: int = 30,
    show: Callable[[str], None] = print,
) -> tuple[Card, pd.DataFrame]:
    """Train one expert, write its folder with weights, tokenizer and card, and return card and loss curve.

    `hidden` sets another width of the network (a multiple of 32); such an expert starts from random weights,
    not from its school. Accuracy is measured on the families `measured`: `held_out_size` questions for each
    of its own, `others_size` for each of the others.
    """
    check_pupil(pupil)
    if hidden:
        model = training.new_model(classroom.tokenizer, hidden=hidden, seed=seed)
    else:
        model = training.load(classroom.schools / pupil.school).model
    lessons = lessons_for(pupil, classroom.books, seed=stable_seed("pupil", seed, name))
    out = training.train(
        model,
        classroom.tokenizer,
        lessons,
        budget_tokens=pupil.budget_tokens,
        seed=stable_seed("train", seed, name),
        show=lambda line: show(f"{name}: {line}"),
    )
    folder = out_dir / name.lower()
    training.save(out.model, classroom.tokenizer, folder)
    learned = training.load(folder)
    few = min(others_size, held_out_size)
    sizes = {family: held_out_size if family in pupil.families else few for family in measured}
    held = accuracy(learned.model, learned.tokenizer, sizes)
    card = Card(
        name=name,
        kind=pupil.kind if len(pupil.families) < len(ALL) or pupil.kind != "specialist" else "generalist",
        families=pupil.families,
        n_parameters=sum(weight.numel() for weight in out.model.parameters()),
        trained_tokens=out.n_tokens,
        school="" if hidden else pupil.school,
        school_tokens=0 if hidden else SCHOOLS[pupil.school].budget_tokens,
        train_s=round(out.train_s, 1),
        seed=seed,
        temperature=0.7,
        held_out=tuple({str(k): v for k, v in row.items()} for row in held.round(4).to_dict("records")),
    )
    write_card(card, folder)
    return card, out.curve


def train_member(name: str, *, folder: Path, seed: int = 0) -> None:
    """Train the member of the roster with this name into `folder`, where the schools are."""
    train_expert(name, ROSTER[name], open_classroom(folder, seed=seed), folder, seed=seed)

"""What pocket experts are trained on: (prompt, reply) pairs in exactly the wording of `prompts`.

Every stage of every method is practised (solving, solving with confidence, debate, MoA, ReConcile,
Self-Refine, picking, aggregating), so that no baseline uses a prompt that its experts never saw.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from skillmoe_lib import prompts
from skillmoe_lib.experts.pool import Expert
from skillmoe_lib.generation import Model, Sampling
from skillmoe_lib.pocket.families import FAMILIES, Worked, entries, normalised, worked
from skillmoe_lib.pocket.mixed import HALVES, UNKNOWN, compose
from skillmoe_lib.questions.benchmark import Question
from skillmoe_lib.seeding import generator

HELD_OUT_SEED = 3_000_003
Books = Mapping[str, Sequence[Worked]]


class Lesson(NamedTuple):
    """A prompt as the expert will see it, and the reply to learn."""

    prompt: str
    reply: str


@lru_cache(maxsize=1)
def _nobody() -> Expert:
    return Expert("pupil", Model("folder:pupil", ""), Sampling())


def _question(text: str, answer: str) -> Question:
    return Question("lesson", "lessons", "train", text, (), answer, "", "text", json.dumps({}))


def solution(item: Worked) -> str:
    """Chain and answer line, as an expert writes them."""
    return f"{item.chain}\nThe answer is \\boxed{{{item.answer}}}".lstrip("\n")


def book(family: str, *, seed: int, size: int, forbidden: frozenset[str]) -> list[Worked]:
    """Up to `size` different worked questions of a family, none of whose texts is `forbidden`."""
    found: dict[str, Worked] = {}
    for entry in entries(family, seed=seed, size=2 * size):
        item = worked(family, entry)
        text = normalised(item.question)
        if text not in forbidden and text not in found:
            found[text] = item
            if len(found) == size:
                break
    return list(found.values())


def held_out(family: str, *, size: int) -> list[Worked]:
    """Worked questions for measuring an expert: never trained on, and of another seed than any benchmark."""
    return book(family, seed=HELD_OUT_SEED, size=size, forbidden=frozenset())


def forbidden_texts(benchmarks: Sequence[str], *, held_out_size: int) -> frozenset[str]:
    """Normalised texts of all questions that training must not see: benchmark splits and held-out ones."""
    from skillmoe_lib import questions

    texts = {normalised(text) for name in benchmarks for text in questions.load(name)["text"]}
    for text in list(texts):  # the halves of a mixed question count as questions too
        texts |= {normalised(half) for half in re.split(HALVES, text)[1:]}
    texts |= {normalised(item.question) for name in FAMILIES for item in held_out(name, size=held_out_size)}
    return frozenset(texts)


def specialist(books: Books, own: Sequence[str], *, talk: float = 0.1, seed: int) -> Iterator[Lesson]:
    """Lessons of an expert whose families are `own`; of other families it sees only others' solutions.

    `talk` is the share of lessons that are not plain solving: mixed questions and discussions.
    """
    draw = generator("pocket lessons", seed, list(own))
    names = list(books)
    while True:
        item = _pick(draw, books[own[int(draw.integers(len(own)))]])
        turn = draw.random() / talk
        if turn < 0.35:
            other = _pick(draw, books[names[draw.integers(len(names))]])
            yield _mixed_lesson(draw, item, other, own)
        elif turn < 0.5:
            yield _confident(item)
        elif turn < 1:
            yield _discussion(draw, item, books)
        else:
            yield Lesson(prompt_text(prompts.solve, item), solution(item))


def moderator(books: Books, own: Sequence[str], *, seed: int) -> Iterator[Lesson]:
    """Lessons of an aggregator: read solutions, name the one that is right by its number, and restate it.

    Copying a chain is what a small model learns easily: the number leads its copying heads to the solution,
    and the chain to the answer.
    """
    draw = generator("pocket moderator", seed, list(own))
    names = list(books)
    while True:
        first = _pick(draw, books[names[draw.integers(len(names))]])
        turn = draw.random()
        if turn < 0.16:
            other = _pick(draw, books[names[draw.integers(len(names))]])
            yield _merge_lesson(draw, first, other, books)
        elif turn < 0.95:
            yield aggregate_lesson(draw, first, books, restate=True)
        else:
            yield _discussion(draw, first, books)


def aggregate_lesson(
    draw: np.random.Generator, item: Worked, books: Books, *, restate: bool = False
) -> Lesson:
    """Two to four solutions: right ones, slips, and answers to other questions; decide which one fits.

    The reply lists each solution's answer, or with `restate` repeats the first solution with the best
    answer, with its number.
    """
    shown = [_attempt(draw, item, books) for _ in range(draw.choice([2, 3, 3, 3, 3, 4]))]
    texts = [solution(other) for other, _fits in shown]
    answers = [other.answer if fits else "no" for other, fits in shown]
    real = [answer for answer in answers if answer != "no"] or [other.answer for other, _ in shown]
    best = max(real, key=lambda answer: (real.count(answer), -real.index(answer)))
    read = "\n".join(f"[{i}] {answer}" for i, answer in enumerate(answers, start=1))
    reply = f"{read}\nThe answer is \\boxed{{{best}}}"
    if restate:
        at = next(i for i, (other, _) in enumerate(shown) if other.answer == best)
        reply = f"[{at + 1}] {texts[at]}"
    ask = prompts.aggregate if draw.random() < 0.75 else prompts.propose
    return Lesson(prompt_text(ask, item, texts), reply)


def _merge_lesson(draw: np.random.Generator, first: Worked, second: Worked, books: Books) -> Lesson:
    whole = compose(first, second)
    kinds = [(True, False), (False, True)]
    if draw.random() < 0.5:
        kinds.append((True, True) if draw.random() < 0.2 else kinds[draw.integers(2)])
    draw.shuffle(kinds)
    shown = [compose(first, second, known=known) for known in kinds]
    for at in range(len(shown)):
        if draw.random() < 0.15:
            shown[at] = _pick(draw, books[list(books)[draw.integers(len(books))]])
    halves = [part.answer.split("; ") if part.family == "mixed" else [UNKNOWN, UNKNOWN] for part in shown]
    best = [next((half[i] for half in halves if half[i] != UNKNOWN), UNKNOWN) for i in (0, 1)]
    prompt = prompt_text(prompts.aggregate, whole, [solution(part) for part in shown])
    known = (best[0] != UNKNOWN, best[1] != UNKNOWN)
    return Lesson(prompt, solution(compose(first, second, known=known)))


def _mixed_lesson(draw: np.random.Generator, item: Worked, other: Worked, own: Sequence[str]) -> Lesson:
    known = other.family in own
    pair = (item, other) if draw.random() < 0.5 else (other, item)
    part = compose(*pair, known=(pair[0].family in own or known, pair[1].family in own or known))
    return Lesson(prompt_text(prompts.solve, part), solution(part))


def _confident(item: Worked) -> Lesson:
    return Lesson(prompt_text(prompts.solve_with_confidence, item), f"{solution(item)}\nConfidence: 0.9")


def _discussion(draw: np.random.Generator, item: Worked, books: Books) -> Lesson:
    shown = [solution(_attempt(draw, item, books)[0]) for _ in range(draw.integers(2, 4))]
    right = solution(item)
    turn = draw.integers(6)
    if turn == 0:
        return Lesson(prompt_text(prompts.revise, item, shown[0], shown[1:]), right)
    if turn == 1:
        return Lesson(prompt_text(prompts.propose, item, shown), right)
    if turn == 2:
        at = int(draw.integers(len(shown)))
        shown[at] = right
        return Lesson(prompt_text(prompts.pick, item, shown), f"The best is [{shown.index(right) + 1}]")
    if turn == 3:
        verdict = "It is correct." if f"\\boxed{{{item.answer}}}" in shown[0] else f"It is wrong.\n{right}"
        return Lesson(prompt_text(prompts.feedback, item, shown[0]), verdict)
    if turn == 4:
        return Lesson(prompt_text(prompts.refine, item, shown[0], f"It is wrong.\n{right}"), right)
    tally = f"{item.answer} (2 of 3, confidence 0.90)"
    return Lesson(prompt_text(prompts.reconcile, item, shown[:2], tally), f"{right}\nConfidence: 0.9")


def _attempt(draw: np.random.Generator, item: Worked, books: Books) -> tuple[Worked, bool]:
    """A solution that another expert might give, and whether it belongs to this question at all."""
    turn = draw.random()
    if turn < 0.5 or item.family not in books:
        return item, True
    if turn < 0.65:
        return _slip(draw, item), True
    if turn < 0.72:
        return _pick(draw, books[item.family]), False
    names = [name for name in books if _area(name) != _area(item.family)] or list(books)
    return _pick(draw, books[names[draw.integers(len(names))]]), False


def _area(family: str) -> str:
    return FAMILIES[family].area if family in FAMILIES else family


def _slip(draw: np.random.Generator, item: Worked) -> Worked:
    """The same chain with one character of the answer changed, in both places."""
    spots = [i for i, letter in enumerate(item.answer) if letter.isalnum()]
    at = spots[draw.integers(len(spots))]
    letters = "0123456789" if item.answer[at].isdigit() else "abcdefghijklmnopqrstuvwxyz"
    wrong = item.answer[:at] + letters[draw.integers(len(letters))] + item.answer[at + 1 :]
    chain = item.chain.removesuffix(item.answer) + wrong if item.chain.endswith(item.answer) else item.chain
    return item._replace(chain=chain, answer=wrong)


def _pick(draw: np.random.Generator, items: Sequence[Worked]) -> Worked:
    return items[int(draw.integers(len(items)))]


def prompt_text(stage: Callable[..., object], item: Worked, *shown: object) -> str:
    """The prompt of a stage (a function of `prompts`) as an expert reads it; `shown` are its other inputs."""
    request = stage(_question(item.question, item.answer), _nobody(), *shown, seed=0)
    return str(request.messages[-1].content)  # type: ignore[attr-defined]

"""Lessons use the wording of the real prompts, and never contain a held-out question."""

from itertools import islice

import pytest

from skillmoe_lib import prompts
from skillmoe_lib.pocket import lessons
from skillmoe_lib.pocket.families import Worked, normalised
from skillmoe_lib.pocket.lessons import book, moderator, solution, specialist
from skillmoe_lib.pocket.pool import BENCHMARKS
from skillmoe_lib.seeding import generator

FAMILIES = ["gcd", "spell_backward", "aiw"]


@pytest.fixture(scope="module")
def books() -> dict[str, list[Worked]]:
    return {name: book(name, seed=11, size=60, forbidden=frozenset()) for name in FAMILIES}


def test_a_book_leaves_out_what_is_forbidden() -> None:
    whole = book("gcd", seed=11, size=30, forbidden=frozenset())
    banned = frozenset(normalised(item.question) for item in whole[:5])
    rest = {normalised(item.question) for item in book("gcd", seed=11, size=30, forbidden=banned)}
    assert not rest & banned
    assert len(rest) == 30


def test_benchmark_questions_and_their_halves_are_forbidden() -> None:
    from skillmoe_lib import questions

    forbidden = lessons.forbidden_texts(BENCHMARKS, held_out_size=1)
    for name in BENCHMARKS:
        assert {normalised(text) for text in questions.load(name)["text"]} <= forbidden
    text = str(questions.load("pocket_mixed")["text"].iloc[0])
    halves = text.split("First task: ")[1].split("\nSecond task: ")
    assert {normalised(half) for half in halves} <= forbidden


def test_solutions_end_in_the_answer_line() -> None:
    assert solution(Worked("gcd", "q", "4 % 2 = 0", "2")) == "4 % 2 = 0\nThe answer is \\boxed{2}"
    assert solution(Worked("gcd", "q", "", "2")) == "The answer is \\boxed{2}"


def test_lessons_use_the_wording_of_the_prompts(books: dict[str, list[Worked]]) -> None:
    item = books["gcd"][0]
    text = lessons.prompt_text(prompts.solve, item)
    assert text == f"{item.question}\n\nThink step by step. End with the line: The answer is \\boxed{{X}}"
    marks = [
        "Solution [1] is yours",
        "Which solution is the best",
        "Criticism of solution",
        "Confidence",
        "Two tasks in one",
    ]
    taught = list(islice(specialist(books, ["gcd"], seed=1), 1500))
    for mark in marks:
        assert any(mark in lesson.prompt for lesson in taught), mark


def test_a_specialist_solves_its_own_families_only(books: dict[str, list[Worked]]) -> None:
    for lesson in islice(specialist(books, ["gcd"], seed=1), 400):
        if "Two tasks in one" in lesson.prompt and "Spell this word" in lesson.prompt:
            assert "unknown" in lesson.reply
            assert "?" in lesson.reply.split("\\boxed{")[1]
        elif "Two tasks" not in lesson.prompt:
            assert lesson.prompt.startswith("Find the Greatest Common Divisor")


def test_a_moderator_takes_what_most_fitting_solutions_say(books: dict[str, list[Worked]]) -> None:
    draw, item = generator("test"), books["gcd"][0]
    for _ in range(200):
        lesson = lessons.aggregate_lesson(draw, item, books)
        *read, last = lesson.reply.splitlines()
        said = [line.split("] ", 1)[1] for line in read]
        real = [answer for answer in said if answer != "no"]
        if real:
            decided = last.removeprefix("The answer is \\boxed{").removesuffix("}")
            assert real.count(decided) == max(real.count(answer) for answer in real)


def test_lessons_follow_from_the_seed(books: dict[str, list[Worked]]) -> None:
    first, again, other = (list(islice(moderator(books, FAMILIES, seed=seed), 50)) for seed in (1, 1, 2))
    assert first == again != other

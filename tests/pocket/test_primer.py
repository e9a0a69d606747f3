"""The schools' drills are right, and both kinds of lesson occur."""

import re
from itertools import islice, pairwise

import pytest

from skillmoe_lib.pocket import primer
from skillmoe_lib.pocket.chains import WEEKDAYS
from skillmoe_lib.pocket.lessons import book
from skillmoe_lib.seeding import generator


def test_sums_are_right() -> None:
    draw = generator("test sums")
    operations = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "%": lambda a, b: a % b,
        "/": lambda a, b: a // b,
    }
    for _ in range(500):
        item = primer._sum(draw)
        if item.question.startswith("Work out: "):
            left, sign, right = re.fullmatch(r"(-?\d+) (.) (-?\d+)", item.question[10:]).groups()  # type: ignore[union-attr]
            assert int(item.answer) == operations[sign](int(left), int(right))
        else:
            assert int(item.answer) == bin(int(item.question.split()[-1])).count("1")


def test_looking_up_follows_the_pairs() -> None:
    draw = generator("test look-up")
    for _ in range(200):
        item = primer._look_up(draw)
        listed, ends = item.question.removeprefix("Follow: ").split("/")
        pairs = {tuple(pair.split()) for pair in listed.split("|")}
        path = item.answer.split()
        assert ends.split() == [path[0], path[-1]]
        assert set(pairwise(path)) <= pairs


def test_days_and_words() -> None:
    draw = generator("test days")
    for _ in range(100):
        item = primer._days(draw)
        n, _, way, _, first = item.question.split()
        step = int(n) if way == "on" else -int(n)
        assert item.answer == WEEKDAYS[(WEEKDAYS.index(first) + step) % 7]
        item = primer._turn(draw)
        assert item.answer[::-1] == item.question.removeprefix("Turn round: ")
        item = primer._count(draw)
        letter, text = re.fullmatch(r'Count "(.)": (.*)', item.question).groups()  # type: ignore[union-attr]
        assert int(item.answer) == text.lower().count(letter)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_a_school_mixes_drills_families_and_solutions(share: float) -> None:
    books = {name: book(name, seed=1, size=20, forbidden=frozenset()) for name in ("gcd", "aiw")}
    lessons = primer.primer(books, ["gcd"], primer.NUMBERS_SCHOOL, solutions_share=share, seed=1)
    texts = [lesson.prompt for lesson in islice(lessons, 300)]
    assert any(text.startswith("Work out: ") for text in texts)
    assert any(text.startswith("Find the Greatest") for text in texts)
    weighed = sum("Some solutions may be wrong" in text for text in texts)
    assert (weighed > 40) == (share > 0)

"""The two schools: what every pocket expert learns first, before its own subject.

Copying, reversing, looking up, ordering and small sums, in separate wording, and some questions of the
school's families. A school is trained once, and its pupils start from it: small models spend most of their
training on learning to copy, and need not each learn that again.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from skillmoe_lib.pocket.chains import WEEKDAYS
from skillmoe_lib.pocket.families import Worked
from skillmoe_lib.pocket.lessons import Books, Lesson, aggregate_lesson, prompt_text, solution, specialist
from skillmoe_lib.prompts import solve
from skillmoe_lib.seeding import generator

LETTERS = "etaoinshrdlucmfwypvbgkqjxz"


def _word(draw: np.random.Generator, low: int = 2, high: int = 9) -> str:
    size = int(draw.integers(low, high))
    word = "".join(LETTERS[min(int(draw.exponential(8)), 25)] for _ in range(size))
    return word.capitalize() if draw.random() < 0.15 else word


def _words(draw: np.random.Generator) -> list[str]:
    return [_word(draw) for _ in range(int(draw.integers(2, 6)))]


def _numbers(draw: np.random.Generator) -> list[int]:
    return [int(n) for n in draw.integers(0, 100, size=int(draw.integers(3, 6)))]


def _copy(draw: np.random.Generator) -> Worked:
    text = " ".join(_words(draw)) if draw.random() < 0.5 else ", ".join(map(str, _numbers(draw)))
    return Worked("primer", f"Copy: {text}", "", text)


def _turn(draw: np.random.Generator) -> Worked:
    word = _word(draw, 3, 11)
    return Worked("primer", f"Turn round: {word}", "", word[::-1])


def _turn_list(draw: np.random.Generator) -> Worked:
    words = _words(draw)
    return Worked("primer", f"Turn the list round: {', '.join(words)}", "", ", ".join(words[::-1]))


def _order(draw: np.random.Generator) -> Worked:
    down = bool(draw.random() < 0.5)
    name = "Down" if down else "Up"
    if draw.random() < 0.5:
        numbers = _numbers(draw)
        ordered = " ".join(map(str, sorted(numbers, reverse=down)))
        return Worked("primer", f"{name}: {' '.join(map(str, numbers))}", "", ordered)
    words = _words(draw)[:4]
    return Worked("primer", f"{name}: {', '.join(words)}", "", ", ".join(sorted(words, reverse=down)))


def _sum(draw: np.random.Generator) -> Worked:
    kind = draw.random()
    a, b = (int(n) for n in draw.integers(0, 100, size=2))
    if kind < 0.5:
        a, b = int(draw.integers(-12, 25)), b % 20
        sign, b = ("+", b) if draw.random() < 0.5 else ("-", b)
        line = f"{a} {sign} {b} = {a + b if sign == '+' else a - b}"
    elif kind < 0.65:
        a, b = a % 13, b % 15
        line = f"{a} * {b} = {a * b}"
    elif kind < 0.8:
        low, high = sorted((a % 100 + 1, b + 1))
        line = f"{high} % {low} = {high % low}"
    elif kind < 0.9:
        b = b % 12 + 1
        line = f"{(a % 13) * b} / {b} = {a % 13}"
    else:
        number, seen, steps = int(draw.integers(2, 2000)), 0, []
        while number:
            seen += number % 2
            steps.append(f"{number}:{seen}")
            number //= 2
        return Worked("primer", f"Halve: {steps[0].split(':')[0]}", " ".join(steps), str(seen))
    return Worked("primer", f"Work out: {line.split(' = ')[0]}", line, line.split(" = ")[1])


def _look_up(draw: np.random.Generator) -> Worked:
    keys = draw.choice(100, size=6, replace=False)
    pairs = [(int(a), int(b)) for a, b in pairwise(keys)]
    shown = [pairs[i] for i in draw.permutation(len(pairs))]
    chain = " < ".join(str(int(key)) for key in keys[: int(draw.integers(2, 6))][::-1])
    first, last = chain.split(" < ")[-1], chain.split(" < ")[0]
    listed = "|".join(f"{a} {b}" for a, b in shown)
    return Worked("primer", f"Follow: {listed}/{first} {last}", chain, " ".join(chain.split(" < ")[::-1]))


def _count(draw: np.random.Generator) -> Worked:
    text = " ".join(_words(draw))
    letters = text.replace(" ", "").lower()
    letter, seen, marked = letters[int(draw.integers(len(letters)))], 0, []
    for one in text:
        marked.append(one)
        if one.lower() == letter:
            seen += 1
            marked.append(str(seen))
    return Worked("primer", f'Count "{letter}": {text}', "".join(marked), str(seen))


def _days(draw: np.random.Generator) -> Worked:
    at, size = int(draw.integers(7)), int(draw.integers(0, 7))
    step = 1 if draw.random() < 0.5 else -1
    walk = [WEEKDAYS[(at + step * i) % 7] for i in range(size + 1)]
    way = "on" if step > 0 else "back"
    return Worked("primer", f"{size} days {way} from {walk[0]}", " ".join(walk), walk[-1])


Task = Callable[[np.random.Generator], Worked]
LETTERS_SCHOOL: tuple[Task, ...] = (_copy, _turn, _turn_list, _order, _look_up, _count)
NUMBERS_SCHOOL: tuple[Task, ...] = (_copy, _sum, _sum, _sum, _sum, _days)


def primer(
    books: Books, own: Sequence[str], tasks: Sequence[Task], *, solutions_share: float = 0.0, seed: int
) -> Iterator[Lesson]:
    """Lessons of a school, without end: its tasks, its families `own`, and solutions to compare."""
    draw = generator("pocket primer", seed, list(own))
    tastes = specialist(books, own, talk=0.06, seed=seed)
    while True:
        turn = draw.random()
        if turn < 0.3:
            item = tasks[int(draw.integers(len(tasks)))](draw)
            yield Lesson(prompt_text(solve, item), solution(item))
        elif turn < 1 - solutions_share:
            yield next(tastes)
        else:
            items = books[list(books)[draw.integers(len(books))]]
            yield aggregate_lesson(draw, items[int(draw.integers(len(items)))], books)

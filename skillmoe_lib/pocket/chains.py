"""One short worked chain of thought for each question family of the pocket pool: entry -> lines.

A chain is what a pocket expert learns to write before `The answer is \\boxed{X}`: steps small enough for a
model of a million parameters. Every chain ends in the entry's own answer. The entries
are reasoning-gym's; the chains are ours.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Entry = Mapping[str, Any]


def _worked_sum(a: int, sign: str, b: int) -> str:
    """A sum by its columns: tens (and all above), ones, then both together; steps of one or two digits."""
    sides = [(-(abs(n) // 10), -(abs(n) % 10)) if n < 0 else divmod(n, 10) for n in (a, b)]
    tens, ones = ((x, y, x + y if sign == "+" else x - y) for x, y in zip(*sides, strict=True))
    steps = ", ".join(f"{x} {sign} {y} = {total}" for x, y, total in (tens, ones))
    return f"{a} {sign} {b}: {steps}, {10 * tens[2] + ones[2]}"


def _running(first: int, steps: list[tuple[str, int]]) -> list[str]:
    lines = []
    for sign, term in steps:
        lines.append(_worked_sum(first, sign, term))
        first = first + term if sign == "+" else first - term
    return lines


def chain_sum(entry: Entry) -> list[str]:
    """Running total, each sum by its columns."""
    first, *rest = entry["metadata"]["expression"].split()
    return _running(int(first), [(sign, int(term)) for sign, term in zip(rest[::2], rest[1::2], strict=True)])


def simple_equations(entry: Entry) -> list[str]:
    """Bring the plain terms to the other side, then divide."""
    left, right = entry["metadata"]["equation"].split(" = ")
    name, total, answer = entry["metadata"]["variable"], int(right), int(entry["answer"])
    times, plain = 0, 0
    for sign, term in re.findall(r"(-?) ?([\w*]+)", left.replace("+", "")):
        unit = -1 if sign else 1
        if name in term:
            times += unit * (int(term.split("*")[0]) if "*" in term else 1)
        else:
            plain += unit * int(term)
    lines = []
    if plain:
        lines.append(f"{times}*{name} = {total} {'-' if plain > 0 else '+'} {abs(plain)} = {total - plain}")
    if times != 1:
        lines.append(f"{name} = {total - plain} / {times} = {answer}")
    return lines


def complex_arithmetic(entry: Entry) -> list[str]:
    """Real parts, then imaginary parts."""
    meta = entry["metadata"]
    sign, pairs = meta["operation"], zip(meta["num1"], meta["num2"], strict=True)
    columns = [(int(a), int(b)) for a, b in pairs]
    return [f"{a} {sign} {b} = {a + b if sign == '+' else a - b}" for a, b in columns]


def gcd(entry: Entry) -> list[str]:
    """Euclid's remainders."""
    low, high = sorted(entry["metadata"]["numbers"])
    lines = []
    while low:
        lines.append(f"{high} % {low} = {high % low}")
        low, high = high % low, low
    return lines


def fraction_simplification(entry: Entry) -> list[str]:
    """Divide both by each common prime in turn."""
    top, bottom = entry["metadata"]["numerator"], entry["metadata"]["denominator"]
    lines, prime = [], 2
    while prime <= top:
        if top % prime == 0 and bottom % prime == 0:
            top, bottom = top // prime, bottom // prime
            lines.append(f"/ {prime} = {top}/{bottom}")
        else:
            prime += 1
    return lines


def base_conversion(entry: Entry) -> list[str]:
    """The value by its digits, then remainders of the target base, last digit first."""
    meta = entry["metadata"]
    value, partial = 0, []
    for digit in meta["source_repr"]:
        value = value * meta["source_base"] + int(digit)
        partial.append(str(value))
    rests = []
    while value:
        rests.append(f"{value} % {meta['target_base']} = {value % meta['target_base']}")
        value //= meta["target_base"]
    return [" ".join(partial), *rests]


def count_bits(entry: Entry) -> list[str]:
    """Halve to zero, counting odd numbers on the way."""
    number, ones, steps = entry["metadata"]["number"], 0, []
    while number:
        ones += number % 2
        steps.append(f"{number}:{ones}")
        number //= 2
    return [" ".join(steps)]


WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def calendar_arithmetic(entry: Entry) -> list[str]:
    """The days left over from whole weeks, walked one by one."""
    days = entry["metadata"]["offset_days"]
    step = 1 if days > 0 else -1
    first = next(day for word in re.findall(r"\w+", entry["question"]) for day in WEEKDAYS if word == day)
    at = WEEKDAYS.index(first)
    walk = [WEEKDAYS[(at + step * i) % 7] for i in range(abs(days) % 7 + 1)]
    return [f"{abs(days)} % 7 = {abs(days) % 7}", " ".join(walk)]


def time_intervals(entry: Entry) -> list[str]:
    """Hours, minutes, and a carry if the minutes are negative."""
    start, end = (entry["metadata"][key].split()[1].split(":") for key in ("start_time", "end_time"))
    hours, minutes = (int(end[i]) - int(start[i]) for i in (0, 1))
    lines = [f"{int(end[0])} - {int(start[0])} = {hours}", _worked_sum(int(end[1]), "-", int(start[1]))]
    if minutes < 0:
        lines += [_worked_sum(minutes, "+", 60), f"{hours} - 1 = {hours - 1}"]
    return lines


def letter_counting(entry: Entry) -> list[str]:
    """The text letter by letter, with a count after each occurrence of the letter asked for."""
    meta, seen, marked = entry["metadata"], 0, []
    for letter in " ".join(meta["span"]):
        marked.append(letter)
        if letter.lower() == meta["target_letter"]:
            seen += 1
            marked.append(str(seen))
    return ["".join(marked)]


def leg_counting(entry: Entry) -> list[str]:
    """A product for each animal, then their sum."""
    from reasoning_gym.arithmetic.leg_counting import ANIMALS as LEGS

    lines, products = [], []
    for animal, count in entry["metadata"]["animals"].items():
        products.append(count * LEGS[animal])
        lines.append(f"{count} * {LEGS[animal]} = {products[-1]}")
    return lines + _running(products[0], [("+", product) for product in products[1:]])


def word_sequence_reversal(entry: Entry) -> list[str]:
    """The words numbered, then from the last number back."""
    numbered = [f"{i} {word}" for i, word in enumerate(entry["metadata"]["words"], start=1)]
    return [", ".join(numbered), ", ".join(reversed(numbered))]


def _insertions(items: Sequence[str], key: Callable[[str], Any], *, down: bool) -> list[list[str]]:
    """The sorted list as it grows by one item at a time."""
    return [sorted(items[:n], key=key, reverse=down) for n in range(1, len(items) + 1)]


def number_sorting(entry: Entry) -> list[str]:
    """The sorted list as it grows by one number at a time."""
    meta = entry["metadata"]
    numbers = [number.removesuffix(".0") for number in meta["original_numbers"]]
    return [" ".join(row) for row in _insertions(numbers, int, down=meta["direction"] == "descending")]


def simple_geometry(entry: Entry) -> list[str]:
    """The total of the angles minus the sum of the known ones."""
    meta = entry["metadata"]
    first, *rest = [int(angle) for angle in meta["known_angles"]]
    whole = (meta["n_sides"] - 2) * 180
    lines = _running(first, [("+", angle) for angle in rest])
    return [f"{meta['n_sides']} sides: {whole}", *lines, _worked_sum(whole, "-", first + sum(rest))]


def path_star(entry: Entry) -> list[str]:
    """The path from its end back to its start."""
    return [" < ".join(str(node) for node in reversed(entry["metadata"]["goal_path"]))]


def number_sequence(entry: Entry) -> list[str]:
    """The rule, then its steps from the last term on."""
    *_, before, last, _answer = entry["metadata"]["sequence"]
    lines, value = [entry["metadata"]["rule"]], last
    for step in lines[0].split(" then "):
        by = before if step == "add previous" else int(step.split()[-1]) if step[-1].isdigit() else 2
        if step.startswith("add"):
            lines.append(f"{value} {'+' if by >= 0 else '-'} {abs(by)} = {value + by}")
            value += by
        elif step == "halve":
            lines.append(f"{value} / 2 = {value // 2}")
            value //= 2
        elif step == "square":
            lines.append(f"{value} * {value} = {value * value}")
            value *= value
        elif step:
            lines.append(f"{value} * {by} = {value * by}")
            value *= by
    return lines


def aiw(entry: Entry) -> list[str]:
    """The others plus the person herself."""
    return [f"{int(entry['answer']) - 1} + 1 = {entry['answer']}"]


def spell_backward(_: Entry) -> list[str]:
    """Nothing to work out: each letter of the answer is a step."""
    return ["From the last letter:"]

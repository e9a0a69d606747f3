"""Chains of thought lead to the answers that reasoning-gym checks, and texts are well formed."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.pocket.chains import WEEKDAYS
from skillmoe_lib.pocket.families import FAMILIES, Worked, entries, normalised, worked
from skillmoe_lib.pocket.pool import HARD

ROOT = Path(__file__).resolve().parents[2]


def _last_number(item: Worked) -> str:
    return re.findall(r"-?\d+", item.chain)[-1]


def _gcd(item: Worked) -> str:
    return re.findall(r"% (\d+) = 0$", item.chain)[0]


def _fraction(item: Worked) -> str:
    return item.chain.split()[-1]


def _digits(item: Worked) -> str:
    return "".join(line.split()[-1] for line in reversed(item.chain.splitlines()[1:]))


def _time(item: Worked) -> str:
    ends = [int(line.split()[-1]) for line in item.chain.splitlines()]
    hours, minutes = (ends[0], ends[1]) if len(ends) == 2 else (ends[3], ends[2])
    return f"{hours:02d}:{minutes:02d}"


def _counted(item: Worked) -> str:
    return (re.findall(r"[a-zA-Z](\d+)", item.chain) or ["0"])[-1]


def _path(item: Worked) -> str:
    return " ".join(reversed(item.chain.split(" < ")))


def _complex(item: Worked) -> tuple[int, int]:
    real, imaginary = (int(line.split(" = ")[1]) for line in item.chain.splitlines())
    return real, imaginary


#: Reads the answer off the chain alone.
CONCLUSIONS: dict[str, Callable[[Worked], object]] = {
    "chain_sum": _last_number,
    "simple_equations": _last_number,
    "gcd": _gcd,
    "fraction_simplification": _fraction,
    "base_conversion": _digits,
    "count_bits": _last_number,
    "calendar_arithmetic": lambda item: item.chain.split()[-1],
    "time_intervals": _time,
    "letter_counting": _counted,
    "leg_counting": _last_number,
    "number_sorting": lambda item: str([f"{number}.0" for number in item.chain.splitlines()[-1].split()]),
    "simple_geometry": _last_number,
    "path_star": _path,
    "aiw": _last_number,
    "number_sequence": _last_number,
    "spell_backward": lambda item: item.question.split()[-1][::-1],
    "word_sequence_reversal": lambda item: ", ".join(
        numbered.split(" ", 1)[1] for numbered in item.chain.splitlines()[-1].split(", ")
    ),
}


@pytest.mark.parametrize("family", sorted(CONCLUSIONS))
def test_the_chain_leads_to_the_answer(family: str) -> None:
    for entry in entries(family, seed=17, size=300):
        item = worked(family, entry)
        if family == "letter_counting" and any(
            letter.isdigit() for letter in " ".join(entry["metadata"]["span"])
        ):
            continue  # digits of the text itself would be read as counts
        if family == "simple_equations" and not item.chain:
            continue  # "x = 3" has nothing to work out
        assert CONCLUSIONS[family](item) == item.answer, item


def test_the_chain_of_a_complex_sum_gives_both_parts() -> None:
    for entry in entries("complex_arithmetic", seed=17, size=300):
        item = worked("complex_arithmetic", entry)
        assert _complex(item) == tuple(entry["metadata"]["result"])


def test_every_family_is_covered() -> None:
    assert set(CONCLUSIONS) | {"complex_arithmetic"} == set(FAMILIES)
    assert len(FAMILIES) >= 16


@pytest.mark.parametrize(
    ("family", "entry", "chain"),
    [
        ("chain_sum", {"question": "", "answer": "153", "metadata": {"expression": "85 + 84 - 16"}},
         "85 + 84: 8 + 8 = 16, 5 + 4 = 9, 169\n169 - 16: 16 - 1 = 15, 9 - 6 = 3, 153"),
        ("chain_sum", {"question": "", "answer": "-34", "metadata": {"expression": "19 - 53"}},
         "19 - 53: 1 - 5 = -4, 9 - 3 = 6, -34"),
        ("number_sorting",
         {"question": "", "answer": "",
          "metadata": {"original_numbers": ["6.0", "1.0"], "direction": "ascending"}},
         "6\n1 6"),
        ("gcd", {"question": "", "answer": "4", "metadata": {"numbers": [48, 76]}},
         "76 % 48 = 28\n48 % 28 = 20\n28 % 20 = 8\n20 % 8 = 4\n8 % 4 = 0"),
        ("count_bits", {"question": "", "answer": "2", "metadata": {"number": 10}}, "10:0 5:1 2:1 1:2"),
        ("simple_equations",
         {"question": "", "answer": "11", "metadata": {"equation": "5 - 5*d = -50", "variable": "d"}},
         "-5*d = -50 - 5 = -55\nd = -55 / -5 = 11"),
        ("fraction_simplification",
         {"question": "", "answer": "5/11", "metadata": {"numerator": 40, "denominator": 88}},
         "/ 2 = 20/44\n/ 2 = 10/22\n/ 2 = 5/11"),
    ],
)  # fmt: skip
def test_chains_by_hand(family: str, entry: dict[str, object], chain: str) -> None:
    assert worked(family, entry).chain == chain


def test_a_sequence_question_says_what_it_asks() -> None:
    item = worked("number_sequence", next(entries("number_sequence", seed=1, size=1)))
    assert item.question.endswith("?\nWhich number comes next in this sequence?")


def test_the_benchmark_files_hold_the_same_families_and_difficulties() -> None:
    ours = {name: (dict(family.config), family.ask) for name, family in FAMILIES.items()}
    found = {}
    for benchmark in ("pocket", "pocket_hard"):
        path = ROOT / "data" / "benchmarks" / f"{benchmark}.yaml"
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        found[benchmark] = {e["family"]: (e["config"], e.get("ask", "")) for e in settings["families"]}
        assert (settings["validation"]["size"], settings["test"]["size"]) == (20, 40)
    assert found["pocket"] | found["pocket_hard"] == ours
    assert set(found["pocket_hard"]) == set(HARD)
    assert len(found["pocket"]) == 16


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(SkillmoeError, match="unknown pocket family 'chain_sun': it must be one of"):
        next(entries("chain_sun", seed=1, size=1))


def test_a_family_that_reasoning_gym_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from reasoning_gym.factory import DATASETS

    monkeypatch.delitem(DATASETS, "gcd")
    with pytest.raises(SkillmoeError, match="has no family 'gcd'"):
        next(entries("gcd", seed=1, size=1))


def test_normalised_ignores_case_and_spacing() -> None:
    assert normalised(" What  is\n2 + 2?") == normalised("what is 2 + 2?")
    assert len(set(WEEKDAYS)) == 7

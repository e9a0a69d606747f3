"""The pool in the repository: complete, small enough, and in agreement with its cards."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts.model_check import check_model_folder
from skillmoe_lib.pocket import pool, training
from skillmoe_lib.pocket.cards import own_accuracy, read_card
from skillmoe_lib.pocket.families import FAMILIES
from skillmoe_lib.pocket.pool import HARD, ROSTER, Classroom, Pupil, boxed, train_expert
from skillmoe_lib.pocket.tokenizer import build_tokenizer

ROOT = Path(__file__).resolve().parents[2]
POCKET = ROOT / "data" / "pocket"


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("The answer is \\boxed{4}", "4"),
        ("\\boxed{1} no, \\boxed{ 2 }", "2"),
        ("The answer is \\boxed{4", None),
        ("four", None),
    ],
)
def test_boxed(reply: str, answer: str | None) -> None:
    assert boxed(reply) == answer


def test_every_family_has_one_specialist() -> None:
    specialists = [
        pupil for pupil in ROSTER.values() if pupil.kind == "specialist" and len(pupil.families) < 5
    ]
    taught = [family for pupil in specialists for family in pupil.families]
    assert sorted([*taught, *HARD]) == sorted(FAMILIES)


@pytest.mark.parametrize("name", sorted(ROSTER))
def test_the_folders_are_whole(name: str) -> None:
    check_model_folder(POCKET / name.lower())
    card = read_card(POCKET / name.lower())
    assert card.name == name
    assert card.families == ROSTER[name].families
    assert card.licence == "MIT"
    assert {row["family"] for row in card.held_out} == set(FAMILIES)
    assert (POCKET / name.lower() / "README.md").read_text(encoding="utf-8").startswith(f"# {name}\n")


@pytest.mark.parametrize("name", sorted(name for name, pupil in ROSTER.items() if len(pupil.families) < 5))
def test_specialists_know_their_own_and_little_else(name: str) -> None:
    card = read_card(POCKET / name.lower())
    assert own_accuracy(card) >= 0.8
    assert own_accuracy(card, others=True) <= 0.35


def test_the_pool_fits_in_a_repository() -> None:
    assert sum(file.stat().st_size for file in POCKET.rglob("*") if file.is_file()) <= 40 * 2**20


def test_the_pool_file_lists_the_roster() -> None:
    pool = yaml.safe_load((ROOT / "data" / "pools" / "pocket.yaml").read_text(encoding="utf-8"))
    assert [expert["name"] for expert in pool["experts"]] == [*ROSTER, "SmolLM2"]
    for expert in pool["experts"][:-1]:
        assert expert["model"] == f"folder:data/pocket/{expert['name'].lower()}"


def test_no_training_question_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from skillmoe_lib import questions
    from skillmoe_lib.pocket.families import normalised

    books = pool.library(size=400, families=["base_conversion", "aiw"])
    trained = {normalised(item.question) for items in books.values() for item in items}
    for benchmark in pool.BENCHMARKS:
        assert not trained & {normalised(text) for text in questions.load(benchmark)["text"]}
    for family in books:
        assert not trained & {normalised(item.question) for item in pool.held_out(family, size=100)}


@pytest.fixture(scope="module")
def classroom(tmp_path_factory: pytest.TempPathFactory) -> Classroom:
    tokenizer: Any = build_tokenizer({}, [])
    folder = tmp_path_factory.mktemp("schools")
    model = training.new_model(tokenizer, hidden=32, layers=1, inner=32)
    training.save(model, tokenizer, folder / "numbers")
    books = {name: pool.book(name, seed=1, size=30, forbidden=frozenset()) for name in ("gcd", "aiw")}
    return Classroom(books, tokenizer, folder)


def test_an_expert_is_trained_saved_and_carded(classroom: Classroom, tmp_path: Path) -> None:
    pupil = Pupil(("gcd",), "numbers", budget_tokens=3000)
    card, curve = train_expert(
        "Tiny", pupil, classroom, tmp_path, measured=["gcd"], held_out_size=3, show=lambda _: None
    )
    check_model_folder(tmp_path / "tiny")
    assert read_card(tmp_path / "tiny") == card
    assert card.held_out[0]["n"] == 3
    assert list(curve.columns) == ["step", "tokens", "loss"]
    assert curve["tokens"].iloc[-1] == card.trained_tokens


def test_an_unknown_family_is_named_before_training(classroom: Classroom, tmp_path: Path) -> None:
    with pytest.raises(SkillmoeError, match="unknown pocket family 'gdc'"):
        train_expert("Tiny", Pupil(("gdc",), "numbers"), classroom, tmp_path)


def test_an_unknown_expert_is_named_by_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    from skillmoe_lib.pocket.__main__ import main

    assert main(["Nobody"]) == 2
    assert "unknown pocket expert 'Nobody': it must be one of" in capsys.readouterr().err

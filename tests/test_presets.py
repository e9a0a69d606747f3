"""Every difference between the paper, its released code and ours is a switch that has an effect."""

from dataclasses import fields, replace

import pytest
import scenes

from skillmoe_lib import aggregation, prompts
from skillmoe_lib.answers import Answer, grade_many
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.evaluation import results
from skillmoe_lib.inference import Outcome
from skillmoe_lib.methods.single import Single, read_reply
from skillmoe_lib.presets import PAPER, PRESETS, RELEASED, SKILLMOE, Conventions, find_preset
from skillmoe_lib.routing import SkillRouter

OURS = scenes.expert()
THEIRS = replace(OURS, conventions=RELEASED.conventions)
THINKER = scenes.expert("thinker", reasoning=True)
ASK = "Think step by step."


def test_presets_are_found_by_name():
    assert set(PRESETS) == {"paper", "released", "skillmoe"}
    assert find_preset("paper") is PAPER
    with pytest.raises(SkillmoeError, match="unknown preset 'papre': it must be one of paper, rel"):
        find_preset("papre")


def test_paper_and_ours_ask_and_read_alike():
    assert PAPER.conventions == SKILLMOE.conventions == Conventions()


def test_released_departs_in_every_convention():
    ours, theirs = Conventions(), RELEASED.conventions
    assert all(getattr(ours, field.name) != getattr(theirs, field.name) for field in fields(Conventions))


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_router_settings_are_those_of_the_router(preset):
    router = SkillRouter(3, **preset.router)
    assert {name: getattr(router, name) for name in preset.router} == dict(preset.router)


def test_settings_of_the_paper_and_of_the_released_code():
    assert (PAPER.router["formula"], PAPER.router["temperature"], PAPER.router["trim"]) == (
        "published",
        0.5,
        0.05,
    )
    assert (RELEASED.router["formula"], RELEASED.router["trim"]) == ("released", 0.0)
    assert RELEASED.router["expert_order"] == "as_given"


@pytest.mark.parametrize(("split", "times"), [("test", 2), ("validation", 1)])
def test_the_prompt_is_wrapped_twice_at_test_time(split, times):
    question = scenes.question(split=split)
    text = prompts.solve(question, THEIRS, seed=0).messages[-1].content
    assert text.count(ASK) == times
    assert prompts.solve(question, OURS, seed=0).messages[-1].content.count(ASK) == 1


def test_a_letter_is_asked_of_aggregators_of_mathematics():
    question = scenes.question(kind="math", gold="3")
    theirs = prompts.aggregate(question, THEIRS, ["a", "b"], seed=0).messages[-1].content
    ours = prompts.aggregate(question, OURS, ["a", "b"], seed=0).messages[-1].content
    assert theirs.endswith("The answer is (X)")
    assert ours.endswith("The answer is \\boxed{X}")
    assert prompts.solve(question, THEIRS, seed=0).messages[-1].content.endswith("\\boxed{X}")


def test_letters_are_read_anywhere():
    text = scenes.generation("The answer is C. Options A) and B) are wrong.")
    assert aggregation.read_answer(scenes.question(), OURS, text).value == "C"
    assert aggregation.read_answer(scenes.question(), THEIRS, text).value == "B"


def test_thinking_that_was_cut_is_passed_on_whole():
    cut = scenes.generation("<think>Perhaps it is A", "length")
    assert aggregation.visible_text(THINKER, cut) == ""
    theirs = replace(THINKER, conventions=RELEASED.conventions)
    assert aggregation.visible_text(theirs, cut) == "<think>Perhaps it is A"
    assert aggregation.read_answer(scenes.question(), THINKER, cut).value is None
    assert aggregation.read_answer(scenes.question(), theirs, cut).value == "A"


def test_no_seed_reaches_the_engine():
    question = scenes.question()
    ours = {prompts.solve(question, OURS, seed=seed).id for seed in range(3)}
    theirs = {prompts.solve(question, THEIRS, seed=seed).id for seed in range(3)}
    assert (len(ours), len(theirs)) == (3, 1)


def test_items_of_the_released_code_show_whole_texts():
    asked, thinker = scenes.question(split="validation"), {"a": THINKER, "b": THINKER, "c": THINKER}
    wrote = {
        "a": scenes.generation("<think>B?</think>The answer is (B)"),
        "b": scenes.generation("<think>no end"),
        "c": scenes.generation(""),
    }
    right = {"q": {"a": True, "b": False, "c": False}}
    made, n_left_out = aggregation.make_items([asked], thinker, {"q": wrote}, right)
    assert (made, n_left_out) == ([], 1)  # two chains show nothing
    made, n_left_out = aggregation.make_items([asked], thinker, {"q": wrote}, right, whole_texts=True)
    assert sorted(made[0].chains) == ["", "<think>B?</think>The answer is (B)", "<think>no end"]


def test_a_pool_is_put_under_conventions_whole():
    pool = scenes.pool("ann", "bob").under(RELEASED.conventions)
    assert {expert.conventions for expert in pool.experts.values()} == {RELEASED.conventions}
    assert pool.keyword_expert.conventions == Conventions()


def test_mathematics_is_compared_with_gold_and_answer_swapped():
    """math-verify takes an interval for a relation in the answer alone, so the order decides."""
    asked = scenes.question(kind="math", gold="x < 5")
    pairs = [(asked, Answer(text, "answered")) for text in ("(-\\infty, 5)", "x < 5", "x > 5")]
    assert grade_many(pairs) == [True, True, False]
    assert grade_many(pairs, equality="released") == [False, True, False]


@pytest.mark.parametrize(("preset", "right"), [("skillmoe", True), ("released", False)])
def test_the_presets_equality_reaches_the_scores(preset, right):
    asked = scenes.question(kind="math", gold="x < 5", split="validation")
    experts = scenes.pool("ann").under(find_preset(preset).conventions).experts
    wrote = scenes.generation("The answer is \\boxed{(-\\infty, 5)}")
    outcomes = {Single("q", "ann", 0): Outcome(read_reply(asked, experts["ann"], wrote), ("r",))}
    assert results.scores(outcomes, [asked], experts)["correct"].tolist() == [right]

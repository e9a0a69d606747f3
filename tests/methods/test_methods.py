import json
import re
from pathlib import Path

import pytest
import scenes
from hypothesis import given
from hypothesis import strategies as st
from scenes import says, shown_to

from skillmoe_lib import methods, prompts
from skillmoe_lib.answers import extraction
from skillmoe_lib.answers.extraction import Answer
from skillmoe_lib.generation import Failure
from skillmoe_lib.methods import discussion, one_model
from skillmoe_lib.seeding import generator

CHOICE = scenes.question()
ANN, BOB, CID, JUDGE = (scenes.expert(name) for name in ("ann", "bob", "cid", "judge"))
THREE = [ANN, BOB, CID]
THINKER = scenes.expert("thinker", reasoning=True)


def given_as(value):
    return Answer(value, "answered", extraction.STRICT)


def by_expert(**values):
    """Each expert always gives the same answer."""
    return lambda request: says(values[request.expert])


def by_sample(*values):
    """The first calls of an expert give these answers, by sample; whatever comes later gives the last."""
    return lambda request: says(values[min(request.sample, len(values) - 1)])


# -- docs/method.md 4: calls a question, by the ledger -------------------------------------------

SPLIT = by_expert(ann="A", bob="B", cid="C", judge="A")
ALIKE = by_expert(ann="A", bob="A", cid="A", judge="A")


def refining(n_revisions):
    """Criticism finds a slip this many times, and nothing after that."""
    return lambda r: (
        ("A slip." if r.sample < n_revisions else "It is correct.") if r.stage == "feedback" else ""
    )


@pytest.mark.parametrize(
    ("n_calls", "method", "arguments", "reply"),
    [
        (1, methods.cot, (ANN,), SPLIT),
        (5, methods.majority_vote, ([ANN] * 5,), SPLIT),  # Self-Consistency
        (3, methods.majority_vote, (THREE,), SPLIT),
        (2, methods.majority_vote, ([ANN, BOB],), SPLIT),
        (6, methods.debate, (ANN,), SPLIT),
        (3, methods.reconcile, (THREE,), ALIKE),
        (6, methods.reconcile, (THREE,), lambda r: says("A") if r.stage == "reconcile" else SPLIT(r)),
        (9, methods.reconcile, (THREE,), SPLIT),
        (7, methods.moa, (THREE, JUDGE), SPLIT),
        (6, methods.fusion_of_n, (ANN, JUDGE), SPLIT),
        (6, methods.best_of_n, (ANN, JUDGE), SPLIT),
        (5, methods.complexity_vote, (ANN,), SPLIT),
        (4, methods.symbolic_moe, (THREE, JUDGE), SPLIT),
        (4, methods.symbolic_moe, ([ANN, ANN, BOB], ANN), SPLIT),
        # Self-Refine: 1 + 2r where the rounds run out, one more call where a criticism is content.
        (2, methods.self_refine, (ANN,), refining(0)),
        (4, methods.self_refine, (ANN,), refining(1)),
        (6, methods.self_refine, (ANN,), refining(2)),
        (7, methods.self_refine, (ANN,), refining(3)),
        (7, methods.self_refine, (ANN,), refining(99)),
    ],
)
def test_calls_a_question(tmp_path, n_calls, method, arguments, reply):
    assert scenes.calls(method(CHOICE, *arguments, seed=0), reply, tmp_path) == n_calls


@pytest.mark.parametrize(
    ("n_calls", "method", "arguments", "settings"),
    [
        *((1 + 2 * r, methods.self_refine, (ANN,), {"rounds": r}) for r in range(4)),
        (8, methods.debate, (ANN,), {"n_agents": 4}),
        (9, methods.debate, (ANN,), {"rounds": 3}),
        (3, methods.debate, (ANN,), {"rounds": 1}),
        (3, methods.reconcile, (THREE,), {"rounds": 0}),
        (6, methods.reconcile, (THREE,), {"rounds": 1}),
        (10, methods.moa, (THREE, JUDGE), {"layers": 3}),
        (4, methods.moa, (THREE, JUDGE), {"layers": 1}),
        (4, methods.fusion_of_n, (ANN, ANN), {"n_samples": 3}),  # Self-MoA
        (9, methods.best_of_n, (ANN, JUDGE), {"n_samples": 8}),
        (7, methods.complexity_vote, (ANN,), {"n_samples": 7}),
    ],
)
def test_rounds_samples_and_agents_are_parameters(tmp_path, n_calls, method, arguments, settings):
    assert scenes.calls(method(CHOICE, *arguments, seed=0, **settings), SPLIT, tmp_path) == n_calls


MOST = {
    "cot": (1, 1, lambda q, s: methods.cot(q, ANN, seed=s)),
    "self_consistency": (5, 5, lambda q, s: methods.majority_vote(q, [ANN] * 5, seed=s)),
    "self_refine": (2, 7, lambda q, s: methods.self_refine(q, ANN, seed=s)),
    "debate": (6, 6, lambda q, s: methods.debate(q, ANN, seed=s)),
    "reconcile": (3, 9, lambda q, s: methods.reconcile(q, THREE, seed=s)),
    "moa": (7, 7, lambda q, s: methods.moa(q, THREE, JUDGE, seed=s)),
    "self_moa": (4, 4, lambda q, s: methods.fusion_of_n(q, ANN, ANN, seed=s, n_samples=3)),
    "fusion_of_n": (6, 6, lambda q, s: methods.fusion_of_n(q, ANN, JUDGE, seed=s)),
    "best_of_n": (6, 6, lambda q, s: methods.best_of_n(q, ANN, JUDGE, seed=s)),
    "complexity_vote": (5, 5, lambda q, s: methods.complexity_vote(q, ANN, seed=s)),
    "symbolic_moe": (4, 4, lambda q, s: methods.symbolic_moe(q, THREE, JUDGE, seed=s)),
}
ODD_TEXTS = [
    says("A"), says("B", sure=0.9), says("C", sure=1), "It is correct.", "No.", "", "[2]", "The best is [9]",
    "Confidence: 0.7", "<think>The answer is (A)", "</think>", "\\boxed{", "Keywords: a",
]  # fmt: skip


@pytest.mark.parametrize("name", MOST)
@given(seed=st.integers(0, 10**6))
def test_whatever_models_say_calls_stay_in_the_table_and_the_answer_is_sound(name, seed):
    low, high, method = MOST[name]
    draw = generator("test", name, seed)

    def reply(request):
        text = ODD_TEXTS[draw.integers(len(ODD_TEXTS))]
        return Failure(request.id, "down") if draw.random() < 0.1 else text

    driven = scenes.drive(method(CHOICE, seed), reply)
    assert low <= driven.calls <= high
    assert (driven.result.value is not None) == (driven.result.status == "answered")
    assert driven.result.value in (None, "A", "B", "C")
    # Every call is one of its own: no two of a question may be answered by one generation.
    ids = [request.id for asked in driven.rounds for request in asked]
    assert len(set(ids)) == len(ids)


# -- what is asked -------------------------------------------------------------------------------


def test_an_expert_drawn_twice_answers_twice():
    driven = scenes.drive(
        methods.symbolic_moe(CHOICE, [ANN, BOB, ANN], JUDGE, seed=4), lambda r: f"{r.expert} {r.sample}"
    )
    first, (last,) = driven.rounds
    assert [(r.expert, r.sample) for r in first] == [("ann", 0), ("bob", 0), ("ann", 1)]
    assert len({r.id for r in first}) == 3
    assert {r.sampling.seed for r in (*first, last)} == {4}
    assert "[1] ann 0\n[2] bob 0\n[3] ann 1\n" in shown_to(last)
    assert (last.expert, last.stage) == ("judge", "aggregate")


def test_samples_of_different_methods_are_the_same_requests():
    """So one generation serves them all: what a method adds is all that it costs more."""
    asked = {
        name: {r.id for r in scenes.drive(method(CHOICE, 0), SPLIT).rounds[0]}
        for name, (_, _, method) in MOST.items()
    }
    five = asked["self_consistency"]
    assert asked["cot"] < asked["debate"] == asked["self_moa"] < five
    assert asked["fusion_of_n"] == asked["best_of_n"] == asked["complexity_vote"] == five
    assert asked["self_refine"] == asked["cot"]
    assert asked["moa"] == asked["symbolic_moe"]
    assert asked["cot"] < asked["moa"]
    assert not asked["reconcile"] & asked["moa"]  # it also asks for a confidence


def test_others_see_what_follows_the_thinking_only():
    """docs/method.md 1.7 for every discussion; nothing is shown of a think block that was cut."""
    texts = ["<think>secret (C)</think>Plainly (A). The answer is (A)", "<think>secret, the answer is (C)"]

    def reply(request):
        if request.expert == "judge":
            return says("B")
        return scenes.generation(texts[request.sample % 2], "length" if request.sample % 2 else "stop")

    for program in (
        methods.symbolic_moe(CHOICE, [THINKER] * 2, JUDGE, seed=0),
        methods.moa(CHOICE, [THINKER, JUDGE], JUDGE, seed=0),
        methods.debate(CHOICE, THINKER, seed=0, n_agents=2),
        methods.best_of_n(CHOICE, THINKER, JUDGE, seed=0, n_samples=2),
        methods.self_refine(CHOICE, THINKER, seed=0),
        methods.reconcile(CHOICE, [THINKER, JUDGE], seed=0),
    ):
        rounds = scenes.drive(program, reply).rounds
        seen = [shown_to(request) for asked in rounds[1:] for request in asked]
        assert any("Plainly (A)" in text for text in seen)
        assert not any("secret" in text for text in seen)
    driven = scenes.drive(methods.symbolic_moe(CHOICE, [THINKER] * 2, JUDGE, seed=0), reply)
    assert f"[1] Plainly (A). The answer is (A)\n[2] {prompts.NO_SOLUTION}\n" in shown_to(driven.rounds[1][0])


def test_debate_shows_ones_own_solution_first_and_then_the_others():
    driven = scenes.drive(
        methods.debate(CHOICE, ANN, seed=0),
        lambda r: says("ABC"[r.sample]) if r.stage == "solve" else says("B"),
    )
    for i, request in enumerate(driven.rounds[1]):
        order = re.findall(r"^\[\d\] .*\((\w)\)$", shown_to(request), flags=re.MULTILINE)
        assert order == ["ABC"[i], *"ABC".replace("ABC"[i], "")]
    assert driven.result == given_as("B")


def test_debaters_that_change_nothing_are_still_asked_anew():
    """Three rounds of the same words: nine requests, not six."""
    driven = scenes.drive(methods.debate(CHOICE, ANN, seed=0, rounds=3), lambda r: says("A"))
    assert len({request.id for asked in driven.rounds for request in asked}) == 9


def test_moa_shows_every_proposer_the_layer_before():
    driven = scenes.drive(
        methods.moa(CHOICE, THREE, JUDGE, seed=0), lambda r: f"{r.stage} of {r.expert}: {says('A')}"
    )
    assert [[r.stage for r in asked] for asked in driven.rounds] == [
        ["solve"] * 3,
        ["propose"] * 3,
        ["aggregate"],
    ]
    for request in driven.rounds[1]:
        assert all(f"solve of {name}" in shown_to(request) for name in ("ann", "bob", "cid"))
    last = shown_to(driven.rounds[2][0])
    assert "[2] propose of bob" in last
    assert "solve of" not in last


def test_reconcile_shows_answers_grouped_with_their_confidences():
    sure = {"ann": says("A", sure=0.8), "bob": says("B", sure=0.95), "cid": says("A", sure=0.6)}
    driven = scenes.drive(methods.reconcile(CHOICE, THREE, seed=0, rounds=1), lambda r: sure[r.expert])
    for request in driven.rounds[1]:
        assert "Answers so far: A (confidence 0.8, 0.6); B (confidence 0.95)\n" in shown_to(request)
    # .3 and .1 for A against .8 for B: one who is sure outweighs two who are not.
    assert driven.result == given_as("B")


def test_reconcile_groups_answers_as_votes_do():
    """Equal mathematics may be written in ways that only math-verify calls equal."""
    asked = scenes.question(gold="x + 1", kind="math")
    said = {"ann": says("1+x", sure=0.7), "bob": says("x+1", sure=0.5), "cid": says("x+2", sure=0.9)}
    driven = scenes.drive(methods.reconcile(asked, THREE, seed=0, rounds=1), lambda r: said[r.expert])
    for request in driven.rounds[1]:
        assert "Answers so far: 1+x (confidence 0.7, 0.5); x+2 (confidence 0.9)\n" in shown_to(request)
    alike = said | {"cid": says("1 + x")}
    assert scenes.drive(methods.reconcile(asked, THREE, seed=0), lambda r: alike[r.expert]).calls == 3


def test_reconcile_goes_on_while_one_is_silent_and_not_if_all_are():
    silent = scenes.drive(methods.reconcile(CHOICE, THREE, seed=0), lambda r: "Hm.")
    assert silent.calls == 3
    assert silent.result == Answer(None, "unparsed")
    one = scenes.drive(
        methods.reconcile(CHOICE, THREE, seed=0), lambda r: "Hm." if r.expert == "bob" else says("A", sure=1)
    )
    assert one.calls == 9
    assert "A (confidence 1.0, 1.0); no answer (confidence 0.0)\n" in shown_to(one.rounds[1][0])
    assert one.result == given_as("A")


def test_confidence_is_read_from_what_is_said_not_from_what_is_thought():
    pair = [THINKER, BOB]
    texts = {"thinker": f"<think>Confidence: 1</think>{says('A')}", "bob": says("B", sure=0.7)}
    driven = scenes.drive(methods.reconcile(CHOICE, pair, seed=0), lambda r: texts[r.expert])
    assert "A (confidence 0.0); B (confidence 0.7)" in shown_to(driven.rounds[1][0])
    assert driven.result == given_as("B")  # .1 against .3


# -- what is made of the answers -----------------------------------------------------------------


def test_majority_and_ties():
    program = methods.majority_vote(CHOICE, THREE, seed=0)
    assert scenes.drive(program, by_expert(ann="A", bob="C", cid="C")).result == given_as("C")
    program = methods.majority_vote(CHOICE, THREE, seed=0)
    assert scenes.drive(program, SPLIT).result == given_as("A")
    program = methods.majority_vote(CHOICE, [ANN] * 5, seed=0)
    assert scenes.drive(program, by_sample("A", "B", "C", "C", "B")).result == given_as("B")


def test_weighted_vote():
    program = methods.majority_vote(CHOICE, THREE, seed=0, weights=[0.2, 0.2, 0.6])
    assert scenes.drive(program, by_expert(ann="A", bob="A", cid="C")).result == given_as("C")
    program = methods.majority_vote(CHOICE, THREE, seed=0, weights=[0.4, 0.3, 0.6])
    assert scenes.drive(program, by_expert(ann="A", bob="A", cid="C")).result == given_as("A")


def test_an_aggregator_that_does_not_answer_leaves_a_gap():
    def reply(request):
        return "I cannot say." if request.stage == "aggregate" else says("B")

    for program in (
        methods.symbolic_moe(CHOICE, THREE, JUDGE, seed=0),
        methods.moa(CHOICE, THREE, JUDGE, seed=0),
        methods.fusion_of_n(CHOICE, ANN, JUDGE, seed=0),
    ):
        assert scenes.drive(program, reply).result == Answer(None, "unparsed")


@pytest.mark.parametrize("name", MOST)
def test_not_run_stays_not_run_where_nothing_else_answers(name):
    driven = scenes.drive(MOST[name][2](CHOICE, 0), lambda r: Failure(r.id, "down"))
    assert driven.result == Answer(None, "not_run")


def test_a_failed_slot_does_not_stop_the_rest():
    def reply(request):
        return Failure(request.id, "down") if request.expert == "ann" else says("B")

    assert scenes.drive(methods.majority_vote(CHOICE, THREE, seed=0), reply).result == given_as("B")
    driven = scenes.drive(methods.symbolic_moe(CHOICE, THREE, JUDGE, seed=0), reply)
    assert driven.result == given_as("B")
    assert f"[1] {prompts.NO_SOLUTION}\n" in shown_to(driven.rounds[1][0])
    # The judge itself failing is a gap, whatever the experts said.
    driven = scenes.drive(methods.symbolic_moe(CHOICE, [BOB], ANN, seed=0), reply)
    assert driven.result == Answer(None, "not_run")


def test_self_refine_uses_the_criticism_and_returns_the_last_revision():
    def reply(request):
        if request.stage == "feedback":
            return ["The sum is off.", "IT IS CORRECT!"][request.sample]
        return says("B" if request.stage == "refine" else "A")

    driven = scenes.drive(methods.self_refine(CHOICE, ANN, seed=0), reply)
    assert [asked[0].stage for asked in driven.rounds] == ["solve", "feedback", "refine", "feedback"]
    assert "Criticism of solution [1]: The sum is off.\n" in shown_to(driven.rounds[2][0])
    assert says("B") in shown_to(driven.rounds[3][0])
    assert driven.result == given_as("B")


@pytest.mark.parametrize(
    ("criticism", "n_calls"),
    [
        ("<think>It is correct.</think>The sum is off.", 7),  # thought, and then thought better of
        ("<think>It is wrong.</think>It is correct.", 2),
        ("It is not correct.", 7),
        ("It is incorrect.", 7),
        ("", 7),
    ],
)
def test_self_refine_stops_only_where_the_criticism_says_so(criticism, n_calls):
    def reply(request):
        return criticism if request.stage == "feedback" else "</think>" + says("A")

    assert scenes.drive(methods.self_refine(CHOICE, THINKER, seed=0), reply).calls == n_calls


@pytest.mark.parametrize(
    ("criticism", "correct"),
    [
        ("Step 1: it is correct. Step 2 is wrong.", False),
        ("It is correct that 2 + 2 = 4. The product is off.", False),
        ("It is correct. But step 2 is not.", False),
        ("Step 1 is wrong. Step 2: it is correct.", False),
        ("Is it correct?", False),
        ("I see no slip.\n\n**It is correct.**", True),
        ('"It is correct."', True),
        ("It is correct. The answer is (A)", True),
        ("Verdict: the solution is correct", True),
        ("It is correct.", True),
        ("The answer is wrong.", False),
        ("", False),
    ],
)
def test_a_criticism_is_content_only_in_its_verdict(criticism, correct):
    assert one_model.finds_it_correct(criticism) is correct


@pytest.mark.parametrize(
    ("verdict", "finish", "result"),
    [
        ("The best is [2]", "stop", given_as("B")),
        ("[1] is off and so is [3]. The best is [2], not [4].", "stop", given_as("B")),
        ("The best is **[ 3 ]**.", "stop", given_as("C")),
        ("First I thought the best is [1]. The best solution is [4].", "stop", Answer(None, "unparsed")),
        ("[3]", "stop", given_as("C")),
        ("[1] is wrong.", "stop", Answer(None, "unparsed")),
        ("[1] or [3]?", "stop", Answer(None, "unparsed")),
        ("The second one.", "stop", Answer(None, "unparsed")),
        ("The best is [0]", "stop", Answer(None, "unparsed")),
        ("The best is [6]", "stop", Answer(None, "unparsed")),
        ("Let me compare [1] with [2", "length", Answer(None, "cut")),
        ("Let me compare", "length", Answer(None, "cut")),
        ("", "not_run", Answer(None, "not_run")),
        ("", "overflow", Answer(None, "overflow")),
    ],
)
def test_best_of_n_takes_the_sample_that_the_judge_names(verdict, finish, result):
    texts = [says("A"), says("B"), says("C"), "No idea.", says("C")]

    def reply(request):
        if request.stage == "pick":
            return scenes.generation(verdict, finish)
        return texts[request.sample]

    assert scenes.drive(methods.best_of_n(CHOICE, ANN, JUDGE, seed=0), reply).result == result


def test_complexity_vote_asks_the_longest_chains_only():
    steps = {0: (1, "A"), 1: (4, "B"), 2: (1, "A"), 3: (3, "C"), 4: (2, "B")}

    def reply(request):
        n, value = steps[request.sample]
        return "Step.\n" * (n - 1) + f"The answer is ({value})"

    # Five samples: A 2, B 2, C 1. Of the three longest, 4, 3 and 2 steps: B, C, B.
    assert scenes.drive(methods.complexity_vote(CHOICE, ANN, seed=0), reply).result == given_as("B")
    one = scenes.drive(methods.complexity_vote(CHOICE, ANN, seed=0, n_kept=1), reply)
    assert one.result == given_as("B")
    every = scenes.drive(methods.complexity_vote(CHOICE, ANN, seed=0, n_kept=5), reply)
    assert every.result == given_as("B")  # a tie of A and B: the longest chain comes first
    # Ties in length go to the earlier sample: 1 and 3 (B and C), then 0 (C) and not 2 or 4 (B).
    steps |= {0: (1, "C"), 2: (1, "B"), 4: (1, "B")}
    assert scenes.drive(methods.complexity_vote(CHOICE, ANN, seed=0), reply).result == given_as("C")


def test_complexity_does_not_count_thinking():
    texts = ["<think>" + "Hm.\n" * 9 + "</think>The answer is (A)", "</think>First.\nThe answer is (B)"]
    program = methods.complexity_vote(CHOICE, THINKER, seed=0, n_samples=2, n_kept=1)
    assert scenes.drive(program, lambda r: texts[r.sample]).result == given_as("B")


@pytest.mark.parametrize(
    ("chain", "n"),
    [
        ("", 0),
        ("One step", 1),
        ("One. Two! Three? Four", 4),
        ("One\n\n\nTwo\n", 2),
        ("It is 3.5 in all. So 7.", 2),
        ("One.\nTwo.", 2),
    ],
)
def test_n_steps(chain, n):
    assert one_model.n_steps(chain) == n


@pytest.mark.parametrize(
    ("p", "weight"),
    [
        (0, 0.1), (0.6, 0.1), (0.61, 0.3), (0.8, 0.3), (0.81, 0.5), (0.89, 0.5), (0.9, 0.8), (0.99, 0.8),
        (1, 1.0),
    ],
)  # fmt: skip
def test_rescaled(p, weight):
    assert discussion.rescaled(p) == weight


@pytest.mark.parametrize(
    ("text", "p"),
    [
        ("The answer is (A)\nConfidence: 0.85", 0.85),
        ("confidence .7", 0.7),
        ("**Confidence:** 0.9", 0.9),
        ("Confidence: **0.9**", 0.9),
        ("Confidence: $0.9$", 0.9),
        ("Confidence: ~0.9", 0.9),
        ("Confidence: 0,8", 0.8),
        ("Confidence: 2e-1", 0.2),
        ("My confidence is 0.7", 0.7),
        ("I have a confidence level of about 0.7 in it.", 0.7),
        ("Confidence: high (0.9)", 0.9),
        ("Confidence (0-1): 0.7", 0.7),
        ("Confidence (0 to 100): 70", 0.7),
        # Shares of a scale that is named.
        ("Confidence: 90%", 0.9),
        ("Confidence: 85 %", 0.85),
        ("Confidence: 100\\%", 1.0),
        ("Confidence: 80 percent", 0.8),
        ("Confidence: 1%", 0.01),
        ("Confidence: 8/10", 0.8),
        ("Confidence: 0.9/1", 0.9),
        ("Confidence: 4 / 5", 0.8),
        ("Confidence: 85 out of 100", 0.85),
        ("Confidence: 150%", 1.0),
        ("Confidence: 5/0", 0.0),
        # No scale: of one up to 1, of ten up to 10, of a hundred beyond.
        ("Confidence: 0", 0.0),
        ("Confidence: 1", 1.0),
        ("Confidence: 1.", 1.0),
        ("Confidence: 7", 0.7),
        ("Confidence: 7.5", 0.75),
        ("Confidence: 10", 1.0),
        ("Confidence: 85", 0.85),
        ("Confidence: 100", 1.0),
        ("Confidence: 250", 1.0),
        # The last one counts; words are no number.
        ("Confidence: 0.2 at first\nConfidence: 0.6.", 0.6),
        ("Confidence: high", 0.0),
        ("Confidence is high. The answer is 7.", 0.0),
        ("Confidence: -0.5", 0.0),
        ("Overconfidence 0.9", 0.0),
        ("Confidence: a number from 0 to 1", 0.0),
        ("", 0.0),
    ],
)
def test_confidence(text, p):
    assert methods.confidence(text) == pytest.approx(p)


def test_confidence_of_the_shared_cases():
    path = Path(__file__).resolve().parents[3] / "shared" / "cases" / "cases.jsonl"
    if not path.is_file():
        pytest.skip("../shared is absent: no cases")
    cases = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    cases = [case for case in cases if case["call"] == "methods.confidence"]
    wrong = [case for case in cases if methods.confidence(case["input"]) != pytest.approx(case["expected"])]
    assert cases
    assert not wrong

import pytest
import scenes

from skillmoe_lib import prompts

CHOICE = scenes.question()
MATH = scenes.question("m", "4", kind="math", text="  What is 2 + 2?  ")
TEXT = scenes.question("t", "olleh", kind="text", text="Spell hello backward.")
ANN = scenes.expert()


def stages(question, expert, *, seed=0):
    """Every wording once, by its stage."""
    pair = ["first text", "second text"]
    made = [
        prompts.solve(question, expert, seed=seed),
        prompts.keywords(question, expert, seed=seed),
        prompts.aggregate(question, expert, pair, seed=seed),
        prompts.revise(question, expert, "own text", pair, seed=seed),
        prompts.propose(question, expert, pair, seed=seed),
        prompts.feedback(question, expert, "a draft", seed=seed),
        prompts.refine(question, expert, "a draft", " a slip ", seed=seed),
        prompts.solve_with_confidence(question, expert, seed=seed),
        prompts.reconcile(question, expert, pair, "A (confidence 0.8)", seed=seed),
        prompts.pick(question, expert, pair, seed=seed),
    ]
    return {request.stage: request for request in made}


def test_statement_letters_the_choices():
    assert prompts.statement(CHOICE) == "What of q?\n(A) one\n(B) two\n(C) three"
    assert prompts.statement(MATH) == "What is 2 + 2?"


def test_numbered_shows_what_is_missing():
    assert prompts.numbered(["one\n", "  ", "three"]) == "[1] one\n[2] (no solution)\n[3] three"


@pytest.mark.parametrize(
    ("question", "line"),
    [(CHOICE, "The answer is (X)"), (MATH, "The answer is \\boxed{X}"), (TEXT, "The answer is \\boxed{X}")],
)
def test_every_stage_that_answers_asks_for_the_same_last_line(question, line):
    made = stages(question, ANN)
    assert len(made) == 10
    answering = set(made) - {"keywords", "feedback", "pick"}
    for stage, request in made.items():
        text = scenes.shown_to(request)
        assert text.startswith(prompts.statement(question)), stage
        assert (line in text) == (stage in answering), stage
        other = "The answer is \\boxed{X}" if line.endswith("(X)") else "The answer is (X)"
        assert other not in text, stage


def test_no_system_prompt_and_one_turn_without_examples():
    for request in stages(CHOICE, ANN).values():
        assert [message.role for message in request.messages] == ["user"]


def test_every_wording_word_for_word():
    """Pocket experts are trained on exactly these words: a change here is a change of their training."""
    made = {stage: scenes.shown_to(request) for stage, request in stages(TEXT, ANN).items()}
    head = "Spell hello backward.\n\nProposed solutions:\n[1] first text\n[2] second text\n\n"
    end = "End with the line: The answer is \\boxed{X}"
    assert made["solve"] == f"Spell hello backward.\n\nThink step by step. {end}"
    assert made["aggregate"] == (
        f"{head}Some solutions may be wrong. Decide what is right and give the final solution. {end}"
    )
    assert made["propose"] == (
        f"{head}These solutions are from others. Use what is right in them and solve the question. {end}"
    )
    assert made["pick"] == f"{head}Which solution is the best? End with the line: The best is [N]"
    assert made["revise"] == (
        "Spell hello backward.\n\nProposed solutions:\n[1] own text\n[2] first text\n[3] second text\n\n"
        f"Solution [1] is yours. Compare it with the others and solve the question again. {end}"
    )
    assert made["feedback"] == (
        "Spell hello backward.\n\nProposed solutions:\n[1] a draft\n\n"
        'Check solution [1]. Write "It is correct." if it is, or say what is wrong.'
    )
    assert made["refine"] == (
        "Spell hello backward.\n\nProposed solutions:\n[1] a draft\n\n"
        f"Criticism of solution [1]: a slip\nSolve the question again. {end}"
    )
    two_lines = "End with the two lines:\nThe answer is \\boxed{X}\nConfidence: a number from 0 to 1"
    assert made["solve_with_confidence"] == f"Spell hello backward.\n\nThink step by step. {two_lines}"
    assert made["reconcile"] == (
        f"{head}Answers so far: A (confidence 0.8)\nSolve the question again. {two_lines}"
    )
    assert made["keywords"] == (
        "Spell hello backward.\n\nDo not solve this. "
        "Name the 2 to 5 skills that it takes, as short keywords: Keywords: a, b, c"
    )


def test_worked_examples_come_first_and_replace_the_instruction():
    taught = scenes.expert(examples=(("Q one?", "A one."), ("Q two?", "A two.")))
    request = prompts.solve(TEXT, taught, seed=0)
    assert [tuple(message) for message in request.messages] == [
        ("user", "Q one?"),
        ("assistant", "A one."),
        ("user", "Q two?"),
        ("assistant", "A two."),
        ("user", "Spell hello backward."),
    ]
    assert scenes.shown_to(prompts.keywords(TEXT, taught, seed=0)) == "Spell hello backward."
    # Only solving has examples that show the form; everything else describes it in words.
    for stage in ("aggregate", "feedback", "pick", "reconcile", "solve_with_confidence"):
        assert scenes.shown_to(stages(TEXT, taught)[stage]) == scenes.shown_to(stages(TEXT, ANN)[stage])


def test_request_carries_the_experts_own_settings_and_the_seed():
    request = prompts.solve(CHOICE, ANN, seed=5, sample=2)
    assert (request.question_id, request.expert, request.model) == ("q", "ann", ANN.model)
    assert (request.sampling.seed, request.sample) == (5, 2)
    assert request.sampling.temperature == 0.7
    assert request.sampling.max_tokens == 4096
    assert ANN.sampling.seed == 0


def test_seed_and_sample_make_another_request_and_labels_do_not():
    requests = [
        prompts.solve(CHOICE, ANN, seed=0),
        prompts.solve(CHOICE, ANN, seed=1),
        prompts.solve(CHOICE, ANN, seed=0, sample=1),
        prompts.solve(scenes.question("other", text="What of q?"), ANN, seed=0),
        prompts.solve(CHOICE, scenes.expert("bob", source="ann"), seed=0),
    ]
    ids = [request.id for request in requests]
    assert len(set(ids[:3])) == 3
    assert ids[3] == ids[0]  # the same words asked of the same model are one request,
    assert ids[4] == ids[0]  # whatever the question and the expert are called

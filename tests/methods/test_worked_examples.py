"""Worked examples: which are chosen, who is shown them, and that none comes from test."""

from dataclasses import replace

import pandas as pd
import pytest
import scenes
import world

from skillmoe_lib import experts, methods, pipeline, prompts, tables
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.methods import lineup
from skillmoe_lib.methods.example_bank import N_EXAMPLES, SHARE_OF_CONTEXT, Example, ExampleBank
from skillmoe_lib.methods.lineup import Choice
from skillmoe_lib.profiling import skills

ANN = scenes.expert("ann")
ASKED = scenes.question("t", text="Asked now?")


def example(name, n_tokens=10):
    return Example(scenes.question(name, split="validation"), f"By {name}. The answer is (B)", n_tokens)


def bank(examples=(), named=None, **score):
    known = {"t": {"sums"}, **{name: {"sums"} for name in "abcdefgh"}, **(named or {})}
    return ExampleBank(
        tuple(examples),
        {"ann": tuple(examples)},
        {name: frozenset(skills) for name, skills in known.items()},
        {("ann", skill): value for skill, value in score.items()},
    )


def shown(request):
    """The questions of the examples in a request."""
    return [text for role, text in request.messages[:-1] if role == "user"]


def only_request(program):
    (request,) = [request for asked in scenes.drive(program, lambda _: "").rounds for request in asked]
    return request


# -- which ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "weak"),
    [
        ({}, False),
        ({"sums": 0}, False),
        ({"sums": -1}, True),
        ({"sums": -2, "logic": 2}, False),
        ({"maps": -9}, False),
    ],
)
def test_weak_is_more_wrong_than_right_on_the_questions_skills(score, weak):
    assert bank(named={"t": {"sums", "logic"}}, **score).weak(ASKED, ANN) == weak
    assert not bank(named={"t": {"sums"}}, sums=-1).weak(ASKED, scenes.expert("bob"))


def test_the_most_alike_stand_last():
    """Two shared skills before one; of equals that with fewer other skills; none shared is no example."""
    named = {
        "t": {"sums", "logic"},
        "a": {"sums"},
        "b": {"sums", "logic", "maps"},
        "c": {"logic", "sums"},
        "d": {"maps"},
    }
    known = bank(named=named)
    chosen = known.alike(ASKED, ANN, [example(name) for name in "dabc"])
    assert [e.question.question_id for e in chosen] == ["a", "b", "c"]


def test_at_most_five_and_within_a_quarter_of_the_context():
    many = [example(name) for name in "abcdefgh"]
    assert len(bank().alike(ASKED, ANN, many)) == N_EXAMPLES
    small = scenes.expert("ann", context=100)
    assert SHARE_OF_CONTEXT * 100 == 25
    assert len(bank().alike(ASKED, small, many)) == 2
    # One that is too long is passed over, not the end.
    mixed = [example(name, 26 if name in "abcd" else 12) for name in "abcdef"]
    assert {e.question.question_id for e in bank().alike(ASKED, small, mixed)} == {"e", "f"}


def test_the_choice_does_not_depend_on_the_order_of_the_bank():
    many = [example(name) for name in "abcdefgh"]
    assert bank().alike(ASKED, ANN, many) == bank().alike(ASKED, ANN, many[::-1])
    # Equals are not always taken in the order of their names: another question has others.
    found = {
        tuple(
            e.question.question_id
            for e in bank(named={name: {"sums"}}).alike(scenes.question(name), ANN, many)
        )
        for name in ("t1", "t2", "t3", "t4")
    }
    assert len(found) > 1


# -- who is shown them ----------------------------------------------------------------------------


def test_adaptmi_shows_examples_only_to_the_weak():
    plain = prompts.solve(ASKED, ANN, seed=3)
    strong, weak = (bank([example("a")], sums=score) for score in (1, -1))
    assert only_request(methods.adaptmi(ASKED, ANN, strong, seed=3)).id == plain.id
    request = only_request(methods.adaptmi(ASKED, ANN, weak, seed=3))
    assert [tuple(message) for message in request.messages] == [
        ("user", prompts.solve(example("a").question, ANN, seed=0).messages[0].content),
        ("assistant", "By a. The answer is (B)"),
        ("user", plain.messages[0].content),
    ]
    # Weak, but nothing is alike: one chain of thought.
    none = bank([example("a")], {"a": {"maps"}}, sums=-1)
    assert only_request(methods.adaptmi(ASKED, ANN, none, seed=3)).id == plain.id


def test_own_examples_are_shown_to_strong_and_weak_alike():
    for score in (1, -1):
        request = only_request(methods.own_examples(ASKED, ANN, bank([example("a")], sums=score), seed=0))
        assert len(shown(request)) == 1
    stranger = scenes.expert("bob")
    assert not shown(only_request(methods.own_examples(ASKED, stranger, bank([example("a")]), seed=0)))


def test_chosen_examples_take_the_place_of_fixed_ones():
    fixed = replace(ANN, examples=(("1 + 1?", "The answer is \\boxed{2}"),))
    request = only_request(methods.own_examples(ASKED, fixed, bank([example("a")]), seed=0))
    assert shown(request) == ["What of a?\n(A) one\n(B) two\n(C) three"]
    assert scenes.shown_to(request).startswith("Asked now?")
    assert "Think step by step" not in scenes.shown_to(request)


def test_experts_say_whether_they_take_examples():
    members = experts.load_pool("packaged", locate=False).experts
    assert {name for name, e in members.items() if e.takes_examples} == {
        name for name in members if "direct" not in name
    }
    pocket = experts.load_pool("pocket", locate=False)
    for name in ("adaptmi", "own_examples"):
        assert "the pool has none" in lineup.available(pocket)[name]
        with pytest.raises(SkillmoeError, match=f"{name}.*takes_examples: true.*the pool has none"):
            lineup.programs([name], [ASKED], pocket, _no_routes(), _any(pocket), seeds=[0], bank=bank())


def test_the_most_accurate_expert_that_takes_examples_is_asked():
    pool = scenes.pool("ann", "bob", "cid")
    pool = replace(pool, experts={**pool.experts, "ann": scenes.expert("ann", takes_examples=False)})
    choice = Choice(("ann", "cid", "bob"), "ann")
    made = lineup.programs(["own_examples"], [ASKED], pool, _no_routes(), choice, seeds=[0], bank=bank())
    (program,) = made.values()
    assert only_request(program).expert == "cid"


def _no_routes():
    return tables.check(pd.DataFrame(columns=list(tables.ROUTES.columns)), tables.ROUTES)


def _any(pool):
    return Choice(tuple(pool.experts), next(iter(pool.experts)))


# -- the whole ------------------------------------------------------------------------------------


@pytest.fixture
def flow(tmp_path, monkeypatch):
    """A run of both methods in which one validation question has the text of a test question."""
    monkeypatch.setattr(skills, "load_encoder", lambda: None)
    monkeypatch.setattr(skills, "embed", lambda texts, encoder=None: world._letters(texts))
    asked = world.QUESTIONS
    twin = asked.loc[asked["question_id"] == "t-logic-1", "text"].item()
    asked = asked.assign(text=asked["text"].mask(asked["question_id"] == "v-logic-1", f" {twin}\n"))
    session = world.session_at(tmp_path)
    return world.Flow(session, asked, ["cot_task_best", "adaptmi", "own_examples"]), session, asked


def test_the_bank_has_the_right_answer_of_the_most_accurate_expert(flow):
    made, _, _ = flow
    assert made.choice.ranking[:2] == ("ann", "bob")
    text = {e.question.question_id: e.text for e in made.bank.solved}
    assert set(text) == {f"v-sums-{i}" for i in range(4)} | {f"v-logic-{i}" for i in (0, 2, 3)}
    assert all(value == scenes.says(world.TRUTH[name]) for name, value in text.items())
    assert {name: len(own) for name, own in made.bank.own.items()} == {"ann": 4, "bob": 3, "cid": 4}
    assert made.bank.score["ann", "logic"] == -4
    # "topic i of validation?", its choices and the request, and "So it is. The answer is (A)": in words.
    stored = next(e for e in made.bank.solved if e.question.question_id == "v-sums-0")
    words = prompts.solve(stored.question, ANN, seed=0).messages[0].content.split()
    assert stored.n_tokens == len(words) + 7


def test_no_test_question_stands_in_a_prompt_as_an_example(flow):
    _, session, asked = flow
    texts = {q.text.strip().lower() for q in pipeline.split(asked, "test")}
    with_examples = [r for r in session.engine.requests if r.stage == "solve" and len(r.messages) > 1]
    assert len(with_examples) > 4
    for request in with_examples:
        before = " ".join(text for _, text in request.messages[:-1]).lower()
        assert not any(text in before for text in texts), request.question_id


def test_ann_is_shown_examples_of_logic_alone(flow):
    """AdaptMI: ann is right on sums and wrong on logic. Her own examples are of sums, whatever is asked."""
    made, session, _ = flow
    used = made.done.used.set_index(["method", "question_id"])["request_id"]
    by_id = {request.id: request for request in session.engine.requests}
    for question_id in {name for _, name in used.index}:
        taught, own = (by_id[used[method, question_id]] for method in ("adaptmi", "own_examples"))
        assert {taught.expert, own.expert} == {"ann"}
        assert bool(shown(taught)) == ("logic" in question_id)
        assert all("sums" in text for text in shown(own))
        if "sums" in question_id:
            assert taught.id == used["cot_task_best", question_id]

import pandas as pd
import pytest
import scenes
from hypothesis import given
from hypothesis import strategies as st

from skillmoe_lib import aggregation, methods, prompts
from skillmoe_lib.answers import extraction
from skillmoe_lib.answers.extraction import Answer

CHOICE = scenes.question()
MATH = scenes.question("m", "4", kind="math")
NONE, CUT, NOT_RUN = Answer(None, "unparsed"), Answer(None, "cut"), Answer(None, "not_run")


def ballots(*values):
    return [NONE if value is None else Answer(value, "answered") for value in values]


# -- what is read and what is shown --------------------------------------------------------------


@pytest.mark.parametrize(
    ("expert", "text", "finish", "shown", "answer"),
    [
        (scenes.expert(), " The answer is (B) \n", "stop", "The answer is (B)", ("B", "answered")),
        (
            scenes.expert(reasoning=True),
            "<think>(A)? The answer is (A)</think>\nThe answer is (C)",
            "stop",
            "The answer is (C)",
            ("C", "answered"),
        ),
        # Cut before the thinking ended: nothing of it is an answer, and nothing is passed on.
        (scenes.expert(reasoning=True), "<think>The answer is (A)", "length", "", (None, "cut")),
        (scenes.expert(reasoning=True), "The answer is (A), or", "length", "", (None, "cut")),
        # A base model runs on into a question of its own.
        (
            scenes.expert(template="plain"),
            "The answer is (B)\nQuestion: Why?\nThe answer is (C)",
            "length",
            "The answer is (B)",
            ("B", "answered"),
        ),
        (scenes.expert(), "", "not_run", "", (None, "not_run")),
    ],
)
def test_heard_and_shown(expert, text, finish, shown, answer):
    made = scenes.generation(text, finish)
    assert aggregation.visible_text(expert, made) == shown
    assert aggregation.read_answer(CHOICE, expert, made)[:2] == answer


# -- votes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "weights", "winner"),
    [
        (ballots("A", "B", "B"), None, "B"),
        (ballots("A", "B"), None, "A"),  # a tie: the first given
        (ballots("C", "B", "A", "B", "C"), None, "C"),
        (ballots(None, "B", None), None, "B"),  # one that answers outvotes any that do not
        (ballots("A", "B", "B"), [0.9, 0.4, 0.4], "A"),
        (ballots("A", "B", "B"), [0.7, 0.4, 0.4], "B"),
        (ballots("A", "B"), [0.0, 0.0], "A"),
        (ballots(None, "B", "A"), [1.0, 0.1, 0.3], "A"),
    ],
)
def test_vote(given_, weights, winner):
    assert aggregation.vote(CHOICE, given_, weights) == Answer(winner, "answered")


def test_vote_counts_equal_answers_however_they_are_written():
    assert aggregation.vote(MATH, ballots("7", "0.5", "\\frac{1}{2}")).value == "0.5"
    text = scenes.question("t", "x", kind="text")
    assert aggregation.vote(text, ballots("Foo", "Bar  baz", "bar BAZ")).value == "Bar  baz"


@pytest.mark.parametrize(
    ("values", "winner"),
    [
        (("4", "4", "2\\pi", "2π", "2 pi"), "2\\pi"),
        (("4", "4", "$7", "7 dollars", "USD 7"), "$7"),
        (("y", "y", "y+2", "2+y", "2 + y"), "y+2"),
        (("4", "4", "4,-4", "\\pm 4", "-4, 4"), "4,-4"),
        (("4", "4", "60", "60°", "60^\\circ"), "60"),
        (("4", "60", "60°", "4.0"), "4"),  # two and two: the first given
    ],
)
def test_votes_hold_equal_what_grading_does(values, winner):
    assert aggregation.vote(MATH, ballots(*values)).value == winner


@pytest.mark.parametrize(
    ("given_", "status"),
    [
        ([CUT, NONE], "cut"),
        ([NONE, CUT], "unparsed"),
        ([NOT_RUN, NONE], "unparsed"),  # something ran and gave no answer: that is wrong, not missing
        ([NOT_RUN, NOT_RUN], "not_run"),
    ],
)
def test_vote_without_an_answer(given_, status):
    assert aggregation.vote(CHOICE, given_) == Answer(None, status)


letters = st.lists(st.sampled_from([None, "A", "B", "C"]), min_size=1, max_size=8)
weighty = st.integers(0, 20).map(lambda n: n / 4)  # exact in binary: sums in any order are equal


@given(letters, st.data())
def test_vote_does_not_care_how_losing_answers_are_called(values, data):
    weights = data.draw(st.lists(weighty, min_size=len(values), max_size=len(values)))
    text = scenes.question("t", "x", kind="text")
    winner = aggregation.vote(text, ballots(*values), weights).value
    fresh = dict(zip("ABC", data.draw(st.permutations(["x", "y", "z"])), strict=True))
    renamed = [value if value in (None, winner) else fresh[value] for value in values]
    assert aggregation.vote(text, ballots(*renamed), weights).value == winner


@given(letters, st.data())
def test_more_weight_for_the_winner_keeps_it_and_none_for_losers_too(values, data):
    weights = data.draw(st.lists(weighty, min_size=len(values), max_size=len(values)))
    winner = aggregation.vote(CHOICE, ballots(*values), weights).value
    at = data.draw(st.integers(0, len(values) - 1))
    changed = list(weights)
    changed[at] = weights[at] + data.draw(weighty) if values[at] == winner else 0.0
    assert aggregation.vote(CHOICE, ballots(*values), changed).value == winner


# -- the aggregator's test -----------------------------------------------------------------------

POOL = {name: scenes.expert(name) for name in ("ann", "bob", "cid", "dee")}


def panel(right, wrong, *, silent=()):
    """Generations and grades of one question: each expert's text is its own name."""
    texts = {name: scenes.generation("" if name in silent else name) for name in (*right, *wrong)}
    return texts, {name: name in right for name in texts}


def made_of(names, *, seed=0, right=("ann",), wrong=("bob", "cid", "dee"), silent=()):
    both = {name: panel(right, wrong, silent=silent) for name in names}
    return aggregation.make_items(
        [scenes.question(name, split="validation") for name in names],
        POOL,
        {name: texts for name, (texts, _) in both.items()},
        {name: grades for name, (_, grades) in both.items()},
        seed=seed,
    )


def test_items_hold_one_right_and_two_wrong_chains_shuffled():
    made, n_left_out = made_of([f"q{i}" for i in range(60)])
    assert n_left_out == 0
    assert [item.question.question_id for item in made] == [f"q{i}" for i in range(60)]
    for item in made:
        assert sorted(item.chains)[0] == "ann"
        assert len(set(item.chains)) == 3
    places = [item.chains.index("ann") for item in made]
    assert min(places.count(place) for place in range(3)) >= 10  # 20 expected each, sd 3.7
    wrong = [set(item.chains) - {"ann"} for item in made]
    assert min(sum(name in pair for pair in wrong) for name in ("bob", "cid", "dee")) >= 25


def test_an_item_depends_on_the_seed_and_its_own_question_alone():
    alone = dict(made_of(["q7"])[0])
    made, _ = made_of([f"q{i}" for i in range(20)])
    amid = {item.question: item.chains for item in made}
    backward = {item.question: item.chains for item in made_of([f"q{i}" for i in reversed(range(20))])[0]}
    assert amid == backward
    assert alone.items() <= amid.items()
    assert {item.question: item.chains for item in made_of([f"q{i}" for i in range(20)], seed=1)[0]} != amid


@pytest.mark.parametrize(
    ("right", "wrong", "silent"),
    [
        ((), ("ann", "bob", "cid"), ()),
        (("ann", "bob", "cid"), ("dee",), ()),
        (("ann",), ("bob", "cid"), ("ann",)),  # a chain that shows nothing is not a chain
        (("ann",), ("bob", "cid"), ("cid",)),
    ],
)
def test_a_question_that_allows_no_item_is_counted(right, wrong, silent):
    made, n_left_out = made_of(["q1", "q2"], right=right, wrong=wrong, silent=silent)
    assert (made, n_left_out) == ([], 2)


def test_items_never_show_think_text():
    thinker = {name: scenes.expert(name, reasoning=True) for name in ("ann", "bob", "cid")}
    texts = {name: scenes.generation(f"<think>secret</think>{name}") for name in thinker}
    grades = {"q": {"ann": True, "bob": False, "cid": False}}
    ((item,), _) = aggregation.make_items([CHOICE], thinker, {"q": texts}, grades)
    assert sorted(item.chains) == ["ann", "bob", "cid"]


def test_examine_asks_with_the_prompt_in_use():
    """docs/method.md 1.8 against 1.7: the same three chains give the very same request."""
    texts = ["one", "two", ""]
    item = aggregation.Item(CHOICE, tuple(texts))
    judge = scenes.expert("judge")
    examined = scenes.drive(aggregation.examine_candidate(item, judge, seed=3), lambda r: "The answer is (C)")
    used = scenes.drive(
        methods.symbolic_moe(CHOICE, list(POOL.values())[:3], judge, seed=3),
        lambda r: texts[list(POOL).index(r.expert)] if r.stage == "solve" else "The answer is (C)",
    )
    assert [request.id for request in examined.rounds[-1]] == [request.id for request in used.rounds[1]]
    assert examined.result == used.result == Answer("C", "answered", extraction.STRICT)
    assert prompts.NO_SOLUTION in scenes.shown_to(examined.rounds[-1][0])


def test_choose_takes_the_most_accurate_and_breaks_ties_by_name():
    rows = [("zoe", True), ("zoe", False), ("bob", False), ("bob", True), ("ann", False), ("ann", False)]
    frame = pd.DataFrame(rows, columns=["expert", "correct"]).assign(status="answered")
    assert aggregation.best_candidate(frame) == "bob"
    assert aggregation.best_candidate(frame.iloc[::-1]) == "bob"
    assert (
        aggregation.best_candidate(frame[frame["expert"] == "ann"]) == "ann"
    )  # never answers: still a choice


def test_a_prompt_that_does_not_fit_a_candidate_is_its_mistake_and_a_failure_is_missing():
    """bob was right on one of two, ann on one of one that fitted and five that did not, cid on one of one."""
    rows = [("bob", "answered", True), ("bob", "answered", False), ("ann", "answered", True)]
    rows += [("ann", "overflow", False)] * 5 + [("cid", "answered", True), ("cid", "not_run", False)]
    frame = pd.DataFrame(rows, columns=["expert", "status", "correct"])
    assert aggregation.best_candidate(frame) == "cid"
    assert aggregation.best_candidate(frame[frame["expert"] != "cid"]) == "bob"

"""Policies and the bound on loads: worked cases, and all orders of loads for small ones."""

import functools
from itertools import count, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.generation import Message, Model, Request, Sampling, Wave
from skillmoe_lib.inference import policies, schedule
from skillmoe_lib.inference.engines.scripted import ScriptedEngine
from skillmoe_lib.inference.store import GenerationStore

MODELS = {name: Model(name, "1", max_model_len=50) for name in "ABC"}


def ask(text, model):
    return Request("solve", "q1", model.source, model, (Message("user", text),), Sampling())


def needs(*programs):
    """Each program as text: "AB C" asks A and B, then C."""
    return [tuple(frozenset(MODELS[m].load_key for m in wave) for wave in p.split()) for p in programs]


def programs_of(*texts):
    """Programs that ask so, and say it."""

    def program(number, waves):
        for i, wave in enumerate(waves):
            asked = [ask(f"{number} {i}", MODELS[name]) for name in wave]
            yield Wave(asked, ([MODELS[name] for name in later] for later in waves[i + 1 :]))

    return {number: program(number, text.split()) for number, text in enumerate(texts)}


def loads(store, policy, *texts):
    engine = ScriptedEngine(lambda request: request.id)
    schedule.run(programs_of(*texts), engine, store, policy=policy)
    return "".join(engine.loads)


@pytest.fixture
def store(tmp_path):
    return GenerationStore(tmp_path / "store")


@pytest.mark.parametrize(
    ("waves", "n"),
    [("A", 1), ("A A A", 1), ("AB", 2), ("AB A", 2), ("AB AB", 3), ("AB AB AB", 4), ("A B A", 3), ("", 0),
     ("ABC ABC ABC", 7), ("ABC A A B", 4), ("AB BA A", 3)],
)  # fmt: skip
def test_the_fewest_loads_of_one_program(waves, n):
    (alone,) = needs(waves)
    assert policies.loads_alone(alone) == n == fewest([alone])


def test_the_bound_adds_models_that_others_ask():
    assert policies.fewest_loads(needs("AB AB", "C", "C A")) == 4
    assert policies.fewest_loads([]) == 0


def fewest(programs):
    """By trying all orders of loads, the short ones first."""
    keys = [model.load_key for model in MODELS.values()]
    orders = (order for n in count() for order in product(keys, repeat=n))
    return next(len(order) for order in orders if not any(left(waves, order) for waves in programs))


def left(waves, order):
    return functools.reduce(policies.after, order, waves)


SMALL = st.lists(
    st.lists(st.sets(st.sampled_from("ABC"), min_size=1), min_size=1, max_size=3).map(
        lambda waves: " ".join("".join(sorted(wave)) for wave in waves)
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=25)
@given(SMALL)
def test_no_order_of_loads_beats_the_bound_and_look_ahead_is_near_the_best(tmp_path_factory, texts):
    store = GenerationStore(tmp_path_factory.mktemp("store"))
    best = fewest(needs(*texts))
    assert policies.fewest_loads(needs(*texts)) <= best
    assert best <= len(loads(store, policies.look_ahead, *texts)) <= best + 1


def test_naive_loads_what_each_program_asks_in_turn(store):
    texts = ("AB C", "AB C", "C")
    assert loads(store, policies.naive, *texts) == "ABCABCC"


def test_look_ahead_keeps_what_comes_later_for_the_end(store):
    """The aggregator C is asked for its own answers too, most often of all."""
    texts = ("AC C", "BC C", "C", "C")
    assert loads(GenerationStore(store.root / "most"), policies.most_waiting, *texts) == "CABC"
    assert loads(store, policies.look_ahead, *texts) == "ABC"


def test_programs_that_say_nothing_are_served_as_by_most_waiting(store):
    def silent(number, first):
        yield [ask(f"{number}", MODELS[first])]
        yield [ask(f"{number} again", MODELS["C"])]

    for policy in (policies.look_ahead, policies.most_waiting):
        engine = ScriptedEngine(lambda request: request.id)
        programs = {i: silent(i, name) for i, name in enumerate("ABB")}
        schedule.run(programs, engine, GenerationStore(store.root / policy.__name__), policy=policy)
        assert engine.loads == ["B", "C", "A", "C"]


def test_an_unknown_policy_is_one_line():
    assert policies.find_policy("look_ahead") is policies.look_ahead
    with pytest.raises(SkillmoeError, match="unknown policy 'lookahead'"):
        policies.find_policy("lookahead")

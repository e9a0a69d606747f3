"""A request's id depends on everything that can change the text, and on nothing else."""

import hashlib
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillmoe_lib.generation import Message, Model, Request, Sampling

MODEL = Model("org/model", "abc123", "chat", 4096, "auto", path="somewhere")
REQUEST = Request("solve", "q1", "Expert", MODEL, (Message("user", "Add 2 and 3 é"),), Sampling())

# Each field that can change the text, with another value.
MODEL_CHANGES = {
    "source": "org/other",
    "revision": "abc124",
    "template": "plain",
    "max_model_len": 2048,
    "dtype": "float32",
    "quantization": "fp8",
    "adapter": "folder:a@0123",
    "options": '{"kv_cache_dtype": "fp8"}',
}
# What cannot: where the files lie, and how this machine holds the model.
MODEL_LABELS = {
    "path": "elsewhere",
    "adapter_path": "elsewhere",
    "adapter_rank": 8,
    "tensor_parallel_size": 2,
    "memory_share": 0.5,
}
SAMPLING_CHANGES = {"temperature": 0.8, "top_p": 0.9, "max_tokens": 4095, "stop": ("\n",), "seed": 1}
MESSAGES = [
    (),
    (Message("system", "Add 2 and 3 é"),),
    (Message("user", "Add 2 and 3 e"),),
    (Message("user", "Add 2 and 3 é "),),
    (Message("user", "Add 2 and 3 é"), Message("assistant", "")),
    (Message("user", ""), Message("user", "Add 2 and 3 é")),
]
CHANGED = [
    *(replace(REQUEST, model=replace(MODEL, **{name: value})) for name, value in MODEL_CHANGES.items()),
    *(replace(REQUEST, sampling=replace(Sampling(), **{k: v})) for k, v in SAMPLING_CHANGES.items()),
    *(replace(REQUEST, messages=messages) for messages in MESSAGES),
    replace(REQUEST, sample=1),
]


def test_the_lists_above_name_every_field():
    """A field that is added later must be put on one side or the other."""
    assert {field.name for field in fields(Model)} == {*MODEL_CHANGES, *MODEL_LABELS}
    assert {field.name for field in fields(Sampling)} == set(SAMPLING_CHANGES)
    labels = {"stage", "question_id", "expert"}
    assert {field.name for field in fields(Request)} == {*labels, "model", "messages", "sampling", "sample"}


def test_the_id_changes_with_every_field_that_can_change_the_text():
    ids = [REQUEST.id, *(request.id for request in CHANGED)]
    assert len(set(ids)) == len(ids)


@given(st.text(), st.text(), st.text(), st.text())
def test_the_id_changes_with_nothing_else(stage, question_id, expert, path):
    labelled = replace(
        REQUEST, stage=stage, question_id=question_id, expert=expert, model=replace(MODEL, path=path)
    )
    assert labelled.id == REQUEST.id
    assert labelled.engine_seed == REQUEST.engine_seed
    assert replace(REQUEST, model=replace(MODEL, **MODEL_LABELS)).id == REQUEST.id


def test_the_id_is_the_hash_of_this_text():
    """Guards the key against an accidental change, which would orphan every stored generation."""
    text = (
        '[{"dtype":"auto","max_model_len":4096,"revision":"abc123","source":"org/model","template":"chat"},'
        '[["user","Add 2 and 3 é"]],'
        '{"max_tokens":4096,"seed":0,"stop":[],"temperature":0.7,"top_p":1.0},0]'
    )
    assert REQUEST.id == hashlib.sha256(text.encode()).hexdigest()[:32]
    assert REQUEST.id == "4c3d9d56d3c29d0ad8b454e1bb180fd5"


def test_one_and_one_point_zero_are_the_same_temperature():
    """A pool's YAML may say either."""
    whole = replace(REQUEST, sampling=Sampling(temperature=1, top_p=1))
    assert whole.id == replace(REQUEST, sampling=Sampling(temperature=1.0, top_p=1.0)).id


def test_two_samples_never_share_an_id_or_a_seed():
    requests = [replace(REQUEST, sample=sample) for sample in range(1000)]
    assert len({request.id for request in requests}) == 1000
    assert len({request.engine_seed for request in requests}) == 1000


@given(st.text(), st.integers(0, 10**9), st.integers(0, 100))
def test_the_engine_seed_fits_the_engine(content, seed, sample):
    request = replace(
        REQUEST, messages=(Message("user", content),), sampling=Sampling(seed=seed), sample=sample
    )
    assert 0 <= request.engine_seed < 2**31


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"template": "plain"}, True),
        ({"path": "elsewhere"}, True),
        ({"source": "org/other"}, False),
        ({"revision": "other"}, False),
        ({"max_model_len": 1024}, False),
        ({"dtype": "float32"}, False),
        ({"quantization": "fp8"}, False),
        ({"options": '{"kv_cache_dtype": "fp8"}'}, False),
        ({"tensor_parallel_size": 2}, False),
        ({"memory_share": 0.5}, False),
        ({"adapter": "folder:a@1", "adapter_rank": 8}, False),
    ],
)
def test_what_one_load_serves(change, same):
    assert (replace(MODEL, **change).load_key == MODEL.load_key) is same


def test_adapters_of_one_size_on_one_base_are_one_load():
    one, two, large = (
        replace(MODEL, adapter=f"folder:{name}@1", adapter_rank=rank)
        for name, rank in (("a", 4), ("b", 8), ("c", 9))
    )
    assert one.load_key == two.load_key != large.load_key
    assert (one.lora_rank, large.lora_rank, MODEL.lora_rank) == (8, 16, 0)
    assert replace(REQUEST, model=one).id != replace(REQUEST, model=two).id


def test_a_request_is_a_value():
    """Programs may build the same request twice; both are equal and can be keys."""
    twin = replace(REQUEST, model=replace(MODEL, path="elsewhere"))
    assert twin == REQUEST
    assert len({twin, REQUEST}) == 1

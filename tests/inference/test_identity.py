"""What the engine got for a request: recorded, compared when a stored text is used, added to older stores."""

import json
from dataclasses import dataclass, field, replace
from datetime import datetime

import pyarrow.parquet
import pytest

from skillmoe_lib.cli.commands import main
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts.model_files import ModelFiles
from skillmoe_lib.generation import Generation, Message, Model, Request, Sampling
from skillmoe_lib.inference import migration, schedule
from skillmoe_lib.inference.engines import rendering
from skillmoe_lib.inference.engines import vllm as vllm_engine
from skillmoe_lib.inference.engines.replay import ReplayEngine
from skillmoe_lib.inference.engines.scripted import ScriptedEngine
from skillmoe_lib.inference.identity import ANOTHER
from skillmoe_lib.inference.store import GenerationStore, StoreWarning
from skillmoe_lib.tables import as_parquet

WORDS = ["<unk>", "<s>", "</s>", "one", "two", "user", "assistant", ":"]
CHAT = (
    "<s> {% for m in messages %}{{ m['role'] }} : {{ m['content'] }} </s> {% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)
DATED = "{% set today = strftime_now('%d %b %Y') %}" + CHAT.replace(
    "<s> ", "<s> {{ 'one' if today == '26 Jul 2024' else 'two' }} "
)


def model_folder(folder, chat=CHAT):
    """A model's small files, with a tokenizer of a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=chat
    )
    made.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"dtype": "bfloat16"}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 7]}))
    rendering.tokenizer.cache_clear(), rendering.end_tokens.cache_clear()  # of a folder that was changed
    return Model("folder:toy", "1", path=str(folder))


def ask(model, text="one", number=0, **sampling):
    said = (Message("user", text),)
    return Request("solve", f"q{number}", "ann", model, said, Sampling(**sampling), number)


# -- what it is made of ----------------------------------------------------------------------------


def test_a_template_that_inserts_the_date_gives_the_same_prompt_every_day(tmp_path, monkeypatch):
    model = model_folder(tmp_path, DATED)
    first = rendering.token_ids(model, ask(model).messages)
    assert [WORDS[i] for i in first[:3]] == ["<s>", "one", "user"]
    assert rendering.inserts_date(model) and not rendering.inserts_date(replace(model, template="plain"))

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 1, 2, tzinfo=tz)

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Tomorrow)
    assert rendering.token_ids(model, ask(model).messages) == first


def test_the_identity_is_what_the_engine_gets(tmp_path):
    model = model_folder(tmp_path)
    job = vllm_engine._job(ask(model, stop=("END",)), [1, 3])
    assert job["rendered"] == rendering.identity(ask(model, stop=("END",)), [1, 3])
    others = [
        rendering.identity(ask(model, stop=("END",)), [1, 4]),
        rendering.identity(ask(model), [1, 3]),
        rendering.identity(ask(replace(model, template="plain"), stop=("END",)), [1, 3]),
        rendering.identity(ask(replace(model, dtype="float32"), stop=("END",)), [1, 3]),
    ]
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 6]}))
    rendering.end_tokens.cache_clear()
    others.append(rendering.identity(ask(model, stop=("END",)), [1, 3]))
    assert len({job["rendered"], *others}) == 1 + len(others)
    # "auto" is what the files say: naming the same format is no other prompt.
    named, auto = replace(model, dtype="bfloat16"), model
    assert rendering.identity(ask(named), [1]) == rendering.identity(ask(auto), [1])


def test_a_layout_is_the_small_files_and_the_versions(tmp_path, monkeypatch):
    model = model_folder(tmp_path)
    before = rendering.layout(model)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert rendering.layout(model) == before
    with monkeypatch.context() as patch:
        patch.setattr(rendering.devices, "version", lambda package: "another")
        assert rendering.layout(model) != before
    (tmp_path / "chat_template.jinja").write_text(DATED)
    assert rendering.layout(model) != before
    assert rendering.layout(replace(model, path="")) == ""


# -- stored texts ----------------------------------------------------------------------------------


@dataclass
class Rendering(ScriptedEngine):
    """A scripted engine that lays prompts out as told."""

    how: str = "layout 1"
    words: str = "rendered {}"
    compared: list[str] = field(default_factory=list)

    def describe(self):
        return {"devices": 1, "versions": {"toy": self.how[-1]}}

    def layout(self, model):
        return self.how

    def rendered(self, requests):
        self.compared += [request.question_id for request in requests]
        return [self.words.format(request.question_id) for request in requests]

    def generate(self, requests):
        for outcome, request in zip(super().generate(requests), requests, strict=True):
            yield replace(outcome, rendered=self.words.format(request.question_id))


TOY = Model("folder:toy", "1")


def run(store, engine, numbers=(0, 1)):
    def program(number):
        generations = yield [ask(TOY, number=number)]
        return generations[0].text

    outcomes = schedule.run(
        {number: program(number) for number in numbers}, engine, GenerationStore(store.root)
    )
    return [outcome.result for outcome in outcomes.values()]


@pytest.fixture
def store(tmp_path):
    """Answers to q0 and q1, given under layout 1."""
    made = GenerationStore(tmp_path / "store")
    run(made, Rendering(lambda request: "first"))
    return GenerationStore(made.root)


def test_what_the_engine_got_stands_with_the_generation_and_the_batch(store):
    ids = [ask(TOY, number=number).id for number in (0, 1)]
    assert [store.get(ids)[key].rendered for key in ids] == ["rendered q0", "rendered q1"]
    assert store.rendered(ids) == dict(zip(ids, ["rendered q0", "rendered q1"], strict=True))
    assert store.layout_of(ids[0]) == "layout 1"
    assert store.generations(["rendered"])["rendered"].tolist() == ["rendered q0", "rendered q1"]


def test_under_the_same_layout_nothing_is_rendered(store):
    engine = Rendering(lambda request: "second")
    assert run(store, engine) == ["first", "first"]
    assert engine.compared == [] and engine.requests == []


def test_under_another_layout_equal_prompts_are_used(store):
    engine = Rendering(lambda request: "second", how="layout 2")
    assert run(store, engine, (0, 1, 2)) == ["first", "first", "second"]
    assert engine.compared == ["q0", "q1"]


def test_another_prompt_is_refused_in_one_line_and_replayed_as_it_is(store):
    engine = Rendering(lambda request: "second", how="layout 2", words="another {}")
    with pytest.raises(SkillmoeError) as error:
        run(store, engine)
    assert str(error.value) == (
        "2 stored answer(s) of 'folder:toy' were given to a prompt that would be another one now, first to "
        "question 'q0' of expert 'ann' (stored with toy 1; now toy 2): take another store, or engine=replay "
        "to use what is stored"
    )
    assert engine.requests == []
    assert run(store, ReplayEngine()) == ["first", "first"]


def test_a_template_that_now_refuses_the_messages_is_one_line(store, monkeypatch):
    def refused(requests):
        raise ValueError("roles must\nalternate")

    engine = Rendering(lambda request: "second", how="layout 2")
    monkeypatch.setattr(engine, "rendered", refused)
    with pytest.raises(
        SkillmoeError, match=r"cannot be laid out now \(ValueError: roles must alternate\): take"
    ):
        run(store, engine)


def test_an_engine_that_lays_nothing_out_compares_nothing(store):
    assert run(store, ScriptedEngine(lambda request: "second")) == ["first", "first"]


# -- older stores ----------------------------------------------------------------------------------


def as_of_earlier(store):
    """Rewrite the store's parts as versions wrote them that did not record what the engine got."""
    import hashlib

    for part in (store.root / "parts").glob("*.parquet"):
        table = pyarrow.parquet.read_table(part).drop_columns(["rendered"])
        batch = json.loads(table.schema.metadata[b"batch"])
        del batch["layout"], batch["dtype"]
        batch["engine"] = "vllm"
        data = as_parquet(table.replace_schema_metadata({b"batch": json.dumps(batch).encode()}))
        part.unlink()
        digest = hashlib.sha256(data).hexdigest()[:16]
        part.with_name(f"{part.stem.partition('-')[0]}-{digest}.parquet").write_bytes(data)
    return GenerationStore(store.root)


def tree(store):
    return {path.name: path.read_bytes() for path in (store.root / "parts").glob("*")}


@pytest.fixture
def old(tmp_path):
    """Six answers of an older store, and the model's files; the prompt of q5 had more tokens then."""
    model = model_folder(tmp_path / "toy")
    made = GenerationStore(tmp_path / "old")
    requests = [ask(model, "one two", number) for number in range(6)]
    n_tokens = len(rendering.token_ids(model, requests[0].messages))
    pairs = [(r, Generation(r.id, "text", "stop", n_tokens + (r.sample == 5), 1)) for r in requests]
    made.append(pairs, _batch())
    return as_of_earlier(made), model, requests


def _batch():
    from skillmoe_lib.inference.store import Batch

    return Batch("b", "folder:toy", "vllm", 1.0, 1.0, 1, {"vllm": "0.1"}, "2025-01-01T00:00:00+00:00")


def found_at(model):
    return lambda source, revision: ModelFiles(model.path, "1")


def test_an_older_store_is_read_and_used_as_it_is(old):
    store, _, requests = old
    assert store.get([requests[0].id])[requests[0].id].rendered == ""
    assert store.rendered([requests[0].id]) == {}
    assert store.generations()["rendered"].isna().all()
    assert store.batches()["dtype"].tolist() == [""]
    engine = Rendering(lambda request: "new")
    programs = {0: _one(requests[0])}
    assert schedule.run(programs, engine, store)[0].result == "text"
    assert engine.compared == [] and engine.requests == []


def _one(request):
    generations = yield [request]
    return generations[0].text


def test_migration_adds_what_the_prompts_were_beside_the_parts(old):
    store, model, requests = old
    before = tree(store)
    (row,) = migration.migrate(store, found_at(model)).to_dict("records")
    assert (row["n_same"], row["n_another"], row["n_left"], row["reason"]) == (5, 1, 0, "")
    assert tree(store) == before
    again = GenerationStore(store.root)
    now = VLLMLike(model)
    assert again.rendered([requests[0].id])[requests[0].id] == now.rendered([requests[0]])[0]
    assert again.rendered([requests[5].id]) == {requests[5].id: ANOTHER}
    assert migration.migrate(again, found_at(model)).empty
    assert schedule.run({0: _one(requests[0])}, now, again)[0].result == "text"
    with pytest.raises(SkillmoeError, match=r"^1 stored answer\(s\) of 'folder:toy' .* question 'q5'"):
        schedule.run({5: _one(requests[5])}, now, again)


class VLLMLike(ScriptedEngine):
    """Lays prompts out as vLLM's engine does; generates nothing."""

    def __init__(self, model):
        super().__init__(lambda request: "new")
        self.model = model

    layout = staticmethod(rendering.layout)

    def rendered(self, requests):
        return [rendering.identity(r, rendering.token_ids(self.model, r.messages)) for r in requests]


def test_migrated_prompts_are_compared_when_the_template_changes(old):
    store, model, requests = old
    migration.migrate(store, found_at(model))
    model_folder(store.root.parent / "toy", CHAT.replace("assistant :", "assistant : one"))
    with pytest.raises(SkillmoeError, match="would be another one now"):
        schedule.run({0: _one(requests[0])}, VLLMLike(model), GenerationStore(store.root))


@pytest.mark.parametrize("case", ["no files", "another revision", "a date", "a refusal"])
def test_what_cannot_be_resolved_is_said_and_left_as_it_is(old, case):
    store, model, requests = old

    def locate(source, revision):
        if case == "no files":
            raise SkillmoeError("model 'folder:toy' is not here")
        return ModelFiles(model.path, "2" if case == "another revision" else "1")

    if case == "a date":
        model_folder(store.root.parent / "toy", DATED)
    if case == "a refusal":
        model_folder(store.root.parent / "toy", "{{ raise_exception('not this') }}")
    (row,) = migration.migrate(store, locate).to_dict("records")
    assert (row["n_same"], row["n_another"], row["n_left"]) == (0, 0, 6)
    says = {"no files": "is not here", "another revision": "revision 2", "a date": "inserts the date"}
    assert says.get(case, "not this") in row["reason"]
    assert not (store.root / "layouts").exists()
    assert schedule.run({5: _one(requests[5])}, VLLMLike(model), store)[5].result == "text"


def test_a_damaged_record_of_prompts_is_set_aside_and_made_again(old):
    store, model, requests = old
    migration.migrate(store, found_at(model))
    (beside,) = (store.root / "layouts").glob("*")
    beside.write_bytes(b"torn")
    again = GenerationStore(store.root)
    with pytest.warns(StoreWarning, match="cannot be read"):
        assert again.known([requests[0].id])
    assert again.layout_of(requests[0].id) == ""
    assert migration.migrate(GenerationStore(store.root), found_at(model))["n_same"].sum() == 5


def test_the_command(old, monkeypatch, capsys):
    store, _, _ = old
    monkeypatch.setenv("SKILLMOE_HOME", str(store.root.parent))
    assert main(["migrate", str(store.root)]) == 0
    told = capsys.readouterr().out
    assert "old: 0 prompts are the same today, 0 are not, 6 are not resolved" in told
    assert "6 not resolved, used as before (model folder 'toy' lacks *.safetensors" in told
    (store.root.parent / "toy" / "model.safetensors").write_bytes(b"w")
    assert main(["migrate", str(store.root)]) == 0
    assert "(its files here are revision" in capsys.readouterr().out
    assert main(["migrate", str(store.root / "nothing")]) == 2
    assert "no generations at" in capsys.readouterr().err

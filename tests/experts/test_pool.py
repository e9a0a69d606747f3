"""Pools: requests follow the YAML file, and every mistake in it gives one line."""

import copy
from pathlib import Path

import pytest
import yaml

from skillmoe_lib import experts
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts.pool import model_files
from skillmoe_lib.generation import Model, Sampling

ROOT = Path(__file__).resolve().parents[2]
POOL = {
    "name": "toy",
    "description": "for tests",
    "sampling": {"temperature": 0.5, "top_p": 0.9, "max_tokens": 64},
    "keyword_model": {"model": "org/small", "max_tokens": 8, "stop": ["\n"]},
    "experts": [
        {"name": "Chat", "model": "org/small", "reasoning": True},
        {
            "name": "Plain",
            "model": "org/base",
            "revision": "c" * 40,
            "template": "plain",
            "examples": "worked",
            "dtype": "float32",
            "max_tokens": 16,
            "max_model_len": 512,
            "temperature": 0,
            "stop": ["END"],
            "licence": "MIT",
            "note": "a note",
        },
    ],
    "aggregators": ["Chat"],
    "baselines": [
        {
            "name": "Closed",
            "model": "closed-1",
            "served_by": "openai",
            "price": {"input": 1.0, "output": 2.0, "currency": "USD", "per_tokens": 1000000},
        }
    ],
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project of its own, with one file of worked examples."""
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    (tmp_path / "data" / "pools").mkdir(parents=True)
    (tmp_path / "data" / "examples").mkdir()
    worked = [{"question": " 1 and 1? ", "answer": "2\n"}, {"question": "2 and 2?", "answer": "4"}]
    (tmp_path / "data" / "examples" / "worked.yaml").write_text(yaml.safe_dump(worked))
    return tmp_path


def save(project, pool, name="toy"):
    text = pool if isinstance(pool, str) else yaml.safe_dump(pool, sort_keys=False)
    path = project / "data" / "pools" / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def changed(place, value):
    """POOL with another value at a place such as ("experts", 0, "name"); None removes the key."""
    *way, last = place
    root = copy.deepcopy(POOL)
    at = root
    for key in way:
        at = at[key]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return root


# --- what is read -------------------------------------------------------------------------------------


def test_a_pool_is_what_its_file_says(project):
    save(project, POOL)
    pool = experts.load_pool("toy", locate=False)
    assert (pool.name, list(pool.experts), pool.aggregators) == ("toy", ["Chat", "Plain"], ("Chat",))
    assert pool.experts["Chat"] == experts.Expert(
        "Chat", Model("org/small", "", "chat", 4096), Sampling(0.5, 0.9, 64), reasoning=True
    )
    assert pool.experts["Plain"] == experts.Expert(
        "Plain",
        Model("org/base", "c" * 40, "plain", 512, "float32"),
        Sampling(0, 0.9, 16, ("END",)),
        examples=(("1 and 1?", "2"), ("2 and 2?", "4")),
    )
    assert list(pool.baselines) == ["Closed"]
    assert pool.baselines["Closed"].price["output"] == 2.0


def test_the_keyword_model_is_asked_as_its_entry_says(project):
    save(project, POOL)
    keyword_expert = experts.load_pool("toy", locate=False).keyword_expert
    assert keyword_expert.name == "keywords"
    assert keyword_expert.sampling == Sampling(0.5, 0.9, 8, ("\n",))


def test_a_pool_can_be_given_by_its_path(project, tmp_path_factory):
    path = tmp_path_factory.mktemp("elsewhere") / "mine.yaml"
    path.write_text(yaml.safe_dump(POOL))
    assert experts.load_pool(str(path), locate=False).name == "toy"


def test_trimming_is_the_papers_where_the_pool_says_nothing(project):
    save(project, POOL)
    assert experts.load_pool("toy", locate=False).trim == 0.05
    save(project, changed(["trim"], 0.01))
    assert experts.load_pool("toy", locate=False).trim == 0.01


def test_without_a_list_every_expert_may_aggregate(project):
    save(project, changed(["aggregators"], None))
    assert experts.load_pool("toy", locate=False).aggregators == ("Chat", "Plain")


def test_pins_fill_in_what_the_pool_leaves_open(project):
    save(project, POOL)
    pins = {
        "org/small": {"revision": "a" * 40, "context_tokens": 2048},
        "org/base": {"revision": "b" * 40, "context_tokens": 9999},
    }
    (project / "data" / "pools" / "toy.pins.yaml").write_text(yaml.safe_dump(pins))
    pool = experts.load_pool("toy", locate=False)
    assert pool.experts["Chat"].model == Model("org/small", "a" * 40, "chat", 2048)
    assert pool.keyword_expert.model.revision == "a" * 40
    given = pool.experts["Plain"].model
    assert (given.revision, given.max_model_len) == ("c" * 40, 512), "what the pool gives has the last word"


def test_a_tag_is_the_commit_that_it_was_when_it_was_pinned(project):
    pool = yaml.safe_load(yaml.safe_dump(POOL).replace("c" * 40, "v2"))
    save(project, pool)
    assert experts.load_pool("toy", locate=False).experts["Plain"].model.revision == ""
    pins = {"org/base": {"revision": "b" * 40, "context_tokens": 9999}}
    (project / "data" / "pools" / "toy.pins.yaml").write_text(yaml.safe_dump(pins))
    assert experts.load_pool("toy", locate=False).experts["Plain"].model.revision == "b" * 40


def test_a_lock_is_no_pool(project):
    save(project, POOL)
    (project / "data" / "pools" / "toy.pins.yaml").write_text("{}")
    with pytest.raises(SkillmoeError, match=r"it must be one of toy$"):
        experts.load_pool("absent", locate=False)


def test_locating_fills_in_revision_context_and_path(project, monkeypatch):
    folder = project / "data" / "pocket" / "a"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"max_position_embeddings": 256}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    pool = changed(["experts"], [{"name": "A", "model": "folder:data/pocket/a"}])
    pool |= {"keyword_model": {"model": "folder:data/pocket/a"}, "aggregators": ["A"]}
    save(project, pool)
    model = experts.load_pool("toy").experts["A"].model
    assert model.path == str(folder)
    assert model.max_model_len == 256
    assert model.revision == model_files.locate("folder:data/pocket/a").revision
    assert experts.load_pool("toy").baselines["Closed"].model.path == "server:openai"


def test_how_a_model_is_held_is_what_its_entry_says(project):
    """Format, quantisation and adapter are part of what is asked; GPUs and memory are not."""
    for name in ("a", "lora"):
        (project / name).mkdir()
    (project / "a" / "config.json").write_text('{"max_position_embeddings": 256, "dtype": "bfloat16"}')
    (project / "a" / "tokenizer.json").write_text("{}")
    (project / "a" / "model.safetensors").write_bytes(b"weights")
    config = project / "lora" / "adapter_config.json"
    config.write_text('{"peft_type": "LORA", "r": 4, "rank_pattern": {"q_proj": 12}}')
    (project / "lora" / "adapter_model.safetensors").write_bytes(b"adapter")
    base = {"model": "folder:a"}
    held = {"quantization": "fp8", "tensor_parallel_size": 2, "memory_share": 0.4, "dtype": "float16"}
    entries = [
        {"name": "Base", **base},
        {"name": "Held", **base, **held},
        {"name": "Under", **base, "adapter": "folder:lora", "max_model_len": 128},
    ]
    path = save(project, {**POOL, "experts": entries, "keyword_model": base, "aggregators": ["Base"]})
    models = {name: expert.model for name, expert in experts.load_pool("toy").experts.items()}
    plain = models["Base"]
    assert plain.identity.keys() == {"source", "revision", "template", "max_model_len", "dtype"}
    assert (models["Held"].tensor_parallel_size, models["Held"].memory_share) == (2, 0.4)
    assert models["Held"].identity == {**plain.identity, "dtype": "float16", "quantization": "fp8"}
    under = models["Under"]
    revision = model_files.locate_adapter("folder:lora", beside=path).revision
    assert under.identity == {**plain.identity, "max_model_len": 128, "adapter": f"folder:lora@{revision}"}
    assert (under.adapter_path, under.adapter_rank, under.lora_rank) == (str(project / "lora"), 12, 16)
    assert experts.load_pool("toy", locate=False).experts["Under"].model.adapter == "folder:lora"
    (project / "lora" / "adapter_model.safetensors").write_bytes(b"another")
    assert experts.load_pool("toy").experts["Under"].model.adapter != under.adapter


@pytest.mark.parametrize(
    ("config", "weights", "message"),
    [
        (None, b"x", "adapter folder 'lora' lacks adapter_config.json: it must hold"),
        ('{"peft_type": "LORA", "r": 4}', None, "lacks adapter_model.safetensors: it must hold"),
        ("{", b"x", "adapter_config.json cannot be read (JSONDecodeError)"),
        ('{"peft_type": "LORA"}', b"x", "adapter_config.json cannot be read (KeyError)"),
        ('{"peft_type": "IA3", "r": 4}', b"x", "peft_type must be LORA and r 1 to 512, got 'IA3' and 4"),
        ('{"peft_type": "LORA", "r": 1000}', b"x", "r 1 to 512, got 'LORA' and 1000"),
    ],
)
def test_an_adapter_that_is_none_is_told_in_one_line(project, config, weights, message):
    (project / "lora").mkdir()
    if config is not None:
        (project / "lora" / "adapter_config.json").write_text(config)
    if weights is not None:
        (project / "lora" / "adapter_model.safetensors").write_bytes(weights)
    with pytest.raises(SkillmoeError) as error:
        model_files.locate_adapter("folder:lora")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_options_of_the_engine_are_for_models_on_this_machine(project):
    save(project, POOL)
    pool = experts.load_pool("toy", locate=False)
    given = pool.with_options('{"kv_cache_dtype": "fp8"}')
    assert {e.model.options for e in (given.keyword_expert, *given.experts.values())} == {
        '{"kv_cache_dtype": "fp8"}'
    }
    assert given.baselines == pool.baselines, "a server has options of its own"
    assert pool.with_options("") == pool


def test_a_folder_counts_from_the_yaml_file_before_the_project(project, tmp_path_factory):
    """Two folders of one name: that beside the pool's file is meant, and the identity says which it was."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for place, weights in ((project, b"one"), (elsewhere, b"other")):
        (place / "a").mkdir()
        (place / "a" / "config.json").write_text("{}")
        (place / "a" / "tokenizer.json").write_text("{}")
        (place / "a" / "model.safetensors").write_bytes(weights)
    pool = changed(["experts"], [{"name": "A", "model": "folder:a"}])
    pool |= {"keyword_model": {"model": "folder:a"}, "aggregators": ["A"]}
    (elsewhere / "mine.yaml").write_text(yaml.safe_dump(pool))
    save(project, pool)
    beside, other = (
        experts.load_pool(name).experts["A"].model for name in (str(elsewhere / "mine.yaml"), "toy")
    )
    assert (beside.path, other.path) == (str(elsewhere / "a"), str(project / "a"))
    assert beside.source == other.source == "folder:a"
    assert beside.revision != other.revision


def test_slips_are_told_before_any_model_is_looked_for(project, monkeypatch):
    def never(*_):
        raise AssertionError("a model was located")

    monkeypatch.setattr(model_files, "locate", never)
    for place, value in ((["aggregators"], ["Nobody"]), (["experts", 1, "template"], "chatty")):
        save(project, changed(place, value))
        with pytest.raises(SkillmoeError, match="it must be one of"):
            experts.load_pool("toy")


# --- what is refused ----------------------------------------------------------------------------------

AT_LEAST_1 = "it must be a whole number of at least 1"
SLIPS = [
    ("pool key", ["agregators"], [], "toy.yaml: unknown key 'agregators': it must be one of aggregators,"),
    (
        "sampling key",
        ["sampling", "temp"],
        1,
        "toy.yaml: sampling: unknown key 'temp': it must be one of max",
    ),
    (
        "expert key",
        ["experts", 1, "modle"],
        "x",
        "toy.yaml: experts[2]: unknown key 'modle': it must be one of",
    ),
    ("keyword key", ["keyword_model", "stops"], [], "toy.yaml: keyword_model: unknown key 'stops'"),
    ("baseline key", ["baselines", 0, "cost"], 1, "toy.yaml: baselines[1]: unknown key 'cost'"),
    (
        "price key",
        ["baselines", 0, "price", "out"],
        1,
        "baselines[1]: price: unknown key 'out': it must be one of",
    ),
    (
        "aggregator twice",
        ["aggregators"],
        ["Chat", "Chat"],
        "toy.yaml: aggregators has the name 'Chat' twice",
    ),
    ("no sampling", ["sampling"], None, "toy.yaml: the key 'sampling' is missing"),
    ("no keyword model", ["keyword_model"], None, "toy.yaml: the key 'keyword_model' is missing"),
    ("no experts key", ["experts"], None, "toy.yaml: the key 'experts' is missing"),
    ("no experts", ["experts"], [], "toy.yaml: experts: it must list at least one; got []"),
    ("no budget", ["sampling", "max_tokens"], None, "toy.yaml: sampling: the key 'max_tokens' is missing"),
    ("no name", ["experts", 0, "name"], None, "toy.yaml: experts[1]: the key 'name' is missing"),
    ("no model", ["experts", 0, "model"], None, "toy.yaml: experts[1]: the key 'model' is missing"),
    ("no keyword weights", ["keyword_model", "model"], None, "keyword_model: the key 'model' is missing"),
    ("same name twice", ["experts", 1, "name"], "Chat", "toy.yaml: experts has the name 'Chat' twice"),
    ("unknown aggregator", ["aggregators"], ["Chat", "Caht"], "in toy.yaml 'Caht': it must be one of Chat"),
    (
        "aggregators as one word",
        ["aggregators"],
        "Chat",
        "toy.yaml: aggregators: it must be a list; got 'Chat'",
    ),
    ("template", ["experts", 0, "template"], "jinja", "template: it must be one of chat, plain; got 'jinja'"),
    (
        "dtype",
        ["experts", 0, "dtype"],
        "bf16",
        "dtype: it must be one of auto, bfloat16, float16, float32; got",
    ),
    ("unknown examples", ["experts", 1, "examples"], "wroked", "file 'wroked': it must be one of worked"),
    (
        "a name for a mapping",
        ["keyword_model"],
        "org/small",
        "keyword_model: it must be a mapping with the keys",
    ),
    (
        "a number for a mapping",
        ["sampling"],
        7,
        "sampling: it must be a mapping with the keys max_tokens, stop",
    ),
    ("a name for an entry", ["experts", 0], "org/small", "toy.yaml: experts[1]: it must be a mapping"),
    ("a mapping for a list", ["experts"], {"Chat": "org/small"}, "toy.yaml: experts: it must be a list; got"),
    (
        "a text for a list",
        ["experts", 1, "stop"],
        "END",
        "stop: it must be a list of texts, none of them empty",
    ),
    ("an empty stop", ["experts", 1, "stop"], [""], "stop: it must be a list of texts, none of them empty"),
    (
        "1e-3 is text",
        ["sampling", "temperature"],
        "1e-3",
        "at most 2, not text (to YAML 1e-3 and 4,096 are text:",
    ),
    ("4,096 is text", ["sampling", "max_tokens"], "4,096", f"max_tokens: {AT_LEAST_1}, not text (to YAML"),
    (
        "below zero",
        ["experts", 1, "temperature"],
        -1,
        "experts[2]: temperature: it must be a number of at least 0",
    ),
    (
        "hot",
        ["sampling", "temperature"],
        70,
        "temperature: it must be a number of at least 0 and at most 2; got 70",
    ),
    ("no number", ["sampling", "temperature"], float("nan"), "at least 0 and at most 2; got nan"),
    ("a percentage", ["sampling", "top_p"], 95, "top_p: it must be a number above 0 and at most 1; got 95"),
    (
        "a trim in percent",
        ["trim"],
        5,
        "trim: it must be a number of at least 0 and below 1 (a share); got 5",
    ),
    ("half a token", ["experts", 1, "max_tokens"], 0.5, f"max_tokens: {AT_LEAST_1}; got 0.5"),
    ("no tokens", ["sampling", "max_tokens"], 0, f"max_tokens: {AT_LEAST_1}; got 0"),
    ("context in words", ["experts", 1, "max_model_len"], "4k", f"experts[2]: max_model_len: {AT_LEAST_1}"),
    (
        "a truth value for a name",
        ["experts", 0, "name"],
        True,
        "it must be text (put it in quotes: without them",
    ),
    ("an empty name", ["experts", 0, "name"], "", "experts[1]: name: it must be text; got ''"),
    (
        "a text for true",
        ["experts", 0, "reasoning"],
        "false",
        "reasoning: it must be true or false; got 'false'",
    ),
    (
        "a model in a list",
        ["experts", 0, "model"],
        ["org/a"],
        "experts[1]: model: it must be text; got ['org/a']",
    ),
]


@pytest.mark.parametrize(("place", "value", "message"), [s[1:] for s in SLIPS], ids=[s[0] for s in SLIPS])
def test_a_slip_is_told_in_one_line(project, place, value, message):
    save(project, changed(place, value))
    with pytest.raises(SkillmoeError) as error:
        experts.load_pool("toy", locate=False)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("quantization", 8, "quantization: it must be text (put it in quotes"),
        (
            "adapter",
            "adapters/a",
            "adapter: it must be folder:PATH, text that names a folder with LoRA weights",
        ),
        ("adapter", "org/lora", "adapter: it must be folder:PATH, text that names"),
        ("tensor_parallel_size", 0, f"tensor_parallel_size: {AT_LEAST_1}; got 0"),
        ("tensor_parallel_size", 1.5, f"tensor_parallel_size: {AT_LEAST_1}; got 1.5"),
        ("memory_share", 0, "memory_share: it must be a number above 0 and at most 1 (a share); got 0"),
        ("memory_share", 90, "memory_share: it must be a number above 0 and at most 1 (a share); got 90"),
    ],
)
def test_a_slip_in_how_a_model_is_held_is_told_in_one_line(project, key, value, message):
    save(project, changed(["experts", 0, key], value))
    with pytest.raises(SkillmoeError) as error:
        experts.load_pool("toy", locate=False)
    assert f"toy.yaml: experts[1]: {message}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["quantization", "adapter", "tensor_parallel_size", "memory_share"])
def test_how_a_server_holds_its_models_is_not_said_in_a_pool(project, key):
    value = {"quantization": "fp8", "adapter": "folder:a", "tensor_parallel_size": 2, "memory_share": 0.5}[
        key
    ]
    save(project, changed(["baselines", 0, key], value))
    with pytest.raises(
        SkillmoeError, match=f"toy.yaml: Closed: {key} is for models on this machine; 'openai'"
    ):
        experts.load_pool("toy", locate=False)


TEXTS = [
    ("an empty file", "", "toy.yaml: it must be a mapping with the keys"),
    ("a list", "- name: x", "toy.yaml: it must be a mapping with the keys"),
    ("broken YAML", "name: [a\nexperts: b", "toy.yaml is not readable as YAML"),
    ("a key twice", "name: a\ntrim: 0\nname: b", "the key 'name' occurs twice (line 3)"),
    ("a tab", "sampling:\n\ttemperature: 1", "a tab where YAML allows only spaces (line 2)"),
    ("a tag that runs code", "name: !!python/object/apply:os.getcwd []", "toy.yaml is not readable as YAML"),
]


@pytest.mark.parametrize(("text", "message"), [row[1:] for row in TEXTS], ids=[row[0] for row in TEXTS])
def test_a_file_that_is_no_pool(project, text, message):
    save(project, text)
    with pytest.raises(SkillmoeError) as error:
        experts.load_pool("toy", locate=False)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_in_another_encoding(project):
    save(project, POOL).write_bytes("name: caf\xe9".encode("latin-1"))
    with pytest.raises(SkillmoeError, match="not readable as YAML"):
        experts.load_pool("toy", locate=False)


@pytest.mark.parametrize("name", ["tooy", "nowhere/toy.yaml"])
def test_an_unknown_pool_names_those_that_are_there(project, name):
    save(project, POOL)
    with pytest.raises(SkillmoeError) as error:
        experts.load_pool(name, locate=False)
    assert str(error.value) == f"unknown pool {name!r}: it must be one of toy"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "- {question: a, anser: b}",
            "worked.yaml[1]: unknown key 'anser': it must be one of answer, question",
        ),
        ("- {question: a}", "worked.yaml[1]: the key 'answer' is missing"),
        ("question: a", "worked.yaml: it must be a list"),
        ("- a", "worked.yaml[1]: it must be a mapping"),
        ("- {question: a, answer: 12:30}", "worked.yaml[1]: answer: it must be text (put it in quotes"),
        ("- {", "worked.yaml is not readable as YAML"),
    ],
)
def test_a_slip_in_worked_examples(project, text, message):
    (project / "data" / "examples" / "worked.yaml").write_text(text)
    with pytest.raises(SkillmoeError) as error:
        experts.read_examples("worked")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# --- parts of a pool ----------------------------------------------------------------------------------


def test_a_subset_keeps_the_order_given_and_its_own_aggregators(project):
    save(project, POOL)
    pool = experts.load_pool("toy", locate=False)
    turned = pool.subset(["Plain", "Chat"])
    assert (list(turned.experts), turned.aggregators) == (["Plain", "Chat"], ("Chat",))
    one = pool.subset(["Plain"])
    assert (list(one.experts), one.aggregators) == (["Plain"], ())
    assert one.keyword_expert == pool.keyword_expert
    assert list(pool.experts) == ["Chat", "Plain"], "the pool itself is as it was"
    with pytest.raises(SkillmoeError, match=r"^unknown expert 'Nobody': it must be one of Chat, Plain$"):
        pool.subset(["Chat", "Nobody"])


def test_the_table_shows_experts_and_keyword_model(project):
    save(project, POOL)
    shown = experts.pool_table(experts.load_pool("toy", locate=False))
    assert shown["expert"].tolist() == ["Chat", "Plain", "keywords", "Closed"]
    assert shown["aggregates"].tolist() == [True, False, False, False]
    assert shown["price"].isna().tolist() == [True, True, True, False]
    assert shown["price"].iloc[3] == "1.0 in, 2.0 out USD for 1000000 tokens"
    assert shown["asked"].tolist()[1] == "plain, 2 worked examples"


@pytest.mark.parametrize("path", sorted((ROOT / "data" / "pools").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_project_s_own_pools_are_read(path):
    if not path.name.endswith(".pins.yaml"):
        pool = experts.load_pool(str(path), locate=False)
        assert pool.name == path.stem
        assert pool.experts


def test_a_key_written_into_a_pool_is_refused_and_not_repeated(project):
    servers = {"lab": {"url": "http://host/v1", "key": "sk-secret"}}
    with pytest.raises(SkillmoeError, match="name of an environment variable") as told:
        experts.load_pool(str(save(project, {**POOL, "servers": servers})), locate=False)
    assert "sk-secret" not in str(told.value)


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ({"url": "https://me:pw@host/v1"}, "an address such as"),
        ({"url": "ftp://host"}, "an address such as"),
        ({"url": "http://host/v1?key=1"}, "an address such as"),
        ({"url": "http://host/v1", "key": "sk-abc"}, "the name of an environment variable"),
        ({"url": "http://host/v1", "spending_cap": 0}, "a number above 0"),
        ({"url": "http://host/v1", "concurrency": 0}, "a whole number of at least 1"),
    ],
)
def test_servers_are_read_strictly(project, server, told):
    with pytest.raises(SkillmoeError, match=told):
        experts.load_pool(str(save(project, {**POOL, "servers": {"lab": server}})), locate=False)


def test_an_expert_names_a_server_of_its_pool(project):
    served = {"name": "S", "model": "m", "served_by": "lab"}
    pool = {**POOL, "experts": [*POOL["experts"], served]}
    with pytest.raises(SkillmoeError, match="unknown server 'lab': it must be one of openai, vllm"):
        experts.load_pool(str(save(project, pool)), locate=False)
    pool = experts.load_pool(
        str(save(project, {**pool, "servers": {"lab": {"url": "http://127.0.0.1:1/v1"}}})), locate=False
    )
    assert pool.experts["S"].model.path == "server:lab"
    assert pool.experts["S"].model.revision == "served by lab"
    assert sorted(pool.served()) == ["lab", "openai"]

"""Engines without a model: the scripted one, replay, rendering of prompts, and vLLM's memory arithmetic."""

import json
import multiprocessing
import sys
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType, SimpleNamespace

import psutil
import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts import devices
from skillmoe_lib.generation import Failure, Generation, Message, Model, Request, Sampling
from skillmoe_lib.inference import engines
from skillmoe_lib.inference.engines import rendering, vllm_options, vllm_process, vllm_swaps
from skillmoe_lib.inference.engines import vllm as vllm_engine
from skillmoe_lib.inference.engines.replay import ReplayEngine
from skillmoe_lib.inference.engines.scripted import ScriptedEngine, demo
from skillmoe_lib.inference.engines.vllm import VLLMEngine

MODEL = Model("folder:toy", "abc", max_model_len=64)
GIB = 2**30


def ask(text="one two three", model=MODEL, stage="solve", sample=0, **sampling):
    return Request(stage, "q1", "Expert", model, (Message("user", text),), Sampling(**sampling), sample)


# --- by name ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vllm", "openai", "replay", "scripted"])
def test_an_engine_is_found_by_its_name(name):
    assert engines.connect(name).name == name
    assert engines.connect(name).describe().keys() == {"devices", "versions"}


def test_an_unknown_engine_is_one_line():
    with pytest.raises(
        SkillmoeError, match=r"^unknown engine 'vlm': it must be one of openai, ray, replay, scripted, vllm$"
    ):
        engines.connect("vlm")


# --- scripted -----------------------------------------------------------------------------------------


def test_the_scripted_engine_counts_words_and_cuts():
    engine = ScriptedEngine(lambda request: "a b c d")
    requests = [ask(max_tokens=3), ask("one", max_tokens=4), ask(max_tokens=9)]
    with engine.load(MODEL) as loaded:
        done = list(loaded.generate(requests))
    assert done == [
        Generation(requests[0].id, "a b c", "length", 3, 3),
        Generation(requests[1].id, "a b c d", "stop", 1, 4),
        Generation(requests[2].id, "a b c d", "stop", 3, 4),
    ]
    assert (engine.loads, engine.requests) == (["folder:toy"], requests)
    assert engine.prompt_tokens(requests) == [3, 1, 3]


def test_the_scripted_engine_passes_failures_on():
    engine = ScriptedEngine(lambda request: Failure(request.id, "aborted"))
    assert list(engine.generate([ask()])) == [Failure(ask().id, "aborted")]


@pytest.mark.parametrize(
    ("stage", "text", "form"),
    [
        ("keywords", "Which skills?", r"^Keywords: \w+, \w+$"),
        ("pick", "Which is best?", r"^The best is \[[123]\]$"),
        ("feedback", "Check it.", r"^(It is correct|There is a slip)\.$"),
        ("solve", "End with: The answer is (X)", r"The answer is \([ABC]\)\nConfidence: [01]\.\d\d$"),
        ("aggregate", "End with: \\boxed{X}", r"The answer is \\boxed\{[123]\}\nConfidence: "),
    ],
)
def test_demo_texts_have_the_form_asked_for_and_come_again(stage, text, form):
    requests = [ask(text, stage=stage, sample=sample) for sample in range(20)]
    first, second = (list(demo().generate(requests)) for _ in range(2))
    assert first == second
    assert len({generation.text for generation in first}) > 1
    import re

    for generation in first:
        assert re.search(form, generation.text), generation.text


# --- replay -------------------------------------------------------------------------------------------


def test_replay_generates_nothing():
    engine = ReplayEngine()
    for refused in (lambda: engine.check(MODEL), lambda: engine.load(MODEL)):
        with pytest.raises(SkillmoeError, match="the store lacks generations of 'folder:toy'") as error:
            refused()
        assert "\n" not in str(error.value)
    assert engine.prompt_tokens([ask(), ask()]) == [0, 0]


# --- rendering ----------------------------------------------------------------------------------------

WORDS = [
    "<unk>",
    "<s>",
    "</s>",
    "user",
    "assistant",
    "system",
    "Question",
    "Answer",
    "Note",
    ":",
    "one",
    "two",
]
CHAT = (
    "<s> {% for m in messages %}{{ m['role'] }} : {{ m['content'] }} </s> {% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)


def tokenizer_folder(folder, *, chat_template=CHAT, bos="<s>"):
    """A model folder as far as the tokenizer: words of a fixed list, split at spaces and colons."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(":", "isolated")]
    )
    # As Llama's do, it would put <s> before everything it is given.
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token=bos,
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=chat_template,
    )
    made.save_pretrained(folder)
    return Model("folder:toy", "abc", path=str(folder))


def words_of(ids):
    return " ".join(WORDS[i] for i in ids)


TURNS = (Message("user", "one"), Message("assistant", "two"), Message("user", " one two "))


def test_a_chat_is_laid_out_by_the_tokenizer_s_own_template_with_one_bos(tmp_path):
    model = tokenizer_folder(tmp_path)
    assert words_of(rendering.token_ids(model, TURNS)) == (
        "<s> user : one </s> assistant : two </s> user : one two </s> assistant :"
    )


def test_plain_text_ends_where_the_model_goes_on_and_has_one_bos(tmp_path):
    model = replace(tokenizer_folder(tmp_path), template="plain")
    assert rendering.plain_text(TURNS) == "Question: one\n\nAnswer: two\n\nQuestion: one two\n\nAnswer:"
    assert words_of(rendering.token_ids(model, TURNS)) == (
        "<s> Question : one Answer : two Question : one two Answer :"
    )
    system = rendering.token_ids(model, (Message("system", "one"), Message("user", "two")))
    assert words_of(system) == "<s> Note : one Question : two Answer :"


def test_a_tokenizer_without_bos_gets_none(tmp_path):
    model = replace(tokenizer_folder(tmp_path, bos=None), template="plain")
    assert words_of(rendering.token_ids(model, TURNS[:1])) == "Question : one Answer :"


def test_a_chat_without_template_is_refused_and_plain_is_not(tmp_path):
    model = tokenizer_folder(tmp_path, chat_template=None)
    with pytest.raises(SkillmoeError) as error:
        rendering.render([ask(model=model)])
    assert str(error.value) == "model 'folder:toy' has no chat template: set `template: plain` in the pool"
    assert rendering.render([ask("one", replace(model, template="plain"))])


def test_prompt_tokens_are_the_rendered_length(tmp_path):
    model = tokenizer_folder(tmp_path)
    requests = [ask("one", model), ask("one two", model), ask("one", replace(model, template="plain"))]
    assert VLLMEngine().prompt_tokens(requests) == [7, 8, 6]
    assert VLLMEngine().prompt_tokens([]) == []


@pytest.mark.parametrize("content", [None, "{"])
def test_a_missing_or_torn_tokenizer_is_one_line_that_names_the_model(tmp_path, content):
    tokenizer_folder(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    if content:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(SkillmoeError, match="tokenizer of 'folder:toy' cannot be read") as error:
        rendering.token_ids(Model("folder:toy", "abc", path=str(tmp_path)), TURNS)
    assert "\n" not in str(error.value)


# --- vLLM: settings by device ---------------------------------------------------------------------------

CONFIG = {
    "num_hidden_layers": 5, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 128,
    "head_dim": 32, "dtype": "float32",
}  # fmt: skip


def test_a_small_model_does_not_take_the_whole_gpu(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    model = replace(MODEL, path=str(tmp_path), max_model_len=2048)
    asked = vllm_options.options(model, "cuda")
    # key and value x 5 layers x 2 heads x 32 x 4 bytes, for 512 sequences of 2,048 tokens, and an eighth more
    assert asked["kv_cache_memory_bytes"] == 2 * 5 * 2 * 32 * 4 * 512 * 2048 * 9 // 8
    assert asked["compilation_config"] == {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}
    assert "enforce_eager" not in asked
    assert vllm_options.options(model, "cuda", max_num_seqs=8)["max_num_seqs"] == 8
    halves = vllm_options.cache_bytes(model, sequences=512, tensor_parallel_size=2)
    assert halves == asked["kv_cache_memory_bytes"] // 2


def test_a_cache_that_would_be_large_or_is_not_known_is_left_to_vllm(tmp_path):
    model = replace(MODEL, path=str(tmp_path), max_model_len=32768)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert vllm_options.cache_bytes(model, sequences=512) is None
    (tmp_path / "config.json").write_text(json.dumps({"text_config": CONFIG}))
    assert vllm_options.cache_bytes(model, sequences=1) is None


def test_what_a_pool_says_of_a_model_goes_before_the_engine_s_settings(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    model = replace(MODEL, path=str(tmp_path), tensor_parallel_size=4, memory_share=0.3, quantization="fp8")
    asked = vllm_options.options(model, "cuda", tensor_parallel_size=2, gpu_memory_utilization=0.8)
    assert (asked["tensor_parallel_size"], asked["gpu_memory_utilization"]) == (4, 0.3)
    assert asked["quantization"] == "fp8"
    assert (
        vllm_options.options(replace(MODEL, path=str(tmp_path)), "cuda", tensor_parallel_size=2)[
            "tensor_parallel_size"
        ]
        == 2
    )
    here = vllm_options.options(model, "cpu", tensor_parallel_size=2)
    assert here["tensor_parallel_size"] == 1, "one process holds a model on a CPU"
    assert "gpu_memory_utilization" not in here
    under = replace(MODEL, path=str(tmp_path), adapter="folder:a@1", adapter_rank=12)
    asked = vllm_options.options(under, "cpu")
    assert (asked["enable_lora"], asked["max_lora_rank"]) == (True, 16)
    assert "enable_lora" not in here


def test_options_of_the_user_go_before_ours(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    model = replace(MODEL, path=str(tmp_path), options='{"kv_cache_dtype": "fp8"}')
    asked = vllm_options.options(model, "cuda", given={"enforce_eager": True, "max_num_seqs": 8})
    assert (asked["max_num_seqs"], asked["enforce_eager"], asked["kv_cache_dtype"]) == (8, True, "fp8")
    assert "compilation_config" not in asked
    assert asked["kv_cache_memory_bytes"] == vllm_options.cache_bytes(model, sequences=8)


def test_a_model_that_vllm_would_refuse_is_told_before_it_is_loaded(model_folder, monkeypatch):
    memory(monkeypatch, 100)
    monkeypatch.setattr(vllm_options, "known_quantizations", lambda: ("awq", "fp8"))
    with pytest.raises(
        SkillmoeError, match=r"^model 'folder:toy' .*: `quantization` .* awq, fp8: got 'fp7'$"
    ):
        VLLMEngine().check(replace(model_folder, quantization="fp7"))
    VLLMEngine().check(replace(model_folder, quantization="fp8"))
    config = Path(model_folder.path) / "config.json"
    config.write_text(json.dumps({**CONFIG, "quantization_config": {"quant_method": "awq"}, "vocab_size": 1}))
    with pytest.raises(SkillmoeError, match=r"it is quantised already \(awq\): leave `quantization` out"):
        VLLMEngine().check(replace(model_folder, quantization="fp8"))
    monkeypatch.setattr(devices, "device", lambda: "cuda")
    monkeypatch.setattr(devices, "n_gpus", lambda: 2)
    VLLMEngine().check(replace(model_folder, tensor_parallel_size=2))
    with pytest.raises(SkillmoeError, match="to be shared by 4 GPUs, and there are 2"):
        VLLMEngine().check(replace(model_folder, tensor_parallel_size=4))


KNOWN = {
    "model": "str", "seed": "int", "enforce_eager": "bool", "max_num_seqs": "int | None",
    "cpu_offload_gb": "float", "kv_cache_dtype": "CacheDType", "hf_overrides": "HfOverrides", "_inner": "int",
}  # fmt: skip


def test_given_options_are_divided_by_whether_they_can_change_a_text(monkeypatch):
    monkeypatch.setattr(vllm_options, "known_options", lambda: KNOWN)
    given = vllm_options.read_given('{"max_num_seqs": 4, "kv_cache_dtype": "fp8", "hf_overrides": {"a": 1}}')
    assert given.how == {"max_num_seqs": 4}
    assert given.model_options == '{"hf_overrides": {"a": 1}, "kv_cache_dtype": "fp8"}'
    assert vllm_options.read_given(" ") == ({}, "")
    assert vllm_options.read_given('{"cpu_offload_gb": 2}').how == {"cpu_offload_gb": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "engine_options must be a JSON object, got '{' ("),
        ("[1]", "engine_options must be a JSON object such as"),
        ('{"sead": 1}', "unknown engine option 'sead': vllm.EngineArgs has none of that name"),
        ('{"max_num_seq": 1}', "has none of that name, did you mean max_num_seqs?"),
        ('{"_inner": 1}', "unknown engine option '_inner'"),
        ('{"seed": 1}', "engine option 'seed' cannot be given: every request has a seed of its own"),
        ('{"model": "a"}', "engine option 'model' cannot be given: the expert's `model`"),
        ('{"dtype": "half"}', "engine option 'dtype' cannot be given: the expert's `dtype`"),
        ('{"trust_remote_code": true}', "cannot be given: code that comes with a model is never run"),
        ('{"max_num_seqs": "4"}', "engine option 'max_num_seqs' must be int | None, got '4'"),
        ('{"max_num_seqs": true}', "engine option 'max_num_seqs' must be int | None, got True"),
        ('{"enforce_eager": 1}', "engine option 'enforce_eager' must be bool, got 1"),
    ],
)
def test_an_option_that_cannot_be_given_is_told_in_one_line(monkeypatch, text, message):
    monkeypatch.setattr(vllm_options, "known_options", lambda: KNOWN)
    with pytest.raises(SkillmoeError) as error:
        vllm_options.read_given(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_other_engines_have_no_options(monkeypatch):
    with pytest.raises(SkillmoeError, match="are for engine=vllm, ray or replay, got engine=scripted"):
        vllm_options.read_given("{}", "scripted")
    monkeypatch.setattr(vllm_options.importlib.util, "find_spec", lambda name: None)
    vllm_options.known_options.cache_clear()
    assert vllm_options.read_given('{"what": 1}', "replay").model_options == '{"what": 1}', "no vLLM here"
    vllm_options.known_options.cache_clear()


def test_the_options_are_with_the_batches():
    versions = VLLMEngine(options={"max_num_seqs": 4}).describe()["versions"]
    assert versions["options"] == '{"max_num_seqs": 4}'
    assert "options" not in VLLMEngine().describe()["versions"]


def test_a_cpu_compiles_nothing_and_has_its_core_with_it(tmp_path):
    asked = vllm_options.options(replace(MODEL, path=str(tmp_path)), "cpu")
    assert asked["enforce_eager"]
    assert not asked["enable_chunked_prefill"]
    assert asked["max_num_seqs"] == 128
    assert not {"gpu_memory_utilization", "kv_cache_memory_bytes", "compilation_config"} & set(asked)
    assert vllm_options.environment("cpu")["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert vllm_options.environment("cuda")["VLLM_ENABLE_V1_MULTIPROCESSING"] == "1"


def test_what_was_seen_of_a_swap_is_kept_for_its_versions(tmp_path, monkeypatch):
    monkeypatch.setenv("SKILLMOE_CACHE", str(tmp_path))
    assert vllm_swaps.known("llama", {"vllm": "1"}) is None
    vllm_swaps.keep("llama", {"vllm": "1"}, same=False)
    vllm_swaps.keep("gemma", {"vllm": "1"}, same=True)
    assert vllm_swaps.known("llama", {"vllm": "1"}) is False
    assert vllm_swaps.known("gemma", {"vllm": "1"}) is True
    assert vllm_swaps.known("llama", {"vllm": "2"}) is None


# --- vLLM: what is decided before it is there ----------------------------------------------------------


@pytest.fixture
def model_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(vllm_engine.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(devices, "device", lambda: "cpu")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    about = {"max_position_embeddings": 64, "vocab_size": 1, "dtype": "bfloat16"}
    (tmp_path / "config.json").write_text(json.dumps(about))
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0}}}))
    with (tmp_path / "model.safetensors").open("wb") as weights:
        n_bytes = 5 * GIB - 88
        entry = {"dtype": "U8", "shape": [n_bytes], "data_offsets": [0, n_bytes]}
        head = json.dumps({"w": entry}, separators=(",", ":")).encode()
        weights.write((80).to_bytes(8, "little") + head.ljust(80))
        weights.truncate(5 * GIB)  # a hole: no disk is used
    return replace(MODEL, path=str(tmp_path))


def memory(monkeypatch, free_gib):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free_gib * GIB))


def test_a_model_that_fits_is_let_through(model_folder, monkeypatch):
    memory(monkeypatch, 7.01)  # 1.2 times 5 GiB of weights and 1 GiB for the cache
    VLLMEngine().check(model_folder)


def test_a_model_that_does_not_fit_in_memory_is_refused(model_folder, monkeypatch):
    memory(monkeypatch, 6.99)
    with pytest.raises(
        SkillmoeError, match=r"'folder:toy' does not fit: .* about 7\.0 GiB, 7\.0 GiB"
    ) as error:
        VLLMEngine().check(model_folder)
    assert "\n" not in str(error.value)
    monkeypatch.setattr(devices, "device", lambda: "cuda")
    VLLMEngine().check(model_folder)  # a GPU's memory is vLLM's own business


def test_weights_loaded_as_float32_take_twice_what_they_take_on_disk(model_folder, monkeypatch):
    memory(monkeypatch, 12.99)
    with pytest.raises(SkillmoeError, match=r"about 13\.0 GiB, 13\.0 GiB"):
        VLLMEngine().check(replace(model_folder, dtype="float32"))


def test_spoilt_weights_are_refused(model_folder, monkeypatch):
    memory(monkeypatch, 100)
    with (Path(model_folder.path) / "model.safetensors").open("r+b") as weights:
        weights.truncate(1000)
    with pytest.raises(SkillmoeError, match=r"weights file .*model\.safetensors is corrupt"):
        VLLMEngine().check(model_folder)


def test_a_context_that_the_model_lacks_is_refused(model_folder, monkeypatch):
    memory(monkeypatch, 100)
    with pytest.raises(SkillmoeError, match=r"^max_model_len of 'folder:toy' must be at most 64: got 65$"):
        VLLMEngine().check(replace(model_folder, max_model_len=65))


def test_without_vllm_the_way_to_get_it_is_told(model_folder, monkeypatch):
    monkeypatch.setattr(vllm_engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SkillmoeError, match="'vllm' is not installed: run `make setup`"):
        VLLMEngine().check(model_folder)


def test_a_model_that_was_not_located_is_refused(model_folder):
    with pytest.raises(SkillmoeError, match="no model folder at nowhere"):
        VLLMEngine().check(replace(model_folder, path="nowhere"))


def test_a_job_leaves_no_room_beyond_the_context():
    job = vllm_engine._job(ask(max_tokens=100, temperature=0.3, top_p=0.9, stop=("END",)), [1] * 60)
    assert job == {
        "id": ask(max_tokens=100, temperature=0.3, top_p=0.9, stop=("END",)).id,
        "ids": [1] * 60,
        "temperature": 0.3,
        "top_p": 0.9,
        "max_tokens": 4,
        "stop": ["END"],
        "seed": ask(max_tokens=100, temperature=0.3, top_p=0.9, stop=("END",)).engine_seed,
        "rendered": rendering.identity(ask(stop=("END",)), [1] * 60),
    }
    assert vllm_engine._job(ask(max_tokens=3), [1] * 60)["max_tokens"] == 3


def test_a_base_model_stops_before_a_question_of_its_own():
    plain = replace(MODEL, template="plain")
    assert vllm_engine._job(ask(model=plain, stop=("END",)), [1])["stop"] == ["END", "\nQuestion:"]
    assert rendering.plain_text(TURNS).count(rendering.PLAIN_STOP) == 1


def worker(connection, *, exitcode=None):
    """A worker as far as its parent sees it."""
    ended = SimpleNamespace(
        pid=None, exitcode=exitcode, join=lambda timeout=None: None, kill=lambda: connection.close()
    )
    return vllm_engine._Process(ended, connection)


@pytest.mark.parametrize(
    ("exitcode", "how"), [(-9, r"signal 9; out of memory\?"), (1, "exit code 1"), (None, "exit code None")]
)
def test_a_worker_that_died_is_one_line_that_names_the_model(exitcode, how):
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    match = rf"^the engine died while it held 'folder:toy' \({how}\)$"
    with pytest.raises(SkillmoeError, match=match):
        worker(ours, exitcode=exitcode).receive(MODEL, 5)


def test_what_went_wrong_in_the_worker_is_passed_on():
    ours, theirs = multiprocessing.Pipe()
    theirs.send("ValueError: too many heads")
    with pytest.raises(
        SkillmoeError, match=r"^model 'folder:toy' cannot be loaded or run: ValueError: too many"
    ):
        worker(ours).receive(MODEL, 5)


def test_a_worker_that_gives_no_sign_of_life_is_killed():
    ours, theirs = multiprocessing.Pipe()
    for message in (None, True, None):
        theirs.send(message)
    assert worker(ours).receive(MODEL, 5) is True
    with pytest.raises(SkillmoeError, match=r"^the engine made no progress for 0\.01 s with 'folder:toy'$"):
        worker(ours).receive(MODEL, 0.01)
    assert ours.closed


class FakeLLMEngine:
    """Finishes one request a step, each with the next reason."""

    def __init__(self, reasons):
        self.reasons, self.waiting, self.n_steps = list(reasons), [], 0

    def add_request(self, request_id, prompt, parameters):
        self.waiting.append((request_id, parameters))

    def has_unfinished_requests(self):
        return bool(self.waiting)

    def step(self):
        self.n_steps += 1
        request_id, _ = self.waiting.pop(0)
        done = SimpleNamespace(text="text", token_ids=[1, 2], finish_reason=self.reasons.pop(0))
        running = SimpleNamespace(request_id="other", finished=False)
        finished = SimpleNamespace(
            request_id=request_id, finished=True, outputs=[done], num_cached_tokens=None
        )
        return [running, finished]


@pytest.fixture
def fake_vllm(monkeypatch):
    """The two classes that the worker takes from vLLM, without its import of many seconds."""
    package, inputs = ModuleType("vllm"), ModuleType("vllm.inputs")
    package.SamplingParams = lambda **settings: settings
    inputs.TokensPrompt = lambda **prompt: prompt
    monkeypatch.setitem(sys.modules, "vllm", package)
    monkeypatch.setitem(sys.modules, "vllm.inputs", inputs)


def test_the_worker_sends_each_outcome_and_a_failure_where_there_is_no_text(fake_vllm):
    requests = [ask(sample=sample) for sample in range(3)]
    jobs = [vllm_engine._job(request, [1] * (5 + i)) for i, request in enumerate(requests)]
    ours, theirs = multiprocessing.Pipe()
    vllm_process._generate(FakeLLMEngine(["stop", "length", "abort"]), jobs, theirs, SimpleQueue(), None)
    assert [ours.recv() for _ in jobs] == [
        Generation(requests[0].id, "text", "stop", 5, 2, 0, jobs[0]["rendered"]),
        Generation(requests[1].id, "text", "length", 6, 2, 0, jobs[1]["rendered"]),
        Failure(requests[2].id, "the engine ended it with 'abort'"),
    ]
    assert not ours.poll()


def test_a_prompt_that_the_engine_refuses_is_a_failure_of_that_prompt_alone(fake_vllm):
    class Picky(FakeLLMEngine):
        def add_request(self, request_id, prompt, parameters):
            if len(prompt["prompt_token_ids"]) == 6:
                raise ValueError("token id 9\nis out of vocabulary")
            super().add_request(request_id, prompt, parameters)

    requests = [ask(sample=sample) for sample in range(3)]
    jobs = [vllm_engine._job(request, [1] * (5 + i)) for i, request in enumerate(requests)]
    ours, theirs = multiprocessing.Pipe()
    vllm_process._generate(Picky(["stop", "stop"]), jobs, theirs, SimpleQueue(), None)
    first, *others = [ours.recv() for _ in jobs]
    assert first == Failure(requests[1].id, "ValueError: token id 9 is out of vocabulary")
    assert [made.request_id for made in others] == [requests[0].id, requests[2].id]


def test_the_worker_gives_signs_of_life(fake_vllm, monkeypatch):
    monkeypatch.setattr(vllm_process, "_SIGN_OF_LIFE_S", -1)
    ours, theirs = multiprocessing.Pipe()
    jobs = [vllm_engine._job(ask(), [1])]
    vllm_process._generate(FakeLLMEngine(["stop"]), jobs, theirs, SimpleQueue(), None)
    assert ours.recv() is None
    assert ours.recv().text == "text"


def test_the_worker_stops_when_nobody_waits_any_more(fake_vllm):
    """A parent that was killed must not leave a process that generates for minutes."""
    ours, theirs = multiprocessing.Pipe()
    ours.close()
    engine, inbox = FakeLLMEngine(["stop"] * 3), SimpleQueue()
    vllm_process._read(theirs, inbox)
    jobs = [vllm_engine._job(ask(sample=i), [1]) for i in range(3)]
    with pytest.raises(EOFError):
        vllm_process._generate(engine, jobs, theirs, inbox, None)
    assert engine.n_steps == 0


def test_the_caller_s_script_is_put_back_whatever_happens():
    main = sys.modules["__main__"]
    with pytest.raises(ValueError, match="inside"), vllm_engine._without_main():
        assert sys.modules["__main__"] is not main
        raise ValueError("inside")
    assert sys.modules["__main__"] is main

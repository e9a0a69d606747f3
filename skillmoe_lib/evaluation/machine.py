"""What a run was made on: the machine, Python, and the version of this code, for a report's provenance."""

import functools
import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]


@functools.cache
def made_on() -> dict[str, str]:
    """Machine (processor, cores, memory), system, Python and code version, as text for readers."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory().total / 1e9
    return {
        "machine": f"{_processor()}, {cores} core{'s' if cores > 1 else ''}, {memory:.0f} GB",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "code": code_version(),
    }


def code_version() -> str:
    """Version of the package, with the git commit of a source checkout and whether its code has changed
    since.
    """
    try:
        version = importlib.metadata.version("skillmoe")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed"
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return f"skillmoe {version}"
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", "skillmoe_lib", "notebooks")
    return f"skillmoe {version}, commit {commit}{', changed since' if changed else ''}"


def _git(*arguments: str) -> str:
    """Output of a git command in the source checkout; "" without git or outside a checkout."""
    git = shutil.which("git")
    if git is None or not (_CHECKOUT / ".git").exists():
        return ""
    command = [git, "-C", str(_CHECKOUT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    """Name of the processor, from where each system keeps it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

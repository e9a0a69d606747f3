"""What vLLM is asked for: by device, by the pool file, and by the user (`engine_options`).

The measurements behind the settings by device are in docs/decisions/0002-vllm.md; which options may be given,
and which of them are part of a request's id, in docs/decisions/0009-engine-options.md.
"""

import ast
import difflib
import importlib.util
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from skillmoe_lib.errors import SkillmoeError
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
#: Adapters that a batch may use; requests with others wait.
ADAPTERS = 8
#: Options that are never given by hand, and what decides them.
DECIDED: Mapping[str, str] = {
    **dict.fromkeys(
        ("model", "tokenizer", "revision", "code_revision", "tokenizer_revision", "model_weights",
         "hf_config_path", "served_model_name", "download_dir"),
        "the expert's `model` and `revision` in the pool file decide it",
    ),
    **dict.fromkeys(
        ("enable_lora", "max_lora_rank", "default_mm_loras"),
        "the expert's `adapter` in the pool file decides it",
    ),
    "dtype": "the expert's `dtype` in the pool file decides it",
    "max_model_len": "the expert's `max_model_len` in the pool file decides it",
    "quantization": "the expert's `quantization` in the pool file decides it",
    "tensor_parallel_size": "the expert's `tensor_parallel_size` in the pool file decides it",
    "gpu_memory_utilization": "the expert's `memory_share` in the pool file decides it",
    "seed": "every request has a seed of its own",
    "trust_remote_code": "code that comes with a model is never run",
    "hf_token": "the environment variable HF_TOKEN decides it",
    **dict.fromkeys(
        ("runner", "convert", "skip_tokenizer_init", "enable_prompt_embeds"), "experts read and write text"
    ),
}  # fmt: skip
#: Options that say how the engine works and not what it computes. All others are part of a request's id.
HOW_IT_WORKS = frozenset((
    "aggregate_engine_logging", "async_scheduling", "attention_backend", "block_size",
    "compilation_config", "cpu_offload_gb", "cudagraph_capture_sizes", "disable_cascade_attn",
    "disable_custom_all_reduce", "disable_hybrid_kv_cache_manager", "disable_log_stats",
    "distributed_executor_backend", "distributed_timeout_seconds", "enable_chunked_prefill",
    "enable_prefix_caching", "enforce_eager", "fully_sharded_loras", "kv_cache_memory_bytes",
    "kv_offloading_backend", "kv_offloading_size", "long_prefill_token_threshold", "max_cpu_loras",
    "max_cudagraph_capture_size", "max_long_partial_prefills", "max_loras", "max_num_batched_tokens",
    "max_num_partial_prefills", "max_num_scheduled_tokens", "max_num_seqs",
    "max_parallel_loading_workers", "numa_bind", "numa_bind_cpus", "numa_bind_nodes",
    "num_gpu_blocks_override", "optimization_level", "performance_mode", "pipeline_parallel_size",
    "prefix_caching_hash_algo", "safetensors_load_strategy", "scheduling_policy", "stream_interval",
    "swap_space", "use_tqdm_on_load",
))  # fmt: skip


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
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Arguments of `vllm.LLM`.

    What the model itself says (its pool file) goes before the keywords; `given` and the model's own
    `options` before our settings. On a CPU one process holds a model, whatever share of GPUs it would take.

    On a CPU: eager, as compiling takes longer than most runs, and no chunked prefill, as a seeded request
    whose prefill is chunked crashes (0.32.0). On a GPU: nothing is compiled (vLLM keeps what it compiled by
    the model's path, so every expert would compile anew), but decoding is captured as graphs, which takes .2
    seconds; and the key-value cache is no larger than the sequences can fill.
    """
    given = {**(given or {}), **(json.loads(model.options) if model.options else {})}
    sequences = given.get("max_num_seqs") or max_num_seqs or SEQUENCES[device]
    n_devices = (model.tensor_parallel_size or tensor_parallel_size) if device == "cuda" else 1
    asked: dict[str, Any] = {
        "model": model.path,
        "dtype": model.dtype,
        "max_model_len": model.max_model_len,
        "max_num_seqs": sequences,
        "tensor_parallel_size": n_devices,
        "trust_remote_code": False,
        "disable_log_stats": True,
    }
    if model.quantization:
        asked["quantization"] = model.quantization
    if model.adapter:
        asked |= {"enable_lora": True, "max_loras": ADAPTERS, "max_lora_rank": model.lora_rank}
    if device == "cpu":
        asked |= {
            "enforce_eager": True,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(model.max_model_len, 8192),
        }
        return asked | given
    asked |= {
        "compilation_config": {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"},
        "enable_chunked_prefill": True,
        "max_num_batched_tokens": 16384,
        "gpu_memory_utilization": model.memory_share or gpu_memory_utilization,
    }
    if given.get("enforce_eager"):
        del asked["compilation_config"]
    if cache := cache_bytes(model, sequences=sequences, tensor_parallel_size=n_devices):
        asked["kv_cache_memory_bytes"] = cache
    return asked | given


def fault(asked: Mapping[str, Any], model: Model, device: Device) -> str:
    """What vLLM would refuse of these options (`options`), in words; "" if nothing is known."""
    config = json.loads((Path(model.path) / "config.json").read_text(encoding="utf-8"))
    if model.quantization and "quantization_config" in config:
        method = config["quantization_config"].get("quant_method", "in its files")
        return f"it is quantised already ({method}): leave `quantization` out"
    methods = known_quantizations() if model.quantization else ()
    if methods and model.quantization not in methods:
        return f"`quantization` must be one of {', '.join(methods)}: got {model.quantization!r}"
    needed = asked["tensor_parallel_size"] * asked.get("pipeline_parallel_size", 1)
    if device == "cuda" and needed > (found := devices.n_gpus()) > 0:
        return f"it is to be shared by {needed} GPUs, and there are {found}"
    return ""


class Given(NamedTuple):
    """Options of the user: what says how the engine works, and what can change a text (as JSON, for
    `Model.options`; "" if nothing does)."""

    how: Mapping[str, Any]
    model_options: str


def read_given(text: str, engine: str = "vllm") -> Given:
    """Read `engine_options`: a JSON object of vLLM's options, or nothing.

    Where vLLM is installed, names and plain types are compared with its own.

    Raises
    ------
    SkillmoeError
        Text that is no JSON object; an option that vLLM does not have, that is decided elsewhere, or whose
        value is of another type; an engine that is not vLLM (`replay` looks for texts of vLLM's).
    """
    if not text.strip():
        return Given({}, "")
    if engine not in ("vllm", "ray", "replay"):
        raise SkillmoeError(f"engine_options are for engine=vllm, ray or replay, got engine={engine}")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise SkillmoeError(f"engine_options must be a JSON object, got {text!r} ({error})") from error
    if not isinstance(found, dict):
        raise SkillmoeError(
            f'engine_options must be a JSON object such as {{"max_num_seqs": 64}}, got {text!r}'
        )
    known = known_options()
    for name, value in found.items():
        if name in DECIDED:
            raise SkillmoeError(f"engine option {name!r} cannot be given: {DECIDED[name]}")
        if known and (name not in known or name.startswith("_")):
            near = difflib.get_close_matches(name, [n for n in known if n not in DECIDED])
            hint = f", did you mean {' or '.join(near)}?" if near else ""
            raise SkillmoeError(
                f"unknown engine option {name!r}: vllm.EngineArgs has none of that name{hint}"
            )
        if known and not _fits(value, known[name]):
            raise SkillmoeError(f"engine option {name!r} must be {known[name]}, got {value!r}")
    other = {name: value for name, value in found.items() if name not in HOW_IT_WORKS}
    how = {name: value for name, value in found.items() if name in HOW_IT_WORKS}
    return Given(how, json.dumps(other, sort_keys=True) if other else "")


@lru_cache(maxsize=1)
def known_options() -> Mapping[str, str]:
    """The options of the vLLM that is installed, with their types as written; empty where there is none.

    They are read from its source, because importing it takes ten seconds.
    """
    for node in ast.walk(_source("engine/arg_utils.py")):
        if isinstance(node, ast.ClassDef) and node.name == "EngineArgs":
            fields = [line for line in node.body if isinstance(line, ast.AnnAssign)]
            return {ast.unparse(line.target): ast.unparse(line.annotation) for line in fields}
    return {}


@lru_cache(maxsize=1)
def known_quantizations() -> tuple[str, ...]:
    """What the vLLM that is installed takes as `quantization`; empty where there is none, or if it says it
    in another way."""
    for node in ast.walk(_source("model_executor/layers/quantization/__init__.py")):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "QuantizationMethods":
            return tuple(str(n.value) for n in ast.walk(node) if isinstance(n, ast.Constant) and n.value)
    return ()


def _source(name: str) -> ast.AST:
    """A module of the installed vLLM, parsed and not imported; an empty one where there is none."""
    spec = importlib.util.find_spec("vllm")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (file := Path(folder) / name).is_file():
            return ast.parse(file.read_text(encoding="utf-8"))
    return ast.Module([], [])


_PLAIN: Mapping[str, type | tuple[type, ...]] = {
    "bool": bool,
    "int": int,
    "float": (int, float),
    "str": str,
    "None": type(None),
}


def _fits(value: Any, annotation: str) -> bool:
    """Whether a value has a type that is written with plain names; True for any other type."""
    names = [name.strip() for name in annotation.split("|")]
    if not set(names) <= _PLAIN.keys():
        return True
    if isinstance(value, bool):
        return "bool" in names
    return any(isinstance(value, _PLAIN[name]) for name in names)


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

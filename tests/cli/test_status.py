from pathlib import Path

from skillmoe_lib.cli.status import status
from skillmoe_lib.generation import Failure, Generation, Message, Model, Request, Sampling
from skillmoe_lib.inference.store import Batch, GenerationStore


def request(stage: str, question_id: str) -> Request:
    message = Message("user", f"{stage} {question_id}")
    return Request(stage, question_id, "e", Model("org/a", "1"), (message,), Sampling())


def test_an_empty_or_absent_store_says_so(tmp_path: Path) -> None:
    assert status(tmp_path / "no") == f"{tmp_path / 'no'} holds no generations yet: make run"


def test_each_engine_by_model_and_stage_with_what_went_wrong(tmp_path: Path) -> None:
    store = GenerationStore(tmp_path / "vllm")
    answers = [request("answer", str(i)) for i in range(2000)]
    pairs = [
        (r, Generation(r.id, "x", "length" if i < 3 else "stop", 10, 2)) for i, r in enumerate(answers[:-2])
    ]
    batch = Batch("b1", "org/a", "vllm", 2.0, 40.5, 1, {"vllm": "0.32.0"}, "2026-01-01T00:00:00+00:00")
    store.append(pairs, batch)
    failed = [(r, Failure(r.id, "boom")) for r in (answers[0], answers[-1], answers[-1])]
    failed.append((answers[-2], Failure(answers[-2].id, "too long", "overflow")))
    store.append_failures(failed, "b1")
    (tmp_path / "vllm" / "parts" / "0-torn.parquet").write_bytes(b"PAR1 torn")
    GenerationStore(tmp_path / "scripted").append([(answers[0], pairs[0][1])], batch)

    scripted, vllm = status(tmp_path).split("\n\n")
    assert scripted.startswith("scripted: 1 generations, 1 loads, 42 device seconds, ")
    lines = vllm.splitlines()
    assert lines[0].startswith("vllm: 1,998 generations, 1 loads, 42 device seconds, ")
    assert lines[1:7] == [
        "  model  stage   generations  cut  prompt_tokens  output_tokens",
        "  org/a  answer        1,998    3         19,980          3,996",
        '  vllm {"vllm": "0.32.0"}: 1 load(s)',
        f"  1,998 generations do not record what the engine got: skillmoe migrate {tmp_path / 'vllm'}",
        "  prompts that did not fit the context: 1 request(s)",
        "  failed, not answered since: 1 request(s): boom",
    ]
    aside = tmp_path / "vllm" / "set_aside" / "0-torn.parquet"
    assert lines[7:] == [f"  set aside, could not be read: {aside}"]
    assert status(tmp_path / "vllm") == vllm

"""The trainer learns, is reproducible, and writes folders that load again."""

from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from skillmoe_lib.errors import SkillmoeError
from skillmoe_lib.pocket import training
from skillmoe_lib.pocket.lessons import Lesson
from skillmoe_lib.pocket.tokenizer import build_tokenizer

LESSONS = [Lesson(f"{a} + {b}?", f"The answer is \\boxed{{{a + b}}}") for a in range(4) for b in range(4)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer({}, [])


def _trained(tokenizer: Any, *, budget_tokens: int = 3000, seed: int = 0) -> training.Trained:
    model = training.new_model(tokenizer, hidden=32, layers=1, inner=32, seed=seed)
    return training.train(
        model,
        tokenizer,
        cycle(LESSONS),
        budget_tokens=budget_tokens,
        batch_tokens=150,
        seed=seed,
        show=lambda _: None,
    )


def test_the_loss_falls_and_the_budget_is_kept(tokenizer: Any) -> None:
    out = _trained(tokenizer, budget_tokens=30_000)
    assert out.curve["loss"].iloc[-1] < 0.5 * out.curve["loss"].iloc[0]
    assert 30_000 <= out.n_tokens < 30_000 + 400


def test_the_same_seed_gives_the_same_weights(tokenizer: Any) -> None:
    first, second = (_trained(tokenizer).model.state_dict() for _ in range(2))
    assert all((first[name] == second[name]).all() for name in first)


def test_only_the_reply_is_taught(tokenizer: Any) -> None:
    import torch

    model = training.new_model(tokenizer, hidden=32, layers=1, inner=32)
    ((prompt, reply),) = training.encode(tokenizer, LESSONS[:1])
    logits = model(input_ids=torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1]
    by_hand = torch.nn.functional.cross_entropy(logits, torch.tensor(reply))
    assert training._loss(model, [(prompt, reply)]).item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_padding_changes_nothing(tokenizer: Any) -> None:
    model = training.new_model(tokenizer, hidden=32, layers=1, inner=32)
    short, long = training.encode(tokenizer, [LESSONS[0], Lesson("what is the sum of 1 and 1?", "2")])
    alone = [training._loss(model, [ids]).item() * len(ids[1]) for ids in (short, long)]
    together = training._loss(model, [short, long]).item() * (len(short[1]) + len(long[1]))
    assert together == pytest.approx(sum(alone), rel=1e-4)


def test_a_saved_folder_loads_and_answers_alike(tokenizer: Any, tmp_path: Path) -> None:
    out = _trained(tokenizer, budget_tokens=6000)
    prompts = [lesson.prompt for lesson in LESSONS[:4]]
    training.save(out.model, tokenizer, tmp_path / "expert")
    loaded = training.load(tmp_path / "expert")
    kept = {name: weight.bfloat16().float() for name, weight in out.model.state_dict().items()}
    out.model.load_state_dict(kept)
    written = training.generate(loaded.model, loaded.tokenizer, prompts, temperature=0, max_tokens=12)
    assert written == training.generate(out.model, tokenizer, prompts, temperature=0, max_tokens=12)
    rendered = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": prompts[0]}], tokenize=False, add_generation_prompt=True
    )
    assert rendered == f"<bos><user>{prompts[0]}<assistant>"
    assert loaded.model.generation_config.eos_token_id == loaded.tokenizer.eos_token_id


def test_a_spoilt_folder_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    training.save(training.new_model(tokenizer, hidden=32, layers=1, inner=32), tokenizer, tmp_path / "x")
    weights = tmp_path / "x" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(SkillmoeError, match=r"model\.safetensors is corrupt"):
        training.load(tmp_path / "x")


def test_sampling_depends_on_the_seed(tokenizer: Any) -> None:
    model = training.new_model(tokenizer, hidden=32, layers=1, inner=32)
    prompts = ["1 + 1?", "what is it?"]
    first, again, other = (
        training.generate(model, tokenizer, prompts, max_tokens=8, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_batches_hold_every_lesson_once(tokenizer: Any) -> None:
    import numpy as np

    lessons = [Lesson("a" * i, "b") for i in range(1, training.CHUNK + 1)]
    seen: list[int] = []
    for batch in training._batches(tokenizer, iter(lessons), 2000, np.random.default_rng(0)):
        seen += [len(prompt) for prompt, _ in batch]
        if len(seen) == len(lessons):
            break
    assert sorted(seen) == list(range(4, training.CHUNK + 4))
    assert list(islice(sorted(seen), 2)) == [4, 5]

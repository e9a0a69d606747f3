"""Train, measure and save one pocket expert: plain torch and transformers, reproducible from a seed.

The loss is on the reply only. Lessons are batched by length, so that there is little padding. Hidden matrices
are trained by Muon (Jordan et al. 2024), which needed about half of AdamW's tokens here, the rest by AdamW.
Numbers are float32 (bfloat16 autocast was a tenth faster on a CPU that supports it and 13 times slower on one
that does not); weights are saved as bfloat16. The budget counts tokens, not seconds, so that a slower machine
trains the same model; run with one thread, so that sums are added in one order.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from skillmoe_lib.experts.model_check import check_model_folder
from skillmoe_lib.pocket.lessons import Lesson
from skillmoe_lib.pocket.muon import Muon
from skillmoe_lib.seeding import stable_seed

CHUNK = 1024
EVERY = 40


class Trained(NamedTuple):
    """A model with its loss curve (columns `step`, `tokens`, `loss`) and its cost."""

    model: Any
    curve: pd.DataFrame
    n_tokens: int
    train_s: float


def new_model(tokenizer: Any, *, hidden: int = 128, layers: int = 5, inner: int = 344, seed: int = 0) -> Any:
    """A Llama with random weights; heads of 32 are the smallest that vLLM's CPU attention takes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=-(-len(tokenizer) // 16) * 16,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32,
        head_dim=32,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)  # type: ignore[no-untyped-call]


def train(
    model: Any,
    tokenizer: Any,
    lessons: Iterator[Lesson],
    *,
    budget_tokens: int,
    batch_tokens: int = 1250,
    rate: float = 0.02,
    seed: int = 0,
    show: Callable[[str], None] = print,
) -> Trained:
    """Train in place until `budget_tokens` tokens (prompt and reply) have been seen."""
    import torch

    torch.manual_seed(seed)
    hidden = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    others = [weight for weight in model.parameters() if all(weight is not h for h in hidden)]
    muon = Muon(hidden, lr=rate)
    adam = torch.optim.AdamW(others, lr=rate / 4, betas=(0.9, 0.98), weight_decay=0.0)
    model.train()
    seen, started, rows, losses = 0, time.process_time(), [], []
    draw = np.random.default_rng(stable_seed("batches", seed))
    for step, batch in enumerate(_batches(tokenizer, lessons, batch_tokens, draw), start=1):
        share = min(seen / budget_tokens, 1.0)
        now = rate * min(1.0, step / 30) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * share)))
        loss = _loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        muon.lr = now
        for group in adam.param_groups:
            group["lr"] = now / 4
        for optimizer in (muon, adam):
            optimizer.step()
            optimizer.zero_grad()
        seen += sum(len(prompt) + len(reply) for prompt, reply in batch)
        losses.append(float(loss.detach()))
        if step % EVERY == 0 or seen >= budget_tokens:
            rows.append({"step": step, "tokens": seen, "loss": float(np.mean(losses[-EVERY:]))})
            spent = time.process_time() - started
            show(f"step {step} tokens {seen} loss {rows[-1]['loss']:.4f} cpu_s {spent:.0f}")
        if seen >= budget_tokens:
            break
    model.eval()
    return Trained(model, pd.DataFrame(rows), seen, time.process_time() - started)


Ids = tuple[list[int], list[int]]


def encode(tokenizer: Any, lessons: Sequence[Lesson]) -> list[Ids]:
    """Token ids of the rendered prompt and of the reply with its end of turn."""
    turns = [tokenizer.bos_token + "<user>" + lesson.prompt + "<assistant>" for lesson in lessons]
    prompts = tokenizer(turns, add_special_tokens=False)["input_ids"]
    replies = tokenizer([lesson.reply for lesson in lessons], add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    return [(list(prompt), [*reply, end]) for prompt, reply in zip(prompts, replies, strict=True)]


def _batches(
    tokenizer: Any, lessons: Iterator[Lesson], size: int, draw: np.random.Generator
) -> Iterator[list[Ids]]:
    while True:
        chunk = sorted(
            encode(tokenizer, list(islice(lessons, CHUNK))), key=lambda ids: len(ids[0]) + len(ids[1])
        )
        batches, batch = [], []
        for ids in chunk:
            batch.append(ids)
            if len(batch) * (len(ids[0]) + len(ids[1])) >= size:
                batches.append(batch)
                batch = []
        if batch:
            batches.append(batch)
        for i in draw.permutation(len(batches)):
            yield batches[i]


def _loss(model: Any, batch: Sequence[Ids]) -> Any:
    import torch

    width = max(len(prompt) + len(reply) for prompt, reply in batch)
    inputs = torch.zeros((len(batch), width), dtype=torch.long)
    targets = torch.full((len(batch), width), -100, dtype=torch.long)
    for row, (prompt, reply) in enumerate(batch):
        end = len(prompt) + len(reply)
        inputs[row, :end] = torch.tensor(prompt + reply)
        targets[row, len(prompt) - 1 : end - 1] = torch.tensor(reply)
    # Padding is on the right and attention is causal, so no mask is needed.
    states = model.model(input_ids=inputs).last_hidden_state
    taught = targets >= 0
    return torch.nn.functional.cross_entropy(model.lm_head(states[taught]), targets[taught])


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_tokens: int = 160,
    temperature: float = 0.7,
    seed: int = 0,
) -> list[str]:
    """Replies to prompts (user turns), sampled in batches of similar length; greedy at temperature 0."""
    import torch

    turns = [tokenizer.bos_token + "<user>" + prompt + "<assistant>" for prompt in prompts]
    ids = tokenizer(turns, add_special_tokens=False)["input_ids"]
    source = torch.Generator().manual_seed(stable_seed("generate", seed))
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    replies = [""] * len(ids)
    for at in range(0, len(order), 256):
        rows = order[at : at + 256]
        for i, written in zip(
            rows, _decode(model, [ids[i] for i in rows], max_tokens, temperature, source), strict=True
        ):
            replies[i] = tokenizer.decode(written, skip_special_tokens=True)
    return replies


def _decode(
    model: Any, ids: Sequence[list[int]], max_tokens: int, temperature: float, source: Any
) -> list[list[int]]:
    """Token ids written after each prompt, without the end of turn. Prompts are padded on the left."""
    import torch

    end, width = model.config.eos_token_id, max(len(row) for row in ids)
    step = torch.tensor([[end] * (width - len(row)) + row for row in ids])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids])
    place = (mask.cumsum(1) - 1).clamp(min=0)
    rows, cache = list(range(len(ids))), None
    written: list[list[int]] = [[] for _ in ids]
    with torch.inference_mode():
        for _ in range(max_tokens):
            out = model(
                input_ids=step,
                attention_mask=mask,
                position_ids=place,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache, logits = out.past_key_values, out.logits[:, -1]
            if temperature > 0:
                step = torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=source)
            else:
                step = logits.argmax(-1, keepdim=True)
            going = [at for at, token in enumerate(step[:, 0].tolist()) if token != end]
            if not going:
                break
            for at in going:
                written[rows[at]].append(int(step[at, 0]))
            if len(going) < len(rows):  # finished rows are removed from the batch
                kept = torch.tensor(going)
                cache.batch_select_indices(kept)
                step, mask, place, rows = step[kept], mask[kept], place[kept], [rows[at] for at in going]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
            place = place[:, -1:] + 1
    return written


class Loaded(NamedTuple):
    """A saved expert: float32 model in evaluation mode, and its tokenizer."""

    model: Any
    tokenizer: Any


def load(folder: Path) -> Loaded:
    """Read a folder written by `save`; checked before the weights are read.

    Raises
    ------
    SkillmoeError
        A missing or corrupt file, or a tokenizer that does not fit.
    """
    check_model_folder(folder)
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    return Loaded(model.eval(), AutoTokenizer.from_pretrained(str(folder)))  # type: ignore[no-untyped-call]


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write an ordinary Hugging Face folder: config, bfloat16 safetensors, tokenizer, chat template.

    The output layer is written as separate weights: an engine that swaps weights in place needs them
    (docs/decisions/0003-swapping-weights.md).
    """
    import copy

    import torch

    folder.mkdir(parents=True, exist_ok=True)
    written = copy.deepcopy(model)
    written.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    written.config.tie_word_embeddings = False
    written.to(torch.bfloat16).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))

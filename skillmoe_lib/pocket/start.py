"""Initial weights that can already copy: two heads that look one token back, two that match and copy.

A small model needs most of its training to form such "induction" heads (Olsson et al. 2022). They are easy
to write down, so ours start with them; the architecture stays a plain Llama, and training may change all
weights. Measured on the Spelling expert, 600,000 tokens from new weights: 70% of words spelled backward with
this start, 14% without.
"""

from typing import Any

N_PAIRS = 2
GAIN = 2.5
COPY = 0.8


def copying_start(model: Any, *, seed: int = 0) -> None:
    """Set heads 0 and 1 of layer 0 (previous token) and of layer 1 (match and copy), in place.

    With rotary positions a head whose query and key do not depend on the token scores a distance d by
    a sum of cos(frequency * (d - 1)): highest at the previous token. It needs a number that is
    equal in all tokens, which is dimension 0 of the embedding.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    size = model.config.head_dim
    width = model.config.hidden_size
    table = model.model.embed_tokens.weight.data
    constant = 0.1
    table[:, 0] = constant
    typical = constant / ((width * 0.02**2 + constant**2) / width) ** 0.5
    theta = 10000.0 ** (-torch.arange(0, size, 2) / size)
    sharp = (torch.arange(size // 2) < size // 8).float() * 5.7 / typical
    first, second = (model.model.layers[i].self_attn for i in (0, 1))
    for head in range(N_PAIRS):
        rows = slice(head * size, (head + 1) * size)
        read, write, copy = (_frame(draw, size, width) for _ in range(3))
        query, key = torch.zeros(size, width), torch.zeros(size, width)
        query[: size // 2, 0] = sharp
        key[: size // 2, 0] = sharp * theta.cos()
        key[size // 2 :, 0] = sharp * theta.sin()
        first.q_proj.weight.data[rows] = query
        first.k_proj.weight.data[rows] = key
        first.v_proj.weight.data[rows] = 0.2 * read
        first.o_proj.weight.data[:, rows] = 0.2 * write.T
        second.q_proj.weight.data[rows] = GAIN * read
        second.k_proj.weight.data[rows] = GAIN * write
        second.v_proj.weight.data[rows] = COPY * copy
        second.o_proj.weight.data[:, rows] = COPY * copy.T


def _frame(draw: Any, size: int, width: int) -> Any:
    """`size` orthonormal rows in `width` dimensions, none of which touches dimension 0."""
    import torch

    rows = torch.linalg.qr(torch.randn(width - 1, size, generator=draw)).Q.T
    return torch.cat([torch.zeros(size, 1), rows], dim=1)

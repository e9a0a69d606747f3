"""Muon (Jordan et al. 2024) in its weights' own number format: momentum, made orthogonal by Newton-Schulz.

`torch.optim.Muon` does these steps in bfloat16, which a processor without bfloat16 instructions emulates: on
one with AVX2 only, nine tenths of a training run went there. This one keeps float32 and takes weights of one
shape together. Defaults and scaling of the rate are torch's.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch

A, B, C = 3.4445, -4.775, 2.0315
STEPS = 5


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Nearly the nearest (semi-)orthogonal matrix of each, shape (n, rows, columns): singular values near 1.

    The quintic iteration of Jordan et al., `STEPS` times; singular values end between about .7 and 1.2.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x: torch.Tensor = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = A * x + torch.baddbmm(gram, gram, gram, beta=B, alpha=C) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """For matrices alone; Nesterov momentum, decoupled weight decay.

    A matrix of r rows and c columns is moved by `lr` times the square root of max(1, r / c).
    """

    def __init__(
        self,
        weights: Iterable[torch.Tensor],
        *,
        lr: float,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """One step of every weight that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[torch.Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[weight.shape].append(weight)
            for shape, weights in alike.items():
                gradients = torch.stack([weight.grad for weight in weights if weight.grad is not None])
                state = self.state[weights[0]]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(gradients)
                state["momentum"].lerp_(gradients, 1 - group["momentum"])
                moves = orthogonal(gradients.lerp(state["momentum"], group["momentum"]))
                rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for weight, move in zip(weights, moves, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(rate * move)

"""Muon (Jordan et al. 2024) in its weights' own number format: momentum, made orthogonal by Newton-Schulz.

`torch.optim.Muon` does these steps in bfloat16, which a processor without bfloat16 instructions emulates: on
one with AVX2 only, nine tenths of a training run went there. This one keeps float32 and takes weights of one
shape together. Defaults and scaling of the rate are torch's.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

A, B, C = 3.4445, -4.775, 2.0315
STEPS = 5


def orthogonal(matrices: Any) -> Any:
    """Nearly the nearest (semi-)orthogonal matrix of each, shape (n, rows, columns): singular values near 1.

    The quintic iteration of Jordan et al., `STEPS` times; singular values end between about .7 and 1.2.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x.mT if tall else x


class Muon:
    """For matrices alone; Nesterov momentum, decoupled weight decay.

    `lr` may be changed between steps. A matrix of r rows and c columns is moved by `lr` times the square root
    of max(1, r / c).
    """

    def __init__(
        self, weights: Iterable[Any], *, lr: float, weight_decay: float = 0.01, momentum: float = 0.95
    ) -> None:
        self.lr, self.weight_decay, self.momentum = lr, weight_decay, momentum
        self.alike: dict[Any, list[Any]] = defaultdict(list)
        for weight in weights:
            self.alike[weight.shape].append(weight)
        self.moving: dict[Any, Any] = {}

    def step(self) -> None:
        """One step of every weight; each must have a gradient."""
        import torch

        with torch.no_grad():
            for shape, weights in self.alike.items():
                gradients = torch.stack([weight.grad for weight in weights])
                moving = self.moving.setdefault(shape, torch.zeros_like(gradients))
                moving.lerp_(gradients, 1 - self.momentum)
                moves = orthogonal(gradients.lerp(moving, self.momentum))
                rate = self.lr * max(1.0, shape[0] / shape[1]) ** 0.5
                for weight, move in zip(weights, moves, strict=True):
                    weight.mul_(1 - self.lr * self.weight_decay).sub_(rate * move)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for weights in self.alike.values():
            for weight in weights:
                weight.grad = None

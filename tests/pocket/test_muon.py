"""Muon against torch's own, and its number format."""

import pytest

torch = pytest.importorskip("torch")

from skillmoe_lib.pocket.muon import Muon, orthogonal  # noqa: E402


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 40, 16), (1, 16, 40)])
def test_singular_values_come_near_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.min() > 0.4 and values.max() < 1.3


def test_it_moves_weights_as_torchs_own_does_but_for_bfloat16() -> None:
    draw = torch.Generator().manual_seed(0)
    first = [torch.randn(shape, generator=draw) for shape in [(24, 24), (48, 24), (24, 48), (24, 24)]]
    ours, theirs = ([weight.clone().requires_grad_() for weight in first] for _ in range(2))
    mine, other = Muon(ours, lr=0.02), torch.optim.Muon(theirs, lr=0.02, weight_decay=0.01)
    for _ in range(4):
        for one, two in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=draw)
            two.grad = one.grad.clone()
        mine.step()
        other.step()
    for one, two, start in zip(ours, theirs, first, strict=True):
        assert torch.linalg.norm(one - two) < 0.03 * torch.linalg.norm(one - start)


def test_no_step_is_taken_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without bfloat16 instructions emulates it: nine tenths of a training run went there."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = set()

    class Formats(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                seen.add(result.dtype)
            return result

    weight = torch.randn(8, 8, requires_grad=True)
    weight.grad = torch.randn(8, 8)
    with Formats():
        Muon([weight], lr=0.1).step()
    assert seen <= {torch.float32, torch.bool}

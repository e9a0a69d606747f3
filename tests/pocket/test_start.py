"""A new model can look one token back and match, and only its initial weights differ."""

from typing import Any

import pytest

from skillmoe_lib.pocket.start import N_PAIRS, copying_start
from skillmoe_lib.pocket.tokenizer import build_tokenizer
from skillmoe_lib.pocket.training import new_model


@pytest.fixture(scope="module")
def attention() -> Any:
    """Attention of a new model on twelve random tokens, repeated once: layers x (heads, to, from)."""
    import torch

    model = new_model(build_tokenizer({}, []), seed=0)
    copying_start(model, seed=0)
    model.set_attn_implementation("eager")
    torch.manual_seed(1)
    once = torch.randperm(80)[:12] + 6
    out = model(input_ids=torch.cat([once, once])[None], output_attentions=True)
    return [layer[0].detach() for layer in out.attentions]


def test_the_first_layer_looks_at_the_token_before(attention: Any) -> None:
    for head in range(N_PAIRS):
        assert attention[0][head, range(1, 24), range(23)].mean() > 0.8


def test_the_second_layer_looks_at_what_followed_last_time(attention: Any) -> None:
    followed = attention[1][:, range(12, 24), range(1, 13)].mean(-1)
    assert (followed[:N_PAIRS] > 3 * followed[N_PAIRS:].max()).all()

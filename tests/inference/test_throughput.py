"""The benchmark of throughput at a small size: both sides write the same."""

import importlib.util

import pytest

from benchmarks import throughput

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed"),
]


def test_ours_and_bare_write_the_same_number_of_tokens():
    groups = throughput.requests_of("pocket", n=6)
    assert [len(group) for group in groups] == [6, 6]
    bare, ours = throughput.bare(groups), throughput.ours(groups)
    assert bare.n_tokens == ours.n_tokens > 100
    assert min(bare.generating, ours.generating, bare.loading, ours.loading) > 0

"""Linear attention: its fast paths against their definitions, at wide scores, in bfloat16 and under transforms."""

import copy
from collections.abc import Callable

import pytest
import torch
from ctxblocks_linear_attention.config import LinearAttentionConfig
from ctxblocks_linear_attention.linear import LinearAttention
from hypothesis import given, settings
from hypothesis import strategies as st
from layers.definitions import METHODS, SEEDS, arguments, assert_as_defined, results
from test_linear_attention import CONFIGS, small
from torch import Tensor


@settings(deadline=None, max_examples=60)
@given(
    config=CONFIGS,
    method=st.sampled_from(METHODS),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    n=st.integers(0, 20),
    chunk=st.integers(2, 7),
    batch=st.sampled_from([(), (2,), (2, 1)]),
    seed=SEEDS,
)
def test_fast_paths_agree_with_their_definitions(
    config: LinearAttentionConfig,
    method: str,
    dtype: torch.dtype,
    n: int,
    chunk: int,
    batch: tuple[int, ...],
    seed: int,
) -> None:
    """Outputs and gradients of each override equal those of one forward for each row, over several chunks."""
    layer = small(config, chunk, seed)
    assert_as_defined(layer, method, arguments(method, config.width, n, seed, batch), dtype)


@settings(deadline=None, max_examples=15)
@given(config=CONFIGS, method=st.sampled_from(METHODS), n=st.integers(0, 20), seed=SEEDS)
def test_fast_paths_in_bfloat16(config: LinearAttentionConfig, method: str, n: int, seed: int) -> None:
    """In bfloat16 outputs stay within the definition's own error, and in bfloat16."""
    layer = small(config, 4, seed)
    inputs = arguments(method, config.width, n, seed, (2,))
    assert_as_defined(layer, method, inputs, torch.bfloat16, gradients=False)
    half = copy.deepcopy(layer).to(torch.bfloat16)
    assert getattr(half, method)(*(x.bfloat16() for x in inputs)).dtype == torch.bfloat16


@settings(deadline=None, max_examples=30)
@given(
    config=CONFIGS,
    method=st.sampled_from(METHODS),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=SEEDS,
)
def test_wide_scores(config: LinearAttentionConfig, method: str, dtype: torch.dtype, seed: int) -> None:
    """Scores spread over ±1e4 neither overflow nor underflow into disagreement, and gradients stay finite."""
    layer = small(config, 5, seed)
    inputs = arguments(method, config.width, 16, seed, (2,), scale=100.0)
    assert_as_defined(layer, method, inputs, dtype, gradients=False)
    assert all(x.isfinite().all() for x in results(layer, getattr(layer, method), inputs, gradients=True))


@pytest.mark.parametrize("n", [1, 127, 128, 129, 300])
def test_default_chunks(n: int) -> None:
    """The chunk lengths as shipped serve contexts shorter and longer than one and than two chunks."""
    config = LinearAttentionConfig(width=4, heads=2, decay=(0.99, 0.8))
    layer = LinearAttention(config)
    for method in METHODS:
        assert_as_defined(layer, method, arguments(method, 4, n, n, ()), torch.float32, gradients=False)


def test_compiles_and_maps() -> None:
    """Every method traces as one graph and maps over a batch, with the results of plain calls."""
    config = LinearAttentionConfig(width=4, heads=2, decay=(0.9, 0.5))
    layer = small(config, 4, seed=3)
    for method in METHODS:
        inputs = arguments(method, 4, 10, 2, (3,))
        plain = getattr(layer, method)(*inputs)
        compiled: Callable[..., Tensor] = torch.compile(getattr(layer, method), fullgraph=True, backend="eager")
        mapped: Callable[..., Tensor] = torch.func.vmap(getattr(layer, method))
        torch.testing.assert_close(compiled(*inputs), plain)
        torch.testing.assert_close(mapped(*inputs), plain)

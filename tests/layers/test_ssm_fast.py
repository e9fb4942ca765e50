"""The state space layer: its fast paths against their definitions, in half types and under transforms."""

import pytest
import torch
from ctxblocks_ssm import SSM, SSMConfig
from hypothesis import given, settings, strategies as st
from layers.definitions import (
    METHODS,
    UNIT,
    arguments,
    assert_as_defined,
    batches,
    draw_double,
    methods,
    results,
    scales,
    sizes,
)
from test_ssm import CONFIGS, build, chunks, configs, largest, seeds, tolerance

wide = st.sampled_from([torch.float64, torch.float32])


@settings(deadline=None, max_examples=80)
@given(
    config=configs, method=methods, seed=seeds, n=sizes, scale=scales, batch=batches, chunk=chunks, dtype=wide,
    spread=st.sampled_from([0.1, 3.0]),
)  # fmt: skip
def test_fast_paths_agree_with_their_definitions(
    config: SSMConfig, method: str, seed: int, n: int, scale: float, batch: tuple[int, ...], chunk: int, dtype: torch.dtype,
    spread: float,
) -> None:  # fmt: skip
    """Outputs and gradients, over one chunk and several, zero tokens included."""
    layer = build(config, seed, dtype, spread)
    layer.chunk, layer.block = chunk, chunk + 2
    args = arguments(method, config.width, n, seed, batch, scale, dtype)
    assert_as_defined(layer, method, args, dtype, scale == 1.0, apart=True)
    assert all(bool(torch.isfinite(part).all()) for part in results(layer, getattr(layer, method), args))


@settings(deadline=None, max_examples=60)
@given(config=configs, method=methods, seed=seeds, n=sizes, dtype=st.sampled_from([torch.bfloat16, torch.float16]))
def test_half_types(config: SSMConfig, method: str, seed: int, n: int, dtype: torch.dtype) -> None:
    """The fast paths are as accurate as the definitions in half precision, and keep the dtype."""
    layer = build(config, seed, dtype)
    layer.chunk, layer.block = 4, 6
    args = tuple(arg.to(dtype) for arg in arguments(method, config.width, n, seed, (2,), dtype=torch.float64))
    assert getattr(layer, method)(*args).dtype == dtype
    assert_as_defined(layer, method, args, dtype, gradients=False)


@pytest.mark.parametrize("method", METHODS)
def test_long_contexts_of_strong_decay_keep_float32_accuracy(method: str) -> None:
    """Log decays that sum to thousands within a chunk are summed in float64, without loss of accuracy in float32."""
    layer = build(SSMConfig(width=4, step_range=(0.5, 1.0)), 0, torch.float32)
    with torch.no_grad():
        layer.A_log += 2.0
    context = draw_double(1, 200, 4)
    context[::2] *= 0.01
    args = (context,) if method == "sequence" else (draw_double(2, 4), context)
    if method == "causal":
        args = (draw_double(2, 201, 4), context)
    assert_as_defined(layer, method, args, torch.float32, gradients=False)


@pytest.mark.parametrize("method", METHODS)
def test_transforms(method: str) -> None:
    """`vmap`, `vmap` of `grad`, and `torch.compile` without a graph break give the results of the plain call."""
    layer = build(CONFIGS[2], 0)
    layer.chunk, layer.block = 3, 5
    args = arguments(method, layer.width, 5, 7, (3,), dtype=torch.float64)
    function = getattr(layer, method)
    want, bound = function(*args), tolerance(layer, 5, UNIT[torch.float64])
    assert largest(torch.func.vmap(function)(*args) - want) <= bound
    torch.compiler.reset()
    assert largest(torch.compile(function, fullgraph=True, backend="eager")(*args) - want) <= bound
    leaves = [arg.clone().requires_grad_() for arg in args]
    slopes = torch.autograd.grad(function(*leaves).square().sum(), leaves[0])[0]
    mapped = torch.func.vmap(torch.func.grad(lambda *a: function(*a).square().sum()))(*args)
    assert largest(mapped - slopes) <= 8 * bound * max(1.0, largest(slopes))


@pytest.mark.parametrize("method", METHODS)
def test_fast_paths_do_not_loop_over_forward(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the suffixes shorter than the convolution's window are computed one by one."""
    layer, calls = build(SSMConfig(width=4, conv=4), 0), []
    original = layer.mix
    monkeypatch.setattr(SSM, "mix", lambda _, *args: (calls.append(args), original(*args))[1])
    getattr(layer, method)(*arguments(method, 4, 12, 3, (), dtype=torch.float64))
    assert len(calls) == (3 if method == "suffixes" else 0)

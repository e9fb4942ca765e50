"""The state space layer: its fast paths against their definitions, in half types and under transforms."""

import pytest
import torch
from ctxblocks_ssm import SSM, SSMConfig
from hypothesis import given, settings
from hypothesis import strategies as st
from layers.definitions import (
    METHODS,
    UNIT,
    batches,
    check_fast,
    double_arguments,
    draw_double,
    methods,
    outcome,
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
    args = double_arguments(method, batch, n, config.width, seed, scale)
    check_fast(layer, method, args, grad=scale == 1.0)
    assert all(bool(torch.isfinite(found).all()) for found in outcome(layer, method, args, fast=True, grad=True))


@settings(deadline=None, max_examples=60)
@given(config=configs, method=methods, seed=seeds, n=sizes, dtype=st.sampled_from([torch.bfloat16, torch.float16]))
def test_half_types(config: SSMConfig, method: str, seed: int, n: int, dtype: torch.dtype) -> None:
    """The fast paths are as accurate as the definitions in half precision, and keep the dtype."""
    layer = build(config, seed, dtype)
    layer.chunk, layer.block = 4, 6
    args = tuple(arg.to(dtype) for arg in double_arguments(method, (2,), n, config.width, seed))
    assert getattr(layer, method)(*args).dtype == dtype
    check_fast(layer, method, args, grad=False)


@pytest.mark.parametrize("method", METHODS)
def test_long_contexts_of_strong_decay_keep_float32_accuracy(method: str) -> None:
    """Log decays that sum to thousands within a chunk are summed in float64, and cost no accuracy in float32."""
    layer = build(SSMConfig(width=4, step_range=(0.5, 1.0)), 0, torch.float32)
    with torch.no_grad():
        layer.A_log += 2.0
    context = draw_double(200, 4, seed=1)
    context[::2] *= 0.01
    args = (context,) if method == "sequence" else (draw_double(4, seed=2), context)
    if method == "causal":
        args = (draw_double(201, 4, seed=2), context)
    check_fast(layer, method, args, grad=False)


@pytest.mark.parametrize("method", METHODS)
def test_transforms(method: str) -> None:
    """`vmap`, `vmap` of `grad`, and `torch.compile` without a graph break give what the plain call gives."""
    layer = build(CONFIGS[2], 0)
    layer.chunk, layer.block = 3, 5
    args = double_arguments(method, (3,), 5, layer.width, 7)
    function = getattr(layer, method)
    want, bound = function(*args), tolerance(layer, 5, UNIT[torch.float64])
    assert largest(torch.func.vmap(function)(*args) - want) <= bound
    torch.compiler.reset()
    assert largest(torch.compile(function, fullgraph=True, backend="eager")(*args) - want) <= bound
    leaves = [arg.clone().requires_grad_() for arg in args]
    slopes = torch.autograd.grad(function(*leaves).square().sum(), leaves[0])[0]
    found = torch.func.vmap(torch.func.grad(lambda *a: function(*a).square().sum()))(*args)
    assert largest(found - slopes) <= 8 * bound * max(1.0, largest(slopes))


@pytest.mark.parametrize("method", METHODS)
def test_fast_paths_do_not_loop_over_forward(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the suffixes shorter than the convolution's window are read one by one."""
    layer, calls = build(SSMConfig(width=4, conv=4), 0), []
    original = layer.mix
    monkeypatch.setattr(SSM, "mix", lambda _, *args: (calls.append(args), original(*args))[1])
    getattr(layer, method)(*double_arguments(method, (), 12, 4, 3))
    assert len(calls) == (3 if method == "suffixes" else 0)

"""The recurrent layers: their fused pass against the loop and their fast paths against the definitions."""

import copy
from collections.abc import Iterator

import pytest
import torch
from ctxblocks_rnn.config import RecurrentConfig
from ctxblocks_rnn.recurrent import RecurrentLayer
from hypothesis import given, settings
from hypothesis import strategies as st
from layers.definitions import (
    METHODS,
    batches,
    check_fast,
    double_arguments,
    draw_double,
    held,
    methods,
    outcome,
    scales,
    sizes,
)
from test_rnn import BUILD, CONFIGS, build, configs, seeds, tolerance
from torch import Tensor


@settings(deadline=None, max_examples=60)
@given(config=configs, seed=seeds, n=sizes, scale=scales, batch=batches)
def test_the_loop_agrees_with_the_fused_pass(
    config: RecurrentConfig, seed: int, n: int, scale: float, batch: tuple[int, ...]
) -> None:
    """The two routes give the same outputs and the same last state."""
    layer = build(config, seed)
    tokens = draw_double(*batch, n, config.width, seed=seed, scale=scale)
    start = layer.zero_state(draw_double(*batch, config.width, seed=seed))
    fused, looped = layer.outputs(tokens, start), layer.looped(tokens, start)
    narrow, begin = copy.deepcopy(layer).float(), tuple(part.float() for part in start)
    measured = narrow.looped(tokens.float(), begin)
    for got, want, same in zip(
        (fused[0], *fused[1]), (looped[0], *looped[1]), (measured[0], *measured[1]), strict=True
    ):
        held([got], [want], [same], torch.float64)


@settings(deadline=None, max_examples=100)
@given(
    config=configs, method=methods, seed=seeds, n=sizes, scale=scales, batch=batches,
    block=st.sampled_from([1, 2, 3, 1024]), dtype=st.sampled_from([torch.float64, torch.float32]),
)  # fmt: skip
def test_fast_paths_agree_with_their_definitions(
    config: RecurrentConfig,
    method: str,
    seed: int,
    n: int,
    scale: float,
    batch: tuple[int, ...],
    block: int,
    dtype: torch.dtype,
) -> None:
    """Outputs and gradients, over one block of tokens and several, zero tokens included.

    A saturated gate's slope `σ(1 − σ)` is rounding error in either route, so that gradients of large inputs need only be
    finite.
    """
    layer = build(config, seed, dtype)
    layer.block = block
    args = double_arguments(method, batch, n, config.width, seed, scale)
    check_fast(layer, method, args, grad=scale == 1.0)
    assert all(bool(torch.isfinite(found).all()) for found in outcome(layer, method, args, fast=True, grad=True))


@settings(deadline=None, max_examples=60)
@given(config=configs, method=methods, seed=seeds, n=sizes, dtype=st.sampled_from([torch.bfloat16, torch.float16]))
def test_half_types(config: RecurrentConfig, method: str, seed: int, n: int, dtype: torch.dtype) -> None:
    """The fast paths are as accurate as the definitions in half precision, and keep the dtype."""
    layer = build(config, seed, dtype)
    layer.block = 4
    args = tuple(arg.to(dtype) for arg in double_arguments(method, (2,), n, config.width, seed))
    assert getattr(layer, method)(*args).dtype == dtype
    check_fast(layer, method, args, grad=False)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("config", [kind(width=3, hidden=4) for kind in BUILD], ids=repr)
def test_transforms(config: RecurrentConfig, method: str) -> None:
    """`vmap`, `vmap` of `grad`, and `torch.compile` without a graph break give what the plain call gives."""
    layer = build(config, 0)
    args = double_arguments(method, (3,), 5, config.width, 7)
    function = getattr(layer, method)
    want = function(*args)
    bound = tolerance(layer, 5, want)
    assert (torch.func.vmap(function)(*args) - want).abs().max() <= bound
    torch.compiler.reset()
    assert (torch.compile(function, fullgraph=True, backend="eager")(*args) - want).abs().max() <= bound
    leaves = [arg.clone().requires_grad_() for arg in args]
    slopes = torch.autograd.grad(function(*leaves).square().sum(), leaves[0])[0]
    found = torch.func.vmap(torch.func.grad(lambda *a: function(*a).square().sum()))(*args)
    assert (found - slopes).abs().max() <= 8 * tolerance(layer, 5, slopes)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_fast_paths_do_not_loop_over_forward(config: RecurrentConfig) -> None:
    """Causal, prefixes and sequence take one pass per block and no `forward`; suffixes one step per token and query."""
    layer = build(config, 0)
    passes = count(layer, "outputs")
    forwards = count(layer, "mix")
    steps = count(layer, "step")
    layer.block = 4
    for method in ("causal", "prefixes", "sequence"):
        getattr(layer, method)(*double_arguments(method, (), 8, config.width, 3))
    assert (next(passes), next(forwards), next(steps)) == (6, 0, 0)
    layer.suffixes(*double_arguments("suffixes", (), 8, config.width, 3))
    assert (next(passes), next(forwards), next(steps)) == (6, 0, 9)


def count(layer: RecurrentLayer, name: str) -> Iterator[int]:
    """Yields how often the method has been called so far."""
    calls = []
    original = getattr(layer, name)

    def counted(*args: Tensor) -> Tensor:
        calls.append(name)
        found: Tensor = original(*args)
        return found

    object.__setattr__(layer, name, counted)
    return iter(lambda: len(calls), -1)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_gradients_in_eval_mode_and_again(config: RecurrentConfig) -> None:
    """Evaluation mode gives the same bits and gradients, and a second call the same bits."""
    layer = build(config, 0)
    args = double_arguments("prefixes", (2,), 6, config.width, 1)
    trained = outcome(layer, "prefixes", args, fast=True, grad=True)
    evaluated = outcome(layer.eval(), "prefixes", args, fast=True, grad=True)
    assert all(torch.equal(a, b) for a, b in zip(trained, evaluated, strict=True))
    assert torch.equal(layer.prefixes(*args), layer.prefixes(*args))

"""The recurrent layers: their fused pass against the loop and their fast paths against the definitions."""

import copy
from collections.abc import Iterator

import pytest
import torch
from ctxblocks_rnn.config import RecurrentConfig
from ctxblocks_rnn.recurrent import RecurrentLayer
from hypothesis import given, settings, strategies as st
from layers.definitions import (
    METHODS,
    arguments,
    assert_as_defined,
    assert_close,
    batches,
    draw_double,
    methods,
    results,
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
    """Both give the same outputs and the same last state."""
    layer = build(config, seed)
    tokens = draw_double(seed, *batch, n, config.width, scale=scale)
    start = layer.zero_state(draw_double(seed, *batch, config.width))
    fused, looped = layer.outputs(tokens, start), layer.looped(tokens, start)
    narrow, begin = copy.deepcopy(layer).float(), tuple(part.float() for part in start)
    measured = narrow.looped(tokens.float(), begin)
    for got, want, same in zip(
        (fused[0], *fused[1]), (looped[0], *looped[1]), (measured[0], *measured[1]), strict=True
    ):
        assert_close(got, same, want)


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

    The derivative `σ(1 − σ)` of a saturated gate is only rounding error, so that gradients for large inputs need only be
    finite.
    """
    layer = build(config, seed, dtype)
    layer.block = block
    args = arguments(method, config.width, n, seed, batch, scale, dtype)
    assert_as_defined(layer, method, args, dtype, scale == 1.0, apart=True)
    assert all(bool(torch.isfinite(part).all()) for part in results(layer, getattr(layer, method), args))


@settings(deadline=None, max_examples=60)
@given(config=configs, method=methods, seed=seeds, n=sizes, dtype=st.sampled_from([torch.bfloat16, torch.float16]))
def test_half_types(config: RecurrentConfig, method: str, seed: int, n: int, dtype: torch.dtype) -> None:
    """The fast paths are as accurate as the definitions in half precision, and keep the dtype."""
    layer = build(config, seed, dtype)
    layer.block = 4
    args = tuple(arg.to(dtype) for arg in arguments(method, config.width, n, seed, (2,), dtype=torch.float64))
    assert getattr(layer, method)(*args).dtype == dtype
    assert_as_defined(layer, method, args, dtype, gradients=False)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("config", [kind(width=3, hidden=4) for kind in BUILD], ids=repr)
def test_transforms(config: RecurrentConfig, method: str) -> None:
    """`vmap`, `vmap` of `grad`, and `torch.compile` without a graph break give the results of the plain call."""
    layer = build(config, 0)
    args = arguments(method, config.width, 5, 7, (3,), dtype=torch.float64)
    function = getattr(layer, method)
    want = function(*args)
    bound = tolerance(layer, 5, want)
    assert (torch.func.vmap(function)(*args) - want).abs().max() <= bound
    torch.compiler.reset()
    assert (torch.compile(function, fullgraph=True, backend="eager")(*args) - want).abs().max() <= bound
    leaves = [arg.clone().requires_grad_() for arg in args]
    slopes = torch.autograd.grad(function(*leaves).square().sum(), leaves[0])[0]
    mapped = torch.func.vmap(torch.func.grad(lambda *a: function(*a).square().sum()))(*args)
    assert (mapped - slopes).abs().max() <= 8 * tolerance(layer, 5, slopes)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_fast_paths_do_not_loop_over_forward(config: RecurrentConfig) -> None:
    """`causal`, `prefixes` and `sequence` run one pass per block and no `forward`; `suffixes` one step per token and query."""
    layer = build(config, 0)
    passes = count(layer, "outputs")
    forwards = count(layer, "mix")
    steps = count(layer, "step")
    layer.block = 4
    for method in ("causal", "prefixes", "sequence"):
        getattr(layer, method)(*arguments(method, config.width, 8, 3, (), dtype=torch.float64))
    assert (next(passes), next(forwards), next(steps)) == (6, 0, 0)
    layer.suffixes(*arguments("suffixes", config.width, 8, 3, (), dtype=torch.float64))
    assert (next(passes), next(forwards), next(steps)) == (6, 0, 9)


def count(layer: RecurrentLayer, name: str) -> Iterator[int]:
    """Yields how often the method has been called so far."""
    calls = []
    original = getattr(layer, name)

    def counted(*args: Tensor) -> Tensor:
        calls.append(name)
        output: Tensor = original(*args)
        return output

    object.__setattr__(layer, name, counted)
    return iter(lambda: len(calls), -1)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_gradients_in_eval_mode_and_again(config: RecurrentConfig) -> None:
    """Evaluation mode gives the same bits and gradients, and a second call the same bits."""
    layer = build(config, 0)
    args = arguments("prefixes", config.width, 6, 1, (2,), dtype=torch.float64)
    trained = results(layer, layer.prefixes, args)
    evaluated = results(layer.eval(), layer.prefixes, args)
    assert all(torch.equal(a, b) for a, b in zip(trained, evaluated, strict=True))
    assert torch.equal(layer.prefixes(*args), layer.prefixes(*args))

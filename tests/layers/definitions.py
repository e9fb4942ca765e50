"""The rule "fast against definition", by which every layer's fast paths are held, and the draws that go with it.

Two forms of it stand here. `assert_as_defined` compares all gradients of a sum with evenly spaced weights, on `arguments`
in float32; `check_fast` compares those of each input, of a sum with random weights, on `double_arguments` in float64.
"""

import copy
from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from ctxblocks import ContextualLayer, ProjectedLayer

UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
METHODS = ("causal", "prefixes", "suffixes", "sequence")
SEEDS = st.integers(0, 2**31 - 1)
sizes, scales, methods = st.integers(0, 9), st.sampled_from([1.0, 30.0, 1e4]), st.sampled_from(METHODS)
batches = st.sampled_from([(), (2,), (2, 3)])


def draw(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """A float32 tensor that float64 holds exactly."""
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def draw_weights(layer: nn.Module, seed: int) -> None:
    """Draw all parameters from the seed, each over the root of its last dimension."""
    for index, parameter in enumerate(layer.parameters()):
        parameter.data = draw(seed + index, *parameter.shape) / parameter.shape[-1] ** 0.5


def arguments(
    method: str, width: int, n: int, seed: int, batch: tuple[int, ...] = (), scale: float = 1.0
) -> list[Tensor]:
    """What the method takes: tokens, or one query or n + 1 of them and a context."""
    context = draw(seed, *batch, n, width, scale=scale)
    if method == "sequence":
        return [context]
    rows = (n + 1,) if method == "causal" else ()
    return [draw(seed + 1, *batch, *rows, width, scale=scale), context]


def results(
    layer: ContextualLayer, function: Callable[..., Tensor], inputs: list[Tensor], gradients: bool
) -> list[Tensor]:
    """The output in float64, then the gradients of a fixed weighted sum of it, for inputs and parameters."""
    leaves = [x.clone().requires_grad_(gradients) for x in inputs]
    output = function(*leaves)
    if not gradients or not output.numel():
        return [output.detach().double()]
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    found = torch.autograd.grad((output * weights).sum(), [*leaves, *layer.parameters()], allow_unused=True)
    kept = [
        torch.zeros_like(x) if each is None else each
        for x, each in zip([*leaves, *layer.parameters()], found, strict=True)
    ]
    return [output.detach().double(), *(each.double() for each in kept)]


def assert_as_defined(
    layer: ContextualLayer, method: str, inputs: list[Tensor], dtype: torch.dtype, gradients: bool = True
) -> None:
    """Hold a fast path to its definition, both in `dtype`, by the errors that the definition itself makes.

    `‖fast − exact‖ ≤ 8 max‖def − exact‖ + 8u max|exact|`. In float64 the definition's error is that of float32 times the
    ratio of their round-offs, since rounding errors grow in proportion to the round-off.
    """
    wide, measured = copy.deepcopy(layer).double(), torch.float32 if dtype == torch.float64 else dtype
    narrow, fast = copy.deepcopy(layer).to(measured), copy.deepcopy(layer).to(dtype)
    cast = [[x.to(kind) for x in inputs] for kind in (torch.float64, measured, dtype)]
    if dtype not in (torch.float32, torch.float64):
        wide = copy.deepcopy(fast).double()
        cast[0] = [x.double() for x in cast[2]]
    define = getattr(ContextualLayer, method)
    exact = results(wide, lambda *a: define(wide, *a), cast[0], gradients)
    slow = results(narrow, lambda *a: define(narrow, *a), cast[1], gradients)
    quick = results(fast, getattr(fast, method), cast[2], gradients)
    assert [each.shape for each in quick] == [each.shape for each in exact]
    for part in (
        slice(0, 1),
        slice(1, None),
    ):  # the output; all gradients together, since some are zero but for rounding
        e, s, q = (
            torch.cat([each.flatten() for each in found[part]] or [torch.zeros(0)]) for found in (exact, slow, quick)
        )
        if e.numel():
            error = (s - e).abs().max() * UNIT[dtype] / UNIT[measured]
            assert (q - e).abs().max() <= 8 * error + 8 * UNIT[dtype] * e.abs().max(), (method, part)


def draw_double(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    """A float64 tensor of its full precision."""
    gen = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=gen, dtype=torch.float64)


def double_arguments(
    method: str, batch: tuple[int, ...], n: int, width: int, seed: int, scale: float = 1.0
) -> tuple[Tensor, ...]:
    """What the method takes, for `n` tokens, in float64."""
    context = draw_double(*batch, n, width, seed=seed, scale=scale)
    if method == "sequence":
        return (context,)
    rows = (n + 1,) if method == "causal" else ()
    return draw_double(*batch, *rows, width, seed=seed + 1, scale=scale), context


def bounds(exact: Tensor, plain: Tensor, u: float) -> float:
    """Eight times the definition's own error, and eight roundings of the largest entry."""
    if exact.numel() == 0:
        return 0.0
    return float((8 * (plain.double() - exact).abs().max() + 8 * u * exact.abs().max()).detach())


def held(fast: list[Tensor], exact: list[Tensor], plain: list[Tensor], dtype: torch.dtype) -> None:
    """Raise unless the fast results are as near to the float64 definition as the definition in `dtype` is.

    A float64 definition has no better one to be measured by: its error is that of float32, scaled by the round-offs.
    """
    for got, want, same in zip(fast, exact, plain, strict=True):
        bound = bounds(want, same, UNIT[torch.float32 if dtype == torch.float64 else dtype])
        if dtype == torch.float64:
            bound *= UNIT[torch.float64] / UNIT[torch.float32]
        assert got.shape == want.shape
        error = float((got.double() - want).detach().abs().max()) if got.numel() else 0.0
        assert error <= bound


def weighted_gradients(layer: nn.Module, outputs: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Of a fixed random combination of the outputs: by each input, and by all parameters as one vector."""
    weights = draw_double(*outputs.shape, seed=99).to(outputs.dtype)
    leaves = [*inputs, *layer.parameters()]
    found = torch.autograd.grad((outputs * weights).sum(), leaves, allow_unused=True)
    filled = [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]
    return [*filled[: len(inputs)], torch.cat([g.flatten() for g in filled[len(inputs) :]])]


def outcome(layer: ProjectedLayer, method: str, args: tuple[Tensor, ...], fast: bool, grad: bool) -> list[Tensor]:
    """The method's output, or its definition's, and the gradients."""
    leaves = [arg.to(layer.projection.weight.dtype).requires_grad_(grad) for arg in args]
    function = getattr(layer, method) if fast else lambda *a: getattr(ContextualLayer, method)(layer, *a)
    outputs = function(*leaves)
    return [outputs.detach(), *(weighted_gradients(layer, outputs, leaves) if grad and outputs.requires_grad else [])]


def check_fast(layer: ProjectedLayer, method: str, args: tuple[Tensor, ...], grad: bool = True) -> None:
    """The rule "fast against definition", for outputs and gradients."""
    dtype = layer.projection.weight.dtype
    exact = outcome(copy.deepcopy(layer).double(), method, args, fast=False, grad=grad)
    measured = copy.deepcopy(layer).float() if dtype == torch.float64 else layer
    held(outcome(layer, method, args, True, grad), exact, outcome(measured, method, args, False, grad), dtype)

"""Draws of layers and arguments, and the comparison of a fast path with its definition."""

import copy
from collections.abc import Callable, Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from ctxblocks import ContextualLayer
from ctxblocks.exactness.tolerance import fast_tolerance, round_off

UNIT = {dtype: round_off(dtype) for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
METHODS = ("causal", "prefixes", "suffixes", "sequence")
SEEDS = st.integers(0, 2**31 - 1)
sizes, scales, methods = st.integers(0, 9), st.sampled_from([1.0, 30.0, 1e4]), st.sampled_from(METHODS)
batches = st.sampled_from([(), (2,), (2, 3)])


def draw(seed: int, *shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers of the full precision of `dtype`."""
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def draw_double(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """`draw` in float64."""
    return draw(seed, *shape, scale=scale, dtype=torch.float64)


def draw_weights(layer: nn.Module, seed: int) -> None:
    """Draw all parameters from the seed, each divided by the root of its last dimension."""
    for index, parameter in enumerate(layer.parameters()):
        parameter.data = draw(seed + index, *parameter.shape) / parameter.shape[-1] ** 0.5


def arguments(
    method: str,
    width: int,
    n: int,
    seed: int,
    batch: tuple[int, ...] = (),
    scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """The arguments of a method for `n` tokens: tokens, or one query or n + 1 queries and a context."""
    context = draw(seed, *batch, n, width, scale=scale, dtype=dtype)
    if method == "sequence":
        return [context]
    rows = (n + 1,) if method == "causal" else ()
    return [draw(seed + 1, *batch, *rows, width, scale=scale, dtype=dtype), context]


def results(
    layer: nn.Module, function: Callable[..., Tensor], inputs: Sequence[Tensor], gradients: bool = True
) -> list[Tensor]:
    """The output, then the gradients of a random combination of its entries: for each input, and for all parameters."""
    leaves = [x.clone().requires_grad_(gradients) for x in inputs]
    output = function(*leaves)
    if not gradients or not output.numel():
        return [output.detach()]
    weights = draw(99, *output.shape, dtype=torch.float64).to(output.dtype)
    each = torch.autograd.grad(
        (output * weights).sum(), [*leaves, *layer.parameters()], allow_unused=True, materialize_grads=True
    )
    return [output.detach(), *each[: len(leaves)], torch.cat([g.flatten() for g in each[len(leaves) :]])]


def assert_close(fast: Tensor, definition: Tensor, exact: Tensor, score: float = 0.0) -> None:
    """Hold a result to `fast_tolerance`, all rows together; `score` adds `8 u score max|exact|` to it.

    A definition in float64 has no more accurate one to be measured with: there `definition` is in float32, whose error is
    scaled by the ratio of the round-offs, to which rounding errors are proportional.
    """
    assert fast.shape == exact.shape
    if exact.numel():
        allowed = fast_tolerance(definition.reshape(1, -1), exact.reshape(1, -1))
        allowed = allowed * round_off(fast.dtype) / round_off(definition.dtype)
        allowed = allowed + 8 * round_off(fast.dtype) * score * exact.abs().max()
        assert (fast.double() - exact).abs().max() <= allowed


def together(parts: list[Tensor]) -> list[Tensor]:
    """The output, and all gradients in one row, since some are zero but for rounding."""
    return [parts[0], *([torch.cat([g.flatten() for g in parts[1:]])] if len(parts) > 1 else [])]


def assert_as_defined(
    layer: ContextualLayer,
    method: str,
    inputs: Sequence[Tensor],
    dtype: torch.dtype,
    gradients: bool = True,
    apart: bool = False,
    score: float = 0.0,
) -> None:
    """Hold a fast path to its definition, both in `dtype`, by the error of the definition [`fast_tolerance`].

    Args:
        layer: of any dtype; copies of it are converted.
        method: the fast path.
        inputs: of the method.
        dtype: of the fast path.
        gradients: whether gradients are compared too.
        apart: whether the gradient of each input, and that of the parameters, has its own bound.
        score: of the gradients, see `assert_close`.
    """
    fast = copy.deepcopy(layer).to(dtype)
    slow = copy.deepcopy(fast).float() if dtype == torch.float64 else fast
    stored, define = [x.to(dtype) for x in inputs], getattr(ContextualLayer, method)
    quick = results(fast, getattr(fast, method), stored, gradients)
    parts = [quick]
    for each in (slow, copy.deepcopy(fast).double()):
        kind = next(each.parameters()).dtype
        parts.append(results(each, lambda *a, each=each: define(each, *a), [x.to(kind) for x in stored], gradients))
    rows = parts if apart else [together(part) for part in parts]
    for index, (got, definition, exact) in enumerate(zip(*rows, strict=True)):
        assert_close(got, definition, exact, score if index else 0.0)

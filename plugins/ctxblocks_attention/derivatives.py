"""Derivatives that fused kernels lack: second ones, and those of forward mode."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def is_dual(*tensors: Tensor) -> bool:
    """Whether a tensor carries a tangent of `torch.autograd.forward_ad`."""
    return forward_ad._current_level >= 0 and any(forward_ad.unpack_dual(x).tangent is not None for x in tensors)


def twice_differentiable(fused: Attend, plain: Attend, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """`fused(queries, keys, values)`, whose second derivatives are those of `plain`, an equal function.

    The first derivatives are the fused kernel's own. Under `create_graph=True` they are computed by `plain` instead, which
    holds all weights in memory, and so can be differentiated again.
    """
    output: Tensor = _Twice.apply(fused, plain, queries, keys, values)  # type: ignore[no-untyped-call]
    return output


class _Twice(torch.autograd.Function):
    """See `twice_differentiable`."""

    @staticmethod
    def forward(ctx: Any, fused: Attend, plain: Attend, *inputs: Tensor) -> Tensor:
        ctx.plain = plain
        ctx.save_for_backward(*inputs)
        with torch.enable_grad():
            ctx.inputs = [x.detach().requires_grad_(x.requires_grad) for x in inputs]
            ctx.output = fused(*ctx.inputs)
        output: Tensor = ctx.output.detach()
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        second = torch.is_grad_enabled()  # only under create_graph
        inputs = list(ctx.saved_tensors) if second else ctx.inputs
        output = ctx.plain(*inputs) if second else ctx.output
        wanted = [i for i, x in enumerate(ctx.inputs) if x.requires_grad]
        found = torch.autograd.grad(
            output, [inputs[i] for i in wanted], gradients[0], retain_graph=True, create_graph=second
        )
        by_input: dict[int, Tensor] = dict(zip(wanted, found, strict=True))
        return None, None, *(by_input.get(i) for i in range(len(inputs)))

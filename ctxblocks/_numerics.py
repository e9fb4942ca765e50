"""Small products that keep their accuracy in half precision and out of tensor-core rounding."""

from collections.abc import Sequence

import torch
from torch import Tensor


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a sum of `dtype` products is carried: float32 for half types, else the dtype itself."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def widen(x: Tensor) -> Tensor:
    """`x` in the dtype in which its sums are carried."""
    return x.to(accumulator(x.dtype))


def dot(
    a: Tensor,  # (…, d)
    b: Tensor,  # (…, d)
) -> Tensor:  # (…), in the accumulator's dtype
    """`aᵀb` over the last axis, products and sum in the accumulator's dtype (never tf32)."""
    return (widen(a) * widen(b)).sum(-1)


def norm(x: Tensor) -> Tensor:  # (…, d) -> (…)
    """Euclidean norm over the last axis, free of overflow and underflow, with gradient 0 at 0."""
    wide = widen(x)
    scale = wide.detach().abs().amax(-1, keepdim=True) if x.shape[-1] else wide.new_zeros((*x.shape[:-1], 1))
    dead = scale == 0
    unit = wide / torch.where(dead, 1, scale)
    squares = (unit * unit).sum(-1)
    length = torch.where(dead.squeeze(-1), 1, squares).sqrt()
    return torch.where(dead.squeeze(-1), 0, length * scale.squeeze(-1))


def wide_matmul(
    a: Tensor,  # (…, p, q)
    b: Tensor,  # (…, q, r)
) -> Tensor:  # (…, p, r), in the accumulator's dtype
    """`a @ b` with half types carried in float32."""
    return widen(a) @ widen(b)


def stack_broadcast(parts: Sequence[Tensor], dim: int) -> Tensor:
    """`torch.stack` of tensors whose batch shapes may differ."""
    shape = torch.broadcast_shapes(*[part.shape for part in parts])
    return torch.stack([part.expand(shape) for part in parts], dim=dim)

"""Products, norms and angles that stay accurate in half precision, computed without tf32 and without over- or underflow."""

from collections.abc import Sequence

import torch
from torch import Tensor

IMAGES = 2**18
"""Number of entries of the products `W x` that are held in memory at a time."""
MANY = 16
"""From this many vectors per dimension on, a QR decomposition of the matrix costs less time than it saves."""


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which products of `dtype` are summed: float32 for half types, else the dtype itself."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def widen(x: Tensor) -> Tensor:
    """`x` converted to the dtype in which its sums are accumulated."""
    return x.to(accumulator(x.dtype))


def dot(
    a: Tensor,  # (…, d)
    b: Tensor,  # (…, d)
) -> Tensor:  # (…), in the accumulator's dtype
    """`aᵀb` over the last axis; products and sum are computed in the accumulator's dtype (never tf32)."""
    return (widen(a) * widen(b)).sum(-1)


def norm(x: Tensor) -> Tensor:  # (…, d) -> (…)
    """Euclidean norm over the last axis, free of overflow and underflow, with gradient 0 at 0."""
    unit, scale = scaled(x)
    length: Tensor = torch.linalg.vector_norm(unit, dim=-1) * scale.squeeze(-1)
    return length


def image_norm(
    weights: Sequence[Tensor],  # (m, d) each
    x: Tensor,  # (…, d)
) -> Tensor:  # (…), in the accumulator's dtype
    """`‖W x‖` of the vertical stack of weights, free of overflow and underflow: `x` and `W` are scaled before the product.

    For many `x`, and where no gradient is needed, computed as `‖R x‖` with `W = Q R`: products of length `d` instead of `m`.
    """
    unit, scale = scaled(x)
    size = torch.stack([weight.detach().abs().max() for weight in weights]).max().to(unit.dtype)
    size = torch.where(size == 0, 1, size)
    rows = unit.reshape(-1, x.shape[-1])
    tracked = torch.is_grad_enabled() and any(each.requires_grad for each in (x, *weights))
    many = not tracked and len(rows) >= MANY * x.shape[-1]
    parts = [_lengths(rows, _triangle(matrix) if many else matrix) for matrix in (widen(w) / size for w in weights)]
    length: Tensor = torch.linalg.vector_norm(torch.stack(parts, dim=-1), dim=-1).reshape(x.shape[:-1])
    return length * (scale.squeeze(-1) * size)


def _triangle(
    matrix: Tensor,  # (m, d)
) -> Tensor:  # (min(m, d), d)
    """`R` of `matrix = Q R` where `R` is smaller than the matrix: `‖R x‖ = ‖matrix x‖`."""
    return torch.linalg.qr(matrix, mode="r").R if matrix.shape[0] > matrix.shape[1] else matrix


def _lengths(
    rows: Tensor,  # (n, d)
    matrix: Tensor,  # (m, d)
) -> Tensor:  # (n,)
    """`‖matrix x‖` of every row `x`, computed in parts so that the products stay in the cache."""
    parts = rows.split(max(1, IMAGES // max(1, len(matrix))))
    return torch.cat([torch.linalg.vector_norm(part @ matrix.mT, dim=-1) for part in parts])


def cosine(
    a: Tensor,  # (…, d)
    b: Tensor,  # (…, d)
) -> Tensor:  # (…), in the accumulator's dtype
    """`aᵀb / (‖a‖ ‖b‖)`, free of overflow and underflow; 0 where a vector is zero."""
    a, b = scaled(a)[0], scaled(b)[0]
    lengths = norm(a) * norm(b)  # each between 1 and √d, or 0
    return (a * b).sum(-1) / torch.where(lengths == 0, 1, lengths)


def scaled(
    x: Tensor,  # (…, d)
    least: float = 0.0,
) -> tuple[Tensor, Tensor]:  # (…, d), (…, 1)
    """`x / s` and `s = max(max|x|, least)` in the accumulator's dtype; no gradient flows through the scale, and 0 stays 0."""
    wide = widen(x)
    largest = wide.detach().abs().amax(-1, keepdim=True) if x.shape[-1] else wide.new_zeros((*x.shape[:-1], 1))
    scale = largest.clamp_min(least)
    return wide / torch.where(scale == 0, 1, scale), scale


def wide_matmul(
    a: Tensor,  # (…, p, q)
    b: Tensor,  # (…, q, r)
) -> Tensor:  # (…, p, r), in the accumulator's dtype
    """`a @ b`, computed in float32 for half types."""
    return widen(a) @ widen(b)


def stack_broadcast(parts: Sequence[Tensor], dim: int) -> Tensor:
    """`torch.stack` of tensors after broadcasting their batch shapes."""
    shape = torch.broadcast_shapes(*[part.shape for part in parts])
    return torch.stack([part.expand(shape) for part in parts], dim=dim)

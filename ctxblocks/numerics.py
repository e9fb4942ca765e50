"""Sums, products, norms, angles and recurrences for authors of layers and probes.

Sums of half-precision numbers are accumulated in float32 and never in tf32; norms and cosines neither overflow nor
underflow, however large or small their vectors are; exponentials avoid subnormal results, which are slow on CPUs.
"""

import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ctxblocks.base.checks import readable

__all__ = [
    "accumulator",
    "alike",
    "cosine",
    "dot",
    "falling_exp",
    "falling_exp_floor",
    "image",
    "image_norm",
    "linear_recurrence",
    "norm",
    "normal_exp",
    "scaled",
    "scaled_stack",
    "stack_broadcast",
    "wide_matmul",
    "widen",
    "within_range",
]

IMAGES = 2**18
"""Entries of `W x` that are held in memory at a time."""
MANY = 16
"""Vectors per dimension above which a QR decomposition of the matrix costs less than it saves."""


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which sums of `dtype` are accumulated: float32 for half types, else the dtype itself."""
    return torch.promote_types(dtype, torch.float32)


def widen(x: Tensor) -> Tensor:
    """`x` in the dtype in which its sums are accumulated."""
    return x.to(accumulator(x.dtype))


def alike(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the widest of their dtypes."""
    dtype = functools.reduce(torch.promote_types, [each.dtype for each in tensors])
    return tuple(each.to(dtype) for each in tensors)


def within_range(x: Tensor, least: float, most: float) -> bool:
    """Whether values can be read and all magnitudes lie between the bounds, `least` of 0 included.

    It copies one flag to the host. Inside transforms, and of tensors without values, it is False: where products may leave
    the range of float32, a layer computes them in float64.
    """
    if not readable(x):
        return False
    size = x.detach().abs()
    return bool(((size >= least) & (size <= most)).all())


def dot(
    a: Tensor,  # (…, d)
    b: Tensor,  # (…, d)
) -> Tensor:  # (…), in the accumulator's dtype
    """`aᵀb` over the last axis, products and sum in the accumulator's dtype (never tf32)."""
    return (widen(a) * widen(b)).sum(-1)


def norm(x: Tensor) -> Tensor:  # (…, d) -> (…)
    """Euclidean norm over the last axis, free of overflow and underflow, with gradient 0 at 0."""
    unit, scale = scaled(x)
    length: Tensor = torch.linalg.vector_norm(unit, dim=-1) * scale.squeeze(-1)
    return length


def image(
    weights: Sequence[Tensor],  # (m, d) each
    x: Tensor,  # (…, d)
) -> Tensor:  # (…, sum of all m), in the accumulator's dtype
    """`W x` for the vertical stack `W` of the weights, up to a positive factor for each `x` that keeps it within range."""
    return scaled(x)[0] @ scaled_stack(weights, x)[0].mT


def scaled_stack(
    weights: Sequence[Tensor],  # (m, d) each
    like: Tensor,
) -> tuple[Tensor, Tensor]:  # (sum of all m, d), ()
    """The vertical stack of the weights divided by its largest entry, where and as wide as `like`; and that entry, or 1."""
    stack = widen(torch.cat([weight.to(like.device) for weight in weights]).to(accumulator(like.dtype)))
    largest = stack.detach().abs().max()
    size = torch.where(largest == 0, 1, largest)
    return stack / size, size


def image_norm(
    weights: Sequence[Tensor],  # (m, d) each
    x: Tensor,  # (…, d)
) -> Tensor:  # (…), in the accumulator's dtype
    """`‖W x‖` for the vertical stack `W` of the weights; `x` and `W` are scaled first, so nothing over- or underflows.

    For many `x`, and where no gradient is needed, it is computed as `‖R x‖` with `W = Q R`: `d` numbers instead of `m`.
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
    """`R` of `matrix = Q R`, if it is smaller than the matrix; `‖R x‖ = ‖matrix x‖`."""
    return torch.linalg.qr(matrix, mode="r").R if matrix.shape[0] > matrix.shape[1] else matrix


def _lengths(
    rows: Tensor,  # (n, d)
    matrix: Tensor,  # (m, d)
) -> Tensor:  # (n,)
    """`‖matrix x‖` of every row, some rows at a time, so that the products stay in the cache."""
    parts = rows.split(max(1, IMAGES // max(1, len(matrix))))
    return torch.cat([torch.linalg.vector_norm(part @ matrix.mT, dim=-1) for part in parts])


def cosine(
    a: Tensor,  # (…, d)
    b: Tensor,  # (…, d)
) -> Tensor:  # (…), in the accumulator's dtype
    """`aᵀb / (‖a‖ ‖b‖)`, free of overflow and underflow; 0 where a vector vanishes."""
    one, two = scaled(a)[0], scaled(b)[0]
    lengths = norm(one) * norm(two)  # each between 1 and √d, or 0
    return (one * two).sum(-1) / torch.where(lengths == 0, 1, lengths)


def scaled(
    x: Tensor,  # (…, d)
    least: float = 0.0,
) -> tuple[Tensor, Tensor]:  # (…, d), (…, 1)
    """`x / s` and `s = max(max|x|, least)` in the accumulator's dtype; the scale carries no gradient, and 0 stays 0."""
    wide = widen(x)
    largest = wide.detach().abs().amax(-1, keepdim=True) if x.shape[-1] else wide.new_zeros((*x.shape[:-1], 1))
    scale = largest.clamp_min(least)
    return wide / torch.where(scale == 0, 1, scale), scale


def wide_matmul(
    a: Tensor,  # (…, p, q)
    b: Tensor,  # (…, q, r)
) -> Tensor:  # (…, p, r), in the accumulator's dtype
    """`a @ b`, half types accumulated in float32."""
    return widen(a) @ widen(b)


def stack_broadcast(parts: Sequence[Tensor], dim: int) -> Tensor:
    """`torch.stack` of tensors whose shapes are broadcast first."""
    shape = torch.broadcast_shapes(*[part.shape for part in parts])
    return torch.stack([part.expand(shape) for part in parts], dim=dim)


def falling_exp(x: Tensor) -> Tensor:
    """`eˣ` for `x ≤ 0`, with `x` clamped from below to where `eˣ` is far below the round-off of 1.

    In a sum that has a term near 1 the clamped terms are negligible; on CPUs, subnormal numbers would be slow.
    """
    return x.clamp(falling_exp_floor(x.dtype), 0.0).exp()


def falling_exp_floor(dtype: torch.dtype) -> float:
    """The exponent below which `falling_exp` is constant: −300 in float64, else −60."""
    return -300.0 if dtype == torch.float64 else -60.0


def normal_exp(x: Tensor) -> Tensor:
    """`eˣ`, but no less than the smallest normal number: on CPUs, subnormal results take about 20 times as long."""
    return torch.exp(x.clamp(min=math.log(torch.finfo(x.dtype).tiny)))


def linear_recurrence(
    decay: Tensor,  # (…, n, e)
    drive: Tensor,  # (…, n, e)
    start: Tensor,  # (…, e): h_0
) -> Tensor:  # (…, n, e)
    """`h_t = decay_t ⊙ h_{t−1} + drive_t` for `t = 1 … n`, in about `3√n` steps.

    The rows are cut into about `√n` chunks. All chunks advance together from zero, which gives the sum and the decay of
    each; a recurrence over the chunks then gives the state at the start of each, and all advance together again.
    """
    n = drive.shape[-2]
    if n == 0:
        return drive
    size = 2 ** ((n.bit_length() - 1) // 2)  # √n or √(n/2), rounded down to a power of two
    count = -(-n // size)
    a, b = (_in_chunks(x, count, size) for x in (decay, drive))  # size × (…, count, e)
    state = _chunk_starts(a, b, start)
    rows = []
    for fade, added in zip(a, b, strict=True):
        state = torch.addcmul(added, fade, state)
        rows.append(state)
    return torch.stack(rows, dim=-2).flatten(-3, -2)[..., :n, :]


def _in_chunks(
    x: Tensor,  # (…, n, e)
    count: int,
    size: int,
) -> tuple[Tensor, ...]:  # size × (…, count, e)
    padding = count * size - x.shape[-2]
    padded = F.pad(x, (0, 0, 0, padding)) if padding else x
    return padded.reshape(*x.shape[:-2], count, size, x.shape[-1]).unbind(-2)


def _chunk_starts(
    a: tuple[Tensor, ...],  # size × (…, count, e)
    b: tuple[Tensor, ...],  # size × (…, count, e)
    start: Tensor,  # (…, e)
) -> Tensor:  # (…, count, e)
    """The state before the first row of each chunk."""
    if a[0].shape[-2] == 1:
        return start.unsqueeze(-2)
    total, fade = b[0], a[0]
    for next_fade, added in zip(a[1:], b[1:], strict=True):
        total = torch.addcmul(added, next_fade, total)
        fade = fade * next_fade
    starts = [start]
    for each_fade, each_total in zip(fade.unbind(-2)[:-1], total.unbind(-2)[:-1], strict=True):
        start = torch.addcmul(each_total, each_fade, start)
        starts.append(start)
    return torch.stack(starts, dim=-2)

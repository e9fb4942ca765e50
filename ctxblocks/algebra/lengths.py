"""Norms and angles of rank-one updates `ΔW = (Wδ)kᵀ`, taken over the vertical stack of several weight matrices.

Every vector is scaled before it is squared, so that no intermediate result over- or underflows. No dense matrix is built.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.numerics import cosine, dot, image_norm, norm, scaled, widen

IMAGES = 2**17
"""Number of entries of the products `Wδ` that are held in memory at a time: half a mebibyte in float32, to fit the cache."""
LEAST = 32
"""Smallest number of updates that are processed at a time."""


def update_norm(
    operator: ContextOperator,  # (…, d)
    weights: Sequence[Tensor],  # (m, d) each
) -> Tensor:  # (…)
    """`‖ΔW‖ = ‖Wδ‖ ‖k‖`, both the Frobenius and the spectral norm, since `ΔW` has rank one."""
    return (image_norm(weights, operator.direction) * norm(operator.key)).to(operator.key.dtype)


def update_cosine(
    one: ContextOperator,  # (…, d)
    other: ContextOperator,  # (…, d)
    weights: Sequence[Tensor],  # (m, d) each
) -> Tensor:  # (…), in [−1, 1]
    """`⟨ΔW₁, ΔW₂⟩_F / (‖ΔW₁‖_F ‖ΔW₂‖_F) = cos(Wδ₁, Wδ₂) cos(k₁, k₂)`; 0 where an update is zero."""
    images = [_unit_image(weights, each.direction) for each in (one, other)]
    return (cosine(*images) * cosine(one.key, other.key)).to(one.key.dtype)


def update_distance(
    one: ContextOperator,  # (…, d)
    other: ContextOperator,  # (…, d)
    weights: Sequence[Tensor],  # (m, d) each
) -> Tensor:  # (…)
    """`‖ΔW₁ − ΔW₂‖_F` of two updates; their difference has rank at most two."""
    return _distance(one, other, functools.partial(image_norm, weights))


def _distance(
    one: ContextOperator,  # (…, d)
    other: ContextOperator,  # (…, d)
    length: Callable[[Tensor], Tensor],  # δ ↦ ‖Wδ‖, or the norm if the directions of the operators are already `Wδ`
) -> Tensor:  # (…)
    """The distance of two updates.

    With `k₁ = c k₂ + k⊥` and `k⊥` orthogonal to `k₂`, the difference is `(c Wδ₁ − Wδ₂) k₂ᵀ + Wδ₁ k⊥ᵀ`. These two terms
    are orthogonal, so that the squares of their norms add up without cancellation.
    """
    (first, first_scale), (second, second_scale) = scaled(one.key), scaled(other.key)
    squares = dot(second, second).unsqueeze(-1)
    ratio = dot(first, second).unsqueeze(-1) / torch.where(squares == 0, 1, squares)  # c for the scaled keys
    perpendicular = first - ratio * second  # k⊥ / first_scale
    coefficient = ratio * (first_scale / torch.where(second_scale == 0, 1, second_scale))  # c (…, 1)
    direction = coefficient * widen(one.direction) - widen(other.direction)  # c δ₁ − δ₂
    along = length(direction) * norm(other.key)
    across = length(one.direction) * (norm(perpendicular) * first_scale.squeeze(-1))
    return norm(torch.stack(torch.broadcast_tensors(along, across), dim=-1)).to(one.key.dtype)


def marginal_change(
    operator: ContextOperator,  # (…, n + 1, d)
    weights: Sequence[Tensor],  # (m, d) each
) -> Tensor:  # (…, n)
    """`‖W_{i+1} − W_i‖_F` of successive updates, `i = 0 … n − 1` [Sec. 3, Fig. 3].

    If all updates share one key (expanded along that axis), the change `W(δ_{i+1} − δ_i)kᵀ` has rank one and its spectral
    norm is the same; otherwise it has rank two.
    """
    direction, key = operator.direction, operator.key
    if key.shape[-2] > 1 and key.stride(-2) == 0:
        step = widen(direction[..., 1:, :]) - widen(direction[..., :-1, :])
        return (image_norm(weights, step) * norm(key[..., :1, :])).to(key.dtype)
    later = ContextOperator(direction[..., 1:, :], key[..., 1:, :])
    return update_distance(later, ContextOperator(direction[..., :-1, :], key[..., :-1, :]), weights)


@dataclasses.dataclass(frozen=True)
class Successive:
    """Norms and angles of the updates of successive tokens.

    Attributes:
        norm: `‖ΔW_i‖ (…, n + 1)`.
        alignment: the cosine of `ΔW_i` and `ΔW_{i+1} (…, n)`; 0 where one of them is zero.
        marginal_change: `‖W_{i+1} − W_i‖_F (…, n)`.
    """

    norm: Tensor
    alignment: Tensor
    marginal_change: Tensor


def successive(
    operator: ContextOperator,  # (…, n + 1, d)
    weights: Sequence[Tensor],  # (m, d) each
) -> Successive:
    """`update_norm`, `update_cosine` and `marginal_change` along the last batch axis, with each product `Wδ` computed once."""
    matrices, size = _scaled_weights(weights, operator.direction)
    length, rows = operator.key.shape[-2], max(LEAST, IMAGES // sum(map(len, matrices)))
    parts = []
    for start in range(0, max(1, length - 1), rows):
        part = slice(start, start + rows + 1)  # one row more than counted, for the last step
        unit, scale = scaled(operator.direction[..., part, :])
        images = torch.cat([unit @ matrix.mT for matrix in matrices], dim=-1)
        parts.append(_lengths(ContextOperator(images * (scale * size), widen(operator.key[..., part, :]))))
    norms = [part.norm[..., :rows] for part in parts[:-1]] + [parts[-1].norm]
    joined = (norms, [part.alignment for part in parts], [part.marginal_change for part in parts])
    return Successive(*(torch.cat(each, dim=-1).to(operator.key.dtype) for each in joined))


def _lengths(
    images: ContextOperator,  # (…, n + 1, sum of all m), (…, n + 1, d)
) -> Successive:
    """Norms and angles of successive updates whose operators have the directions `Wδ`."""
    pairs = ((images.direction[..., i, :], images.key[..., i, :]) for i in (slice(None, -1), slice(1, None)))
    earlier, later = (ContextOperator(*pair) for pair in pairs)
    return Successive(
        norm(images.direction) * norm(images.key),
        cosine(later.direction, earlier.direction) * cosine(later.key, earlier.key),
        _distance(later, earlier, norm),
    )


def _scaled_weights(weights: Sequence[Tensor], like: Tensor) -> tuple[list[Tensor], Tensor]:
    """The weights in the accumulator's dtype divided by their largest absolute entry, and that entry."""
    wide = [widen(weight).to(widen(like[:0])) for weight in weights]
    size = torch.stack([weight.detach().abs().max() for weight in wide]).max()
    size = torch.where(size == 0, 1, size)
    return [weight / size for weight in wide], size


def _unit_image(
    weights: Sequence[Tensor],  # (m, d) each
    x: Tensor,  # (…, d)
) -> Tensor:  # (…, sum of all m)
    """`W x` up to a positive factor: `x` and `W` are scaled before the product."""
    unit = scaled(x)[0]
    return torch.cat([unit @ matrix.mT for matrix in _scaled_weights(weights, x)[0]], dim=-1)

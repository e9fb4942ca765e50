"""Norms and angles of rank-one updates `ΔW = (Wδ)kᵀ`, taken over the vertical stack of several weight matrices.

Every vector is scaled before it is squared, so that no intermediate result over- or underflows. No dense matrix is built.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.numerics import cosine, dot, image_norm, norm, scaled, widen


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
    """`‖ΔW₁ − ΔW₂‖_F` of two updates; their difference has rank at most two.

    With `k₁ = c k₂ + k⊥` and `k⊥` orthogonal to `k₂`, the difference is `(c Wδ₁ − Wδ₂) k₂ᵀ + Wδ₁ k⊥ᵀ`. These two terms
    are orthogonal, so that the squares of their norms add up without cancellation.
    """
    (first, first_scale), (second, second_scale) = scaled(one.key), scaled(other.key)
    squares = dot(second, second).unsqueeze(-1)
    ratio = dot(first, second).unsqueeze(-1) / torch.where(squares == 0, 1, squares)  # c for the scaled keys
    perpendicular = first - ratio * second  # k⊥ / first_scale
    coefficient = ratio * (first_scale / torch.where(second_scale == 0, 1, second_scale))  # c (…, 1)
    direction = coefficient * widen(one.direction) - widen(other.direction)  # c δ₁ − δ₂
    along = image_norm(weights, direction) * norm(other.key)
    across = image_norm(weights, one.direction) * (norm(perpendicular) * first_scale.squeeze(-1))
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


def _unit_image(
    weights: Sequence[Tensor],  # (m, d) each
    x: Tensor,  # (…, d)
) -> Tensor:  # (…, sum of all m)
    """`W x` up to a positive factor: `x` and `W` are scaled before the product."""
    unit = scaled(x)[0]
    size = torch.stack([weight.detach().abs().max() for weight in weights]).max().to(unit)
    size = torch.where(size == 0, 1, size)
    return torch.cat([unit @ (widen(weight).to(unit) / size).mT for weight in weights], dim=-1)

"""Norms and angles of rank-one updates `ΔW = (Wδ)kᵀ`, taken over the vertical stack of several weight matrices.

Every vector is scaled before it is squared, so that no intermediate result over- or underflows. No dense matrix is built.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.numerics import cosine, dot, image, image_norm, norm, scaled, scaled_stack, widen

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
    first, second = image(weights, one.direction), image(weights, other.direction)
    return (cosine(first, second) * cosine(one.key, other.key)).to(one.key.dtype)


def update_distance(
    one: ContextOperator,  # (…, d)
    other: ContextOperator,  # (…, d)
    weights: Sequence[Tensor],  # (m, d) each
) -> Tensor:  # (…)
    """`‖ΔW₁ − ΔW₂‖_F` of two updates, whose difference has rank at most two."""
    length = functools.partial(image_norm, weights)
    return _distance((one.direction, one.key), (other.direction, other.key), length).to(one.key.dtype)


def _distance(
    one: tuple[Tensor, Tensor],  # δ₁ and k₁, (…, d) each; or Wδ₁ and k₁
    other: tuple[Tensor, Tensor],
    length: Callable[[Tensor], Tensor],  # δ ↦ ‖Wδ‖; of images Wδ, their norm
) -> Tensor:  # (…), in the accumulator's dtype
    """The distance of two updates.

    With `k₁ = c k₂ + k⊥` and `k⊥` orthogonal to `k₂`, the difference is `(c Wδ₁ − Wδ₂) k₂ᵀ + Wδ₁ k⊥ᵀ`. These two terms
    are orthogonal, so that the squares of their norms add up without cancellation.
    """
    (first, first_scale), (second, second_scale) = scaled(one[1]), scaled(other[1])
    squares = dot(second, second).unsqueeze(-1)
    ratio = dot(first, second).unsqueeze(-1) / torch.where(squares == 0, 1, squares)  # c for the scaled keys
    perpendicular = first - ratio * second  # k⊥ / first_scale
    coefficient = ratio * (first_scale / torch.where(second_scale == 0, 1, second_scale))  # c (…, 1)
    direction = coefficient * widen(one[0]) - widen(other[0])  # c δ₁ − δ₂
    along = length(direction) * norm(other[1])
    across = length(one[0]) * (norm(perpendicular) * first_scale.squeeze(-1))
    return norm(torch.stack(torch.broadcast_tensors(along, across), dim=-1))


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
    stack, size = scaled_stack(weights, operator.direction)  # (sum of all m, d), ()
    length, rows = operator.key.shape[-2], max(LEAST, IMAGES // len(stack))
    norms, alignments, changes = [], [], []
    for start in range(0, max(1, length - 1), rows):
        some = slice(start, start + rows + 1)  # one row more than is counted, for the last step
        unit, scale = scaled(operator.direction[..., some, :])
        images, key = (unit @ stack.mT) * (scale * size), widen(operator.key[..., some, :])
        own = norm(images) * norm(key)
        norms.append(own if start + rows + 1 >= length else own[..., :-1])
        early, late = images[..., :-1, :], images[..., 1:, :]
        alignments.append(cosine(late, early) * cosine(key[..., 1:, :], key[..., :-1, :]))
        changes.append(_distance((late, key[..., 1:, :]), (early, key[..., :-1, :]), norm))
    dtype = operator.key.dtype
    return Successive(
        torch.cat(norms, dim=-1).to(dtype),
        torch.cat(alignments, dim=-1).to(dtype),
        torch.cat(changes, dim=-1).to(dtype),
    )

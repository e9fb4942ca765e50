"""Tolerances of formulas, and their comparison with dense matrices.

A formula is compared with its dense counterpart, computed in float64 from the same stored `δ`, `k`, `β` and `W`. The error of
a sum of products of `n` terms is at most `c (u + n u_acc)` times the same sum of absolute values; `c = 4` covers the few
other roundings. The tolerance is therefore the dense formula itself, on absolute values, plus a floor for underflow.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.exactness.tolerance import READERS, precision, within


class Rounding(NamedTuple):
    """The tolerance of a formula: `relative` times its value on absolute values, plus `floor` for underflow."""

    relative: float
    floor: float


def rounding(like: Tensor, terms: int, *factors: Tensor) -> Rounding:
    """The tolerance of sums of `n` products in a dtype on a device.

    The relative part is `c (u + n u_acc)` with `c = 4`; the floor is the spacing of subnormal numbers for each of the `n`
    products, times `1 + max|factor|`.

    Args:
        like: a tensor of the dtype and on the device under test.
        terms: `n`.
        factors: tensors that an underflowing product may be multiplied by.
    """
    kind = torch.finfo(like.dtype)
    largest = max((float(factor.detach().abs().max()) for factor in factors if factor.numel()), default=0.0)
    relative = READERS * precision(like.dtype, like.device).of_dot(terms)
    return Rounding(relative, kind.smallest_normal * kind.eps * terms * (1 + largest))


def close(got: Tensor, wanted: Tensor, size: Tensor, unit: Rounding) -> None:
    """Assert `|got − wanted| ≤ relative · size + floor` entry by entry."""
    comparison = within((got.detach().double() - wanted).abs(), unit.relative * size + unit.floor)
    assert comparison.ok, str(comparison)


def dense(operator: ContextOperator, sign: bool = True) -> Tensor:  # (…, d, d), float64
    """`I + δkᵀ`, or with `sign=False` `I + |δ||k|ᵀ`."""
    delta, key = operator.direction.detach().double(), operator.key.detach().double()
    delta, key = (delta, key) if sign else (delta.abs(), key.abs())
    eye = torch.eye(key.shape[-1], dtype=key.dtype, device=key.device)
    return eye + delta.unsqueeze(-1) * key.unsqueeze(-2)

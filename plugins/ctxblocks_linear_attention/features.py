"""The feature maps φ of queries and keys, by name."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ctxblocks.numerics import widen, within_range

LEAST, MOST = 1e-9, 1e9  # features between which products, sums and their gradients keep their digits in float32


def _elu(x: Tensor) -> Tensor:
    """`elu(x) + 1` as `exp(min(x, 0)) + max(x, 0)`, which has no cancellation at negative `x`."""
    return torch.exp(x.clamp(max=0)) + torch.relu(x)


def _identity(x: Tensor) -> Tensor:
    return x


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": _elu,
    "relu": torch.relu,
    "softplus": F.softplus,
    "identity": _identity,
}


def feature_map(
    name: str,
    x: Tensor,  # (…)
) -> Tensor:  # (…), in float32 or float64
    """`φ(x)`, in float64 where products of features, or their sums, might leave the range of float32.

    "elu" and "softplus" are never zero, so that a zero is an underflow; of the others, zeros are right.
    """
    wide = widen(x)
    features = FUNCTIONS[name](wide)
    if features.dtype == torch.float64:
        return features
    zeros_are_right = name in ("relu", "identity")
    checked = features.detach().masked_fill(features == 0, 1.0) if zeros_are_right else features
    return features if within_range(checked, LEAST, MOST) else FUNCTIONS[name](wide.double())

"""The last axis of features by heads."""

import math

from torch import Tensor


def split_heads(
    features: Tensor,  # (…, heads · … · w)
    *heads: int,
) -> Tensor:  # (…, *heads, w)
    """The last axis by heads."""
    return features.reshape(*features.shape[:-1], *heads, features.shape[-1] // math.prod(heads))


def shared(
    features: Tensor,  # (…, kv_heads, w), or with the heads at `dim`
    heads: int,
    dim: int = -2,
) -> Tensor:  # (…, heads, w)
    """Features of the key-value heads, for every head that shares them."""
    return features.repeat_interleave(heads // features.shape[dim], dim=dim)

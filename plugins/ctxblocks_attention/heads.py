"""Splitting features into heads."""

import math

from torch import Tensor


def split_heads(
    features: Tensor,  # (…, heads · … · w)
    *heads: int,
) -> Tensor:  # (…, *heads, w)
    """The last axis split into heads, of one or more axes."""
    return features.reshape(*features.shape[:-1], *heads, features.shape[-1] // math.prod(heads))


def shared(
    features: Tensor,  # (…, kv_heads, w), or another axis `dim` of heads
    heads: int,
    dim: int = -2,
) -> Tensor:  # (…, heads, w)
    """Features of the key-value heads, repeated for all heads that share them."""
    return features.repeat_interleave(heads // features.shape[dim], dim=dim)

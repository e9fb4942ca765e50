"""Heads that share keys and values."""

from torch import Tensor


def shared(
    features: Tensor,  # (…, kv_heads, w), or another axis `dim` of heads
    heads: int,
    dim: int = -2,
) -> Tensor:  # (…, heads, w)
    """Features of the key-value heads, repeated for all heads that share them."""
    return features.repeat_interleave(heads // features.shape[dim], dim=dim)

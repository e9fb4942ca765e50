"""Rotary position embeddings."""

import torch
from torch import Tensor

from ctxblocks.numerics import accumulator


def rotate(
    features: Tensor,  # (…, n, heads, head_width)
    positions: Tensor,  # (n,)
    base: float,
) -> Tensor:  # (…, n, heads, head_width)
    """Rotate feature pairs `(t, t + head_width/2)` by the angle `position · base^(−2t / head_width)`.

    Scores of rotated queries and keys depend on differences of positions only. The angles are computed in float64, so that
    they are accurate at large positions; half types are rotated in float32. Source: Su et al. 2021, pairs as in Llama.
    """
    half = features.shape[-1] // 2
    steps = torch.arange(half, dtype=torch.float64, device=features.device)
    angles = positions.to(torch.float64).unsqueeze(-1) * base ** (-steps / half)  # (n, head_width / 2)
    dtype = accumulator(features.dtype)
    cos, sin = angles.cos().to(dtype).unsqueeze(-2), angles.sin().to(dtype).unsqueeze(-2)  # (n, 1, head_width / 2)
    first, second = features[..., :half], features[..., half:]
    rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return rotated.to(features.dtype)

"""The records of tensors that the layer works on, and its norm."""

from typing import NamedTuple

import torch
from torch import Tensor


class Signals(NamedTuple):
    """What tokens write into the states and read from them."""

    x: Tensor  # (…, g, n, k, p), of k heads in each of g groups
    B: Tensor  # (…, g, n, s)
    C: Tensor  # (…, g, n, s)


class Steps(NamedTuple):
    """Step sizes and log decays; neither passes the convolution."""

    size: Tensor  # (…, g, k, n): Δ
    log_decay: Tensor  # (…, g, k, n): a, float64


def widen(x: Tensor) -> Tensor:
    """`x` in the dtype in which sums are carried: float32 for half types."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def along_tokens(x: Tensor) -> Tensor:  # (…, g, k, n) -> (…, g, n, k, 1)
    """A number per head and token, to scale the token's channels by."""
    return x.transpose(-1, -2).unsqueeze(-1)


def gated_norm(
    read: Tensor,  # (…, n, g, c)
    gate: Tensor,  # (…, n, g·c), or one for all
    eps: float,
) -> Tensor:  # (…, n, g·c)
    """`r / √(mean r² + eps)` over each group, `r` the gated read; scaled first, so that no square overflows."""
    gated = read * torch.unflatten(gate, -1, read.shape[-2:])
    scale = gated.detach().abs().amax(-1, keepdim=True).clamp(min=1.0)
    unit = gated / scale
    square = unit.square().mean(-1, keepdim=True) + eps / scale.square()
    return (unit * square.rsqrt()).flatten(-2)

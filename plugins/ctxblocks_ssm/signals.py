"""The intermediate tensors of the layer, and its norm."""

from typing import NamedTuple

import torch
from torch import Tensor

from ctxblocks.numerics import scaled, within_range

MOST = 1e6  # signals, steps and gates up to which their products stay within the range of float32


def roomy(x: Tensor) -> Tensor:
    """`x`, in float64 where products of it might leave the range of float32."""
    return x if x.dtype == torch.float64 or within_range(x, 0.0, MOST) else x.double()


class Signals(NamedTuple):
    """The activated outputs of the convolution: `x` and `B` are written into the states, `C` reads from them."""

    x: Tensor  # (…, g, n, k, p), of k heads in each of g groups
    B: Tensor  # (…, g, n, s)
    C: Tensor  # (…, g, n, s)


class Steps(NamedTuple):
    """Step sizes and log decays, which do not pass the convolution."""

    size: Tensor  # (…, g, k, n): Δ
    log_decay: Tensor  # (…, g, k, n): a, float64


def along_tokens(x: Tensor) -> Tensor:  # (…, g, k, n) -> (…, g, n, k, 1)
    """One number per head and token, in a shape that multiplies the channels of the token."""
    return x.transpose(-1, -2).unsqueeze(-1)


def gated_norm(
    read: Tensor,  # (…, n, g, c)
    gate: Tensor,  # (…, n, g·c), or one row for all
    eps: float,
) -> Tensor:  # (…, n, g·c)
    """`r / √(mean r² + eps)` over each group with `r = read ⊙ gate`; `r` is scaled first, so that no square overflows."""
    unit, scale = scaled(read * torch.unflatten(gate, -1, read.shape[-2:]), least=1.0)
    square = unit.square().mean(-1, keepdim=True) + eps / scale.square()
    return (unit * square.rsqrt()).flatten(-2)

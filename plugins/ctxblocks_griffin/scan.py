"""Sums over the tokens before and after a position: the short convolution, and what is left of a state at the end."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ctxblocks.numerics import normal_exp


def earlier_taps(
    x: Tensor,  # (…, k − 1 + n, e)
    weight: Tensor,  # (e, k), the last column for the token itself
    bias: Tensor,  # (e,)
) -> Tensor:  # (…, n + 1, e)
    """`bias + Σ_{j ≥ 1} weight[:, k − 1 − j] x_{t−j}`: the causal convolution without its newest token, for `n + 1` positions.

    The first `k − 1` rows of `x` are the tokens before the first output.
    """
    taps = weight.shape[-1] - 1
    rows = x.shape[-2] - taps + 1
    y = bias.expand(*x.shape[:-2], rows, -1)
    for j, tap in enumerate(weight.T[:taps].contiguous()):  # strided columns are not vectorized
        y = torch.addcmul(y, x[..., j : j + rows, :], tap)
    return y


def tail_sums(
    log_decay: Tensor,  # (…, n, e)
    drive: Tensor,  # (…, n, e)
) -> tuple[Tensor, Tensor]:  # (…, n + 1, e), (…, n + 1, e)
    """`P_j = Π_{l ≥ j} decay_l` and `T_j = Σ_{l ≥ j} P_{l+1} drive_l`: a state `h` before token `j` ends as `P_j h + T_j`."""
    left = F.pad(log_decay.flip(-2).cumsum(-2).flip(-2), (0, 0, 0, 1))
    fade = normal_exp(left)
    added = (fade[..., 1:, :] * drive).flip(-2).cumsum(-2).flip(-2)
    return fade, F.pad(added, (0, 0, 0, 1))

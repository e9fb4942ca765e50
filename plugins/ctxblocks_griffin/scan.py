"""Diagonal linear recurrences, and the sliding sums of a short convolution."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_WIDE = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


def widen(x: Tensor) -> Tensor:
    """`x` in the dtype in which its sums are carried: float32 for half types, else its own."""
    return x.to(_WIDE.get(x.dtype, x.dtype))


def diagonal_scan(
    decay: Tensor,  # (…, n, e)
    drive: Tensor,  # (…, n, e)
    start: Tensor,  # (…, e)
) -> Tensor:  # (…, n, e), n ≥ 1
    """`h_t = decay_t h_{t−1} + drive_t` from `h = start`, entry by entry, in about 3√n steps.

    The tokens stand in chunks of about √n. All chunks step together from zero, which gives what each adds and by how
    much it fades what it finds; a recursion over chunks then gives each its true start, and all step together again.
    """
    n = drive.shape[-2]
    size = 2 ** ((n.bit_length() - 1) // 2)  # the root, or half of twice it: a power of two is cut without a rest
    count = -(-n // size)
    a, b = (_in_chunks(x, count, size) for x in (decay, drive))  # size × (…, count, e)
    state = _chunk_starts(a, b, start)
    rows = []
    for fade, added in zip(a, b, strict=True):
        state = torch.addcmul(added, fade, state)
        rows.append(state)
    return torch.stack(rows, dim=-2).flatten(-3, -2)[..., :n, :]


def _in_chunks(
    x: Tensor,  # (…, n, e)
    count: int,
    size: int,
) -> tuple[Tensor, ...]:  # size × (…, count, e)
    padding = count * size - x.shape[-2]
    padded = F.pad(x, (0, 0, 0, padding)) if padding else x
    return padded.reshape(*x.shape[:-2], count, size, x.shape[-1]).unbind(-2)


def _chunk_starts(
    a: tuple[Tensor, ...],  # size × (…, count, e)
    b: tuple[Tensor, ...],  # size × (…, count, e)
    start: Tensor,  # (…, e)
) -> Tensor:  # (…, count, e)
    """The state that each chunk finds."""
    if a[0].shape[-2] == 1:
        return start.unsqueeze(-2)
    total, fade = b[0], a[0]
    for next_fade, added in zip(a[1:], b[1:], strict=True):
        total = torch.addcmul(added, next_fade, total)
        fade = fade * next_fade
    starts = [start]
    for each_fade, each_total in zip(fade.unbind(-2)[:-1], total.unbind(-2)[:-1], strict=True):
        start = torch.addcmul(each_total, each_fade, start)
        starts.append(start)
    return torch.stack(starts, dim=-2)


def earlier_taps(
    x: Tensor,  # (…, k − 1 + n, e)
    weight: Tensor,  # (e, k), the last column for a token itself
    bias: Tensor,  # (e,)
) -> Tensor:  # (…, n + 1, e)
    """`bias + Σ_{j ≥ 1} weight[:, k − 1 − j] x_{t−j}`: a causal convolution but for the newest token, also after the last.

    The first `k − 1` rows of `x` are what stands before the first output's token.
    """
    taps = weight.shape[-1] - 1
    rows = x.shape[-2] - taps + 1
    y = bias.expand(*x.shape[:-2], rows, -1)
    for j, tap in enumerate(weight.T[:taps].contiguous()):  # a column in strides is not vectorized
        y = torch.addcmul(y, x[..., j : j + rows, :], tap)
    return y


def tail_sums(
    log_decay: Tensor,  # (…, n, e)
    drive: Tensor,  # (…, n, e)
) -> tuple[Tensor, Tensor]:  # (…, n + 1, e), (…, n + 1, e)
    """`P_j = Π_{l ≥ j} decay_l` and `T_j = Σ_{l ≥ j} P_{l+1} drive_l`: a state `h` before token `j` ends as `P_j h + T_j`."""
    left = F.pad(log_decay.flip(-2).cumsum(-2).flip(-2), (0, 0, 0, 1))
    fade = exp(left)
    added = (fade[..., 1:, :] * drive).flip(-2).cumsum(-2).flip(-2)
    return fade, F.pad(added, (0, 0, 0, 1))


def exp(x: Tensor) -> Tensor:
    """`eˣ`, never under the least normal number: on CPU what underflows takes 20 times as long."""
    return torch.exp(x.clamp(min=math.log(torch.finfo(x.dtype).tiny)))

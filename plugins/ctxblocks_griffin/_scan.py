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
) -> Tensor:  # (…, n, e)
    """`h_t = decay_t h_{t−1} + drive_t` from `h = 0`, entry by entry, in about 2√n steps.

    The tokens stand in chunks of about √n. All chunks step together from zero, which gives what each adds and by how
    much it fades what it finds; a recursion over chunks then gives each its true start, and all step together again.
    """
    n = drive.shape[-2]
    if n == 0:
        return drive
    size = max(1, math.isqrt(n))
    count = -(-n // size)
    a, b = (_in_chunks(x, count, size) for x in (decay, drive))  # size × (…, count, e)
    if count == 1:
        starts = torch.zeros_like(b[0])
    else:
        starts = _chunk_starts(a, b)
    rows = []
    state = starts
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
) -> Tensor:  # (…, count, e)
    """The state that each chunk finds."""
    total, fade = b[0], a[0]
    for next_fade, added in zip(a[1:], b[1:], strict=True):
        total = torch.addcmul(added, next_fade, total)
        fade = fade * next_fade
    start = torch.zeros_like(total[..., 0, :])
    starts = [start]
    for each_fade, each_total in zip(fade.unbind(-2)[:-1], total.unbind(-2)[:-1], strict=True):
        start = torch.addcmul(each_total, each_fade, start)
        starts.append(start)
    return torch.stack(starts, dim=-2)


def short_convolution(
    x: Tensor,  # (…, n, e)
    weight: Tensor,  # (e, k), the last column for the token itself
    bias: Tensor,  # (e,)
) -> Tensor:  # (…, n, e)
    """`y_t = bias + Σ_j weight[:, k − 1 − j] x_{t−j}`, tokens before the first being zero."""
    n, length = x.shape[-2], weight.shape[-1]
    padded = F.pad(x, (0, 0, length - 1, 0))
    y = bias
    for j in range(length):
        y = torch.addcmul(y, padded[..., j : j + n, :], weight[:, j])
    return y

"""Softmax averages over every prefix of a list, in one pass."""

import torch
import torch.nn.functional as F
from torch import Tensor


def running_average(
    scores: Tensor,  # (…, r, n)
    values: Tensor,  # (…, n, d), shared by the r rows
    chunk: int,
) -> Tensor:  # (…, r, n, d)
    """`Σ_{j ≤ i} p_j v_j` with `p = softmax(s_1 … s_i)`, for every `i`, in `O(n d)`.

    Every exponential is taken relative to the running maximum `M_i = max_{j ≤ i} s_j`, so that no row over- or underflows:
    `h_i = e^{M_{i−1} − M_i} h_{i−1} + e^{s_i − M_i} [v_i; 1]`, and the average is the first part of `h_i` over its last entry.
    The maxima cancel from it, so they carry no gradient.
    """
    peaks = scores.detach().cummax(-1).values  # (…, r, n)
    terms = _exp(scores - peaks).unsqueeze(-1) * F.pad(values, (0, 1), value=1.0).unsqueeze(-3)  # (…, r, n, d + 1)
    sums = _decayed_sums(peaks, terms, chunk)
    return sums[..., :-1] / sums[..., -1:]


def _decayed_sums(
    peaks: Tensor,  # (…, n), never falling
    terms: Tensor,  # (…, n, d)
    chunk: int,
) -> Tensor:  # (…, n, d)
    """`h_i = e^{M_{i−1} − M_i} h_{i−1} + x_i` from `h_0 = 0`: chunks side by side, then the same over their ends."""
    n = peaks.shape[-1]
    if n <= chunk:
        return torch.stack(_step_by_step(peaks, terms), dim=-2)
    pad = -n % chunk
    last = peaks[..., -1:].expand(*peaks.shape[:-1], pad)
    grid = ((n + pad) // chunk, chunk)  # c chunks
    peaks = torch.cat((peaks, last), dim=-1).reshape(*peaks.shape[:-1], *grid)  # (…, c, chunk)
    local = _step_by_step(peaks, F.pad(terms, (0, 0, 0, pad)).reshape(*peaks.shape, terms.shape[-1]))
    ends = peaks[..., :-1, -1]  # (…, c − 1)
    carried = _decayed_sums(ends, local[-1][..., :-1, :], chunk)  # (…, c − 1, d)
    carried = F.pad(carried, (0, 0, 1, 0))  # nothing into the first chunk
    before = torch.cat((peaks[..., 0, :1], ends), dim=-1).unsqueeze(-1)  # (…, c, 1)
    decays = _exp(before - peaks).movedim(-1, 0).unsqueeze(-1)  # (chunk, …, c, 1)
    sums = torch.addcmul(torch.stack(local), decays, carried)  # (chunk, …, c, d)
    return sums.movedim(0, -2).flatten(-3, -2)[..., :n, :]


def _step_by_step(
    peaks: Tensor,  # (…, n)
    terms: Tensor,  # (…, n, d)
) -> list[Tensor]:  # n of (…, d)
    """The recursion itself, one row after another."""
    decays = _exp(peaks[..., :-1] - peaks[..., 1:]).unsqueeze(-1).unbind(-2)  # n − 1 of (…, 1)
    rows = list(terms.unbind(-2))
    for i, decay in enumerate(decays, start=1):
        rows[i] = torch.addcmul(rows[i], decay, rows[i - 1])
    return rows


def _exp(argument: Tensor) -> Tensor:
    """`exp` of numbers ≤ 0 with a floor far below the round-off: on CPU an underflow costs as much as fifty exponentials."""
    return argument.clamp(-300.0 if argument.dtype == torch.float64 else -60.0, 0.0).exp()

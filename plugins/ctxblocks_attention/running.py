"""Softmax averages over all prefixes of a list of tokens, in one pass."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ctxblocks import readable
from ctxblocks_attention.weights import vanishing_exp

LEVEL = 30.0
"""How far the overall maximum of level scores may be above the first.

`vanishing_exp` is 0 below `e^−86` in float32, so that a token it leaves out counts less than `e^−56` as much as the first.
"""


def running_average(
    scores: Tensor,  # (…, r, n)
    values: Tensor,  # (…, n, d), shared by the r rows
    chunk: int,
) -> Tensor:  # (…, r, n, d)
    """`Σ_{j ≤ i} p_j v_j` with `p = softmax(s_1 … s_i)`, for every `i`, in `O(n d)`; for narrow values.

    Every exponential is relative to the running maximum `M_i = max_{j ≤ i} s_j`, so that no row over- or underflows:
    `h_i = e^{M_{i−1} − M_i} h_{i−1} + e^{s_i − M_i} [v_i; 1]`, and the average is `h_i` without its last entry, divided by
    it. The maxima cancel, so they need no gradient.
    """
    if _level(scores):
        return _level_average(scores, values)
    peaks = scores.detach().cummax(-1).values  # (…, r, n)
    with_one = F.pad(values, (0, 1), value=1.0).unsqueeze(-3)  # (…, 1, n, d + 1)
    terms = vanishing_exp(scores - peaks).unsqueeze(-1) * with_one  # (…, r, n, d + 1)
    sums = _decayed_sums(peaks, terms, chunk)
    return sums[..., :-1] / sums[..., -1:]


def _level(scores: Tensor) -> bool:
    """Whether no score is so far above the first that sums of exponentials relative to the overall maximum could underflow."""
    if not readable(scores) or scores.device.type != "cpu" or scores.numel() == 0:  # reads values, so not on a GPU
        return False
    return bool((scores.detach().amax(-1) - scores.detach()[..., 0] <= LEVEL).all())


def _level_average(
    scores: Tensor,  # (…, r, n)
    values: Tensor,  # (…, n, d)
) -> Tensor:  # (…, r, n, d)
    """`running_average` of level scores: running sums of `e^{s_j − M} v_j` over those of `e^{s_j − M}`."""
    weights = vanishing_exp(scores - scores.detach().amax(-1, keepdim=True)).unsqueeze(-2)  # (…, r, 1, n)
    sums = (weights * values.mT.unsqueeze(-3)).cumsum(-1)  # (…, r, d, n)
    return (sums / weights.cumsum(-1)).mT


def running_average_wide(
    scores: Tensor,  # (…, r, n)
    values: Tensor,  # (…, n, d), shared by the r rows
    tile: int,
) -> Tensor:  # (…, r, n, d)
    """The same for wide values: one product with the weights `e^{s_j − M_i}` within each tile, running sums between tiles.

    The weights are divided by their sums before the product, which saves a pass over the wide values.
    """
    n, pad = scores.shape[-1], -scores.shape[-1] % tile
    scores, values = F.pad(scores, (0, pad)), F.pad(values, (0, 0, 0, pad))
    peaks = scores.detach().cummax(-1).values
    s, m = (x.unflatten(-1, (-1, tile)).transpose(-3, -2) for x in (scores, peaks))  # (…, c, r, q): c tiles of q tokens
    v = values.unflatten(-2, (-1, tile))  # (…, c, q, d)
    near = _weights(s, m)  # (…, c, r, q, q)
    sums = near.sum(-1)  # (…, c, r, q)
    totals = torch.cat((near[..., -1, :] @ v, sums[..., -1:]), dim=-1)  # (…, c, r, d + 1), at the tiles' ends
    ends = m[..., -1].mT  # (…, r, c)
    held = _sums(ends[..., :-1], totals.transpose(-3, -2)[..., :-1, :], tile)  # (…, r, c − 1, d + 1)
    held = F.pad(held, (0, 0, 1, 0)).transpose(-3, -2)  # (…, c, r, d + 1), the sums before each tile
    before = torch.cat((m[..., :1, :, 0], m[..., :-1, :, -1]), dim=-2)  # (…, c, r), the maxima before each tile
    far = vanishing_exp(before.unsqueeze(-1) - m)  # (…, c, r, q)
    whole = torch.addcmul(sums, far, held[..., -1:])
    mixed = ((near / whole.unsqueeze(-1)).flatten(-3, -2) @ v).unflatten(-2, (-1, tile))  # (…, c, r, q, d)
    mixed = torch.addcmul(mixed, (far / whole).unsqueeze(-1), held[..., :-1].unsqueeze(-2))
    return mixed.transpose(-4, -3).flatten(-3, -2)[..., :n, :]


def _sums(
    peaks: Tensor,  # (…, n), non-decreasing
    terms: Tensor,  # (…, n, d)
    tile: int,
) -> Tensor:  # (…, n, d)
    """`Σ_{j ≤ i} e^{M_j − M_i} x_j` for every `i`: all tiles at once, then the same over the ends of the tiles."""
    n = peaks.shape[-1]
    if n <= tile:
        return _weights(peaks, peaks) @ terms
    pad = -n % tile
    last = peaks[..., -1:].expand(*peaks.shape[:-1], pad)
    m = torch.cat((peaks, last), dim=-1).unflatten(-1, (-1, tile))  # (…, c, q)
    near = _weights(m, m) @ F.pad(terms, (0, 0, 0, pad)).unflatten(-2, (-1, tile))  # (…, c, q, d)
    ends = m[..., :-1, -1]
    held = F.pad(_sums(ends, near[..., :-1, -1, :], tile), (0, 0, 1, 0)).unsqueeze(-2)  # (…, c, 1, d)
    before = torch.cat((m[..., :1, 0], ends), dim=-1).unsqueeze(-1)  # (…, c, 1)
    return torch.addcmul(near, vanishing_exp(before - m).unsqueeze(-1), held).flatten(-3, -2)[..., :n, :]


def _weights(
    scores: Tensor,  # (…, q): s
    peaks: Tensor,  # (…, q): M, the largest of s_1 … s_i and all scores before
) -> Tensor:  # (…, q, q)
    """`e^{s_j − M_i}` for `j ≤ i`, else 0."""
    return vanishing_exp(scores.unsqueeze(-2) - peaks.unsqueeze(-1)).tril()


def _decayed_sums(
    peaks: Tensor,  # (…, n), non-decreasing
    terms: Tensor,  # (…, n, d)
    chunk: int,
) -> Tensor:  # (…, n, d)
    """`h_i = e^{M_{i−1} − M_i} h_{i−1} + x_i` from `h_0 = 0`: all chunks at once, then the same over the ends of the chunks."""
    n = peaks.shape[-1]
    if n <= chunk:
        return torch.stack(_step_by_step(peaks, terms), dim=-2)
    chunk = math.ceil(n / math.ceil(n / chunk))  # the shortest chunks of that number
    pad = -n % chunk
    last = peaks[..., -1:].expand(*peaks.shape[:-1], pad)
    grid = ((n + pad) // chunk, chunk)  # c chunks
    peaks = torch.cat((peaks, last), dim=-1).reshape(*peaks.shape[:-1], *grid)  # (…, c, chunk)
    local = _step_by_step(peaks, F.pad(terms, (0, 0, 0, pad)).reshape(*peaks.shape, terms.shape[-1]))
    ends = peaks[..., :-1, -1]  # (…, c − 1)
    carried = _decayed_sums(ends, local[-1][..., :-1, :], chunk)  # (…, c − 1, d)
    carried = F.pad(carried, (0, 0, 1, 0))  # nothing enters the first chunk
    before = torch.cat((peaks[..., 0, :1], ends), dim=-1).unsqueeze(-1)  # (…, c, 1)
    decays = vanishing_exp(before - peaks).movedim(-1, 0).unsqueeze(-1)  # (chunk, …, c, 1)
    sums = torch.addcmul(torch.stack(local), decays, carried)  # (chunk, …, c, d)
    return sums.movedim(0, -2).flatten(-3, -2)[..., :n, :]


def _step_by_step(
    peaks: Tensor,  # (…, n)
    terms: Tensor,  # (…, n, d)
) -> list[Tensor]:  # n of (…, d)
    """The recurrence itself, one row after another."""
    decays = vanishing_exp(peaks[..., :-1] - peaks[..., 1:]).unsqueeze(-1).unbind(-2)  # n − 1 of (…, 1)
    rows = list(terms.unbind(-2))
    for i, decay in enumerate(decays, start=1):
        rows[i] = torch.addcmul(rows[i], decay, rows[i - 1])
    return rows

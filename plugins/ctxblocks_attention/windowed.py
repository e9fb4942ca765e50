"""Softmax averages over a sliding window, in one pass."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ctxblocks_attention.weights import vanishing_exp

WEIGHTS = 2**20
"""Weights held in memory at a time, unless one tile alone has more."""


def windowed_average(
    scores: Tensor,  # (…, r, 1 + n): of the query itself, then of n tokens
    values: Tensor,  # (…, 1 + n, d), shared by the r rows
    window: int,  # w
) -> Tensor:  # (…, r, 1 + n, d)
    """`Σ p_j v_j` over the query itself and the last `w` of the first `i` tokens, `i = 0 … n`, `p` the softmax of their scores.

    A window covers the beginning of one tile of `w` tokens and the end of the previous tile, so the two share one square
    of weights `e^{s_j − M_i}`, relative to the largest score `M_i` in the window: no row over- or underflows. The maxima
    cancel from the averages, so they need no gradient.
    """
    own, own_value = scores[..., :1], values[..., :1, :]
    s = _tiles(scores[..., 1:].unsqueeze(-1), window).squeeze(-1)  # (c, …, r, w)
    v = _tiles(values[..., 1:, :], window)  # (c, …, w, d)
    earlier = torch.cat((torch.full_like(s[:1], -torch.inf), s[:-1])), torch.cat((torch.zeros_like(v[:1]), v[:-1]))
    step = max(1, WEIGHTS // max(1, s[0].numel() * window))
    rows = [
        _averages((s[part], v[part]), (earlier[0][part], earlier[1][part]), own, own_value)
        for part in (slice(start, start + step) for start in range(0, len(s), step))
    ]
    averages = torch.cat(rows).movedim(0, -3).flatten(-3, -2)[..., : scores.shape[-1] - 1, :]  # (…, r, n, d)
    return torch.cat((own_value.unsqueeze(-3).expand(*averages.shape[:-2], 1, -1), averages), dim=-2)


def _averages(
    tiles: tuple[Tensor, Tensor],  # scores (c, …, r, w), values (c, …, w, d)
    before: tuple[Tensor, Tensor],  # the same of the previous tiles
    own: Tensor,  # (…, r, 1)
    own_value: Tensor,  # (…, 1, d)
) -> Tensor:  # (c, …, r, w, d)
    """The averages at every token of some tiles."""
    (s, v), (s_before, v_before), window = tiles, before, tiles[0].shape[-1]
    peaks = _peaks(s.detach(), s_before.detach(), own.detach())  # (c, …, r, w)
    front = torch.ones(window, window, dtype=torch.bool, device=s.device).tril()
    seen = torch.where(front, s.unsqueeze(-2), s_before.unsqueeze(-2))  # (c, …, r, w, w)
    weights = vanishing_exp(seen - peaks.unsqueeze(-1))
    alone = vanishing_exp(own - peaks)  # (c, …, r, w)
    whole = (weights.sum(-1) + alone).unsqueeze(-1)
    weights = (weights / whole).flatten(-3, -2)  # (c, …, r·w, w)
    front = front.repeat(s.shape[-2], 1)  # (r·w, w)
    mixed = (weights * front) @ v + (weights * ~front) @ v_before
    mixed = torch.unflatten(mixed, -2, (-1, window))  # (c, …, r, w, d)
    return torch.addcmul(mixed, alone.unsqueeze(-1) / whole, own_value.unsqueeze(-3))


def _tiles(
    x: Tensor,  # (…, n, d)
    window: int,
) -> Tensor:  # (c, …, w, d)
    """Tiles of `w` rows, the last padded with zeros."""
    padded = F.pad(x, (0, 0, 0, -x.shape[-2] % window))
    return torch.unflatten(padded, -2, (-1, window)).movedim(-3, 0).contiguous()


def _peaks(
    scores: Tensor,  # (c, …, r, w)
    before: Tensor,  # (c, …, r, w), of the previous tile
    own: Tensor,  # (…, r, 1)
) -> Tensor:  # (c, …, r, w)
    """The largest score in each window: up to its position in the tile, after that position in the previous tile, and own."""
    front = scores.cummax(-1).values
    back = before.flip(-1).cummax(-1).values.flip(-1)
    return torch.maximum(torch.maximum(front, F.pad(back[..., 1:], (0, 1), value=-torch.inf)), own)

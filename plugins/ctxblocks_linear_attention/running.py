"""Splitting into heads, and running sums over tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor


def split_heads(
    x: Tensor,  # (…, n, heads·e)
    heads: int,
    one: bool = False,
) -> Tensor:  # (…, heads, n, e), or e + 1
    """The part of each head, with a last entry of 1 if `one`."""
    parts = x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)
    return (F.pad(parts, (0, 1), value=1.0) if one else parts).transpose(-2, -3)


def join_heads(
    x: Tensor,  # (…, heads, n, e)
) -> Tensor:  # (…, n, heads·e)
    """The heads concatenated; the inverse of `split_heads`."""
    return x.transpose(-2, -3).flatten(-2)


def powers(
    log_decay: Tensor,  # (heads, 1), float64
    exponents: Tensor,  # (n,)
    dtype: torch.dtype,
) -> Tensor:  # (heads, n)
    """`γ` to each exponent, for each head, computed in float64: `γᵐ` of a rounded `γ` is off by `m` roundings."""
    return torch.exp(log_decay * exponents).to(dtype)


def triangle(
    n: int,
    log_decay: Tensor | None,  # (heads, 1), float64
    like: Tensor,
) -> Tensor:  # (n, n), or (heads, n, n) with decay
    """`γ^(i − j)` where `j ≤ i`, else 0; without decay `γ = 1`."""
    if log_decay is None:
        return torch.ones(n, n, dtype=like.dtype, device=like.device).tril()
    index = torch.arange(n, device=like.device)
    lag = (index[:, None] - index).clamp(min=0)
    return powers(log_decay, index, like.dtype)[:, lag].tril()


def running_sum(
    x: Tensor,  # (…, heads, n, e)
    start: Tensor,  # (…, heads, 1, e)
    log_decay: Tensor | None,  # (heads, 1), float64
    chunk: int,
) -> Tensor:  # (…, heads, n, e)
    """`y_i = γ y_{i−1} + x_i` from `y = start`."""
    chunk = max(min(chunk, x.shape[-2]), 1)
    if log_decay is None:
        return split_heads(_plain_sum(join_heads(x), chunk, join_heads(start)), x.shape[-3])
    return _fading_sum(x, log_decay, chunk, start)


def _chunked(
    x: Tensor,  # (…, n, e)
    chunk: int,
) -> Tensor:  # (…, count, chunk, e)
    """Chunks of tokens, the last padded with zeros."""
    count = max(-(-x.shape[-2] // chunk), 1)
    fill = count * chunk - x.shape[-2]
    padded = F.pad(x, (0, 0, 0, fill)) if fill else x
    return padded.reshape(*x.shape[:-2], count, chunk, x.shape[-1])


def _plain_sum(
    x: Tensor,  # (…, n, e)
    chunk: int,
    start: Tensor,  # (…, 1, e)
) -> Tensor:  # (…, n, e)
    """Triangular products within chunks, and the same function over the totals of the chunks."""
    local = triangle(chunk, None, x) @ _chunked(x, chunk)
    if x.shape[-2] > chunk:
        start = torch.cat([start, _plain_sum(local[..., :-1, -1, :], chunk, start)], dim=-2)
    return (local + start.unsqueeze(-2)).flatten(-3, -2)[..., : x.shape[-2], :]


def _fading_sum(
    x: Tensor,  # (…, heads, n, e)
    log_decay: Tensor,  # (heads, 1), float64
    chunk: int,
    start: Tensor,  # (…, heads, 1, e)
) -> Tensor:  # (…, heads, n, e)
    """As `_plain_sum`, where the total of a chunk decays by `γ^chunk` in each later chunk."""
    local = triangle(chunk, log_decay, x).unsqueeze(-3) @ _chunked(x, chunk)
    if x.shape[-2] > chunk:
        start = torch.cat([start, _fading_sum(local[..., :-1, -1, :], log_decay * chunk, chunk, start)], dim=-2)
    fade = powers(log_decay, torch.arange(1, chunk + 1, device=x.device), x.dtype)
    faded = torch.addcmul(local, fade[:, None, :, None], start.unsqueeze(-2))
    return faded.flatten(-3, -2)[..., : x.shape[-2], :]


def linear_scan(
    q: Tensor,  # (…, heads, n, e)
    k: Tensor,  # (…, heads, n, e)
    v: Tensor,  # (…, heads, n, f)
    log_decay: Tensor | None,  # (heads, 1), float64
    chunk: int,
) -> Tensor:  # (…, heads, n, f)
    """`o_i = Σ_{j ≤ i} γ^(i−j) (q_i·k_j) v_j`: a triangular product within each chunk, a state for all tokens before it."""
    n = k.shape[-2]
    mask = triangle(min(n, chunk), log_decay, k)
    steps = torch.arange(1, min(n, chunk) + 1, device=k.device)
    fade = None if log_decay is None else powers(log_decay, steps, k.dtype).unsqueeze(-1)  # (heads, c, 1): γ … γᶜ
    state = None
    rows = []
    for start in range(0, max(n, 1), chunk):
        stop = min(start + chunk, n)
        c = stop - start
        queries, keys, values = (x[..., start:stop, :] for x in (q, k, v))
        row = (queries @ keys.transpose(-2, -1) * mask[..., :c, :c]) @ values
        if state is not None:
            before = queries @ state
            row = row + (before if fade is None else fade[:, :c] * before)
        rows.append(row)
        if stop < n:
            state = _advance(state, keys, values, mask, fade)
    return torch.cat(rows, dim=-2)


def _advance(
    state: Tensor | None,  # (…, heads, e, f)
    keys: Tensor,  # (…, heads, c, e)
    values: Tensor,  # (…, heads, c, f)
    mask: Tensor,  # (heads, c, c)
    fade: Tensor | None,  # (heads, c, 1)
) -> Tensor:  # (…, heads, e, f)
    """The state after another full chunk: `γᶜ S + Σ_j γ^(c−j) k_j v_jᵀ`."""
    if fade is not None:
        keys = keys * mask[:, -1, :].unsqueeze(-1)  # the last row of the triangle holds γ^(c−j)
    added = keys.transpose(-2, -1) @ values
    if state is None:
        return added
    return added + (state if fade is None else fade[:, -1:] * state)

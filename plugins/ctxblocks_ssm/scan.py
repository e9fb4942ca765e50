"""The chunked scan of a state space with one scalar decay per head (structured state space duality).

The outputs of `S_i = e^{a_i} S_{i−1} + B_i u_iᵀ` are `C_iᵀ S_i`. Inside a chunk that is attention without softmax, with keys
`B` and the decays as a mask; tokens before the chunk enter through the state at its start. Source: Dao and Gu,
*Transformers are SSMs* (arXiv 2405.21060), Section 6.
"""

import math

import torch
from torch import Tensor

from ctxblocks.numerics import alike, normal_exp

FORGOTTEN = -1000.0  # log decays below it make a factor of 0 in every dtype


def decay(
    log_decay: Tensor,  # (…), float64
    dtype: torch.dtype,
) -> Tensor:  # (…)
    """`e^a` in `dtype` for `a ≤ 0`, and 0 where that is no normal number: what has decayed so far is forgotten."""
    exponent = log_decay.to(dtype).clamp(max=0.0)
    return normal_exp(exponent).masked_fill(exponent < math.log(torch.finfo(dtype).tiny), 0.0)


def read_states(
    values: Tensor,  # (…, g, n, k, p): u, of k heads in each of g groups
    keys: Tensor,  # (…, g, n, s): B
    readers: Tensor,  # (…, g, n, s): C
    log_decay: Tensor,  # (…, g, k, n): a ≤ 0, float64
    state: Tensor,  # (…, g, s, k·p): S_0
    chunk: int,
) -> tuple[Tensor, Tensor]:  # (…, g, n, k, p), (…, g, s, k·p)
    """`C_iᵀ S_i` for `i = 1 … n`, and `S_n`."""
    values, keys, readers, state = alike(values, keys, readers, state)
    rows = [values[..., :0, :, :]]
    for start in range(0, values.shape[-3], chunk):
        part = slice(start, start + chunk)
        u, B, C = values[..., part, :, :], keys[..., part, :], readers[..., part, :]
        total = log_decay[..., part].cumsum(-1)  # (…, g, k, q)
        rows.append(_near(u, B, C, total) + _far(u, C, state, total))
        state = _carry(u, B, state, total)
    return torch.cat(rows, dim=-3), state


def _near(u: Tensor, B: Tensor, C: Tensor, total: Tensor) -> Tensor:
    """The part of a chunk's outputs that comes from tokens of the same chunk."""
    scores = (C @ B.transpose(-1, -2)).tril()  # (…, g, q, q)
    mask = decay(total.unsqueeze(-1) - total.unsqueeze(-2), u.dtype)  # (…, g, k, q, q)
    return ((scores.unsqueeze(-3) * mask) @ u.transpose(-3, -2)).transpose(-3, -2)


def _far(u: Tensor, C: Tensor, state: Tensor, total: Tensor) -> Tensor:
    """The part that comes from the state at the start of the chunk."""
    kept = decay(total, u.dtype).transpose(-1, -2).unsqueeze(-1)  # (…, g, q, k, 1)
    return torch.unflatten(C @ state, -1, u.shape[-2:]) * kept


def _carry(u: Tensor, B: Tensor, state: Tensor, total: Tensor) -> Tensor:
    """The state at the end of the chunk."""
    last = total[..., -1:]  # (…, g, k, 1)
    left = decay(last - total, u.dtype).transpose(-1, -2).unsqueeze(-1)  # (…, g, q, k, 1)
    kept = decay(last, u.dtype).transpose(-1, -2).unsqueeze(-1)  # (…, g, 1, k, 1)
    old = torch.unflatten(state, -1, u.shape[-2:]) * kept
    return old.flatten(-2) + B.transpose(-1, -2) @ (u * left).flatten(-2)

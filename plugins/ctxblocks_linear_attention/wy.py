"""Scans of the delta rule, `S_j = α_j S_{j−1} (I − β_j k_j k_jᵀ) + β_j v_j k_jᵀ`, in chunks.

Within a chunk that starts from `S`, with `D_ij = α_{j+1} … α_i` for `j ≤ i`, the state after token `i` is
`D_i S + Σ_{j ≤ i} D_ij u_j k_jᵀ`, where the corrections `u` solve one unit-triangular system,

    u_i + β_i Σ_{j < i} D_ij (k_i·k_j) u_j = β_i (v_i − D_i S k_i).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Steps(NamedTuple):
    """What each of `n` tokens does to the state."""

    k: Tensor  # (…, heads, n, e), of unit length
    v: Tensor  # (…, heads, n, f)
    rate: Tensor  # β (…, heads, n, 1)
    log_gate: Tensor | None  # log α (…, heads, n, 1); None is 0

    def part(self, start: int, stop: int) -> "Steps":
        """The tokens `start … stop − 1`."""
        gate = None if self.log_gate is None else self.log_gate[..., start:stop, :]
        return Steps(self.k[..., start:stop, :], self.v[..., start:stop, :], self.rate[..., start:stop, :], gate)


def _exp(x: Tensor) -> Tensor:
    """`eˣ`, never under the least normal number: on CPU what underflows takes 20 times as long."""
    return torch.exp(x.clamp(min=math.log(torch.finfo(x.dtype).tiny)))


def _fades(
    log_gate: Tensor | None,  # (…, heads, c, 1)
    like: Tensor,  # (…, heads, c, e)
) -> tuple[Tensor, Tensor | None]:  # D_ij (…, heads, c, c), 0 where j > i; D_i (…, heads, c, 1)
    """Products of gates: each difference of logarithms is a sum of its own, so that none cancels."""
    c = like.shape[-2]
    lower = torch.ones(c, c, dtype=like.dtype, device=like.device).tril()
    if log_gate is None:
        return lower, None
    later = log_gate.transpose(-2, -1) * lower.tril(-1).transpose(-2, -1)  # (…, heads, j, i): log α_i where i > j
    between = later.cumsum(-1).transpose(-2, -1)
    since: Tensor = _exp(log_gate.cumsum(-2))
    return _exp(between) * lower, since


def _corrections(
    state: Tensor | None,  # Sᵀ (…, heads, e, f)
    steps: Steps,
    within: Tensor,  # D_ij
    since: Tensor | None,  # D_i
) -> Tensor:  # (…, heads, c, f)
    """`u` of one chunk."""
    wanted = steps.v
    if state is not None:
        held = steps.k @ state
        wanted = wanted - (held if since is None else since * held)
    system = steps.rate * (steps.k @ steps.k.transpose(-2, -1)) * within
    solved: Tensor = torch.linalg.solve_triangular(system, steps.rate * wanted, upper=False, unitriangular=True)
    return solved


def _advance(
    state: Tensor | None,  # Sᵀ (…, heads, e, f)
    steps: Steps,
    corrections: Tensor,  # (…, heads, c, f)
    within: Tensor,
    since: Tensor | None,
) -> Tensor:  # (…, heads, e, f)
    """The state after the chunk."""
    if since is None:
        added = steps.k.transpose(-2, -1) @ corrections
        return added if state is None else state + added
    added = (steps.k * within[..., -1, :].unsqueeze(-1)).transpose(-2, -1) @ corrections
    return added if state is None else since[..., -1:, :] * state + added


def delta_scan(
    q: Tensor,  # (…, heads, n, e)
    steps: Steps,
    chunk: int,
) -> Tensor:  # (…, heads, n, f)
    """`S_i q_i` for every token: each query reads the state after its own row's step."""
    n = q.shape[-2]
    state = None
    rows = []
    for start in range(0, max(n, 1), chunk):
        stop = min(start + chunk, n)
        queries, part = q[..., start:stop, :], steps.part(start, stop)
        within, since = _fades(part.log_gate, part.k)
        corrections = _corrections(state, part, within, since)
        row = (queries @ part.k.transpose(-2, -1) * within) @ corrections
        if state is not None:
            before = queries @ state
            row = row + (before if since is None else since * before)
        rows.append(row)
        if stop < n:
            state = _advance(state, part, corrections, within, since)
    return torch.cat(rows, dim=-2)


def delta_scan_one(
    q: Tensor,  # (…, heads, 1, e)
    steps: Steps,
    chunk: int,
) -> Tensor:  # (…, heads, n, f)
    """`S_i q` for one query: within a chunk a running sum of `(k_j·q) u_j`."""
    n = steps.k.shape[-2]
    weights = q @ steps.k.transpose(-2, -1)  # (…, heads, 1, n)
    state = None
    rows = []
    for start in range(0, max(n, 1), chunk):
        stop = min(start + chunk, n)
        part = steps.part(start, stop)
        within, since = _fades(part.log_gate, part.k)
        corrections = _corrections(state, part, within, since)
        row = (weights[..., start:stop] * within) @ corrections
        if state is not None:
            before = q @ state
            row = row + (before if since is None else since * before)
        rows.append(row)
        if stop < n:
            state = _advance(state, part, corrections, within, since)
    return torch.cat(rows, dim=-2)


def backward_weights(
    q: Tensor,  # (…, heads, 1, e)
    steps: Steps,
    chunk: int,
) -> Tensor:  # (…, heads, n, 1)
    """`w` with `S_n q = Σ_j w_j v_j`: the query carried back through the tokens, last first.

    `w_j = β_j a_j α_{j+1} … α_n` with `a_j = k_jᵀ (I − β_{j+1} k_{j+1} k_{j+1}ᵀ) … (I − β_n k_n k_nᵀ) q`, so in each
    chunk `a_j + Σ_{l > j} (k_j·k_l) β_l a_l = k_jᵀ q`. Gates scale the query alone, hence the weights alone.
    """
    n = steps.k.shape[-2]
    carried = q.transpose(-2, -1)  # (…, heads, e, 1)
    parts: list[Tensor] = []
    for stop in range(n, min(n, 1) - 1, -chunk):
        part = steps.part(max(stop - chunk, 0), stop)
        keys = part.k.transpose(-2, -1)
        system = (part.k @ keys) * part.rate.transpose(-2, -1)
        weight = part.rate * torch.linalg.solve_triangular(system, part.k @ carried, upper=True, unitriangular=True)
        carried = carried - keys @ weight
        parts.insert(0, weight)
    weights = torch.cat(parts, dim=-2)
    if steps.log_gate is None:
        return weights
    after = F.pad(steps.log_gate[..., 1:, :], (0, 0, 0, 1)).flip(-2).cumsum(-2).flip(-2)  # log α_{j+1} … α_n
    return weights * _exp(after)

"""Scans of the delta rule, `S_j = α_j S_{j−1} (I − β_j k_j k_jᵀ) + β_j v_j k_jᵀ`, in chunks.

Within a chunk that starts from `S`, with `D_ij = α_{j+1} … α_i` for `j ≤ i`, the state after token `i` is
`D_i S + Σ_{j ≤ i} D_ij u_j k_jᵀ`, where the corrections `u` solve one unit-triangular system,

    u_i + β_i Σ_{j < i} D_ij (k_i·k_j) u_j = β_i (v_i − D_i S k_i).
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ctxblocks.numerics import normal_exp


class Steps(NamedTuple):
    """The parameters of the steps of `n` tokens."""

    k: Tensor  # (…, heads, n, e), of unit length
    v: Tensor  # (…, heads, n, f)
    rate: Tensor  # β (…, heads, n, 1)
    log_gate: Tensor | None  # log α (…, heads, n, 1); None is 0

    def part(self, start: int, stop: int) -> "Steps":
        """The tokens `start … stop − 1`."""
        gate = None if self.log_gate is None else self.log_gate[..., start:stop, :]
        return Steps(self.k[..., start:stop, :], self.v[..., start:stop, :], self.rate[..., start:stop, :], gate)


def _fades(
    log_gate: Tensor | None,  # (…, heads, c, 1)
    like: Tensor,  # (…, heads, c, e)
) -> tuple[Tensor, Tensor | None]:  # D_ij (…, heads, c, c), 0 where j > i; D_i (…, heads, c, 1)
    """Products of gates, each from its own sum of logarithms, so that there is no cancellation."""
    c = like.shape[-2]
    lower = torch.ones(c, c, dtype=like.dtype, device=like.device).tril()
    if log_gate is None:
        return lower, None
    later = log_gate.transpose(-2, -1) * lower.tril(-1).transpose(-2, -1)  # (…, heads, j, i): log α_i where i > j
    between = later.cumsum(-1).transpose(-2, -1)
    since: Tensor = normal_exp(log_gate.cumsum(-2))
    return normal_exp(between) * lower, since


def _corrections(
    state: Tensor | None,  # Sᵀ (…, heads, e, f)
    steps: Steps,
    within: Tensor,  # D_ij
    since: Tensor | None,  # D_i
) -> Tensor:  # (…, heads, c, f)
    """`u` of one chunk."""
    targets = steps.v
    if state is not None:
        held = steps.k @ state
        targets = targets - (held if since is None else since * held)
    system = steps.rate * (steps.k @ steps.k.transpose(-2, -1)) * within
    solved: Tensor = torch.linalg.solve_triangular(system, steps.rate * targets, upper=False, unitriangular=True)
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


class _Chunk(NamedTuple):
    """One chunk of tokens, and the state before it."""

    rows: slice
    keys: Tensor  # (…, heads, c, e)
    within: Tensor  # D_ij
    since: Tensor | None  # D_i
    corrections: Tensor  # (…, heads, c, f)
    state: Tensor | None  # Sᵀ (…, heads, e, f); None before the first token

    def outputs(
        self,
        scores: Tensor,  # q_i·k_j (…, heads, c or 1, c)
        queries: Tensor,  # (…, heads, c or 1, e)
    ) -> Tensor:  # (…, heads, c, f)
        """`S_i q_i` for the tokens of the chunk."""
        row = (scores * self.within) @ self.corrections
        if self.state is None:
            return row
        before = queries @ self.state
        return row + (before if self.since is None else self.since * before)


def _chunks(steps: Steps, chunk: int) -> Iterator[_Chunk]:
    """The chunks of the scan, one after another; of no tokens, one empty chunk."""
    n, state = steps.k.shape[-2], None
    for start in range(0, max(n, 1), chunk):
        stop = min(start + chunk, n)
        part = steps.part(start, stop)
        within, since = _fades(part.log_gate, part.k)
        corrections = _corrections(state, part, within, since)
        yield _Chunk(slice(start, stop), part.k, within, since, corrections, state)
        if stop < n:
            state = _advance(state, part, corrections, within, since)


def delta_scan(
    q: Tensor,  # (…, heads, n, e)
    steps: Steps,
    chunk: int,
) -> Tensor:  # (…, heads, n, f)
    """`S_i q_i` for every token, where `S_i` is the state after token `i`."""
    rows = []
    for part in _chunks(steps, chunk):
        queries = q[..., part.rows, :]
        rows.append(part.outputs(queries @ part.keys.transpose(-2, -1), queries))
    return torch.cat(rows, dim=-2)


def delta_scan_one(
    q: Tensor,  # (…, heads, 1, e)
    steps: Steps,
    chunk: int,
) -> Tensor:  # (…, heads, n, f)
    """`S_i q` for one query and every `i`."""
    scores = q @ steps.k.transpose(-2, -1)  # (…, heads, 1, n)
    return torch.cat([part.outputs(scores[..., part.rows], q) for part in _chunks(steps, chunk)], dim=-2)


def backward_weights(
    q: Tensor,  # (…, heads, 1, e)
    steps: Steps,
    chunk: int,
) -> Tensor:  # (…, heads, n, 1)
    """`w` with `S_n q = Σ_j w_j v_j`: the query is propagated backwards through the tokens.

    `w_j = β_j a_j α_{j+1} … α_n` with `a_j = k_jᵀ (I − β_{j+1} k_{j+1} k_{j+1}ᵀ) … (I − β_n k_n k_nᵀ) q`, so in each
    chunk `a_j + Σ_{l > j} (k_j·k_l) β_l a_l = k_jᵀ q`. Gates only scale the query, and so the weights.
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
    return weights * normal_exp(after)

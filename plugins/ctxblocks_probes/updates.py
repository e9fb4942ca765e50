"""Probes of a sequence of updates: norms, determinants, and the change from one update to the next."""

import torch
from torch import Tensor

from ctxblocks import Updates
from ctxblocks.numerics import norm as euclidean


def marginal_change(sequence: Updates) -> Tensor:  # (…, n) of n + 1 updates
    """`‖ΔW_i − ΔW_{i−1}‖_F` over the stack of all input projections, `i = 1 … n`."""
    return sequence.updates.marginal_change(sequence.weights())


def norm(sequence: Updates) -> Tensor:  # (…, n + 1)
    """`‖ΔW_i‖_F` over the stack of all input projections."""
    return sequence.updates.norm(sequence.weights())


def determinant(sequence: Updates) -> Tensor:  # (…, n + 1)
    """`det P_i` of the operator that multiplies every input projection: 1 where the context has no effect."""
    return sequence.updates.operator.det()


def alignment(sequence: Updates) -> Tensor:  # (…, n)
    """The cosine of `ΔW_i` and `ΔW_{i−1}`, `i = 1 … n`; 0 where one of them is zero."""
    updates = sequence.updates
    return updates[..., 1:].alignment(updates[..., :-1], sequence.weights())


def shift_norm(sequence: Updates) -> Tensor:  # (…, n + 1)
    """`‖Δb'_i‖` of the bias shift; 0 for a site without a residual stream."""
    updates = sequence.updates
    if updates.shift is None:
        return torch.zeros_like(updates.operator.key[..., 0])
    return euclidean(updates.shift).to(updates.shift.dtype)


def distance_to_full(sequence: Updates) -> Tensor:  # (…, n + 1)
    """`‖ΔW_n − ΔW_i‖_F`, `n` the last: the change by all tokens after the first `i`."""
    return sequence.updates.distance(sequence.updates[..., -1:], sequence.weights())


def commutator(sequence: Updates) -> Tensor:  # (…, n)
    """`‖P_i P_{i−1} − P_{i−1} P_i‖_F`, `i = 1 … n`: 0 where the two operators commute."""
    updates = sequence.updates
    return updates[..., 1:].operator.commutator(updates[..., :-1].operator).norm().to(updates.operator.key.dtype)

"""How large updates are, and how they change from one token to the next."""

import torch
from torch import Tensor

from ctxblocks import LowRank, Updates


def marginal_change(course: Updates) -> Tensor:  # (…, steps)
    """`‖ΔW_i − ΔW_{i−1}‖_F` over the stack of all readers; the first is `‖ΔW_0‖_F`."""
    operator, weights = course.updates.operator, course.weights()
    columns = torch.cat([operator.direction @ weight.to(operator.direction.dtype).mT for weight in weights], dim=-1)
    early, late = columns[..., :-1, :], columns[..., 1:, :]
    keys = torch.stack([operator.key[..., 1:, :], operator.key[..., :-1, :]], dim=-2)  # (…, steps − 1, 2, d)
    change = LowRank(torch.stack([late, -early], dim=-1), keys).norm()
    return torch.cat([course.updates[..., :1].norm(weights), change], dim=-1)


def norm(course: Updates) -> Tensor:  # (…, steps)
    """`‖ΔW_i‖_F` over the stack of all readers."""
    return course.updates.norm(course.weights())


def determinant(course: Updates) -> Tensor:  # (…, steps)
    """`det P_i`, `P_i` the operator that multiplies every reader: 1 where the context does nothing."""
    return course.updates.operator.det()


def alignment(course: Updates) -> Tensor:  # (…, steps)
    """The cosine of `ΔW_i` and `ΔW_{i−1}`; the first, which follows nothing, is 0."""
    updates, weights = course.updates, course.weights()
    found = updates[..., 1:].alignment(updates[..., :-1], weights)
    return torch.cat([torch.zeros_like(updates.operator.key[..., :1, 0]), found], dim=-1)


def shift_norm(course: Updates) -> Tensor:  # (…, steps)
    """`‖Δb'_i‖` of the bypass shift; 0 where nothing bypasses the site."""
    updates = course.updates
    if updates.shift is None:
        return torch.zeros_like(updates.operator.key[..., 0])
    length: Tensor = torch.linalg.vector_norm(updates.shift, dim=-1)
    return length


def distance_to_full(course: Updates) -> Tensor:  # (…, steps)
    """`‖ΔW_n − ΔW_i‖_F`, `n` the last: what is still to come."""
    operator, weights = course.updates.operator, course.weights()
    columns = torch.cat([operator.direction @ weight.to(operator.direction.dtype).mT for weight in weights], dim=-1)
    last, keys = columns[..., -1:, :].expand_as(columns), operator.key[..., -1:, :].expand_as(operator.key)
    change = LowRank(torch.stack([last, -columns], dim=-1), torch.stack([keys, operator.key], dim=-2))
    return change.norm()


def commutator(course: Updates) -> Tensor:  # (…, steps)
    """`‖P_i P_{i−1} − P_{i−1} P_i‖_F`: 0 where the order of the two does not matter; the first, which follows nothing, is 0."""
    updates = course.updates
    found = updates[..., 1:].operator.commutator(updates[..., :-1].operator).norm()
    return torch.cat([torch.zeros_like(updates.operator.key[..., :1, 0]), found.to(updates.operator.key.dtype)], dim=-1)

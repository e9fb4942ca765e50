"""Probes that come with the plugin: how large updates are, and how they change from one token to the next."""

import torch
from torch import Tensor

from ctxblocks import LowRank, Probe, Updates


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


PROBES = (
    Probe(name="alignment", summary="cosine of an update and the one before", measure=alignment),
    Probe(name="determinant", summary="det P of the operator on the readers", measure=determinant),
    Probe(name="marginal-change", summary="‖ΔW_i − ΔW_{i−1}‖, Frobenius", measure=marginal_change),
    Probe(name="norm", summary="‖ΔW_i‖, Frobenius and spectral", measure=norm),
    Probe(name="shift-norm", summary="‖Δb'_i‖ of the bypass shift", measure=shift_norm),
)

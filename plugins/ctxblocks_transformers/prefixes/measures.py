"""Measures of the updates of one block along a prompt: norms, steps and angles, without a dense matrix."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ctxblocks import ImplicitUpdate
from ctxblocks.numerics import norm, widen

MEASURES = {
    "norm": "‖ΔWᵢ‖: the change of the readers' weights after i tokens, Frobenius and spectral norm at once",
    "determinant": "det Pᵢ = 1 + kᵢᵀδᵢ: the determinant of the operator after i tokens",
    "shift": "‖Δb′ᵢ‖: the bias shift after i tokens",
    "marginal-change": "‖Wᵢ₊₁ − Wᵢ‖: the change of the weights by the next token, Frobenius norm",
    "alignment": "cosine of ΔWᵢ and ΔWᵢ₊₁",
    "marginal_shift": "‖Δb′ᵢ₊₁ − Δb′ᵢ‖: the change of the bias shift by the next token",
}
"""Every measure by its name: of `i = 0 … n`, those of a change by the next token and the alignment of `i = 0 … n − 1`."""
RENAMED = {"marginal": "marginal-change"}
"""The present names of measures under their earlier names."""


def measure(
    update: ImplicitUpdate,  # (n + 1, d)
    weights: Sequence[Tensor],  # (…, m, d) each
) -> dict[str, Tensor]:  # (n + 1,) or (n,) each
    """All measures of one block by name [Sec. 3, Fig. 3]; zero where a block has no such part.

    From the second block on the base read depends on the prefix, so that a step has rank two [theory: Section 5].
    """
    matrices = [weight.detach().reshape(-1, weight.shape[-1]) for weight in weights]
    lengths = update.successive(matrices)
    shift = torch.zeros_like(update.operator.key) if update.shift is None else widen(update.shift)
    return {
        "norm": lengths.norm,
        "determinant": update.operator.det(),
        "shift": norm(shift),
        "marginal-change": lengths.marginal_change,
        "alignment": lengths.alignment,
        "marginal_shift": norm(shift.diff(dim=0)),
    }

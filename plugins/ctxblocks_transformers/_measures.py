"""What is measured of the updates of one block along a prompt: norms, steps and angles, without a dense update."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from ctxblocks import ContextOperator
from ctxblocks_transformers._derive import wide

IMAGES = 2**22
"""Numbers that the readers put out at a time: 16 megabytes in float32."""
MEASURES = {
    "norm": "‖ΔW_i‖, Frobenius and spectral at once, over all readers of the block",
    "determinant": "det P_i = 1 + k_iᵀδ_i",
    "shift": "‖Δb'_i‖, of what bypasses the network",
    "marginal": "‖W_{i+1} − W_i‖_F: what the next token adds",
    "alignment": "cosine of ΔW_i and ΔW_{i+1}",
    "marginal_shift": "‖Δb'_{i+1} − Δb'_i‖",
}
"""Every measure by its name; the first three of `i = 0 … n`, the others of `i = 0 … n − 1`."""


@dataclasses.dataclass(frozen=True)
class _Images:
    """Sums over all readers: `‖Wδ_i‖²`, `⟨Wδ_{i+1}, Wδ_i⟩` and `‖c_i Wδ_{i+1} − Wδ_i‖²`."""

    squares: Tensor  # (n + 1,)
    products: Tensor  # (n,)
    steps: Tensor  # (n,)


def measure(
    operator: ContextOperator,  # (n + 1, d)
    shift: Tensor | None,  # (n + 1, d)
    weights: Sequence[Tensor],  # (…, m, d) each
) -> dict[str, Tensor]:
    """All measures of one block by name [Sec. 3, Fig. 3]; zero where a block has no such part.

    From the second block on the base read moves with the prefix, so that a step has rank two. With `k' = c k + k⊥`,
    `W(δ'k'ᵀ − δkᵀ) = W(cδ' − δ) kᵀ + Wδ' k⊥ᵀ`: two orthogonal parts, so that nothing cancels [theory: Section 5].
    """
    direction, key = wide(operator.direction), wide(operator.key)
    lengths = torch.linalg.vector_norm(key, dim=-1)  # ‖k_i‖
    early, late = key[:-1], key[1:]
    squares = (early * early).sum(-1)
    along = (early * late).sum(-1) / torch.where(squares == 0, 1, squares)  # c_i
    across = torch.linalg.vector_norm(late - along.unsqueeze(-1) * early, dim=-1)  # ‖k⊥‖
    images = _images(direction, along, weights)
    sizes = images.squares.sqrt()  # ‖Wδ_i‖
    norms = sizes * lengths
    scale = norms[1:] * norms[:-1]
    turned = images.products * (early * late).sum(-1)
    none = torch.zeros_like(lengths)
    return {
        "norm": norms,
        "determinant": 1 + (key * direction).sum(-1),
        "shift": none if shift is None else torch.linalg.vector_norm(wide(shift), dim=-1),
        "marginal": torch.hypot(images.steps.sqrt() * lengths[:-1], sizes[1:] * across),
        "alignment": turned / torch.where(scale == 0, 1, scale),
        "marginal_shift": none[1:] if shift is None else torch.linalg.vector_norm(wide(shift).diff(dim=0), dim=-1),
    }


def _images(
    direction: Tensor,  # (n + 1, d)
    along: Tensor,  # (n,)
    weights: Sequence[Tensor],  # (…, m, d) each
) -> _Images:
    """Some directions at a time, each image being built once."""
    n = len(direction) - 1
    found = _Images(direction.new_zeros(n + 1), direction.new_zeros(n), direction.new_zeros(n))
    for weight in weights:
        matrix = weight.detach().reshape(-1, weight.shape[-1]).to(direction)  # (m, d)
        for start in range(0, n + 1, step := max(1, IMAGES // len(matrix))):
            stop = min(n, start + step)
            images = direction[start : start + step + 1] @ matrix.mT  # one row more than is counted
            own, early, late = images[: n + 1 - start][:step], images[: stop - start], images[1 : stop - start + 1]
            found.squares[start : start + step] += (own * own).sum(-1)
            found.products[start:stop] += (early * late).sum(-1)
            found.steps[start:stop] += (
                torch.addcmul(early, along[start:stop].unsqueeze(-1), late, value=-1).square().sum(-1)
            )
    return found

"""What is measured of the updates of one block along a prompt: norms, steps and angles, without a dense update."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from ctxblocks import ContextOperator
from ctxblocks_transformers.updates.derive import wide

IMAGES = 2**17
"""Numbers that the readers put out at a time: half a megabyte in float32, which a cache holds."""
LEAST = 32
"""Directions that are taken at a time at least."""
MEASURES = {
    "norm": "‖ΔWᵢ‖: what the first i tokens do to the readers' weights, Frobenius and spectral norm at once",
    "determinant": "det Pᵢ = 1 + kᵢᵀδᵢ, of the operator on what the readers read",
    "shift": "‖Δb′ᵢ‖: what they do to what bypasses the network",
    "marginal": "‖Wᵢ₊₁ − Wᵢ‖: what the next token adds to the weights, Frobenius norm",
    "alignment": "cosine of ΔWᵢ and ΔWᵢ₊₁",
    "marginal_shift": "‖Δb′ᵢ₊₁ − Δb′ᵢ‖: what the next token adds to the bypass",
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
        for start in range(0, n + 1, step := max(LEAST, IMAGES // len(matrix))):
            stop = min(n, start + step)
            images = direction[start : start + step + 1] @ matrix.mT  # one row more than is counted
            own, early, late = images[: n + 1 - start][:step], images[: stop - start], images[1 : stop - start + 1]
            found.squares[start : start + step] += torch.linalg.vecdot(own, own)
            found.products[start:stop] += torch.linalg.vecdot(early, late)
            found.steps[start:stop] += (
                torch.addcmul(early, along[start:stop].unsqueeze(-1), late, value=-1).square().sum(-1)
            )
    return found

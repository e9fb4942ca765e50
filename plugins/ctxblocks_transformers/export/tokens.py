"""One map for all remaining tokens: `P = I + Δᵀ(Z⁺)ᵀ` takes every base read to its read with the context.

With one token it is Eq. 1. A kept token that the context does not change has `Δ = 0`: its read only turns the others' keys
away from it, so that its output stays as it is.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ctxblocks import ContextOperator, ImplicitUpdate

UNCHANGED = 64
"""Units of round-off up to which a kept token at the start of the prompt counts as not changed by the context."""


def moved_tokens(updates: Iterable[ImplicitUpdate], positions: Tensor, query: int, unit: float) -> list[int]:
    """The remaining tokens that the context changes, as indices of `positions`: all but those before everything removed.

    Args:
        updates: of every block, `(tokens, d)` each.
        positions: `(tokens,)`, in the prompt.
        query: the index of the query, which counts as changed.
        unit: round-off of the model's dtype.
    """
    changed = positions != torch.arange(len(positions), device=positions.device)
    changed[query] = True
    limit = min(UNCHANGED * unit, 0.05)
    for update in updates:
        direction, key = update.operator.direction.double(), update.operator.key.double()
        changed |= (direction.norm(dim=-1) * key.norm(dim=-1) > limit).to(changed.device)  # ‖δ‖ / ‖z‖
    return changed.nonzero().flatten().tolist()


def operators_of(update: ImplicitUpdate, moved: Sequence[int]) -> list[ContextOperator]:
    """`P − I = Σ_t δ_t k_tᵀ`, a term for each token that the context changes.

    The reads follow from the keys of the least-norm solver, `z = k / ‖k‖²`.
    """
    operator = update.operator
    if len(operator.key) == 1:
        return [update[0].operator]
    keys = operator.key.double()
    squares = (keys * keys).sum(-1, keepdim=True)  # (tokens, 1), 0 for a read that is zero
    reads = torch.where(squares > 0, keys / squares.clamp_min(torch.finfo(squares.dtype).tiny), 0.0)
    joint = joint_keys(reads).to(operator.key.dtype)
    return [ContextOperator(operator.direction[t], joint[t]) for t in moved]


def joint_keys(
    reads: Tensor,  # Z (tokens, d)
) -> Tensor:  # (tokens, d), float64
    """`(Z⁺)ᵀ`: the key of a token is 1 on its own read and 0 on the other tokens', of least norm.

    Rows are scaled to length one first, since the norm of a kept token's read may exceed the others' by far.
    """
    reads = reads.double()
    norms = reads.norm(dim=-1, keepdim=True)
    scales = torch.where(norms > 0, norms, 1.0)
    keys: Tensor = torch.linalg.pinv(reads / scales).mT / scales
    return keys

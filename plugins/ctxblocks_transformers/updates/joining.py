"""Updates of successive tokens as one update with a dimension of tokens."""

from collections.abc import Sequence

import torch

from ctxblocks import ContextOperator, ImplicitUpdate


def joined(parts: Sequence[ImplicitUpdate]) -> ImplicitUpdate:
    """The updates of one block at successive tokens, `(tokens, d)` each, concatenated."""
    operators, first = [part.operator for part in parts], parts[0]
    operator = ContextOperator(
        torch.cat([each.direction for each in operators]),
        torch.cat([each.key for each in operators]),
        None if first.operator.offset is None else torch.cat([e.offset for e in operators if e.offset is not None]),
    )
    shifts = [part.shift for part in parts if part.shift is not None]
    return ImplicitUpdate(operator, torch.cat(shifts) if shifts else None, first.site, per_token=True)


def joined_steps(steps: Sequence[Sequence[ImplicitUpdate | None]]) -> tuple[ImplicitUpdate | None, ...]:
    """The updates of every block, all steps in one; None for a block without updates."""
    blocks = ([part for part in parts if part is not None] for parts in zip(*steps, strict=True))
    return tuple(joined(parts) if parts else None for parts in blocks)

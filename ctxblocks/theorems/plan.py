"""What the theorem functions share: how an update is made from two reads, and the checks of their arguments."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.algebra.solvers import Solver
from ctxblocks.base.checks import check_call, check_finite, inside_transform
from ctxblocks.base.errors import ArgumentError, DegenerateQueryError
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.read import Read
from ctxblocks.blocks.stack import Stack
from ctxblocks.blocks.update import ImplicitUpdate, Place, Site, one_of

Block = ContextualBlock | Stack


@dataclasses.dataclass(frozen=True)
class Plan:
    """How updates are to be made: everything that the theorems take beside block, query and context."""

    site: Site = "network"
    place: Place = "output-bias"
    check: bool = True

    def update(self, block: ContextualBlock, solver: Solver, base: Read, full: Read) -> ImplicitUpdate:
        """The update that takes what is read without a part of the context to what is read with it."""
        if self.site == "network" and not block.reads_context:
            operator = ContextOperator.identity(full.z)
        else:
            operator = solver.solve(base.z, full.z, self.check)
        if base.bypass is None or full.bypass is None:
            return ImplicitUpdate(operator, None, self.site, self.place)
        shift = full.bypass - base.bypass
        return ImplicitUpdate(operator, shift, self.site, self.place, self._carrier(block, operator, base, shift))

    def _carrier(self, block: ContextualBlock, operator: ContextOperator, base: Read, shift: Tensor) -> Tensor | None:
        if self.place == "output-bias":
            return None
        if self.place == "last-layer":
            carrier, absent = block.network.last_key(base.z, operator)
            lost, what = absent & (shift != 0).any(-1), "what the last dense layer reads is zero"
        else:
            scale = block.normalized(block.network(base.z, operator))
            lost, what = (scale == 0) & (shift != 0), "an entry of the normalised output is zero"
            carrier = torch.where(scale == 0, 0, shift / torch.where(scale == 0, 1, scale))
        if self.check and not inside_transform() and bool(lost.any()):
            raise DegenerateQueryError(
                f"place: {what} where the bypass moves, needs it non-zero for {self.place!r}; use place='output-bias'"
            )
        return carrier


def blocks_of(block: Block) -> list[ContextualBlock]:
    """The blocks of a stack, or the one block."""
    return list(block) if isinstance(block, Stack) else [block]


def solvers_of(block: Block, solver: Solver | Sequence[Solver]) -> list[Solver]:
    """One solver for each block.

    Raises:
        ArgumentError: their number is neither one nor that of the blocks.
    """
    count = len(blocks_of(block))
    solvers = [solver] * count if isinstance(solver, Solver) else list(solver)
    if len(solvers) != count or not all(isinstance(each, Solver) for each in solvers):
        raise ArgumentError(
            f"solver: got {solver!r}, needs one Solver or one for each of {count} blocks, such as LeastNorm()"
        )
    return solvers


def check_problem(block: Block, query: Tensor, context: Tensor, plan: Plan, name: str = "context") -> None:
    """Raise unless query and context fit the block and are finite, and the plan's site and place exist in it."""
    one_of("site", plan.site, ("network", "out-proj"))
    for each in blocks_of(block):
        one_of("place", plan.place, ("output-bias", "last-layer", "post-norm"))
        each.check_update(ImplicitUpdate(_probe(each, plan), None, plan.site, plan.place))
    if isinstance(block, Stack):
        block.check_call(query, context, name)
    else:
        check_call(block.layer, query, context, block.width, block.layer.context_width, name)
    if plan.check and not inside_transform():
        check_finite("query", query, "remove or replace them, or pass check=False to let them through")
        check_finite(name, context, "remove or replace them, or pass check=False to let them through")


def _probe(block: ContextualBlock, plan: Plan) -> ContextOperator:
    width = next(iter(block.readers(plan.site).values())).in_features
    return ContextOperator.identity(torch.empty(width))


def read_in(block: Block, tokens: Tensor) -> Tensor:
    """Tokens as the first block is given them."""
    return block.read_in(tokens) if isinstance(block, Stack) else tokens


def kept_rows(keep: Sequence[int] | Tensor, length: int) -> list[int]:
    """The indices of the context rows that stay, checked.

    Raises:
        ArgumentError: an index is out of range, or they are not strictly increasing.
    """
    rows = keep.tolist() if isinstance(keep, Tensor) else list(keep)
    whole = all(isinstance(i, int) and not isinstance(i, bool) for i in rows)
    if not whole or any(not 0 <= i < length for i in rows) or rows != sorted(set(rows)):
        raise ArgumentError(f"keep: got {rows}, needs strictly increasing row indices between 0 and {length - 1}")
    return rows

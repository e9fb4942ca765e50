"""The arguments that theorems share, checked once at the door."""

from collections.abc import Sequence

from torch import Tensor

from ctxblocks.algebra.solvers import Solver
from ctxblocks.base.checks import check_choice, check_finite, inside_transform
from ctxblocks.base.errors import ArgumentError
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.stack import Stack
from ctxblocks.theorems.implicit_update import Placement

Block = ContextualBlock | Stack
PLACES = ("output-bias", "last-layer", "post-norm")


def check_problem(block: Block, query: Tensor, context: Tensor, placement: Placement, name: str = "context") -> None:
    """Raise unless the block has the site and the place, and query and context fit it and are finite."""
    check_choice("place", placement.place, PLACES)
    for each in block.in_order:
        each.site(placement.site)
        each.check_place(placement.place)
    check_tensors(block, query, context, placement.check, name)


def check_tensors(block: Block, query: Tensor, context: Tensor, check: bool = True, name: str = "context") -> None:
    """Raise unless query and context fit the block and, where values are checked, are finite."""
    block.check_call(query, context, name)
    if check and not inside_transform():
        check_finite("query", query, "remove or replace them, or pass check=False to let them through")
        check_finite(name, context, "remove or replace them, or pass check=False to let them through")


def solvers_of(block: Block, solver: Solver | Sequence[Solver]) -> list[Solver]:
    """One solver for each block.

    Raises:
        ArgumentError: their number is neither one nor that of the blocks.
    """
    count = len(block.in_order)
    solvers = [solver] * count if isinstance(solver, Solver) else list(solver)
    if len(solvers) != count or not all(isinstance(each, Solver) for each in solvers):
        raise ArgumentError(
            f"solver: got {solver!r}, needs one Solver or one for each of {count} blocks, such as LeastNorm()"
        )
    return solvers


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

"""Checks of the arguments that all theorem functions share; each public function calls them once, at its start."""

from collections.abc import Sequence

from torch import Tensor

from ctxblocks.algebra.solvers import Solver
from ctxblocks.base.checks import check_finite, readable
from ctxblocks.base.errors import ArgumentError
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.sites import Site
from ctxblocks.blocks.stack import Stack
from ctxblocks.theorems.implicit_update import Placement

Block = ContextualBlock | Stack
ADVICE = "remove or replace them, or pass check=False to skip this check"
"""What to do about entries of an argument that are not finite."""


def check_problem(block: Block, query: Tensor, context: Tensor, placement: Placement) -> list[Site]:
    """Raise unless site and place exist in the block and query and context fit it and are finite; return one site per block."""
    sites = []
    for each in block.in_order:
        sites.append(each.site(placement.site))
        each.check_place(placement.place)
    check_tensors(block, query, context, placement.check)
    return sites


def check_tensors(block: Block, query: Tensor, context: Tensor, check: bool = True, name: str = "context") -> None:
    """Raise unless query and context fit the block and, if values are checked, are finite."""
    block.check_call(query, context, name)
    if check and readable(query, context):
        check_finite("query", query, ADVICE)
        check_finite(name, context, ADVICE)


def solvers_of(solver: Solver | Sequence[Solver], count: int) -> list[Solver]:
    """The solvers of `count` blocks, one for each.

    Raises:
        ArgumentError: the number of solvers is neither one nor `count`.
    """
    solvers = [solver] * count if isinstance(solver, Solver) else list(solver)
    if len(solvers) != count or not all(isinstance(each, Solver) for each in solvers):
        raise ArgumentError(
            f"solver: got {solver!r}, needs one Solver or one for each of {count} blocks, such as LeastNorm()"
        )
    return solvers


def kept_rows(keep: Sequence[int] | Tensor, length: int) -> list[int]:
    """`keep` as a list of row indices, after checking them.

    Raises:
        ArgumentError: an index is not an integer or is out of range, or the indices are not strictly increasing.
    """
    rows = keep.tolist() if isinstance(keep, Tensor) else list(keep)
    integers = all(isinstance(i, int) and not isinstance(i, bool) for i in rows)
    if not integers or any(not 0 <= i < length for i in rows) or rows != sorted(set(rows)):
        raise ArgumentError(f"keep: got {rows}, needs strictly increasing row indices between 0 and {length - 1}")
    return rows

"""The alternative dynamics: tokens move into the weights one by one while the output stays [Rem. 3.2, App. E]."""

import dataclasses

import torch
from torch import Tensor

from ctxblocks.algebra.operator import ContextOperator, OperatorProduct
from ctxblocks.algebra.solvers import LeastNorm, Solver
from ctxblocks.base.errors import ArgumentError
from ctxblocks.base.records import STATIC, record
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.read import Read
from ctxblocks.blocks.update import ImplicitUpdate
from ctxblocks.theorems.arguments import check_problem
from ctxblocks.theorems.implicit_update import Placement


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Factorization:
    """`W_n = W_0 (I + h_1 G_1)(I + h_2 G_2) … (I + h_n G_n)` [Eq. 31], kept as factors.

    Factor `i` is the operator of the one token `c_i` given what follows it, from the read `A_i = A(c_{i+1} … c_n, x)`
    to `A_{i−1}`. The product and the total update of Theorem 2.2 differ by a `K` with `K A(x) = 0` [Rem. 2.4].

    Attributes:
        updates: factors and bypass shifts of the tokens, batched `(…, n)`.
        reads: `A_0 … A_n (…, n + 1, d)` and what bypasses them.
        block: the block that all this belongs to.
    """

    updates: ImplicitUpdate
    reads: Read
    block: ContextualBlock = dataclasses.field(metadata=STATIC)

    @property
    def factors(self) -> ContextOperator:
        """`I + h_i G_i`, batched `(…, n)`: direction `A_{i−1} − A_i`, key `A_i / ‖A_i‖²`."""
        return self.updates.operator

    def factor(self, i: int) -> ContextOperator:
        """The operator of token `c_i`, `i = 1 … n`.

        Raises:
            ArgumentError: there is no token `i`.
        """
        count = self.factors.key.shape[-2]
        if not 1 <= i <= count:
            raise ArgumentError(f"i: got {i}, needs 1 ≤ i ≤ {count}; tokens are counted from 1")
        return self.updates[..., i - 1].operator

    def apply(
        self,
        z: Tensor,  # (…, d)
    ) -> Tensor:  # (…, d)
        """`P_1 P_2 … P_n z`, the last factor first."""
        return self.product().apply(z)

    def partial(self, i: int) -> OperatorProduct:
        """`P_1 … P_i`: what `c_1 … c_i` have become, for use with `c_{i+1} … c_n` in the context.

        Raises:
            ArgumentError: there is no token `i`.
        """
        if i == 0:
            return OperatorProduct((ContextOperator.identity(self.reads.z[..., 0, :]),))
        self.factor(i)
        return OperatorProduct(tuple(self.factor(j) for j in range(1, i + 1)))

    def product(self) -> OperatorProduct:
        """`P_1 … P_n`, all of the context; the identity where there is none."""
        return self.partial(self.factors.key.shape[-2])

    def shift(self, i: int) -> Tensor | None:  # (…, d)
        """`Δb'` of `c_1 … c_i`, `r_0 − r_i`; None where nothing bypasses the network."""
        bypass = self.reads.bypass
        return None if bypass is None else bypass[..., 0, :] - bypass[..., i, :]

    def outputs(self) -> Tensor:  # (…, n + 1, d)
        """`T_{W_i}(c_{i+1} … c_n, x)` for `i = 0 … n`, through the factors: all of them the output with all of `C` [Eq. 27]."""
        z, count = self.reads.z, self.factors.key.shape[-2]
        for j in range(count, 0, -1):  # factor j acts on the reads of all i ≥ j
            wide = self.updates[..., j - 1, None].operator
            z = torch.cat([z[..., :j, :], wide.apply(z[..., j:, :])], dim=-2)
        bypass = self.reads.bypass
        if bypass is None:
            return self.block.complete(Read(z, None))
        shifts = bypass[..., :1, :] - bypass
        return self.block.complete(Read(z, bypass + shifts))


def factorize(
    block: ContextualBlock,
    query: Tensor,  # (…, d)
    context: Tensor,  # (…, n, d_context)
    *,
    solver: Solver = LeastNorm(),
    check: bool = True,
) -> Factorization:
    """The factorisation of a context's update into one operator per token [App. E, Eq. 23–31].

    Args:
        block: a block (not a stack).
        query: `x`.
        context: `C = [c_1 … c_n]`.
        solver: which of all exact updates.
        check: whether to look at values.

    Raises:
        ArgumentError: `block` is not a contextual block.
        ShapeError, DtypeError, DeviceError: the arguments do not fit the block or each other.
        NonFiniteError: query or context hold NaN or infinity.
        DegenerateQueryError: a suffix's read is zero; `Augmented()` has an update there.
    """
    if not isinstance(block, ContextualBlock):
        raise ArgumentError(
            f"block: got {type(block).__name__}, needs a ContextualBlock; factorize the blocks of a stack one by one"
        )
    placement = Placement(check=check)
    check_problem(block, query, context, placement)
    mixed = block.layer.suffixes(block.enter(query), block.enter(context))  # (…, n + 1, d)
    reads = block.split(query.unsqueeze(-2).expand_as(mixed), mixed)
    base, full = reads.rows(slice(1, None)), reads.rows(slice(None, -1))
    return Factorization(placement.update(block, base, full, solver), reads, block)

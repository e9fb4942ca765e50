"""The alternative dynamics: tokens move into the weights one by one while the output stays constant [Rem. 3.2, App. E]."""

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
from ctxblocks.theorems.arguments import check_tensors
from ctxblocks.theorems.implicit_update import Placement


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Factorization:
    """`W_n = W_0 (I + h_1 G_1)(I + h_2 G_2) … (I + h_n G_n)` [Eq. 31], stored as factors.

    Factor `i` is the operator of the token `c_i` given the tokens after it: it maps the read `A_i = A(c_{i+1} … c_n, x)`
    to `A_{i−1}`. The product and the total update of Theorem 2.2 differ by a matrix `K` with `K A(x) = 0` [Rem. 2.4].

    Attributes:
        updates: factor and bias shift of every token, batched `(…, n)`.
        reads: `A_0 … A_n (…, n + 1, d)`, with the residual stream of each.
        block: the block of these updates and reads.
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
        """`P_1 … P_i`, which replaces `c_1 … c_i` while `c_{i+1} … c_n` stay in the context.

        Raises:
            ArgumentError: there is no token `i`.
        """
        if i == 0:
            return OperatorProduct((ContextOperator.identity(self.reads.z[..., 0, :]),))
        self.factor(i)
        return OperatorProduct(tuple(self.factor(j) for j in range(1, i + 1)))

    def product(self) -> OperatorProduct:
        """`P_1 … P_n`, which replaces the whole context; the identity for an empty context."""
        return self.partial(self.factors.key.shape[-2])

    def shift(self, i: int) -> Tensor | None:  # (…, d)
        """`Δb'` of `c_1 … c_i`, `r_0 − r_i`; None for a block without a residual stream."""
        bypass = self.reads.bypass
        return None if bypass is None else bypass[..., 0, :] - bypass[..., i, :]

    def outputs(self) -> Tensor:  # (…, n + 1, d)
        """`T_{W_i}(c_{i+1} … c_n, x)` for `i = 0 … n`, computed with the factors; each equals `T(C, x)` [Eq. 27]."""
        z, count = self.reads.z, self.factors.key.shape[-2]
        for j in range(count, 0, -1):  # factor j acts on the reads of all i ≥ j
            factor = self.updates[..., j - 1, None].operator
            z = torch.cat([z[..., :j, :], factor.apply(z[..., j:, :])], dim=-2)
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
    """Factorise the update of a context into one operator per token [App. E, Eq. 23–31].

    Args:
        block: a block (not a stack).
        query: `x`.
        context: `C = [c_1 … c_n]`.
        solver: chooses one of the exact updates.
        check: whether to check values (finite, not degenerate).

    Raises:
        ArgumentError: `block` is not a contextual block.
        ShapeError, DtypeError, DeviceError: the arguments do not fit the block or each other.
        NonFiniteError: query, context or a read of the block hold NaN or infinity.
        DegenerateQueryError: the network's input with some suffix as the context is zero; use `Augmented()`.
    """
    if not isinstance(block, ContextualBlock):
        raise ArgumentError(
            f"block: got {type(block).__name__}, needs a ContextualBlock; factorize the blocks of a stack one by one"
        )
    placement = Placement(check=check)
    check_tensors(block, query, context, check)
    mixed = block.layer.suffixes(block.enter(query), block.enter(context))  # (…, n + 1, d)
    reads = block.split(query.unsqueeze(-2).expand_as(mixed), mixed)
    base, full = reads.rows(slice(1, None)), reads.rows(slice(None, -1))
    return Factorization(placement.update(block, base, full, solver, rows="suffix"), reads, block)

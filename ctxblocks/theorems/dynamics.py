"""The learning dynamics of a prompt: one weight update per prefix, and the gradient steps between them [Sec. 3, Prop. 3.1]."""

import dataclasses
from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor

from ctxblocks.algebra.low_rank import LowRank
from ctxblocks.algebra.solvers import LeastNorm, Solver
from ctxblocks.base.checks import check_choice, inside_transform
from ctxblocks.base.errors import ArgumentError
from ctxblocks.base.records import STATIC, record
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.read import Read
from ctxblocks.blocks.stack import Stack
from ctxblocks.blocks.update import ImplicitUpdate
from ctxblocks.numerics import dot
from ctxblocks.theorems.arguments import Block, check_problem, solvers_of
from ctxblocks.theorems.chunks import check_chunk, room_for_prefixes, rows_at_a_time
from ctxblocks.theorems.implicit_update import Placement


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Dynamics:
    """`W_i = W_0 + ΔW(C_i)` for every prefix `C_i = [c_1 … c_i]`, `i = 0 … n`, factored [Eq. 6–9].

    Attributes:
        updates: `ΔW(C_i)` and `Δb'(C_i)`, batched `(…, n + 1)`.
        full: what the block reads with every prefix, `z (…, n + 1, d)`.
        base: what the block reads without context: `z (…, 1, d)` where it is the same for every prefix, else `(…, n + 1, d)`.
        block: the block that all this belongs to.
        solver: the solver of the updates.
        chunk: rows that the network works on at a time; None is `dynamics`' own choice.
    """

    updates: ImplicitUpdate
    full: Read
    base: Read
    block: ContextualBlock = dataclasses.field(metadata=STATIC)
    solver: Solver = dataclasses.field(metadata=STATIC)
    chunk: int | None = dataclasses.field(default=None, metadata=STATIC)

    @property
    def outputs(self) -> Tensor:  # (…, n + 1, d)
        """`T(C_i, x)`, computed with the context; the network runs when they are asked for, since no update needs it."""
        return self.block.complete(self.full, None, rows_at_a_time(self.block, self.chunk))

    def weights(self, reader: str | None = None) -> list[Tensor]:  # (m, d) each
        """The weights `W_0` of all readers, or of the one named.

        Raises:
            ArgumentError: no reader has that name.
        """
        readers = self.block.network.readers
        if reader is not None:
            check_choice("reader", reader, readers)
            return [readers[reader].weight]
        return [linear.weight for linear in readers.values()]

    def updated_outputs(self) -> Tensor:  # (…, n + 1, d)
        """`T_{W_i}(x)`: the query alone under every update; equals `outputs` [Cor. 2.5.1]."""
        rows = rows_at_a_time(self.block, self.chunk)
        return self.block.complete(self.base.expand(self.full.z), self.updates, rows)

    def marginal_norms(self, reader: str | None = None) -> Tensor:  # (…, n)
        """`‖W_{i+1} − W_i‖_F`, `i = 0 … n − 1`, over the stack of all readers or the one named [Fig. 3].

        Where the base read is the same for every prefix the change has rank one, and this is its spectral norm too;
        elsewhere it has rank two and this is its Frobenius norm.
        """
        return self.updates.marginal_change(self.weights(reader))

    def weight(self, i: int, reader: str | None = None) -> Tensor:  # (…, m, d)
        """`W_i`, dense, of the one reader or the one named.

        Raises:
            ArgumentError: the network has several readers and none was named, or `i` is no prefix.
        """
        name = self._one_reader(reader)
        self._check_step(i, 1)
        weight = self.weights(name)[0]
        return weight + self.updates[..., i].delta_weight(weight)

    @property
    def steady(self) -> bool:
        """Whether the base read is the same for every prefix, as in the first block."""
        return self.base.z.shape[-2] == 1

    @property
    def step_size(self) -> Tensor:  # (…)
        """`h = 1 / ‖z‖²`, `z` the read without context [Prop. 3.1].

        Raises:
            ArgumentError: the base read depends on the prefix, or the solver is not `LeastNorm`.
        """
        self._check_gradient()
        squares = dot(self.base.z[..., 0, :], self.base.z[..., 0, :])
        return squares.reciprocal().to(self.base.z.dtype)

    def gradient(self, i: int, reader: str | None = None) -> LowRank:  # (…, m, d)
        """`∇_W L_i = Δ_i = W_0 (z_i − z_{i+1}) z_0ᵀ`, so that `W_{i+1} = W_i − h Δ_i` [Prop. 3.1, Eq. 10]; `i = 0 … n − 1`.

        Raises:
            ArgumentError: the base read depends on the prefix, the solver is not `LeastNorm`, or there is no step `i`.
        """
        self._check_gradient()
        self._check_step(i, 0)
        direction = self.updates.operator.direction
        step = direction[..., i, :] - direction[..., i + 1, :]
        columns = torch.cat([step @ weight.mT for weight in self.weights(reader)], dim=-1)
        return LowRank(columns.unsqueeze(-1), self.base.z[..., 0, :].unsqueeze(-2))

    def loss(self, i: int, reader: str | None = None) -> Tensor:  # (…)
        """`L_i(W_i) = trace(Δ_iᵀ W_i)`, the loss whose gradient step `i` takes [Prop. 3.1]; over the stack of readers."""
        gradient = self.gradient(i, reader)
        z, op = self.base.z[..., 0, :], self.updates[..., i].operator
        moved = torch.cat([op.apply(z) @ weight.mT for weight in self.weights(reader)], dim=-1)  # W_i z_0
        return dot(gradient.columns.squeeze(-1), moved).to(z.dtype)

    def _one_reader(self, reader: str | None) -> str:
        readers = list(self.block.network.readers)
        if reader is None and len(readers) > 1:
            raise ArgumentError(
                f"reader: got none, needs one of {', '.join(map(repr, readers))}, since there are several"
            )
        return readers[0] if reader is None else reader

    def _check_step(self, i: int, extra: int) -> None:
        steps = self.full.z.shape[-2] - 1 + extra
        if not 0 <= i < steps:
            raise ArgumentError(f"i: got {i}, needs 0 ≤ i < {steps}")

    def _check_gradient(self) -> None:
        if not self.full.depends:
            raise ArgumentError(
                "gradient: the network of a parallel block reads no context, so its weights do not move; read .updates.shift"
            )
        if not self.steady:
            raise ArgumentError(
                "gradient: got a block whose base read depends on the prefix, needs a constant one (the first block of a stack); "
                "use marginal_norms() and updates, which hold everywhere"
            )
        if not isinstance(self.solver, LeastNorm):
            raise ArgumentError(
                f"gradient: got updates by {type(self.solver).__name__}, needs LeastNorm(), Proposition 3.1's"
            )


@overload
def dynamics(
    block: ContextualBlock,
    query: Tensor,
    context: Tensor,
    *,
    solver: Solver = ...,
    chunk: int | None = ...,
    check: bool = ...,
) -> Dynamics: ...
@overload
def dynamics(
    block: Stack,
    query: Tensor,
    context: Tensor,
    *,
    solver: Solver | Sequence[Solver] = ...,
    chunk: int | None = ...,
    check: bool = ...,
) -> list[Dynamics]: ...
def dynamics(
    block: Block,
    query: Tensor,  # (…, d)
    context: Tensor,  # (…, n, d_context)
    *,
    solver: Solver | Sequence[Solver] = LeastNorm(),
    chunk: int | None = None,
    check: bool = True,
) -> Dynamics | list[Dynamics]:
    """Every prefix's update at once [Sec. 3, Prop. 3.1]; of a `Stack`, one `Dynamics` for each block.

    In a stack the `n + 1` copies of the query run side by side over one pass of the context.

    Args:
        block: a block or a `Stack`.
        query: `x`.
        context: `C = [c_1 … c_n]`.
        solver: which of all exact updates; one, or one for each block.
        chunk: rows (prefixes, over all of the batch) that the network works on at a time, which bounds what its hidden
            layers hold; every value gives the same function. By default as many as keep that in a cache.
        check: whether to look at values.

    Raises:
        ShapeError, DtypeError, DeviceError: the arguments do not fit the block or each other.
        NonFiniteError: query or context hold NaN or infinity.
        DegenerateQueryError: the read without context is zero; `Augmented()` has an update there.
        ArgumentError: `chunk` is below 1.
        OutOfMemoryError: there is less memory than the prefixes take, or torch was refused what it asked for.
    """
    placement = Placement(check=check)
    check_problem(block, query, context, placement)
    check_chunk(chunk)
    how = (solvers_of(block, solver), placement, chunk)
    if inside_transform():
        steps = _all_prefixes(block, query, context, how)
    else:
        with room_for_prefixes(context, block.in_order):
            steps = _all_prefixes(block, query, context, how)
    return steps if isinstance(block, Stack) else steps[0]


def _all_prefixes(
    block: Block, query: Tensor, context: Tensor, how: tuple[list[Solver], Placement, int | None]
) -> list[Dynamics]:
    """Block by block: the reads after every prefix, their updates, and the activation of the patched query alone."""
    solvers, placement, chunk = how
    query, context, steps = block.read_in(query), block.read_in(context), []
    copies = alone = query.unsqueeze(-2)  # (…, 1 or n + 1, d)
    for number, (each, solver) in enumerate(zip(block.in_order, solvers, strict=True)):
        full = each.contextualize_prefixes(copies, context)
        base = each.read(alone, each.no_tokens(alone))
        update = placement.update(each, base, full, solver)
        steps.append(Dynamics(update, full, base, each, solver, chunk))
        if number + 1 < len(solvers):
            rows = rows_at_a_time(each, chunk)
            copies = each.complete(full, None, rows)
            alone, context = each.complete(base.expand(full.z), update, rows), each.sequence(context)
    return steps

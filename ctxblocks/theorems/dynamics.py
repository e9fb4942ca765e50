"""The learning dynamics of a prompt: one weight update per prefix, and the gradient steps between them [Sec. 3, Prop. 3.1]."""

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from typing import overload

import torch
from torch import Tensor

from ctxblocks.algebra.low_rank import LowRank
from ctxblocks.algebra.solvers import LeastNorm, Solver
from ctxblocks.base.checks import check_finite, inside_transform, readable
from ctxblocks.base.errors import ArgumentError
from ctxblocks.base.memory import memory_errors
from ctxblocks.base.records import STATIC, record
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.read import Read
from ctxblocks.blocks.stack import Stack
from ctxblocks.blocks.update import ImplicitUpdate
from ctxblocks.numerics import dot, norm, wide_matmul, widen
from ctxblocks.theorems.arguments import Block, check_tensors, solvers_of
from ctxblocks.theorems.chunks import check_chunk, rows_at_a_time
from ctxblocks.theorems.implicit_update import Placement
from ctxblocks.validators import one_of


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Dynamics:
    """`W_i = W_0 + ΔW(C_i)` for every prefix `C_i = [c_1 … c_i]`, `i = 0 … n`, stored as rank-one factors [Eq. 6–9].

    Attributes:
        updates: `ΔW(C_i)` and `Δb'(C_i)`, batched `(…, n + 1)`.
        full: the reads with every prefix as the context, `z (…, n + 1, d)`.
        base: the read without context: `z (…, 1, d)` if it is the same for every prefix, else `(…, n + 1, d)`.
        block: the block of these updates and reads.
        solver: the solver that made the updates.
        chunk: number of rows that the network processes at a time; None for the default of `dynamics`.
        check: whether measures check that the weights that they use are finite.
    """

    updates: ImplicitUpdate
    full: Read
    base: Read
    block: ContextualBlock = dataclasses.field(metadata=STATIC)
    solver: Solver = dataclasses.field(metadata=STATIC)
    chunk: int | None = dataclasses.field(default=None, metadata=STATIC)
    check: bool = dataclasses.field(default=True, metadata=STATIC)

    @property
    def outputs(self) -> Tensor:  # (…, n + 1, d)
        """`T(C_i, x)`, the outputs with the context. Computed on access, since the updates do not need the network's output."""
        return self.block.complete(self.full, None, rows_at_a_time(self.block, self.chunk))

    def weights(self, reader: str | None = None) -> list[Tensor]:  # (m, d) each
        """The weights `W_0` of all input projections (*readers*), or of the one named `reader`.

        Raises:
            ArgumentError: the network has no reader of that name.
            NonFiniteError: a weight holds NaN or infinity.
        """
        readers = self.block.network.readers
        if reader is not None:
            one_of(readers).check("reader", reader)
            readers = {reader: readers[reader]}
        weights = {name: linear.weight for name, linear in readers.items()}
        if self.check and readable(*weights.values()):
            for name, weight in weights.items():
                check_finite(f"weight of the reader {name!r}", weight, "repair the weights of the network")
        return list(weights.values())

    def updated_outputs(self) -> Tensor:  # (…, n + 1, d)
        """`T_{W_i}(x)`: the output without context under every update; equals `outputs` [Cor. 2.5.1]."""
        rows = rows_at_a_time(self.block, self.chunk)
        return self.block.complete(self.base.expand(self.full.z), self.updates, rows)

    def marginal_norms(self, reader: str | None = None) -> Tensor:  # (…, n)
        """`‖W_{i+1} − W_i‖_F`, `i = 0 … n − 1`, over the vertical stack of all readers, or of the one named `reader` [Fig. 3].

        If the base read is the same for every prefix, the change has rank one and its spectral norm is the same; otherwise
        it has rank two.
        """
        return self.updates.marginal_change(self.weights(reader))

    def weight(self, i: int, reader: str | None = None) -> Tensor:  # (…, m, d)
        """The dense matrix `W_i` of the only reader, or of the one named `reader`.

        Raises:
            ArgumentError: the network has several readers and `reader` is None, or there is no prefix of `i` tokens.
        """
        name = self._one_reader(reader)
        self._check_step(i, 1)
        weight = self.weights(name)[0]
        return weight + self.updates[..., i].delta_weight(weight)

    @property
    def steady(self) -> bool:
        """Whether the base read is the same for every prefix, as it is in the first block of a stack."""
        return self.base.z.shape[-2] == 1

    @property
    def step_size(self) -> Tensor:  # (…)
        """`h = 1 / ‖z‖²` with `z` the network's input without context [Prop. 3.1], in float32 where reads are in half types.

        Raises:
            ArgumentError: the base read depends on the prefix, or the solver is not `LeastNorm`.
            NonFiniteError: the read is so small that `h` is beyond the largest number.
        """
        self._check_gradient()
        length = norm(self.base.z[..., 0, :])
        size = length.reciprocal() / length  # no square, which may over- or underflow
        if self.check and readable(size):
            check_finite("step_size", size, "convert the block and its arguments with .double()")
        return size

    def gradient(self, i: int, reader: str | None = None) -> LowRank:  # (…, m, d)
        """`∇_W L_i = Δ_i = W_0 (z_i − z_{i+1}) z_0ᵀ`, so that `W_{i+1} = W_i − h Δ_i` [Prop. 3.1, Eq. 10]; `i = 0 … n − 1`.

        As `step_size` and `loss` it is in float32 where reads are in half types, whose range it may leave.

        Raises:
            ArgumentError: the base read depends on the prefix, the solver is not `LeastNorm`, or there is no step `i`.
        """
        self._check_gradient()
        self._check_step(i, 0)
        direction = self.updates.operator.direction
        step = widen(direction[..., i, :]) - widen(direction[..., i + 1, :])
        columns = torch.cat([wide_matmul(step, weight.mT) for weight in self.weights(reader)], dim=-1)
        return LowRank(columns.unsqueeze(-1), widen(self.base.z[..., 0, :]).unsqueeze(-2))

    def loss(self, i: int, reader: str | None = None) -> Tensor:  # (…)
        """`L_i(W_i) = trace(Δ_iᵀ W_i)`, the loss of the gradient step `i` [Prop. 3.1], over the vertical stack of readers."""
        gradient = self.gradient(i, reader)
        z, operator = self.base.z[..., 0, :], self.updates[..., i].operator
        outputs = torch.cat(
            [wide_matmul(operator.apply(z), weight.mT) for weight in self.weights(reader)], dim=-1
        )  # W_i z_0
        return dot(gradient.columns.squeeze(-1), outputs)

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
                "gradient: got a parallel block, needs one whose network reads the context, since only then its weights change; "
                "use .updates.shift"
            )
        if not self.steady:
            raise ArgumentError(
                "gradient: got a block whose base read depends on the prefix, needs a constant one (the first block of a stack); "
                "use marginal_norms() and updates, which are valid for every block"
            )
        if not isinstance(self.solver, LeastNorm):
            raise ArgumentError(
                f"gradient: got updates by {type(self.solver).__name__}, needs LeastNorm(), the solver of Proposition 3.1"
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
    """The updates of all prefixes of a context [Sec. 3, Prop. 3.1]; for a `Stack`, one `Dynamics` for each block.

    In a stack, `n + 1` copies of the query are processed in parallel with one forward pass over the context.

    Args:
        block: a block or a `Stack`.
        query: `x`.
        context: `C = [c_1 … c_n]`.
        solver: chooses one of the exact updates; one solver, or one for each block.
        chunk: number of rows (prefixes of all batch elements) that the network processes at a time, which bounds the memory
            of its hidden layers. It does not affect the results. By default as many rows as fit into the cache.
        check: whether to check values (finite, not degenerate).

    Raises:
        ShapeError, DtypeError, DeviceError: the arguments do not fit the block or each other.
        NonFiniteError: query, context or a read of a block hold NaN or infinity.
        DegenerateQueryError: the network's input without context is zero; use `Augmented()`.
        ArgumentError: `chunk` is below 1.
        OutOfMemoryError: the results do not fit into the free memory, or torch could not allocate memory.
    """
    blocks, guarded = block.in_order, not inside_transform()
    check_tensors(block, query, context, check)
    pairs = list(zip(blocks, solvers_of(solver, len(blocks)), strict=True))
    what, way_out = check_chunk(context, blocks, chunk, guarded)
    with memory_errors(context.device, what, way_out) if guarded else nullcontext():
        steps = _all_prefixes(block, query, context, (pairs, Placement(check=check), chunk))
    return steps if isinstance(block, Stack) else steps[0]


Settings = tuple[list[tuple[ContextualBlock, Solver]], Placement, int | None]


def _all_prefixes(model: Block, query: Tensor, context: Tensor, settings: Settings) -> list[Dynamics]:
    """For each block in turn: the reads after every prefix, the updates, and the activation of the patched query alone."""
    pairs, placement, chunk = settings
    copies, context = model.read_in(query).unsqueeze(-2), model.read_in(context)  # (…, 1 or n + 1, d)
    steps: list[Dynamics] = []
    alone = copies
    for block, solver in pairs:
        full = block.contextualize_prefixes(copies, context)
        base = block.read(alone, block.no_tokens(alone))
        update = placement.update(block, base, full, solver, len(steps), "prefix")
        steps.append(Dynamics(update, full, base, block, solver, chunk, placement.check))
        if len(steps) < len(pairs):
            rows = rows_at_a_time(block, chunk)
            copies = block.complete(full, None, rows)
            alone, context = block.complete(base.expand(full.z), update, rows), block.sequence(context)
    return steps

"""Fine-tuning on the examples of a prompt, for comparison with the implicit dynamics [Sec. 4.4]."""

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctxblocks.algebra.low_rank import LowRank
from ctxblocks.base.checks import readable
from ctxblocks.base.errors import ArgumentError, ShapeError
from ctxblocks.base.records import record
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.networks import Network
from ctxblocks.blocks.update import ImplicitUpdate
from ctxblocks.numerics import dot, norm
from ctxblocks.theorems.arguments import check_tensors
from ctxblocks.theorems.finite import check_reads

Biases = dict[str, Tensor]


def last_entry_hidden(
    context: Tensor,  # (…, n, d)
) -> tuple[Tensor, Tensor]:  # (…, n, d), (…, n)
    """The default training examples: every token with its last entry set to 0 as input, and that entry as target."""
    inputs = torch.cat([context[..., :-1], torch.zeros_like(context[..., -1:])], dim=-1)
    return inputs, context[..., -1]


def half_square(
    outputs: Tensor,  # (…, d)
    targets: Tensor,  # (…)
) -> Tensor:  # (…)
    """The default loss, `½ (ŷ − y)²` with `ŷ` the last entry of the output."""
    return 0.5 * (outputs[..., -1] - targets) ** 2


@record
@dataclasses.dataclass(frozen=True, eq=False)
class FineTuning:
    """SGD on the weights of the input projections (*readers*), one example of the prompt after another, as rank-one steps.

    Step `j` changes the weight `W` of a reader by `−lr g_j z_jᵀ`, where `z_j` is the network's input for example `j` without
    context and `g_j` the gradient of the loss with respect to the reader's output. `z_j` is constant during training, since
    only the readers are trained.

    Attributes:
        columns: `−lr g_j`, for each reader `(…, m, n)`.
        rows: `z_j (…, n, d)`.
        outputs: the block's output at the query, without context, after `i` steps, `(…, n + 1, d)`.
        weights: `W_0` of every reader, `(m, d)`.
    """

    columns: Biases
    rows: Tensor
    outputs: Tensor
    weights: Biases

    def update(self, i: int, reader: str) -> LowRank:  # (…, m, d), rank ≤ i
        """The change of the weight of a reader after `i` steps.

        Raises:
            ArgumentError: there is no step `i`, or no reader of that name.
        """
        if reader not in self.columns or not 0 <= i <= self.rows.shape[-2]:
            raise ArgumentError(
                f"update: got step {i} of reader {reader!r}, needs 0 ≤ i ≤ {self.rows.shape[-2]} and one of "
                f"{', '.join(self.columns)}"
            )
        return LowRank(self.columns[reader][..., :i], self.rows[..., :i, :])

    def alignment(self, updates: ImplicitUpdate) -> Tensor:  # (…, n + 1)
        """`⟨ΔW_GD, ΔW⟩_F / (‖ΔW_GD‖_F ‖ΔW‖_F)` of `i` steps and of `i` tokens, over the vertical stack of readers [Fig. 4].

        It is 0 where one of the two is zero, as both are at `i = 0`.

        Args:
            updates: those of the same block, query and prompt, batched `(…, n + 1)`, such as `Dynamics.updates`.
        """
        steps = self.rows.shape[-2]
        columns = torch.cat([self.columns[name] for name in self.weights], dim=-2)  # (…, M, n)
        operator = updates.operator
        images = torch.cat(
            [operator.direction @ weight.mT for weight in self.weights.values()], dim=-1
        )  # Wδ_i (…, n + 1, M)
        pairs = (images @ columns) * (operator.key @ self.rows.mT)  # (…, n + 1, n): ⟨step j, ΔW_i⟩
        inner = pairs.tril(diagonal=-1).sum(-1)
        gram = (columns.mT @ columns) * (self.rows @ self.rows.mT)  # (…, n, n): ⟨step j, step l⟩
        squares = gram.cumsum(-1).cumsum(-2).diagonal(dim1=-2, dim2=-1)
        lengths = torch.cat([squares.new_zeros((*squares.shape[:-1], 1)), squares.clamp_min(0).sqrt()], dim=-1)
        scale = lengths * norm(images) * norm(operator.key)
        assert scale.shape[-1] == steps + 1
        return inner / torch.where(scale == 0, 1, scale)


class _EmptyContextReads(NamedTuple):
    """Reads without context; for a block without a residual stream `bypass` is zero, and its `join` ignores it."""

    z: Tensor  # (…, n, d)
    bypass: Tensor  # (…, n, d)

    @classmethod
    def of(cls, block: ContextualBlock, queries: Tensor, rows: str) -> "_EmptyContextReads":
        """The reads of all queries, each without context; `rows` says in error messages what they are."""
        with torch.no_grad():
            read = block.contextualize(queries, block.no_tokens(queries))
        if readable(read.z):
            check_reads(read, read, "block 0", rows, block)
        return cls(read.z, torch.zeros_like(read.z) if read.bypass is None else read.bypass)

    def map(self, function: Callable[[Tensor], Tensor]) -> "_EmptyContextReads":
        """`function` applied to both tensors."""
        return _EmptyContextReads(function(self.z), function(self.bypass))


@dataclasses.dataclass(frozen=True)
class _Trainee:
    """A block with a copy of its network in which every reader has a bias, through which steps of SGD are simulated.

    A change of the weight of a reader adds a vector to the reader's output, which is the same as a change of its bias.
    """

    network: Network
    block: ContextualBlock
    loss: Callable[[Tensor, Tensor], Tensor]

    @classmethod
    def of(cls, block: ContextualBlock, loss: Callable[[Tensor, Tensor], Tensor]) -> "_Trainee":
        """Copy the network of the block and add a zero bias to readers without one."""
        network = copy.deepcopy(block.network).requires_grad_(False)
        for linear in network.readers.values():
            if linear.bias is None:
                linear.bias = nn.Parameter(linear.weight.new_zeros(linear.out_features), requires_grad=False)
        return cls(network, block, loss)

    def output(self, added: Biases, read: _EmptyContextReads) -> Tensor:  # (m,) each, (d,) -> (d,)
        """The block's output for one read, with `added` added to the outputs of the readers."""
        biases = {f"{name}.bias": linear.bias + added[name] for name, linear in self.network.readers.items()}
        return self.block.join(read.bypass, torch.func.functional_call(self.network, biases, (read.z,)))

    def cost(self, added: Biases, read: _EmptyContextReads, target: Tensor) -> Tensor:
        """The loss of one example."""
        return self.loss(self.output(added, read), target)


def finetune(
    block: ContextualBlock,
    query: Tensor,  # (…, d)
    context: Tensor,  # (…, n, d)
    lr: float,
    example: Callable[[Tensor], tuple[Tensor, Tensor]] = last_entry_hidden,
    loss: Callable[[Tensor, Tensor], Tensor] = half_square,
) -> FineTuning:
    """SGD on the input projections of the network, one example at a time in the order of the prompt [Sec. 4.4, Fig. 4].

    Each batch element is trained separately from the weights of the block. No trained weight matrix is built.

    Args:
        block: a block (not a stack).
        query: `x`; its output without context is recorded after every step.
        context: the examples of the prompt.
        lr: the learning rate.
        example: maps the context to inputs `(…, n, d)` and targets `(…, n)`.
        loss: maps an output `(d,)` and a target to a scalar.

    Raises:
        ArgumentError: `block` is not a contextual block, or `lr` is not a positive finite number.
        ShapeError, DtypeError, DeviceError: the arguments do not fit the block or each other.
        NonFiniteError: query, context or a read of the block hold NaN or infinity.
    """
    if not isinstance(block, ContextualBlock):
        raise ArgumentError(
            f"block: got {type(block).__name__}, needs a ContextualBlock; fine-tune the blocks of a stack one by one"
        )
    if not 0 < lr < float("inf"):
        raise ArgumentError(f"lr: got {lr}, needs a positive finite learning rate")
    check_tensors(block, query, context)
    if 0 in query.shape[:-1]:
        raise ShapeError(
            f"query: got shape {tuple(query.shape)}, an empty batch, needs at least one task; pass at least one query"
        )
    inputs, targets = example(context)
    examples = _EmptyContextReads.of(block, inputs, "example")
    question = _EmptyContextReads.of(block, query.unsqueeze(-2), "query")
    trainee = _Trainee.of(block, loss)
    columns = _steps(trainee, examples, targets, lr)
    weights = {name: linear.weight.detach() for name, linear in block.network.readers.items()}
    return FineTuning(columns, examples.z, _outputs(trainee, examples, question, columns), weights)


def _steps(trainee: _Trainee, examples: _EmptyContextReads, targets: Tensor, lr: float) -> Biases:
    """`−lr g_j` of every step, for each reader `(…, m, n)`; the gradient of step `j` includes the effect of all steps before."""
    batch, (n, d) = examples.z.shape[:-2], examples.z.shape[-2:]
    tasks = math.prod(batch)
    flat, targets = examples.map(lambda t: t.reshape(tasks, n, d)), targets.reshape(tasks, n)  # (B, n, d), (B, n)
    gradient = torch.func.vmap(torch.func.grad(trainee.cost))
    readers = trainee.network.readers
    columns = {name: flat.z.new_zeros(tasks, linear.out_features, 0) for name, linear in readers.items()}  # (B, m, j)
    for j in range(n):
        example = _EmptyContextReads(flat.z[:, j], flat.bypass[:, j])
        products = flat.z[:, :j] @ example.z.unsqueeze(-1)  # z_lᵀ z_j (B, j, 1)
        added = {name: (column @ products).squeeze(-1) for name, column in columns.items()}
        slopes = gradient(added, example, targets[:, j])
        columns = {name: torch.cat([c, -lr * slopes[name].unsqueeze(-1)], dim=-1) for name, c in columns.items()}
    return {name: c.reshape(*batch, -1, n) if n else c.reshape(*batch, c.shape[1], 0) for name, c in columns.items()}


def _outputs(
    trainee: _Trainee, examples: _EmptyContextReads, query: _EmptyContextReads, columns: Biases
) -> Tensor:  # (…, n + 1, d)
    """The block's output at the query, without context, after 0 … n steps."""
    z = examples.z
    shape = (*z.shape[:-2], z.shape[-2] + 1, z.shape[-1])
    products = dot(z, query.z).unsqueeze(-2).to(z.dtype)  # z_jᵀ z_q (…, 1, n)
    added = {
        name: F.pad((column * products).cumsum(-1), (1, 0)).mT for name, column in columns.items()
    }  # (…, n + 1, m)
    rows = {name: total.reshape(-1, total.shape[-1]) for name, total in added.items()}
    queries = query.map(lambda t: t.expand(shape).reshape(-1, shape[-1]))
    outputs: Tensor = torch.func.vmap(trainee.output)(rows, queries)
    return outputs.reshape(shape)

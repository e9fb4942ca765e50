"""Fine-tuning on the prompt's examples, the explicit counterpart of the implicit dynamics [Sec. 4.4]."""

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctxblocks.algebra.low_rank import LowRank
from ctxblocks.base.errors import ArgumentError, ShapeError
from ctxblocks.base.records import record
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.networks import Network
from ctxblocks.blocks.update import ImplicitUpdate
from ctxblocks.numerics import dot, norm
from ctxblocks.theorems.arguments import check_tensors

Biases = dict[str, Tensor]


def last_entry_hidden(
    context: Tensor,  # (…, n, d)
) -> tuple[Tensor, Tensor]:  # (…, n, d), (…, n)
    """The default example of a prompt column: the column with its last entry set to 0, and that entry as its target."""
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
    """SGD on the readers' weights, one example of the prompt after another, kept as rank-one steps.

    Step `j` changes reader `W` by `−lr g_j z_jᵀ`, `z_j` what the block reads of example `j` alone and `g_j` the loss's gradient
    at that reader's output. The reads do not move, since only the readers do.

    Attributes:
        columns: `−lr g_j`, per reader `(…, m, n)`.
        rows: `z_j (…, n, d)`.
        outputs: the block's output at the query alone after `i` steps, `(…, n + 1, d)`.
        weights: `W_0` of every reader, `(m, d)`.
    """

    columns: Biases
    rows: Tensor
    outputs: Tensor
    weights: Biases

    def update(self, i: int, reader: str) -> LowRank:  # (…, m, d), rank ≤ i
        """What `i` steps have added to the weight of a reader.

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
        """`⟨ΔW_GD, ΔW⟩_F / (‖ΔW_GD‖_F ‖ΔW‖_F)` after `i` steps and with `i` tokens, over the stack of readers [Fig. 4].

        It is 0 where one of the two vanishes, as both do at `i = 0`.

        Args:
            updates: of the same block, query and prompt, batched `(…, n + 1)`, as `dynamics` gives.
        """
        steps = self.rows.shape[-2]
        columns = torch.cat([self.columns[name] for name in self.weights], dim=-2)  # (…, M, n)
        op = updates.operator
        moved = torch.cat([op.direction @ weight.mT for weight in self.weights.values()], dim=-1)  # Wδ_i (…, n + 1, M)
        pairs = (moved @ columns) * (op.key @ self.rows.mT)  # (…, n + 1, n): ⟨step j, ΔW_i⟩
        inner = pairs.tril(diagonal=-1).sum(-1)
        gram = (columns.mT @ columns) * (self.rows @ self.rows.mT)  # (…, n, n): ⟨step j, step l⟩
        squares = gram.cumsum(-1).cumsum(-2).diagonal(dim1=-2, dim2=-1)
        lengths = torch.cat([squares.new_zeros((*squares.shape[:-1], 1)), squares.clamp_min(0).sqrt()], dim=-1)
        scale = lengths * norm(moved) * norm(op.key)
        assert scale.shape[-1] == steps + 1
        return inner / torch.where(scale == 0, 1, scale)


class _Alone(NamedTuple):
    """Reads without context; a block without a bypass has one of zeros, which its `join` passes over."""

    z: Tensor  # (…, n, d)
    bypass: Tensor  # (…, n, d)

    @classmethod
    def of(cls, block: ContextualBlock, queries: Tensor) -> "_Alone":
        """Every query by itself, all of them at once."""
        with torch.no_grad():
            read = block.contextualize(queries, block.no_tokens(queries))
        return cls(read.z, torch.zeros_like(read.z) if read.bypass is None else read.bypass)

    def map(self, change: Callable[[Tensor], Tensor]) -> "_Alone":
        """The same change to both."""
        return _Alone(change(self.z), change(self.bypass))


@dataclasses.dataclass(frozen=True)
class _Probe:
    """A copy of the network in which every reader has a bias, so that what a weight update adds can be given as one."""

    network: Network
    block: ContextualBlock
    loss: Callable[[Tensor, Tensor], Tensor]

    @classmethod
    def of(cls, block: ContextualBlock, loss: Callable[[Tensor, Tensor], Tensor]) -> "_Probe":
        """Copy the block's network and give a zero bias to readers without one."""
        network = copy.deepcopy(block.network).requires_grad_(False)
        for linear in network.readers.values():
            if linear.bias is None:
                linear.bias = nn.Parameter(linear.weight.new_zeros(linear.out_features), requires_grad=False)
        return cls(network, block, loss)

    def output(self, added: Biases, read: _Alone) -> Tensor:  # (m,) each, (d,) -> (d,)
        """The block's output at one read, with `added` to the readers' outputs."""
        biases = {f"{name}.bias": linear.bias + added[name] for name, linear in self.network.readers.items()}
        return self.block.join(read.bypass, torch.func.functional_call(self.network, biases, (read.z,)))

    def cost(self, added: Biases, read: _Alone, target: Tensor) -> Tensor:
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
    """SGD on the first dense layers alone, one prompt example at a time in prompt order [Sec. 4.4, Fig. 4].

    Each batch element is a task with weights of its own; they are never built.

    Args:
        block: a block (not a stack).
        query: `x`, whose output is recorded after every step, with no context.
        context: the prompt's examples.
        lr: the learning rate.
        example: makes inputs `(…, n, d)` and targets `(…, n)` of the context.
        loss: of an output `(d,)` and a target.

    Raises:
        ArgumentError: `block` is not a contextual block, or `lr` is not a positive finite number.
        ShapeError, DtypeError, DeviceError, NonFiniteError: the arguments do not fit the block or each other.
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
            f"query: got shape {tuple(query.shape)}, an empty batch, needs at least one task; leave out the call"
        )
    inputs, targets = example(context)
    read, asked = _Alone.of(block, inputs), _Alone.of(block, query.unsqueeze(-2))
    probe = _Probe.of(block, loss)
    columns = _steps(probe, read, targets, lr)
    weights = {name: linear.weight.detach() for name, linear in block.network.readers.items()}
    return FineTuning(columns, read.z, _outputs(probe, read, asked, columns), weights)


def _steps(probe: _Probe, read: _Alone, targets: Tensor, lr: float) -> Biases:
    """`−lr g_j` of every step, per reader `(…, m, n)`; step `j` sees what the steps before it have added at `z_j`."""
    batch, (n, d) = read.z.shape[:-2], read.z.shape[-2:]
    tasks = math.prod(batch)
    flat, goals = read.map(lambda t: t.reshape(tasks, n, d)), targets.reshape(tasks, n)  # (B, n, d), (B, n)
    gradient = torch.func.vmap(torch.func.grad(probe.cost))
    readers = probe.network.readers
    taken = {name: flat.z.new_zeros(tasks, linear.out_features, 0) for name, linear in readers.items()}  # (B, m, j)
    for j in range(n):
        at = _Alone(flat.z[:, j], flat.bypass[:, j])
        reach = flat.z[:, :j] @ at.z.unsqueeze(-1)  # z_lᵀ z_j (B, j, 1)
        added = {name: (past @ reach).squeeze(-1) for name, past in taken.items()}
        slopes = gradient(added, at, goals[:, j])
        taken = {name: torch.cat([past, -lr * slopes[name].unsqueeze(-1)], dim=-1) for name, past in taken.items()}
    return {
        name: past.reshape(*batch, -1, n) if n else past.reshape(*batch, past.shape[1], 0)
        for name, past in taken.items()
    }


def _outputs(probe: _Probe, read: _Alone, asked: _Alone, columns: Biases) -> Tensor:  # (…, n + 1, d)
    """The block's output at the query alone after every number of steps."""
    shape = (*read.z.shape[:-2], read.z.shape[-2] + 1, read.z.shape[-1])
    reach = dot(read.z, asked.z).unsqueeze(-2).to(read.z.dtype)  # z_jᵀ z_q (…, 1, n)
    added = {name: F.pad((column * reach).cumsum(-1), (1, 0)).mT for name, column in columns.items()}  # (…, n + 1, m)
    rows = {name: total.reshape(-1, total.shape[-1]) for name, total in added.items()}
    outputs: Tensor = torch.func.vmap(probe.output)(rows, asked.map(lambda t: t.expand(shape).reshape(-1, shape[-1])))
    return outputs.reshape(shape)

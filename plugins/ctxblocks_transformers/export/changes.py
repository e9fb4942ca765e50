"""The update of a block as rank-one changes of its parameters: `W ← W + (Wδ) kᵀ` for every reader [Eq. 1]."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError, ContextOperator, ImplicitUpdate, ShapeError
from ctxblocks_transformers.updates.derive import wide
from ctxblocks_transformers.updates.model_update import ModelUpdate
from ctxblocks_transformers.wiring.reads import NETWORK, PROJECTION, SiteView
from ctxblocks_transformers.wiring.view import BlockView, ModelView, Weights


@dataclasses.dataclass(frozen=True)
class Change:
    """`W ← W + column keyᵀ` of one matrix, or of every expert's.

    Attributes:
        block: the block that the matrix belongs to.
        weights: the matrix.
        column: `(m,)`, of experts `(experts, m)`.
        key: `(d,)`, or `(experts, d)` where each has its own.
        bias: what the layer's bias gains, in the shape of `column`; None for nothing.
    """

    block: BlockView
    weights: Weights
    column: Tensor
    key: Tensor
    bias: Tensor | None = None

    @property
    def name(self) -> str:
        """The parameter's name in the model."""
        return self.block.parameter_name(self.weights)

    def each(self) -> list[tuple[Tensor, Tensor, Tensor]]:  # (m, d), (m,), (d,)
        """Matrix, column and key of every expert; of a plain layer one of each."""
        matrices = self.weights.matrices()
        matrices = matrices if matrices.dim() == 3 else matrices.unsqueeze(0)
        columns = self.column.reshape(len(matrices), -1)
        keys = self.key.expand(len(matrices), -1)
        return list(zip(matrices, columns, keys, strict=True))

    def add(self) -> None:
        """Write the change into the parameter, formed in float32 for half types and rounded once."""
        with torch.no_grad():
            for matrix, column, key in self.each():
                matrix.copy_(torch.addr(matrix.to(column.dtype), column, key))
        if self.bias is not None:
            add_bias(self.weights, self.bias)


def changes_of_readers(view: ModelView, update: ModelUpdate) -> list[Change]:
    """`W ← W P` for every reader of every block, of an update for one token."""
    found = []
    for site, each in placed_sites(view, update):
        for weights in readers(site):
            found.append(_reader(site.block, weights, each.operator))
    return found


def placed_sites(view: ModelView, update: ModelUpdate) -> list[tuple[SiteView, ImplicitUpdate]]:
    """The blocks that take an update, each with that of the one token."""
    pairs = zip(view.blocks, update.sites, update.updates, strict=True)
    return [(SiteView(block, site), each[0]) for block, site, each in pairs if each is not None]


def readers(site: SiteView) -> list[Weights]:
    """The matrices that take the operator: none of a parallel block's, whose network reads no other token."""
    block = site.block
    if site.site == PROJECTION:
        return [block.weights(block.spec.projection)]
    return [] if block.spec.wiring == "parallel" else block.readers()


def _reader(block: BlockView, weights: Weights, operator: ContextOperator) -> Change:
    """`column = Wδ`, and `β Wδ` for the bias where there is an offset."""
    matrices = weights.matrices().detach()
    direction, key = operator.direction.to(matrices.device), operator.key.to(matrices.device)
    dtype = torch.promote_types(wide(matrices[:0]).dtype, direction.dtype)
    parts = matrices if matrices.dim() == 3 else matrices.unsqueeze(0)
    columns = torch.stack([each.to(dtype) @ direction.to(dtype) for each in parts])  # (experts, m)
    column = columns if matrices.dim() == 3 else columns[0]
    bias = None if operator.offset is None else column * operator.offset.to(column)
    return Change(block, weights, column, key.to(dtype), bias)


def takes_bias(weights: Weights) -> bool:
    """Whether a dense layer has a bias, or uses one that it is given."""
    present = weights.bias is not None and isinstance(getattr(weights.module, weights.bias), Tensor)
    return present or isinstance(weights.module, nn.Linear)


def add_bias(weights: Weights, shift: Tensor) -> None:
    """`b ← b + shift` in place; a linear map without a bias gets one."""
    weight = weights.parameter
    with torch.no_grad():
        if weights.bias is not None:
            bias: Tensor = getattr(weights.module, weights.bias)
            bias.copy_(wide(bias) + shift.to(bias.device))
        else:
            weights.module.bias = nn.Parameter(shift.to(weight), requires_grad=weight.requires_grad)


def one_token(update: ModelUpdate, caller: str) -> None:
    """Raise unless one token stays: weights hold the update of one.

    Raises:
        ShapeError: several stay.
    """
    if len(update.positions) != 1:
        raise ShapeError(
            f"{caller}: got an update of {len(update.positions)} tokens that stay, needs one, since weights are the same for "
            f"every token; derive it without keep=…, or use update.applied(model)"
        )


def refuse_offsets(view: ModelView, update: ModelUpdate, caller: str, biases: bool) -> None:
    """Raise where an update has an offset and its reader can take no bias, or none may be used.

    Raises:
        ArgumentError: there is such a reader.
    """
    for site, each in placed_sites(view, update):
        if each.operator.offset is None:
            continue
        for weights in readers(site):
            if not biases or not takes_bias(weights):
                why = f"{type(weights.module).__name__} has none" if biases else "a LoRA adapter carries none"
                raise ArgumentError(
                    f"{caller}: the update has an offset (of Augmented()), which needs a bias on "
                    f"{site.block.parameter_name(weights)}, and {why}; derive it with solver=LeastNorm()"
                )


def refuse_shared(model: Any, changed: Iterable[tuple[str, Tensor]], caller: str) -> None:
    """Raise if a parameter that is to change stands elsewhere in the model too, or is no parameter.

    Raises:
        ArgumentError: there is such a one.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for name, parameter in changed:
        same = names.get(id(parameter), [])
        if len(same) > 1:
            raise ArgumentError(
                f"{caller}: {name} is one parameter with {', '.join(each for each in same if each != name)}, needs a "
                f"matrix of its own for each block; use update.applied(model)"
            )
        if not same or parameter.device.type == "meta":
            raise ArgumentError(
                f"{caller}: {name} is no parameter that can be changed (it is computed, or was moved off the device), needs "
                f"plain weights; use update.applied(model)"
            )


def bias_for_shift(site: SiteView) -> Weights | None:
    """The dense layer whose bias takes the shift; None where only the output of a module does."""
    block, spec = site.block, site.block.spec
    only = spec.last[0] if len(spec.last) == 1 else ""
    path = {"pre-norm": only, "parallel": spec.projection, "post-norm": spec.inner}.get(spec.wiring, "")
    if site.site != NETWORK or not path:
        return None
    weights = block.weights(path)
    matrix = getattr(weights.module, weights.name, None)
    return weights if isinstance(matrix, Tensor) and matrix.dim() == 2 and takes_bias(weights) else None

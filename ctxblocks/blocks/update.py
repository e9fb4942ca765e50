"""The implicit update of a block: an operator on its readers and a shift of what bypasses them [Thm. 2.2, Thm. B.2]."""

import copy
import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ctxblocks.algebra.low_rank import LowRank
from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.base.errors import ArgumentError, ShapeError
from ctxblocks.base.records import STATIC, record
from ctxblocks.blocks.networks import LastLayerUpdate, add_bias, add_rank_one
from ctxblocks.numerics import cosine, wide_matmul, widen

if TYPE_CHECKING:
    from ctxblocks.blocks.block import ContextualBlock

Site = Literal["network", "out-proj"]
Place = Literal["output-bias", "last-layer", "post-norm"]
Index = int | slice | Tensor | None | tuple[Any, ...]


def take(value: Tensor | None, index: Index, trailing: int) -> Tensor | None:
    """`value[index]` over its leading dimensions, with `trailing` dimensions left whole."""
    if value is None:
        return None
    index = index if isinstance(index, tuple) else (index,)
    if Ellipsis not in index:
        index = (*index, Ellipsis)
    return value[(*index, *[slice(None)] * trailing)]


def stacked(operator: ContextOperator, weights: Tensor | Iterable[Tensor]) -> LowRank:
    """`ΔW` of the vertical stack of the readers' weights, in the accumulator's dtype: `Wδ` may be too small for float16."""
    weights = [weights] if isinstance(weights, Tensor) else list(weights)
    direction = operator.direction.unsqueeze(-1)  # (…, d, 1)
    columns = torch.cat([wide_matmul(weight, direction) for weight in weights], dim=-2)  # (…, m, 1)
    return LowRank(columns, widen(operator.key).unsqueeze(-2))


@record
@dataclasses.dataclass(frozen=True, eq=False)
class ImplicitUpdate:
    """What a context does to a block's weights: `ΔW = W(P − I)` for every reader, and the bypass shift `Δb'`.

    Attributes:
        operator: `P`, batched `(…, d)`.
        shift: `Δb' = r_C − r_{C∖Y} (…, d)`; None where nothing bypasses the site.
        site: `"network"`, the readers of the block's network, or `"out-proj"`, the layer's own output projection.
        place: where the shift goes: `"output-bias"`, `"last-layer"` or `"post-norm"`.
        carrier: what carries the shift there: the last layer's key `(…, m)` (of a mixture `(…, experts, m)`),
            or the change of the post-norm's scale `(…, d)`; None for the output bias.
        per_token: whether the last batch dimension runs over the tokens that stay, the query last.
    """

    operator: ContextOperator
    shift: Tensor | None = None
    site: Site = dataclasses.field(default="network", metadata=STATIC)
    place: Place = dataclasses.field(default="output-bias", metadata=STATIC)
    carrier: Tensor | None = None
    per_token: bool = dataclasses.field(default=False, metadata=STATIC)

    def __getitem__(self, index: Index) -> "ImplicitUpdate":
        """The update of some of the batch: `update[0]`, `updates[..., i]`."""
        op = self.operator
        extra = 1 if self.carrier is None else 1 + self.carrier.dim() - op.direction.dim()
        direction, key = take(op.direction, index, 1), take(op.key, index, 1)
        assert direction is not None
        assert key is not None
        operator = ContextOperator(direction, key, take(op.offset, index, 0))
        carrier = take(self.carrier, index, extra)
        return ImplicitUpdate(operator, take(self.shift, index, 1), self.site, self.place, carrier, False)

    def delta_weight(
        self,
        weight: Tensor,  # (m, d)
    ) -> Tensor:  # (…, m, d)
        """`ΔW = (Wδ) kᵀ` [Eq. 1], dense; for `LowRank` take `update.operator.delta(weight)`."""
        return self.operator.delta(weight).dense()

    def norm(
        self,
        weights: Tensor | Iterable[Tensor],  # (m, d) each
    ) -> Tensor:  # (…)
        """`‖ΔW‖ = ‖Wδ‖ ‖k‖`, Frobenius and spectral at once, over the vertical stack of the weights given."""
        return stacked(self.operator, weights).norm().to(self.operator.key.dtype)

    def alignment(
        self,
        other: "ImplicitUpdate",
        weights: Tensor | Iterable[Tensor],  # (m, d) each
    ) -> Tensor:  # (…), in [−1, 1]; 0 where an update vanishes
        """`⟨ΔW_1, ΔW_2⟩_F / (‖ΔW_1‖_F ‖ΔW_2‖_F)` over the vertical stack of the weights given."""
        weights = [weights] if isinstance(weights, Tensor) else list(weights)
        mine, theirs = stacked(self.operator, weights), stacked(other.operator, weights)
        columns = cosine(mine.columns.squeeze(-1), theirs.columns.squeeze(-1))
        return (columns * cosine(mine.rows.squeeze(-2), theirs.rows.squeeze(-2))).to(self.operator.key.dtype)

    def last_layer(self) -> LastLayerUpdate | None:
        """The update of the last dense layer, if that is where the shift goes."""
        if self.place != "last-layer" or self.shift is None or self.carrier is None:
            return None
        return LastLayerUpdate(self.shift, self.carrier)

    def merged(self, block: "ContextualBlock") -> "ContextualBlock":
        """A copy of the block with the update in its weights: called without an update, it answers as if it had one.

        Readers, the last layer or the output projection receive a bias where the update needs one.

        Raises:
            ShapeError: the update has batch dimensions; take one of them by indexing.
            ArgumentError: the update belongs to another kind of block.
        """
        if self.operator.key.dim() != 1:
            raise ShapeError(
                f"merged: got an update with batch shape {tuple(self.operator.key.shape[:-1])}, needs that of one "
                f"query; take one by indexing, such as update[0]"
            )
        block.check_update(self)
        merged = copy.deepcopy(block)
        for linear in merged.readers(self.site).values():
            add_operator(linear, self.operator)
        if self.shift is None:
            return merged
        if self.place == "post-norm":
            merged.scale_output(self.carrier)
        elif last := self.last_layer():
            merged.network.add_last(last)
        else:
            merged.add_output_bias(self.shift)
        return merged


def add_operator(linear: nn.Linear, operator: ContextOperator) -> None:
    """`W ← W P` and `b ← b + β Wδ`, in place."""
    shift = None if operator.offset is None else operator.bias(linear.weight.detach())
    column = operator.delta(linear.weight.detach()).columns.squeeze(-1)
    add_rank_one(linear, column, operator.key)
    if shift is not None:
        add_bias(linear, shift)


def one_of(name: str, got: str, allowed: Iterable[str]) -> None:
    """Raise unless `got` is one of the words allowed."""
    allowed = list(allowed)
    if got not in allowed:
        raise ArgumentError(f"{name}: got {got!r}, needs one of {', '.join(map(repr, allowed))}")

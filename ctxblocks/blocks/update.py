"""The implicit update of a block: an operator on its input projections and a bias shift [Thm. 2.2, Thm. B.2]."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal, Protocol, Self, TypeVar

from torch import Tensor

from ctxblocks.algebra.lengths import (
    Successive,
    marginal_change,
    successive,
    update_cosine,
    update_distance,
    update_norm,
)
from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.base.errors import ShapeError
from ctxblocks.base.records import STATIC, record
from ctxblocks.blocks.networks import LastLayerUpdate

Block = TypeVar("Block", bound="Mergeable")
Site = Literal["network", "out-proj"]
Place = Literal["output-bias", "last-layer", "post-norm"]
Index = int | slice | Tensor | None | tuple[Any, ...]


def take(value: Tensor | None, index: Index, trailing: int) -> Tensor | None:
    """`value[index]` over the leading dimensions; the last `trailing` dimensions are not indexed."""
    if value is None:
        return None
    index = index if isinstance(index, tuple) else (index,)
    if Ellipsis not in index:
        index = (*index, Ellipsis)
    return value[(*index, *[slice(None)] * trailing)]


@record
@dataclasses.dataclass(frozen=True, eq=False)
class ImplicitUpdate:
    """The change of parameters that replaces a context: `ΔW = W(P − I)` for every input projection, and the bias shift `Δb'`.

    Attributes:
        operator: `P`, batched `(…, d)`.
        shift: `Δb' = r_C − r_{C∖Y} (…, d)`; None for a site without a residual stream.
        site: `"network"`, the input projections of the block's network, or `"out-proj"`, the layer's own output projection.
        place: the parameter that takes the shift: `"output-bias"`, `"last-layer"` or `"post-norm"`.
        carrier: for `"last-layer"` the key of the last dense layer `(…, m)` (for a mixture `(…, experts, m)`), for
            `"post-norm"` the change of the norm's scale `(…, d)`; None for the output bias.
        per_token: whether the last batch axis runs over the tokens that stay, with the query last.
    """

    operator: ContextOperator
    shift: Tensor | None = None
    site: Site = dataclasses.field(default="network", metadata=STATIC)
    place: Place = dataclasses.field(default="output-bias", metadata=STATIC)
    carrier: Tensor | None = None
    per_token: bool = dataclasses.field(default=False, metadata=STATIC)

    def __getitem__(self, index: Index) -> "ImplicitUpdate":
        """The updates at an index of the batch dimensions: `update[0]`, `updates[..., i]`."""
        old = self.operator
        extra = 1 if self.carrier is None else 1 + self.carrier.dim() - old.direction.dim()
        direction, key = take(old.direction, index, 1), take(old.key, index, 1)
        assert direction is not None
        assert key is not None
        operator = ContextOperator(direction, key, take(old.offset, index, 0))
        carrier = take(self.carrier, index, extra)
        return ImplicitUpdate(operator, take(self.shift, index, 1), self.site, self.place, carrier, False)

    def delta_weight(
        self,
        weight: Tensor,  # (m, d)
    ) -> Tensor:  # (…, m, d)
        """The dense matrix `ΔW = (Wδ) kᵀ` [Eq. 1]; `update.operator.delta(weight)` is the same as a `LowRank`."""
        return self.operator.delta(weight).dense()

    def norm(
        self,
        weights: Tensor | Iterable[Tensor],  # (m, d) each
    ) -> Tensor:  # (…)
        """`‖ΔW‖ = ‖Wδ‖ ‖k‖` over the vertical stack of `weights`, both the Frobenius and the spectral norm."""
        return update_norm(self.operator, _listed(weights))

    def alignment(
        self,
        other: "ImplicitUpdate",
        weights: Tensor | Iterable[Tensor],  # (m, d) each
    ) -> Tensor:  # (…), in [−1, 1]; 0 where an update is zero
        """`⟨ΔW_1, ΔW_2⟩_F / (‖ΔW_1‖_F ‖ΔW_2‖_F)` over the vertical stack of `weights`."""
        return update_cosine(self.operator, other.operator, _listed(weights))

    def distance(
        self,
        other: "ImplicitUpdate",
        weights: Tensor | Iterable[Tensor],  # (m, d) each
    ) -> Tensor:  # (…)
        """`‖ΔW_1 − ΔW_2‖_F` over the vertical stack of `weights`, free of over- and underflow."""
        return update_distance(self.operator, other.operator, _listed(weights))

    def marginal_change(
        self,
        weights: Tensor | Iterable[Tensor],  # (m, d) each
    ) -> Tensor:  # (…, n)
        """`‖W_{i+1} − W_i‖_F` of successive updates along the last batch axis, which has length `n + 1` [Sec. 3, Fig. 3]."""
        return marginal_change(self.operator, _listed(weights))

    def successive(
        self,
        weights: Tensor | Iterable[Tensor],  # (m, d) each
    ) -> Successive:
        """`norm`, `alignment` with the next update and `marginal_change` along the last batch axis, in one computation."""
        return successive(self.operator, _listed(weights))

    def last_layer(self) -> LastLayerUpdate | None:
        """The update of the last dense layer if the place is `"last-layer"`, else None."""
        if self.place != "last-layer" or self.shift is None or self.carrier is None:
            return None
        return LastLayerUpdate(self.shift, self.carrier)

    def merged(self, block: Block) -> Block:
        """A copy of the block with the update in its weights: its output equals that of `block` called with the update.

        A projection without a bias gets one if the update needs it.

        Raises:
            ShapeError: the update has batch dimensions; select one update by indexing.
            ArgumentError: the update is for another kind of block.
        """
        if self.operator.key.dim() != 1:
            raise ShapeError(
                f"merged: got an update with batch shape {tuple(self.operator.key.shape[:-1])}, needs that of one "
                f"query; select one by indexing, such as update[0]"
            )
        block.check_update(self)
        return block.merged(self)


class Mergeable(Protocol):
    """The methods of a block that `ImplicitUpdate.merged` calls."""

    def check_update(self, update: ImplicitUpdate) -> None:
        """Raise unless the update fits the block."""

    def merged(self, update: ImplicitUpdate) -> Self:
        """A copy of the block with the update in its weights."""


def _listed(weights: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [weights] if isinstance(weights, Tensor) else list(weights)

"""The kinds of blocks: plain, residual with norms in the usual positions, and parallel [Def. 2.1, Def. B.1, App. C]."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.base.errors import ArgumentError, ShapeError
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.layer import ContextualLayer
from ctxblocks.blocks.networks import Network
from ctxblocks.blocks.read import Read
from ctxblocks.blocks.update import ImplicitUpdate
from ctxblocks.validators import one_of

Norm = Callable[[int], nn.Module]
NormPosition = Literal["none", "pre", "post", "sandwich"]
_NORMS = {
    "none": (),
    "pre": ("enter", "read"),
    "post": ("read", "output"),
    "sandwich": ("enter", "mixed", "read", "output"),
}


class PlainBlock(ContextualBlock):
    """`f(A(C, x))` [Def. 2.1]: the network is applied to the layer's output; there is no residual stream."""

    has_bypass = False

    def split(
        self,
        query: Tensor,  # (…, d)
        mixed: Tensor,  # (…, d)
    ) -> Read:
        """`z = A(C, x)`."""
        return Read(mixed)

    def join(
        self,
        bypass: Tensor | None,
        output: Tensor,  # (…, d)
    ) -> Tensor:  # (…, d)
        """The network's output."""
        return output


class _SkipBlock(ContextualBlock):
    """A block that adds the query to the layer's output; it refuses layers that do so themselves."""

    def __init__(self, layer: ContextualLayer, network: Network, norms: tuple[str, ...], norm_class: Norm) -> None:
        super().__init__(layer, network, {name: norm_class(layer.width) for name in norms})
        if layer.has_skip:
            raise ArgumentError(
                f"layer: got {type(layer).__name__} with its own skip connection, needs one without, since "
                f"{type(self).__name__} adds it; build the layer with skip=False, or use PlainBlock"
            )
        if "enter" in norms and layer.context_width != layer.width:
            raise ShapeError(
                f"layer: got context_width {layer.context_width} and width {layer.width}, needs them equal where one norm "
                f"is applied to both; use norm='none' or norm='post'"
            )


class ResidualBlock(_SkipBlock):
    """`r + W' g(W z + b) + b'` with skip connections around layer and network [Def. B.1, Thm. B.2, App. C].

    =============  ================================  ==================  =========================
    `norm`         residual stream `r`               input `z`           output
    =============  ================================  ==================  =========================
    `"none"`       `x + A(C, x)`                     `r`                 `r + network(z)`
    `"pre"`        `x + A(N₀C, N₀x)`                 `N₁r`               `r + network(z)`
    `"post"`       `N₁(x + A(C, x))`                 `r`                 `N₂(r + network(z))`
    `"sandwich"`   `x + N_s A(N₀C, N₀x)`             `N₁r`               `r + N₂ network(z)`
    =============  ================================  ==================  =========================

    A merged update may add an `output_bias (d,)` after `N₂` in a sandwich block.

    Args:
        layer: `A(C, x)`, without its own skip connection.
        network: the network with input `z`.
        norm: the positions of the norms, a row of the table.
        norm_class: makes a norm from a width: `torch.nn.LayerNorm`, `torch.nn.RMSNorm`, …
    """

    output_bias: nn.Parameter | None

    def __init__(
        self,
        layer: ContextualLayer,
        network: Network,
        norm: NormPosition = "none",
        norm_class: Norm = nn.LayerNorm,
    ) -> None:
        one_of(_NORMS).check("norm", norm)
        super().__init__(layer, network, _NORMS[norm], norm_class)
        self.norm = norm
        self.places = ("output-bias", "post-norm") if norm == "sandwich" else ("output-bias", "last-layer")
        self.register_parameter("output_bias", None)

    def kind(self) -> str:
        """`ResidualBlock(norm=…)`."""
        return f"ResidualBlock(norm={self.norm!r})"

    def split(
        self,
        query: Tensor,  # (…, d)
        mixed: Tensor,  # (…, d)
    ) -> Read:
        """`z` and `r` as in the table above."""
        stream = query + self.norm_at("mixed", mixed)
        read = self.norm_at("read", stream)
        return Read(read, read if self.norm == "post" else stream)

    def join(
        self,
        bypass: Tensor | None,  # (…, d)
        output: Tensor,  # (…, d)
    ) -> Tensor:  # (…, d)
        """`r + N₂(output)` in a sandwich block, plus the output bias if it has one; else `N₂(r + output)`."""
        assert bypass is not None
        if self.norm != "sandwich":
            return self.norm_at("output", bypass + output)
        joined = bypass + self.norm_at("output", output)
        return joined if self.output_bias is None else joined + self.output_bias

    def normalized(self, output: Tensor) -> Tensor:  # (…, d) -> (…, d)
        """`n̂`, the network's output after the norm `N₂` with scale 1 and bias 0."""
        if self.norm != "sandwich":
            return super().normalized(output)
        norm = self.norms["output"]
        plain = {name: torch.full_like(p, float(name == "weight")) for name, p in norm.named_parameters()}
        if "weight" not in plain:
            raise ArgumentError(
                f"place: got 'post-norm' with {type(norm).__name__}, which has no weight, needs a norm with a scale; "
                f"use place='output-bias'"
            )
        normed: Tensor = torch.func.functional_call(norm, plain, (output,))
        return normed

    def carrier(
        self,
        place: str,
        z: Tensor,  # (…, d)
        operator: ContextOperator,  # (…, d)
        shift: Tensor,  # (…, d)
    ) -> tuple[Tensor | None, Tensor, str]:
        """For the place `"post-norm"` the change `Δb' ⊘ n̂` of the scale of `N₂`; for other places as in every block."""
        if place != "post-norm":
            return super().carrier(place, z, operator, shift)
        scale = self.normalized(self.network(z, operator))
        carrier = torch.where(scale == 0, 0, shift / torch.where(scale == 0, 1, scale))
        return carrier, (scale == 0) & (shift != 0), "an entry of the normalised output is zero"

    def add_shift(self, update: ImplicitUpdate) -> None:
        """In a sandwich block, change the scale of `N₂` or the bias after it; otherwise as in every block."""
        if self.norm != "sandwich":
            super().add_shift(update)
            return
        assert update.shift is not None
        with torch.no_grad():
            if update.carrier is not None:
                self.norms["output"].get_parameter("weight").add_(update.carrier)
            else:
                bias = update.shift if self.output_bias is None else self.output_bias + update.shift
                self.output_bias = nn.Parameter(bias.detach().clone())


class ParallelBlock(_SkipBlock):
    """`x + A(N₀C, N₀x) + network(N₁x)`: `z` does not depend on the context, so `ΔW = 0` and `Δb'` is its whole effect.

    Args:
        layer: `A(C, x)`, without its own skip connection.
        network: the network with input `N₁x`.
        norm_class: makes a norm from a width.
    """

    reads_context = False

    def __init__(self, layer: ContextualLayer, network: Network, norm_class: Norm = nn.LayerNorm) -> None:
        super().__init__(layer, network, ("enter", "read"), norm_class)

    def split(
        self,
        query: Tensor,  # (…, d)
        mixed: Tensor,  # (…, d)
    ) -> Read:
        """`z = N₁x` and `r = x + A(N₀C, N₀x)`."""
        return Read(self.norm_at("read", query), query + mixed, depends=self.reads_context)

    def join(
        self,
        bypass: Tensor | None,  # (…, d)
        output: Tensor,  # (…, d)
    ) -> Tensor:  # (…, d)
        """`r + output`."""
        assert bypass is not None
        return bypass + output

"""Configurations of the attention layers."""

from typing import Literal

import attrs

from ctxblocks import ArgumentError


def _count(name: str, value: int) -> int:
    """`value`, if it is an integer from 1 on."""
    if not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name}: got {value!r}, needs an integer ≥ 1; leave it out for its default")
    return value


@attrs.frozen(kw_only=True)
class SelfAttentionConfig:
    """Shape of a softmax self-attention layer.

    Attributes:
        width: d, of the query, the context tokens and the output.
        heads: number of query heads; by default 4, or 1 where 4 does not divide the width.
        head_width: features per head; by default `width // heads`. The scores are scaled by `1 / sqrt(head_width)`.
        kv_heads: number of key and value heads, each serving `heads // kv_heads` query heads; by default `heads`.
        positions: "none", or "rotary" for rotary embeddings of queries and keys (halves paired, as in Llama).
        rotary_base: base of the rotary frequencies; without effect unless positions are rotary.
        bias: whether the four projections have biases.
        skip: whether the layer adds its query to its output.

    Raises:
        ArgumentError: a value is out of range, or does not fit another one.
    """

    width: int = attrs.field(converter=lambda value: _count("width", value))
    heads: int = attrs.field(converter=lambda value: _count("heads", value))
    head_width: int = attrs.field(converter=lambda value: _count("head_width", value))
    kv_heads: int = attrs.field(converter=lambda value: _count("kv_heads", value))
    positions: Literal["none", "rotary"] = attrs.field(default="none")
    rotary_base: float = attrs.field(default=10_000.0)
    bias: bool = False
    skip: bool = False

    @heads.default
    def _default_heads(self) -> int:
        return 4 if self.width % 4 == 0 else 1

    @head_width.default
    def _default_head_width(self) -> int:
        if self.width % self.heads:
            raise ArgumentError(
                f"heads: got {self.heads} for width {self.width}, needs a divisor of the width where head_width "
                f"is left out; give head_width too, for instance head_width={max(1, self.width // self.heads)}"
            )
        return self.width // self.heads

    @kv_heads.default
    def _default_kv_heads(self) -> int:
        return self.heads

    @kv_heads.validator
    def _check_kv_heads(self, attribute: "attrs.Attribute[int]", value: int) -> None:
        if self.heads % value:
            raise ArgumentError(f"kv_heads: got {value}, needs a divisor of heads = {self.heads}")

    @positions.validator
    def _check_positions(self, attribute: "attrs.Attribute[str]", value: str) -> None:
        if value not in ("none", "rotary"):
            raise ArgumentError(f"positions: got {value!r}, needs 'none' or 'rotary'")
        if value == "rotary" and self.head_width % 2:
            raise ArgumentError(
                f"head_width: got {self.head_width} with rotary positions, needs an even number (features rotate in "
                f"pairs); give head_width={self.head_width + 1}, or positions='none'"
            )

    @rotary_base.validator
    def _check_rotary_base(self, attribute: "attrs.Attribute[float]", value: float) -> None:
        if not value > 0:
            raise ArgumentError(f"rotary_base: got {value}, needs a positive number, such as 10000.0")


@attrs.frozen(kw_only=True)
class LocalAttentionConfig(SelfAttentionConfig):
    """Shape of a sliding-window self-attention layer: `SelfAttentionConfig` and a window.

    Attributes:
        window: w, the number of context tokens that a query sees beside itself: the last w.
    """

    window: int = attrs.field(default=4, converter=lambda value: _count("window", value))

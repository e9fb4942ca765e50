"""Configurations of the attention layers."""

from typing import Literal

import attrs
from attrs.validators import optional

from ctxblocks import ArgumentError
from ctxblocks.validators import integer_at_least, more_than, one_of

_COUNT = integer_at_least(1)


@attrs.frozen(kw_only=True)
class SelfAttentionConfig:
    """Shape of a softmax self-attention layer.

    Attributes:
        width: d, of the query, the context tokens and the output.
        heads: number of query heads; by default 4, or 1 where 4 does not divide the width.
        head_width: features per head; by default `width // heads`. The scores are scaled by `1 / sqrt(head_width)`.
        kv_heads: number of key and value heads, each serving `heads // kv_heads` query heads; by default `heads`.
        positions: "none", or "rotary" for rotary embeddings of queries and keys (halves paired, as in Llama).
        rotary_base: base of the rotary frequencies; has no effect unless positions are rotary.
        bias: whether the four projections have biases.
        skip: whether the layer adds the query to its output.

    Raises:
        ArgumentError: a value is out of range, or does not fit another one.
    """

    width: int = attrs.field(validator=_COUNT)
    heads: int | None = attrs.field(default=None, validator=optional(_COUNT))
    head_width: int | None = attrs.field(default=None, validator=optional(_COUNT))
    kv_heads: int | None = attrs.field(default=None, validator=optional(_COUNT))
    positions: Literal["none", "rotary"] = attrs.field(default="none", validator=one_of(("none", "rotary")))
    rotary_base: float = attrs.field(default=10_000.0, validator=more_than(0, advice="the usual one is 10000.0"))
    bias: bool = False
    skip: bool = False

    def __attrs_post_init__(self) -> None:
        """Check the values against each other."""
        _, head_width, _ = self.shape()
        if self.positions == "rotary" and head_width % 2:
            raise ArgumentError(
                f"head_width: got {head_width} with rotary positions, needs an even number (features are rotated in pairs); "
                f"give head_width={head_width + 1}, or positions='none'"
            )

    def shape(self) -> tuple[int, int, int]:
        """`heads`, `head_width` and `kv_heads`, defaults resolved."""
        heads = self.heads if self.heads is not None else 4 if self.width % 4 == 0 else 1
        if self.head_width is None and self.width % heads:
            raise ArgumentError(
                f"heads: got {heads} for width {self.width}, needs a divisor of the width unless head_width is given; "
                f"give head_width too, for instance head_width={max(1, self.width // heads)}"
            )
        head_width = self.width // heads if self.head_width is None else self.head_width
        kv_heads = heads if self.kv_heads is None else self.kv_heads
        if heads % kv_heads:
            raise ArgumentError(
                f"kv_heads: got {kv_heads}, needs a divisor of heads = {heads}; leave it out for {heads}"
            )
        return heads, head_width, kv_heads


@attrs.frozen(kw_only=True)
class LocalAttentionConfig(SelfAttentionConfig):
    """Shape of a sliding-window self-attention layer: `SelfAttentionConfig` and a window.

    Attributes:
        window: w, the number of context tokens that a query attends to in addition to itself: the last w.
    """

    window: int = attrs.field(default=4, validator=_COUNT)

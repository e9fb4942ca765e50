"""Configurations of `linear-attention` and `delta-rule`."""

from collections.abc import Iterable

import attrs
from attrs.validators import optional

from ctxblocks import ArgumentError
from ctxblocks.validators import at_least, one_of

FEATURES = ("elu", "relu", "softplus", "identity")
_COUNT = at_least(1, advice="leave it out for the default", by_class=True)


def _head_shape(name: str, width: int, heads: int | None, head_width: int | None) -> tuple[int, int]:
    heads = heads if heads is not None else 4 if width % 4 == 0 else 1
    head_width = width // heads if head_width is None else head_width
    if head_width < 1:
        raise ArgumentError(
            f"{name}: got {heads} heads for width {width}, needs a head width of at least 1; "
            "use fewer heads or give head_width"
        )
    return heads, head_width


def _floats(decay: float | Iterable[float] | None) -> float | tuple[float, ...] | None:
    return tuple(float(each) for each in decay) if isinstance(decay, Iterable) else decay


@attrs.frozen(kw_only=True)
class LinearAttentionConfig:
    """Configuration of `LinearAttention`.

    Attributes:
        width: d, of tokens, query and output.
        heads: number of heads; by default 4, or 1 where 4 does not divide the width.
        head_width: e, of queries, keys and values in each head; by default `width // heads`.
        features: the map φ on queries and keys: "elu" (`elu(x) + 1`), "relu", "softplus" or "identity".
        normalize: whether the weights of the tokens are divided by their sum; needs features that are never negative.
        decay: γ in (0, 1), one for all heads or one for each: a token `m` positions back has the factor `γᵐ` (as in RetNet).
        bias: whether the four projections have biases.
    """

    width: int = attrs.field(validator=at_least(1, by_class=True))
    heads: int | None = attrs.field(default=None, validator=optional(_COUNT))
    head_width: int | None = attrs.field(default=None, validator=optional(_COUNT))
    features: str = attrs.field(default="elu", validator=one_of(FEATURES, by_class=True))
    normalize: bool = True
    decay: float | tuple[float, ...] | None = attrs.field(default=None, converter=_floats)
    bias: bool = False

    def __attrs_post_init__(self) -> None:
        """Check the values against each other."""
        if self.features == "identity" and self.normalize:
            raise ArgumentError(
                "LinearAttentionConfig: got features='identity' with normalize=True, needs features that are never "
                "negative, since a sum of scores of both signs may be 0; pass normalize=False or features='elu'"
            )
        heads, _ = self.head_shape
        decays = self.decays
        if decays is not None and len(decays) != heads:
            raise ArgumentError(
                f"LinearAttentionConfig: got {len(decays)} decays for {heads} heads, needs one for each head; "
                f"pass a single number for the same in all heads"
            )
        if decays is not None and not all(0 < each < 1 for each in decays):
            raise ArgumentError(
                f"LinearAttentionConfig: got decay={self.decay}, needs 0 < decay < 1; leave it out for no decay"
            )

    @property
    def head_shape(self) -> tuple[int, int]:
        """The number of heads and their width, defaults resolved."""
        return _head_shape("LinearAttentionConfig", self.width, self.heads, self.head_width)

    @property
    def decays(self) -> tuple[float, ...] | None:
        """One decay for each head, or None without decay."""
        if isinstance(self.decay, tuple) or self.decay is None:
            return self.decay
        return (self.decay,) * self.head_shape[0]


@attrs.frozen(kw_only=True)
class DeltaRuleConfig:
    """Configuration of `DeltaRule`.

    Attributes:
        width: d, of tokens, query and output.
        heads: number of heads; by default 4, or 1 where 4 does not divide the width.
        head_width: e, of queries, keys and values in each head; by default `width // heads`.
        gated: whether each token first scales the state by its gate α in (0, 1) (gated delta rule).
        bias: whether the projections have biases.
    """

    width: int = attrs.field(validator=at_least(1, by_class=True))
    heads: int | None = attrs.field(default=None, validator=optional(_COUNT))
    head_width: int | None = attrs.field(default=None, validator=optional(_COUNT))
    gated: bool = False
    bias: bool = False

    def __attrs_post_init__(self) -> None:
        """Check the values against each other."""
        _ = self.head_shape

    @property
    def head_shape(self) -> tuple[int, int]:
        """The number of heads and their width, defaults resolved."""
        return _head_shape("DeltaRuleConfig", self.width, self.heads, self.head_width)

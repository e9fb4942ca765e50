"""Configurations of `linear-attention` and `delta-rule`."""

from collections.abc import Iterable
from typing import Any

import attrs

from ctxblocks import ArgumentError

FEATURES = ("elu", "relu", "softplus", "identity")


def _positive(instance: Any, attribute: Any, value: Any) -> None:
    if value is not None and value < 1:
        raise ArgumentError(
            f"{type(instance).__name__}: got {attribute.name}={value}, needs at least 1; leave it out for the default"
        )


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
        heads: 4 unless given, or 1 where 4 does not divide the width.
        head_width: of queries, keys and values in each head; `width // heads` unless given.
        features: the map φ on queries and keys: "elu" (`elu(x) + 1`), "relu", "softplus" or "identity".
        normalize: whether the weights of the tokens are divided by their sum; needs features that are never negative.
        decay: γ in (0, 1), one for all heads or one for each: a token `m` places back counts `γᵐ` (as in RetNet).
        bias: whether the dense maps have biases.
    """

    width: int = attrs.field(validator=_positive)
    heads: int | None = attrs.field(default=None, validator=_positive)
    head_width: int | None = attrs.field(default=None, validator=_positive)
    features: str = attrs.field(default="elu")
    normalize: bool = True
    decay: float | tuple[float, ...] | None = attrs.field(default=None, converter=_floats)
    bias: bool = False

    @features.validator
    def _check_features(self, attribute: Any, value: str) -> None:
        if value not in FEATURES:
            raise ArgumentError(
                f"LinearAttentionConfig: got features={value!r}, needs one of {', '.join(map(repr, FEATURES))}"
            )

    def __attrs_post_init__(self) -> None:
        """Check what no single field can tell."""
        if self.features == "identity" and self.normalize:
            raise ArgumentError(
                "LinearAttentionConfig: got features='identity' with normalize=True, needs features that are never "
                "negative, since a sum of scores of both signs may vanish; pass normalize=False or features='elu'"
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
        """The number of heads and their width, defaults filled in."""
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
        heads: 4 unless given, or 1 where 4 does not divide the width.
        head_width: of queries, keys and values in each head; `width // heads` unless given.
        gated: whether each token first scales the state by a gate α in (0, 1) of its own (gated delta rule).
        bias: whether the dense maps have biases.
    """

    width: int = attrs.field(validator=_positive)
    heads: int | None = attrs.field(default=None, validator=_positive)
    head_width: int | None = attrs.field(default=None, validator=_positive)
    gated: bool = False
    bias: bool = False

    def __attrs_post_init__(self) -> None:
        """Check what no single field can tell."""
        _ = self.head_shape

    @property
    def head_shape(self) -> tuple[int, int]:
        """The number of heads and their width, defaults filled in."""
        return _head_shape("DeltaRuleConfig", self.width, self.heads, self.head_width)

"""Configuration of `ssm`."""

import math

import attrs

from ctxblocks import ArgumentError
from ctxblocks.validators import Requirement, at_least, more_than


def _size(name: str) -> Requirement:
    return at_least(1, advice=f"give {name} a positive size", by_class=True)


@attrs.frozen(kw_only=True)
class SSMConfig:
    """Shape of a selective state space layer, as in Mamba-2.

    Attributes:
        width: d, of the query, the context tokens and the output.
        expand: inner width divided by `width`.
        head_width: p, channels of one head; by default the inner width divided by 4 heads, or by one head per group where 4
            heads do not fit.
        state: s, size of the state for each channel of a head.
        groups: g, sets of heads that share `B` and `C`, and a norm.
        conv: kernel size of the causal convolution.
        bias: whether the input and output projections have biases.
        conv_bias: whether the convolution has a bias.
        step_range: bounds of the step sizes at initialisation.
        step_limit: bounds of the step sizes.
        eps: of the norm, added to mean squares.

    Raises:
        ArgumentError: a value is out of range, or does not fit another one.
    """

    width: int = attrs.field(validator=_size("width"))
    expand: int = attrs.field(default=2, validator=_size("expand"))
    head_width: int | None = None
    state: int = attrs.field(default=16, validator=_size("state"))
    groups: int = attrs.field(default=1, validator=_size("groups"))
    conv: int = attrs.field(default=4, validator=_size("conv"))
    bias: bool = False
    conv_bias: bool = True
    step_range: tuple[float, float] = (1e-3, 1e-1)
    step_limit: tuple[float, float] = (0.0, math.inf)
    eps: float = attrs.field(
        default=1e-5,
        validator=more_than(0, advice="a token of zeros has the norm 0; the usual one is 1e-5", by_class=True),
    )

    def __attrs_post_init__(self) -> None:
        """Check the values against each other."""
        if self.inner % self.groups:
            raise ArgumentError(
                f"SSMConfig: got groups={self.groups}, needs a divisor of expand · width = {self.inner}; "
                f"choose one, or widen the layer"
            )
        if self.head_width is not None and (self.head_width < 1 or self.inner % (self.head_width * self.groups)):
            raise ArgumentError(
                f"SSMConfig: got head_width={self.head_width}, needs a divisor of expand · width / groups = "
                f"{self.inner // self.groups}; choose one, or leave it out"
            )
        low, high = self.step_range
        if not 0 < low <= high < math.inf:
            raise ArgumentError(
                f"SSMConfig: got step_range={self.step_range}, needs 0 < low ≤ high; the usual one is (0.001, 0.1)"
            )
        low, high = self.step_limit
        if not 0 <= low <= high:
            raise ArgumentError(
                f"SSMConfig: got step_limit={self.step_limit}, needs 0 ≤ low ≤ high; (0, inf) sets no limit"
            )

    @property
    def inner(self) -> int:
        """The inner width, `expand · width`."""
        return self.expand * self.width

    @property
    def heads(self) -> int:
        """The number of heads."""
        if self.head_width is not None:
            return self.inner // self.head_width
        return 4 if self.inner % 4 == 0 and 4 % self.groups == 0 else self.groups

    @property
    def convolved(self) -> int:
        """Channels of the convolution: those of `x`, `B` and `C`."""
        return self.inner + 2 * self.groups * self.state

"""The sizes of a selective state space layer."""

import math

import attrs

from ctxblocks import ArgumentError


@attrs.frozen(kw_only=True)
class SSMConfig:
    """A selective state space layer, as Mamba-2 has it.

    Attributes:
        width: d, of the query and of the output.
        expand: inner width over `width`.
        head_width: of one head; by default the inner width divided by 4 heads, or by one per group where 4 does not fit.
        state: numbers that a head keeps for each of its channels.
        groups: sets of heads that share `B` and `C`, and a norm.
        conv: tokens that the convolution sees.
        bias: whether the input and output projections have biases.
        conv_bias: whether the convolution has one.
        step_range: bounds of the step sizes at initialisation.
        step_limit: bounds of the step sizes.
        eps: of the norm.
    """

    width: int
    expand: int = 2
    head_width: int | None = None
    state: int = 16
    groups: int = 1
    conv: int = 4
    bias: bool = False
    conv_bias: bool = True
    step_range: tuple[float, float] = (1e-3, 1e-1)
    step_limit: tuple[float, float] = (0.0, math.inf)
    eps: float = 1e-5

    def __attrs_post_init__(self) -> None:
        """Refuse sizes that do not fit each other."""
        for name in ("width", "expand", "state", "groups", "conv"):
            if getattr(self, name) < 1:
                raise ArgumentError(
                    f"SSMConfig: got {name}={getattr(self, name)}, needs at least 1; give {name} a positive size"
                )
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
        if self.eps <= 0:
            raise ArgumentError(
                f"SSMConfig: got eps={self.eps}, needs more than 0, since a silent token's norm is 0; the usual one is 1e-5"
            )

    @property
    def inner(self) -> int:
        """The inner width, `expand · width`."""
        return self.expand * self.width

    @property
    def heads(self) -> int:
        """How many heads there are."""
        if self.head_width is not None:
            return self.inner // self.head_width
        return 4 if self.inner % 4 == 0 and 4 % self.groups == 0 else self.groups

    @property
    def convolved(self) -> int:
        """Channels of the convolution: those of `x`, `B` and `C`."""
        return self.inner + 2 * self.groups * self.state

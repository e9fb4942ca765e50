"""Configuration of `griffin`."""

import attrs
from attrs.validators import optional

from ctxblocks import ArgumentError
from ctxblocks.validators import at_least

HEADS = 4
"""The default number of blocks of the gates' maps."""
_COUNT = at_least(1, advice="leave it out for the default", by_class=True)


@attrs.frozen(kw_only=True)
class GriffinConfig:
    """Configuration of `Griffin`.

    Attributes:
        width: d, of tokens, query and output.
        recurrent_width: e, of the recurrent state; by default `width`.
        heads: blocks on the diagonal of the gates' weight matrices, each `e / heads` wide, as in Griffin; 1 means dense
            matrices. By default 4, or 1 where 4 does not divide `e`.
        conv: kernel size of the causal convolution before the recurrence, including the token itself.

    Raises:
        ArgumentError: a size is below 1, or `heads` does not divide `e`.
    """

    width: int = attrs.field(validator=at_least(1, by_class=True))
    recurrent_width: int | None = attrs.field(default=None, validator=optional(_COUNT))
    heads: int | None = attrs.field(default=None, validator=optional(_COUNT))
    conv: int = attrs.field(default=4, validator=_COUNT)

    def __attrs_post_init__(self) -> None:
        """Check the values against each other."""
        if self.state_width % self.blocks:
            raise ArgumentError(
                f"GriffinConfig: got heads={self.heads} for a recurrent width of {self.state_width}, needs a divisor of it; "
                f"give heads=1 for dense gates"
            )

    @property
    def state_width(self) -> int:
        """`recurrent_width`, or its default."""
        return self.width if self.recurrent_width is None else self.recurrent_width

    @property
    def blocks(self) -> int:
        """`heads`, or its default."""
        if self.heads is not None:
            return self.heads
        return HEADS if self.state_width % HEADS == 0 else 1

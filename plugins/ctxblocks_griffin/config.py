"""Configuration of `griffin`."""

from typing import Any

import attrs

from ctxblocks import ArgumentError

HEADS = 4
"""Unless given."""


def _positive(instance: Any, attribute: Any, value: Any) -> None:
    if value is not None and value < 1:
        raise ArgumentError(
            f"GriffinConfig: got {attribute.name}={value}, needs at least 1; leave it out for the default"
        )


@attrs.frozen(kw_only=True)
class GriffinConfig:
    """Configuration of `Griffin`.

    Attributes:
        width: d, of tokens, query and output.
        recurrent_width: e, of the recurrent state; `width` unless given.
        heads: blocks on the diagonal of the gates' maps, each `e / heads` wide, as Griffin has them; 1 is dense maps. Unless
            given 4, or 1 where 4 does not divide `e`.
        conv: length of the short convolution before the recurrence, the token itself included.
    """

    width: int = attrs.field(validator=_positive)
    recurrent_width: int | None = attrs.field(default=None, validator=_positive)
    heads: int | None = attrs.field(default=None, validator=_positive)
    conv: int = attrs.field(default=4, validator=_positive)

    def __attrs_post_init__(self) -> None:
        """Check what no single field can tell."""
        if self.state_width % self.blocks:
            raise ArgumentError(
                f"GriffinConfig: got heads={self.heads} for a recurrent width of {self.state_width}, needs a divisor of it; "
                f"give heads=1 for dense gates"
            )

    @property
    def state_width(self) -> int:
        """`recurrent_width`, the default filled in."""
        return self.width if self.recurrent_width is None else self.recurrent_width

    @property
    def blocks(self) -> int:
        """`heads`, the default filled in."""
        if self.heads is not None:
            return self.heads
        return HEADS if self.state_width % HEADS == 0 else 1

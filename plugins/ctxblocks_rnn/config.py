"""Configurations of the recurrent layers."""

import attrs
from attrs.validators import optional

from ctxblocks.validators import Requirement, at_least, one_of


def _size(name: str) -> Requirement:
    return at_least(1, advice=f"give {name} a positive size", by_class=True)


@attrs.frozen(kw_only=True)
class RecurrentConfig:
    """The settings that all recurrent layers share.

    Attributes:
        width: d, of the query, the context tokens and the output.
        hidden: size of the state; `width` if None.
        bias: whether the cell has biases. The output projection has none.

    Raises:
        ArgumentError: a size is below 1.
    """

    width: int = attrs.field(validator=_size("width"))
    hidden: int | None = attrs.field(default=None, validator=optional(_size("hidden")))
    bias: bool = True

    @property
    def state_width(self) -> int:
        """Hidden units of the cell."""
        return self.width if self.hidden is None else self.hidden


@attrs.frozen(kw_only=True)
class RNNConfig(RecurrentConfig):
    """An Elman RNN.

    Attributes:
        nonlinearity: "tanh" or "relu".
    """

    nonlinearity: str = attrs.field(default="tanh", validator=one_of(("tanh", "relu"), by_class=True))


@attrs.frozen(kw_only=True)
class GRUConfig(RecurrentConfig):
    """A gated recurrent unit."""


@attrs.frozen(kw_only=True)
class LSTMConfig(RecurrentConfig):
    """A long short-term memory."""

"""Configurations of the recurrent layers."""

import attrs

from ctxblocks import ArgumentError


@attrs.frozen(kw_only=True)
class RecurrentConfig:
    """What every recurrent layer needs.

    Attributes:
        width: of the query and of the output.
        hidden: of the state; `width` if None.
        bias: whether the cell has biases. The projection has none.
    """

    width: int
    hidden: int | None = None
    bias: bool = True

    def __attrs_post_init__(self) -> None:
        """Refuse sizes below one."""
        for name, size in (("width", self.width), ("hidden", self.state_width)):
            if size < 1:
                raise ArgumentError(
                    f"{type(self).__name__}: got {name}={size}, needs at least 1; give {name} a positive size"
                )

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

    nonlinearity: str = "tanh"

    def __attrs_post_init__(self) -> None:
        """Refuse other nonlinearities."""
        super().__attrs_post_init__()
        if self.nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(
                f"RNNConfig: got nonlinearity={self.nonlinearity!r}, needs 'tanh' or 'relu'; choose one of the two"
            )


@attrs.frozen(kw_only=True)
class GRUConfig(RecurrentConfig):
    """A gated recurrent unit."""


@attrs.frozen(kw_only=True)
class LSTMConfig(RecurrentConfig):
    """A long short-term memory."""

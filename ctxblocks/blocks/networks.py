"""The network that follows the contextual layer in a block; it knows which of its linear maps read `z`.

Every *reader* of `z` takes the same operator on its right, `W → W P`: the first layer of an MLP, gate and up of a gated
one, the router and all experts of a mixture. Applying `P` to `z` once is the same, and costs `O(d)`.
"""

import abc
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.base.errors import ArgumentError
from ctxblocks.blocks.weights import LinearWeights, RankOneChange, last_layer_key
from ctxblocks.numerics import dot

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "tanh": torch.tanh,
}


class LastLayerUpdate(NamedTuple):
    """`ΔW_down = shift keyᵀ`: the bypass shift carried by the last dense layer.

    Attributes:
        shift: `Δb' (…, d)`.
        key: `u / ‖u‖² (…, m)`, `u` the input of the last dense layer; of a mixture `(…, experts, m)`, see `last_layer_key`.
    """

    shift: Tensor
    key: Tensor


class Network(nn.Module, abc.ABC):
    """A network that reads `z (…, d)` through `readers` and returns `(…, d)`."""

    width: int

    @property
    @abc.abstractmethod
    def readers(self) -> dict[str, nn.Linear]:
        """The linear maps that read `z`, by their names as submodules."""

    @abc.abstractmethod
    def forward(
        self,
        z: Tensor,  # (…, d)
        operator: ContextOperator | None = None,  # on (…, d)
        last: LastLayerUpdate | None = None,
    ) -> Tensor:  # (…, d)
        """The output with the operator on every reader and the update on the last layer, where given."""

    def rows(
        self,
        z: Tensor,  # (…, d)
        chunk: int | None,
    ) -> Tensor:  # (…, d)
        """The output, computed for `chunk` rows at a time, over all of the batch; None for all at once."""
        if chunk is None or z.shape[:-1].numel() <= chunk:
            output: Tensor = self(z)
            return output
        return torch.cat([self(part) for part in z.reshape(-1, z.shape[-1]).split(chunk)]).view(z.shape)

    @abc.abstractmethod
    def last_key(
        self,
        z: Tensor,  # (…, d)
        operator: ContextOperator | None,
    ) -> tuple[Tensor, Tensor]:  # (…, m) or (…, experts, m); (…) bool
        """The key with which a last-layer update adds its shift once, and where there is none; see `last_layer_key`."""

    @abc.abstractmethod
    def add_last(self, last: LastLayerUpdate) -> None:
        """Write a last-layer update into the weights, in place."""

    @abc.abstractmethod
    def add_output_bias(self, shift: Tensor) -> None:
        """Add `shift (d,)` to the bias of the output, in place; one is made if there is none."""


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    if name not in ACTIVATIONS:
        raise ArgumentError(f"activation: got {name!r}, needs one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


class _OneLast(Network):
    """A network with one last dense layer, `down`, that reads `hidden(z)`."""

    down: nn.Linear

    @abc.abstractmethod
    def hidden(
        self,
        z: Tensor,  # (…, d)
    ) -> Tensor:  # (…, m)
        """What the last dense layer reads."""

    def forward(
        self,
        z: Tensor,  # (…, d)
        operator: ContextOperator | None = None,
        last: LastLayerUpdate | None = None,
    ) -> Tensor:  # (…, d)
        """`down(hidden(P z))`, with `ΔW_down` on the last layer where given."""
        hidden = self.hidden(z if operator is None else operator.apply(z))
        output: Tensor = self.down(hidden)
        if last is None:
            return output
        return output + last.shift * dot(last.key, hidden).unsqueeze(-1).to(z.dtype)

    def last_key(
        self,
        z: Tensor,  # (…, d)
        operator: ContextOperator | None,
    ) -> tuple[Tensor, Tensor]:  # (…, m), (…)
        """`u / ‖u‖²` and where `u = 0`."""
        return last_layer_key(self.hidden(z if operator is None else operator.apply(z)))

    def add_last(self, last: LastLayerUpdate) -> None:
        """`W_down ← W_down + Δb' keyᵀ`."""
        RankOneChange(LinearWeights.of(self.down), last.shift, last.key).add()

    def add_output_bias(self, shift: Tensor) -> None:
        """`b' ← b' + shift`."""
        LinearWeights.of(self.down).add_bias(shift)


class MLP(_OneLast):
    """`W' σ(W z + b) + b'` [Def. 2.1], one reader.

    Args:
        width: d.
        hidden: m.
        activation: σ, a key of `ACTIVATIONS`.
        bias: whether the two layers have biases.
    """

    def __init__(self, width: int, hidden: int, activation: str = "relu", bias: bool = True) -> None:
        super().__init__()
        self.width = width
        self.activation = _activation(activation)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    @property
    def readers(self) -> dict[str, nn.Linear]:
        """`up`."""
        return {"up": self.up}

    def hidden(
        self,
        z: Tensor,  # (…, d)
    ) -> Tensor:  # (…, m)
        """`σ(W z + b)`."""
        z = self.up(z)  # by the same name, so that a read made for this call is let go before the activation is
        return self.activation(z)


class GatedMLP(_OneLast):
    """`W' (σ(W_gate z) ⊙ W_up z)`, two readers.

    Args:
        width: d.
        hidden: m.
        activation: σ, a key of `ACTIVATIONS`.
        bias: whether the three layers have biases.
    """

    def __init__(self, width: int, hidden: int, activation: str = "silu", bias: bool = False) -> None:
        super().__init__()
        self.width = width
        self.activation = _activation(activation)
        self.gate = nn.Linear(width, hidden, bias=bias)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    @property
    def readers(self) -> dict[str, nn.Linear]:
        """`gate` and `up`."""
        return {"gate": self.gate, "up": self.up}

    def hidden(
        self,
        z: Tensor,  # (…, d)
    ) -> Tensor:  # (…, m)
        """`σ(W_gate z) ⊙ W_up z`."""
        gate = self.activation(self.gate(z))
        z = self.up(z)  # by the same name: see `MLP.hidden`
        return gate * z

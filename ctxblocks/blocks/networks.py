"""The network that follows the contextual layer in a block.

Its *readers* are its input projections, the linear maps whose input is `z`: the first layer of an MLP, gate and up
projection of a gated MLP, the router and the gate and up projections of all experts of a mixture. An update multiplies
the weight of each by the same operator, `W → W P`; applying `P` to `z` is equivalent and costs `O(d)`.
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
    """`ΔW_down = shift keyᵀ`: the bias shift as a change of the last dense layer.

    Attributes:
        shift: `Δb' (…, d)`.
        key: `u / ‖u‖² (…, m)` with `u` the input of the last dense layer; for a mixture `(…, experts, m)`, see `last_layer_key`.
    """

    shift: Tensor
    key: Tensor


class Network(nn.Module, abc.ABC):
    """A network that uses its input `z (…, d)` only through its input projections, `readers`, and returns `(…, d)`."""

    width: int

    @property
    @abc.abstractmethod
    def readers(self) -> dict[str, nn.Linear]:
        """The input projections, the linear maps whose input is `z`, by their names as submodules."""

    @abc.abstractmethod
    def forward(
        self,
        z: Tensor,  # (…, d)
        operator: ContextOperator | None = None,  # on (…, d)
        last: LastLayerUpdate | None = None,
    ) -> Tensor:  # (…, d)
        """The output, with the operator applied to every reader and the update to the last dense layer, if given."""

    def rows(
        self,
        z: Tensor,  # (…, d)
        operator: ContextOperator | None,
        chunk: int | None,
    ) -> Tensor:  # (…, d)
        """The output for the input `P z`, computed for `chunk` rows of the whole batch at a time; None for all at once."""
        if chunk is None or z.shape[:-1].numel() <= chunk:
            output: Tensor = self(z, operator)
            return output
        z = z if operator is None else operator.apply(z)
        return torch.cat([self(part) for part in z.reshape(-1, z.shape[-1]).split(chunk)]).view(z.shape)

    @abc.abstractmethod
    def last_key(
        self,
        z: Tensor,  # (…, d)
        operator: ContextOperator | None,
    ) -> tuple[Tensor, Tensor]:  # (…, m) or (…, experts, m); (…) bool
        """The key of a last-layer update for the input `P z`, and a mask of where there is none; see `last_layer_key`."""

    @abc.abstractmethod
    def add_last(self, last: LastLayerUpdate) -> None:
        """Add a last-layer update to the weights, in place."""

    @abc.abstractmethod
    def add_output_bias(self, shift: Tensor) -> None:
        """Add `shift (d,)` to the output bias, in place; one is created if there is none."""


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    if name not in ACTIVATIONS:
        raise ArgumentError(f"activation: got {name!r}, needs one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


class _OneLastLayer(Network):
    """A network with one last dense layer, `down`, whose input is `hidden(z)`."""

    down: nn.Linear

    @abc.abstractmethod
    def hidden(
        self,
        z: Tensor,  # (…, d)
    ) -> Tensor:  # (…, m)
        """`u`, the input of the last dense layer."""

    def forward(
        self,
        z: Tensor,  # (…, d)
        operator: ContextOperator | None = None,
        last: LastLayerUpdate | None = None,
    ) -> Tensor:  # (…, d)
        """`(W_down + ΔW_down) hidden(P z)`, plus the bias of `down` if it has one."""
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
        """`u / ‖u‖²`, and a mask that is True where `u = 0`."""
        return last_layer_key(self.hidden(z if operator is None else operator.apply(z)))

    def add_last(self, last: LastLayerUpdate) -> None:
        """`W_down ← W_down + Δb' keyᵀ`, in place."""
        RankOneChange(LinearWeights.of(self.down), last.shift, last.key).add()

    def add_output_bias(self, shift: Tensor) -> None:
        """`b' ← b' + shift`, in place."""
        LinearWeights.of(self.down).add_bias(shift)


class MLP(_OneLastLayer):
    """`W' σ(W z + b) + b'` [Def. 2.1]; its only reader is `up`.

    Args:
        width: d.
        hidden: m, the hidden width.
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
        z = self.up(z)  # assigned to `z` so that a temporary input is freed before the activation is allocated
        return self.activation(z)


class GatedMLP(_OneLastLayer):
    """`W' (σ(W_gate z) ⊙ W_up z)`; its readers are `gate` and `up`.

    Args:
        width: d.
        hidden: m, the hidden width.
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
        z = self.up(z)  # assigned to `z`: see `MLP.hidden`
        return gate * z

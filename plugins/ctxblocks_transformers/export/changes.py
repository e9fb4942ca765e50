"""The update of a model as rank-one changes of its parameters: `W ← W + (Wδ) kᵀ` for every reader [Eq. 1]."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from ctxblocks import ArgumentError, ImplicitUpdate, LinearWeights, RankOneChange, ShapeError
from ctxblocks_transformers.wiring.difference import Difference
from ctxblocks_transformers.wiring.sites import Site

Placed = Sequence[tuple[Site, ImplicitUpdate]]
"""The sites of a model that take an update, each with its update."""


class Update(Protocol):
    """The part of `ModelUpdate` that an export uses."""

    @property
    def positions(self) -> Tensor:
        """`(tokens,)`, the positions of the remaining tokens in the prompt."""

    def placed(self, model: Any) -> list[tuple[Site, ImplicitUpdate]]:
        """The sites of a model that take an update, each with its update."""

    def inputs(self, model: Any) -> dict[str, Any]:
        """The arguments with which to call a model on the remaining tokens."""

    def applied(self, model: Any) -> contextlib.AbstractContextManager[Any]:
        """Put the update in place in a model."""

    def difference(self, output: Tensor) -> Difference:
        """Distances of an output from those with the full context and without an update."""


@dataclasses.dataclass(frozen=True)
class Change:
    """`W ← W + column keyᵀ` of one parameter.

    Attributes:
        name: the parameter's name in the model.
        rank_one: the change.
        bias: the name of the bias that changes too, None if there is none yet, or it does not change.
    """

    name: str
    rank_one: RankOneChange
    bias: str | None = None

    @property
    def weights(self) -> LinearWeights:
        """The weights that change."""
        return self.rank_one.weights

    def parameters(self) -> list[tuple[str, Tensor]]:
        """The parameters of the layer, by name."""
        changed = [(self.name, self.weights.parameter)]
        if self.bias is not None and self.weights.bias is not None:
            changed.append((self.bias, getattr(self.weights.module, self.weights.bias)))
        return changed


def change_of(site: Site, path: str, rank_one: RankOneChange) -> Change:
    """A change of the weights at a path in a block, with the names of its parameters in the model."""
    weights, block = rank_one.weights, site.block
    bias = None if weights.bias is None else block.parameter_name(path, weights.bias)
    return Change(block.parameter_name(path, weights.name), rank_one, bias)


def changes_of_readers(placed: Placed) -> list[Change]:
    """`W ← W P` for every reader of every block, for the update of one token."""
    return [
        change_of(site, path, weights.change(update[0].operator))
        for site, update in placed
        for path, weights in site.changed().items()
    ]


def one_token(update: Update, caller: str) -> None:
    """Raise unless one token remains: weights hold the update of one token.

    Raises:
        ShapeError: several tokens remain.
    """
    if len(update.positions) != 1:
        raise ShapeError(
            f"{caller}: got an update of {len(update.positions)} remaining tokens, needs one, since weights are the same for "
            f"every token; make it without keep=…, or use update.applied(model)"
        )


def refuse_offsets(placed: Placed, caller: str, biases: bool) -> None:
    """Raise if an update has an offset and its reader cannot have a bias, or biases cannot be exported.

    Raises:
        ArgumentError: there is such a reader.
    """
    for site, update in placed:
        if update.operator.offset is None:
            continue
        for path, weights in site.changed().items():
            if not biases or not weights.takes_bias():
                why = f"{type(weights.module).__name__} has none" if biases else "a LoRA adapter has none"
                raise ArgumentError(
                    f"{caller}: the update has an offset (of Augmented()), which needs a bias on "
                    f"{site.block.parameter_name(path, weights.name)}, and {why}; make it with solver=LeastNorm()"
                )


def refuse_shared(model: Any, changed: Sequence[tuple[str, Tensor]], caller: str) -> None:
    """Raise if a tensor that is to change is used elsewhere in the model too, or is not a parameter.

    Raises:
        ArgumentError: there is such a tensor.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for name, parameter in changed:
        same = names.get(id(parameter), [])
        if len(same) > 1:
            raise ArgumentError(
                f"{caller}: {name} is one parameter with {', '.join(each for each in same if each != name)}, needs a "
                f"separate matrix for each block; use update.applied(model)"
            )
        if not same or parameter.device.type == "meta":
            raise ArgumentError(
                f"{caller}: {name} is not a parameter that can be changed (it is computed, or was offloaded), needs plain "
                f"weights; use update.applied(model)"
            )

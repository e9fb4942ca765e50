"""The update of a model as rank-one changes of its parameters: `W ← W + (Wδ) kᵀ` for every reader [Eq. 1]."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from ctxblocks import ArgumentError, ImplicitUpdate, LinearWeights, RankOneChange
from ctxblocks_transformers.export.tokens import operators_of
from ctxblocks_transformers.wiring.difference import Difference
from ctxblocks_transformers.wiring.sites import Site

Placed = Sequence[tuple[Site, ImplicitUpdate]]
"""The sites of a model that take an update, each with its update."""


class Update(Protocol):
    """The part of `ModelUpdate` that an export uses."""

    @property
    def positions(self) -> Tensor:
        """`(tokens,)`, the positions of the remaining tokens in the prompt."""

    @property
    def input_ids(self) -> Tensor:
        """`(1, T)`, the whole prompt."""

    @property
    def query(self) -> int:
        """The index in `positions` of the token whose output was measured."""

    @property
    def full(self) -> Tensor:
        """The query's output with the full context."""

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
    """`W ← W + Σ_t column_t key_tᵀ` of one parameter.

    Attributes:
        name: the parameter's name in the model.
        terms: the change, one term for each remaining token that the context changes.
        bias: the name of the bias that changes too, None if there is none yet, or it does not change.
    """

    name: str
    terms: tuple[RankOneChange, ...]
    bias: str | None = None

    @property
    def weights(self) -> LinearWeights:
        """The weights that change."""
        return self.terms[0].weights

    def add(self) -> None:
        """Apply the change to the parameters in place, rounded once."""
        self.terms[0].add(*self.terms[1:])

    def parameters(self) -> list[tuple[str, Tensor]]:
        """The parameters of the layer, by name."""
        changed = [(self.name, self.weights.parameter)]
        if self.bias is not None and self.weights.bias is not None:
            changed.append((self.bias, getattr(self.weights.module, self.weights.bias)))
        return changed


def change_of(site: Site, path: str, terms: Sequence[RankOneChange]) -> Change:
    """A change of the weights at a path in a block, with the names of its parameters in the model."""
    weights, block = terms[0].weights, site.block
    bias = None if weights.bias is None else block.parameter_name(path, weights.bias)
    return Change(block.parameter_name(path, weights.name), tuple(terms), bias)


def changes_of_readers(placed: Placed, moved: Sequence[int]) -> list[Change]:
    """`W ← W P` for every reader of every block, with one `P` for all remaining tokens."""
    return [
        change_of(site, path, [weights.change(term) for term in terms])
        for site, update in placed
        for terms in [operators_of(update, moved)]
        for path, weights in site.changed().items()
    ]


def refuse_offsets(placed: Placed, caller: str, biases: bool) -> None:
    """Raise if an update has an offset and its reader cannot have a bias, or biases cannot be exported.

    Raises:
        ArgumentError: there is such a reader, or more than one token remains.
    """
    for site, update in placed:
        if update.operator.offset is None:
            continue
        if len(update.operator.key) > 1:
            raise ArgumentError(
                f"{caller}: got an update with offsets (of Augmented()) for {len(update.operator.key)} remaining tokens, "
                f"needs one without, since a bias is the same for every token; make it with solver=LeastNorm()"
            )
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

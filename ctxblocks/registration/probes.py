"""Probes: named measurements of a sequence of updates, such as the dynamics of a prompt or the updates of a generation."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import attrs

from ctxblocks.base.errors import ArgumentError
from ctxblocks.registration.specs import check_name

if TYPE_CHECKING:
    from torch import Tensor

    from ctxblocks.blocks.stack import Stack
    from ctxblocks.blocks.update import ImplicitUpdate
    from ctxblocks.registration.tasks import Prompts
    from ctxblocks.theorems.dynamics import Dynamics

TOKENS = "n, tokens in the context"
"""The usual axis of a probe."""


class Updates(Protocol):
    """The input of a probe: the successive updates of one block, and the weights that they change.

    `Dynamics` is such a sequence over the prefixes of a prompt.
    """

    @property
    def updates(self) -> "ImplicitUpdate":
        """`(…, steps, d)`."""

    def weights(self, reader: str | None = None) -> "list[Tensor]":  # (m, d) each
        """The weights of all input projections, or of the one named."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """The dynamics of a batch of prompts together with their origin: the input of probes that need more than updates.

    Attributes:
        dynamics: of one block.
        prompts: query, context and target of every task.
        inputs: query and context as they enter the block; those of the prompts for a first block.
    """

    dynamics: "Dynamics"
    prompts: "Prompts"
    inputs: "tuple[Tensor, Tensor]"

    @property
    def updates(self) -> "ImplicitUpdate":
        """The updates `(tasks, n + 1, d)` of all prefixes."""
        return self.dynamics.updates

    def weights(self, reader: str | None = None) -> "list[Tensor]":  # (m, d) each
        """The weights of all input projections, or of the one named."""
        return self.dynamics.weights(reader)


@attrs.frozen(kw_only=True)
class Probe:
    """A measurement as a plugin announces it from its `ctxblocks_probes` hook.

    Attributes:
        name: how users refer to it, in lower case with hyphens.
        summary: one line.
        measure: `measure(updates)` of an `Updates`, such as a `Dynamics`: a tensor `(…, steps)` with one number for each
            update, `(…, steps − 1)` with one for each update but the first, or `(…,)` with one for all.
        needs: `"updates"`, or `"trial"` for a measurement of a `Trial`.
        places: what the last dimension counts, for the axis of a figure: context tokens by default. Other than tokens are
            counted from 0.
        first: the number of tokens from which on the values are meaningful: 1 for a measurement between successive updates.
        scale: axes of a figure: `"auto"` is logarithmic in the values where they span orders of magnitude, `"log-log"` is
            logarithmic in both.
        summed: whether a figure shows the sum over all blocks of trained models instead of each block.
        exponent: name under which `ctxblocks compare` reports the exponent `p` of a power law `n^(−p)` that it fits to the
            values; "" for none.
        stack: `stack(model, prompts, dynamics)` measures all blocks of a `Stack` at once, from the `Dynamics` of each: a
            tensor such as `measure` returns for each block. None where blocks are measured one by one, by `measure`.
    """

    name: str = attrs.field()
    summary: str
    measure: "Callable[[Any], Tensor | float]"
    needs: Literal["updates", "trial"] = attrs.field(default="updates")
    places: str = TOKENS
    first: int = 0
    scale: Literal["auto", "log-log"] = attrs.field(default="auto")
    summed: bool = False
    exponent: str = ""
    stack: "Callable[[Stack, Prompts, Sequence[Dynamics]], Sequence[Tensor]] | None" = None

    @needs.validator
    def _check_needs(self, attribute: Any, value: str) -> None:
        if value not in ("updates", "trial"):
            raise ArgumentError(f"Probe {self.name!r}: got needs={value!r}, needs 'updates' or 'trial'")

    @scale.validator
    def _check_scale(self, attribute: Any, value: str) -> None:
        if value not in ("auto", "log-log"):
            raise ArgumentError(f"Probe {self.name!r}: got scale={value!r}, needs 'auto' or 'log-log'")

    @name.validator
    def _check_name(self, attribute: Any, value: str) -> None:
        check_name("Probe", value, "marginal-change")

"""Probes: named measurements of a sequence of updates, such as the dynamics of a prompt or a generation."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

import attrs

from ctxblocks.base.errors import ArgumentError
from ctxblocks.registration.specs import check_name

if TYPE_CHECKING:
    from torch import Tensor

    from ctxblocks.blocks.update import ImplicitUpdate
    from ctxblocks.registration.tasks import Prompts
    from ctxblocks.theorems.dynamics import Dynamics

TOKENS = "n, tokens in the context"
"""What most probes are measured against."""


class Updates(Protocol):
    """What a probe measures: the updates of one block, one after another, and the weights that they change.

    `Dynamics` is such a sequence over the prefixes of a prompt.
    """

    @property
    def updates(self) -> "ImplicitUpdate":
        """`(…, steps, d)`."""

    def weights(self, reader: str | None = None) -> "list[Tensor]":  # (m, d) each
        """The weights of all readers, or of the one named."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """The dynamics of a batch of prompts with all that they came from: what probes measure that need more than updates.

    Attributes:
        dynamics: of one block.
        prompts: query, context and target of every task.
        inputs: what reached the block of query and context; those of the prompts in a first block.
    """

    dynamics: "Dynamics"
    prompts: "Prompts"
    inputs: "tuple[Tensor, Tensor]"

    @property
    def updates(self) -> "ImplicitUpdate":
        """`(tasks, n + 1, d)`, over the prefixes."""
        return self.dynamics.updates

    def weights(self, reader: str | None = None) -> "list[Tensor]":  # (m, d) each
        """The weights of all readers, or of the one named."""
        return self.dynamics.weights(reader)


@attrs.frozen(kw_only=True)
class Probe:
    """A measurement as a plugin announces it from its `ctxblocks_probes` hook.

    Attributes:
        name: how users call it, in lower case with hyphens.
        summary: one line.
        needs: `"updates"`, or `"trial"` for what is measured of a `Trial` only.
        measure: `measure(updates)` of an `Updates`, such as a `Dynamics`: a tensor `(…, steps)`, one number for each update,
            or one number for all. A measurement between successive updates takes the first beside no update.
        places: what the last dimension counts from 0 on, for the axis of a figure: context tokens, unless said otherwise.
    """

    name: str = attrs.field()
    summary: str
    measure: "Callable[[Any], Tensor | float]"
    needs: Literal["updates", "trial"] = attrs.field(default="updates")
    places: str = TOKENS

    @needs.validator
    def _check_needs(self, attribute: Any, value: str) -> None:
        if value not in ("updates", "trial"):
            raise ArgumentError(f"Probe {self.name!r}: got needs={value!r}, needs 'updates' or 'trial'")

    @name.validator
    def _check_name(self, attribute: Any, value: str) -> None:
        check_name("Probe", value, "marginal-change")

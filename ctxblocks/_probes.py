"""Probes: named measurements of a sequence of updates, such as the dynamics of a prompt or a generation."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from ctxblocks._specs import check_name

if TYPE_CHECKING:
    from torch import Tensor

    from ctxblocks._update import ImplicitUpdate


class Updates(Protocol):
    """What a probe measures: the updates of one block, one after another, and the weights that they change.

    `Dynamics` is such a sequence over the prefixes of a prompt.
    """

    @property
    def updates(self) -> "ImplicitUpdate":
        """`(…, steps, d)`."""

    def weights(self, reader: str | None = None) -> "list[Tensor]":  # (m, d) each
        """The weights of all readers, or of the one named."""


@attrs.frozen(kw_only=True)
class Probe:
    """A measurement as a plugin announces it from its `ctxblocks_probes` hook.

    Attributes:
        name: how users call it, in lower case with hyphens.
        summary: one line.
        measure: `measure(updates)` of an `Updates`, such as a `Dynamics`: a tensor `(…, steps)`, one number for each update,
            or one number for all. A measurement between successive updates takes the first beside no update.
    """

    name: str = attrs.field()
    summary: str
    measure: "Callable[[Any], Tensor | float]"

    @name.validator
    def _check_name(self, attribute: Any, value: str) -> None:
        check_name("Probe", value, "marginal-change")

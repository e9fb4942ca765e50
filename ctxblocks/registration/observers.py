"""Observers: told of a run while it goes on, such as a dashboard."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ctxblocks.registration.specs import check_name


class Observer:
    """Told what happens in a run; every method does nothing until a subclass overrides it."""

    def start(self, configuration: Mapping[str, Any]) -> None:
        """A run begins, with these settings, in JSON's own types."""

    def row(self, row: Mapping[str, Any]) -> None:
        """A measurement has landed: a row of the run's table."""

    def figure(self, name: str, png: bytes) -> None:
        """A figure has been drawn."""

    def end(self, status: str) -> None:
        """The run is `"over"`, or has `"failed"`, if it broke off."""


@attrs.frozen(kw_only=True)
class ObserverSpec:
    """An observer as a plugin announces it from its `ctxblocks_observers` hook.

    Attributes:
        name: how users call it, in lower case with hyphens.
        summary: one line.
        open: `open(folder)` returns an `Observer` of the run in that folder.
    """

    name: str = attrs.field()
    summary: str
    open: Callable[[Path], Observer]

    @name.validator
    def _check_name(self, attribute: Any, value: str) -> None:
        check_name("ObserverSpec", value, "tensorboard")


@contextlib.contextmanager
def watched(observers: Sequence[Observer], configuration: Mapping[str, Any]) -> Iterator[Sequence[Observer]]:
    """A run that observers are told the beginning and the end of, however it ends."""
    for observer in observers:
        observer.start(configuration)
    status = "failed"
    try:
        yield observers
        status = "over"
    finally:
        for observer in observers:
            observer.end(status)

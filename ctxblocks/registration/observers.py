"""Observers: notified of the events of a run, such as a dashboard."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ctxblocks.registration.specs import check_name


class Observer:
    """Notified of what happens in a run, while it happens; every method does nothing until a subclass overrides it."""

    def start(self, configuration: Mapping[str, Any]) -> None:
        """A run begins, with these settings, in JSON's own types."""

    def step(self, model: str, step: int, steps: int) -> None:
        """A model has taken training step `step` of `steps`."""

    def evaluation(self, model: str, step: int, losses: Mapping[str, float]) -> None:
        """A model has been evaluated after `step` training steps: losses by name; NaN where there is none yet."""

    def row(self, row: Mapping[str, Any]) -> None:
        """A measurement is complete: a row of the run's table."""

    def figure(self, name: str, png: bytes) -> None:
        """A figure has been drawn."""

    def end(self, status: str) -> None:
        """The run has ended: `"over"`, or `"failed"` after an error."""


@attrs.frozen
class Step:
    """A training step, see `Observer.step`; it travels from the process that trains to the one with the observers."""

    model: str
    step: int
    steps: int


@attrs.frozen
class Evaluation:
    """An evaluation, see `Observer.evaluation`; it travels as a `Step` does."""

    model: str
    step: int
    losses: Mapping[str, float]


@attrs.frozen(kw_only=True)
class ObserverSpec:
    """An observer as a plugin announces it from its `ctxblocks_observers` hook.

    Attributes:
        name: how users refer to it, in lower case with hyphens.
        summary: one line.
        open: `open(folder)` returns an `Observer` of the run in that folder.
    """

    name: str = attrs.field()
    summary: str
    open: Callable[[Path], Observer]

    @name.validator
    def _check_name(self, attribute: Any, value: str) -> None:
        check_name("ObserverSpec", value, "tensorboard")


def notify(observers: Sequence[Observer], event: object) -> None:
    """Pass a training step or an evaluation on to observers; other objects are ignored."""
    for observer in observers:
        if isinstance(event, Step):
            observer.step(event.model, event.step, event.steps)
        elif isinstance(event, Evaluation):
            observer.evaluation(event.model, event.step, event.losses)


@contextlib.contextmanager
def watched(observers: Sequence[Observer], configuration: Mapping[str, Any]) -> Iterator[Sequence[Observer]]:
    """A context in which a run takes place: observers are notified of its start, and of its end however it ends."""
    for observer in observers:
        observer.start(configuration)
    status = "failed"
    try:
        yield observers
        status = "over"
    finally:
        for observer in observers:
            observer.end(status)

"""Checks of single values, for the configurations and functions of plugins.

Each is a `Requirement`: a validator for fields of attrs classes, whose method `check` also checks the argument of a
function. A value that does not meet the requirement raises `ctxblocks.ArgumentError`, whose message names the value, what
is needed and, where given, what to do.

    import attrs
    from attrs.validators import optional

    from ctxblocks.validators import at_least, one_of, share

    @attrs.frozen(kw_only=True)
    class Config:
        width: int = attrs.field(validator=at_least(1))
        hidden: int | None = attrs.field(default=None, validator=optional(at_least(1, advice="leave it out for width")))
        activation: str = attrs.field(default="relu", validator=one_of(("relu", "tanh")))
        dropout: float = attrs.field(default=0.0, validator=share())

    Config(width=0)  # ArgumentError: width: got 0, needs at least 1
"""

import numbers
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from ctxblocks.base.errors import ArgumentError

__all__ = [
    "Requirement",
    "at_least",
    "each_once",
    "integer_at_least",
    "more_than",
    "one_of",
    "plain_integer",
    "seed_of",
    "share",
]

SEEDS = 2**64
"""Seeds of torch's generators are below this."""


@attrs.frozen
class Requirement:
    """A condition on a value, and its wording in error messages.

    Attributes:
        holds: whether a value meets the condition.
        needs: the text for what is needed, such as `at least 1`.
        advice: the text for what to do if the condition fails, such as `leave it out for the default`; may be empty.
        by_class: whether the message of a validator begins with the class (`RNNConfig: got width=0, …`) instead of the
            attribute (`width: got 0, …`).
    """

    holds: Callable[[Any], bool]
    needs: str
    advice: str = attrs.field(default="", kw_only=True)
    by_class: bool = attrs.field(default=False, kw_only=True)

    def __call__(self, instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        """Check a field of an attrs class; attrs calls this.

        Raises:
            ArgumentError: the condition fails.
        """
        if self.by_class:
            self._require(value, f"{type(instance).__name__}: got {attribute.name}={value!r}")
        else:
            self.check(attribute.name, value)

    def check(self, name: str, value: Any) -> None:
        """Check the argument `name` of a function.

        Raises:
            ArgumentError: the condition fails.
        """
        self._require(value, f"{name}: got {value!r}")

    def _require(self, value: Any, got: str) -> None:
        if not self.holds(value):
            raise ArgumentError(f"{got}, needs {self.needs}" + (f"; {self.advice}" if self.advice else ""))


def at_least(least: float, *, advice: str = "", by_class: bool = False) -> Requirement:
    """A number `≥ least`; NaN is refused."""
    return Requirement(
        lambda value: _is_number(value) and value >= least, f"at least {least}", advice=advice, by_class=by_class
    )


def integer_at_least(least: int, *, advice: str = "", by_class: bool = False) -> Requirement:
    """An integer `≥ least`, also one of numpy; `2.0` and `True` are refused."""
    return Requirement(
        lambda value: _is_integer(value) and value >= least,
        f"an integer ≥ {least}",
        advice=advice,
        by_class=by_class,
    )


def more_than(bound: float, *, advice: str = "", by_class: bool = False) -> Requirement:
    """A number `> bound`; NaN is refused."""
    return Requirement(
        lambda value: _is_number(value) and value > bound, f"more than {bound}", advice=advice, by_class=by_class
    )


def share(*, advice: str = "", by_class: bool = False) -> Requirement:
    """A number from 0 to 1, both included; NaN is refused."""
    return Requirement(
        lambda value: _is_number(value) and 0 <= value <= 1, "a share from 0 to 1", advice=advice, by_class=by_class
    )


def one_of(choices: Iterable[object], *, advice: str = "", by_class: bool = False) -> Requirement:
    """One of several values, which the message lists."""
    known = tuple(choices)
    return Requirement(
        lambda value: value in known, f"one of {', '.join(map(repr, known))}", advice=advice, by_class=by_class
    )


def each_once(*, empty: bool = False, advice: str = "", by_class: bool = False) -> Requirement:
    """A sequence of distinct, hashable values; with `empty`, also one without any."""
    return Requirement(
        lambda values: (empty or len(values) > 0) and len(values) == len(set(values)),
        "each once" if empty else "at least one, and each once",
        advice=advice,
        by_class=by_class,
    )


def plain_integer(value: int) -> int:
    """An integer of numpy as an `int`, and everything else as it is: the converter of a field before its validator."""
    return int(value) if _is_integer(value) else value


def seed_of(seed: int, name: str = "seed") -> int:
    """A seed as an `int`, after checking it: an integer, also one of numpy, from 0 to `2**64 − 1`.

    Raises:
        ArgumentError: it is something else, such as `1.5`, `True`, −1 or `2**64`.
    """
    if not _is_integer(seed) or not 0 <= seed < SEEDS:
        raise ArgumentError(f"{name}: got {seed!r}, needs an integer from 0 to 2**64 - 1")
    return int(seed)


def _is_integer(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)

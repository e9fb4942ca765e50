"""The public validators: what each accepts and refuses, and the words of its message."""

import math
import re

import attrs
import numpy as np
import pytest
from attrs.validators import optional

import ctxblocks.numerics
import ctxblocks.validators
from ctxblocks import ArgumentError
from ctxblocks.validators import Requirement, at_least, each_once, integer_at_least, more_than, one_of, share


@pytest.mark.parametrize(
    ("requirement", "accepted", "refused", "needs"),
    [
        (at_least(1), [1, 1.0, 2.5, math.inf], [0, -1, 0.99, math.nan], "at least 1"),
        (integer_at_least(2), [2, 3, np.int64(2)], [1, 2.0, "2", None, math.nan], "an integer ≥ 2"),
        (more_than(0), [1e-300, 3], [0, 0.0, -1, math.nan], "more than 0"),
        (share(), [0, 0.5, 1], [-1e-9, 1.5, math.nan], "a share from 0 to 1"),
        (one_of(("a", 2)), ["a", 2], ["b", 3, None], "one of 'a', 2"),
        (each_once(), [("a",), ["a", "b"]], [(), ["a", "b", "a"]], "at least one, and each once"),
    ],
)
def test_each_accepts_and_refuses(
    requirement: Requirement, accepted: list[object], refused: list[object], needs: str
) -> None:
    """Bounds belong to what is accepted, except that of `more_than`; NaN is refused everywhere."""
    for value in accepted:
        requirement.check("value", value)
    for value in refused:
        with pytest.raises(ArgumentError, match=re.escape(f"value: got {value!r}, needs {needs}") + "$"):
            requirement.check("value", value)


def test_fields_are_named_with_or_without_their_class() -> None:
    """`width: got 0, …` or `Sizes: got hidden=0, …`, and the advice at the end; None passes `optional` only."""

    @attrs.frozen
    class Sizes:
        width: int = attrs.field(validator=at_least(1))
        hidden: int | None = attrs.field(
            default=None, validator=optional(at_least(1, advice="leave it out for width", by_class=True))
        )

    assert Sizes(1).hidden is None
    with pytest.raises(ArgumentError, match=r"^width: got 0, needs at least 1$"):
        Sizes(0)
    with pytest.raises(ArgumentError, match=r"^Sizes: got hidden=0, needs at least 1; leave it out for width$"):
        Sizes(1, hidden=0)


@pytest.mark.parametrize("module", [ctxblocks.numerics, ctxblocks.validators])
def test_all_holds_every_public_function(module: object) -> None:
    """What a module defines without an underscore stands in its `__all__`, sorted, and has a docstring."""
    names = vars(module)
    own = {name for name, value in names.items() if getattr(value, "__module__", None) == names["__name__"]}
    assert names["__all__"] == sorted(name for name in own if not name.startswith("_"))
    assert all(names[name].__doc__ for name in names["__all__"])

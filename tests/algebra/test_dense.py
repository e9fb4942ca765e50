"""Operators, updates and solvers against dense matrices, in four dtypes; and a planted fault for each property."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from algebra import properties
from torch import Tensor

from ctxblocks import Augmented, ContextOperator, LeastNorm, LowRank, Metric, OperatorProduct
from ctxblocks.algebra import lengths
from ctxblocks.numerics import dot

PROPERTIES: dict[str, properties.Property] = {
    "commutator_is_dense": properties.commutator_is_dense,
    "determinant_and_inverse": properties.determinant_and_inverse,
    "metric_is_least_in_its_norm": properties.metric_is_least_in_its_norm,
    "norms_and_alignments": properties.norms_and_alignments,
    "operator_is_dense": properties.operator_is_dense,
    "product_is_dense": properties.product_is_dense,
    "solvers_read_one": properties.solvers_read_one,
}
Fault = tuple[
    Any, str, Callable[[Any], Any]
]  # object, name of its attribute, and the faulty value made from the right one


def doubled_offset(right: Any) -> Any:
    """`β` twice."""

    def key(self: Augmented, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        direction, offset, absent = right(self, z)
        return direction, 2 * offset, absent

    return key


FAULTS: dict[str, Fault] = {  # by the property that has to fail
    "commutator_is_dense": (
        ContextOperator,
        "commutator",
        lambda right: lambda self, other: LowRank(-right(self, other).columns, right(self, other).rows),
    ),
    "determinant_and_inverse": (
        ContextOperator,
        "det",
        lambda right: lambda self: 1 - dot(self.key, self.direction),
    ),
    "metric_is_least_in_its_norm": (Metric, "key", lambda right: lambda self, z: LeastNorm().key(z)),
    "norms_and_alignments": (lengths, "norm", lambda right: lambda x: 1.001 * right(x)),
    "operator_is_dense": (
        ContextOperator,
        "delta",
        lambda right: lambda self, weight: LowRank(right(self, weight).columns, 1.001 * right(self, weight).rows),
    ),
    "product_is_dense": (
        OperatorProduct,
        "dense",
        lambda right: lambda self: right(OperatorProduct(self.factors[1:])),
    ),
    "solvers_read_one": (Augmented, "key", doubled_offset),
}
WIDE = properties.CASES.filter(lambda case: case.dtype in (torch.float64, torch.float32))


@pytest.mark.parametrize("name", PROPERTIES)
def test_the_property_holds(name: str) -> None:
    """For every dtype, batch shape, width and solver."""
    properties.check(PROPERTIES[name])


@pytest.mark.usefixtures("first_failure")
@pytest.mark.parametrize("name", PROPERTIES)
def test_the_property_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its planted fault, in float64 or float32."""
    where, what, change = FAULTS[name]
    monkeypatch.setattr(where, what, change(getattr(where, what)))
    with pytest.raises(AssertionError) as caught:
        properties.check(PROPERTIES[name], WIDE)
    assert "Unsatisfiable" not in str(caught.value)

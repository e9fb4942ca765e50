"""Norms and angles of updates against dense matrices, and where squares would over- or underflow."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from ctxblocks import ContextOperator, ImplicitUpdate

UNIT = 2.0**-53


def _drawn(seed: int, rows: int = 4, d: int = 5) -> tuple[ImplicitUpdate, list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    direction, key = torch.randn(2, rows, d, generator=generator, dtype=torch.float64)
    weights = [torch.randn(m, d, generator=generator, dtype=torch.float64) for m in (3, 6)]
    return ImplicitUpdate(ContextOperator(direction, key)), weights


def _dense(update: ImplicitUpdate, weights: list[Tensor]) -> Tensor:  # (…, M, d)
    return torch.cat([update.delta_weight(weight) for weight in weights], dim=-2)


@settings(deadline=None)
@given(seed=st.integers(0, 2**20), parallel=st.sampled_from([0.0, 1e-12, 1.0]))
def test_norm_angle_and_distance_are_those_of_the_dense_matrices(seed: int, parallel: float) -> None:
    """Also where the keys are nearly parallel and the updates nearly equal, the distance keeps its digits."""
    update, weights = _drawn(seed)
    near = ContextOperator(
        (1 + parallel) * update.operator.direction, update.operator.key + parallel * update.operator.key.roll(1, -2)
    )
    other = ImplicitUpdate(near)
    one, two = _dense(update, weights), _dense(other, weights)
    size = torch.linalg.matrix_norm(one) + torch.linalg.matrix_norm(two)
    torch.testing.assert_close(update.norm(weights), torch.linalg.matrix_norm(one))
    cosine = (one * two).sum((-2, -1)) / (torch.linalg.matrix_norm(one) * torch.linalg.matrix_norm(two))
    torch.testing.assert_close(update.alignment(other, weights), cosine)
    gap = update.distance(other, weights) - torch.linalg.matrix_norm(one - two)
    assert bool((gap.abs() <= 40 * UNIT * size).all())


@settings(deadline=None)
@given(seed=st.integers(0, 2**20))
def test_marginal_change_is_the_distance_of_neighbours(seed: int) -> None:
    """`n` numbers of `n + 1` updates; with one key for all of them the change has rank one, and the numbers are the same."""
    update, weights = _drawn(seed)
    torch.testing.assert_close(update.marginal_change(weights), update[1:].distance(update[:-1], weights))
    direction, key = update.operator.direction, update.operator.key[:1]
    shared = ImplicitUpdate(ContextOperator(direction, key.expand_as(direction)))
    copied = ImplicitUpdate(ContextOperator(direction, key.expand_as(direction).clone()))
    assert torch.equal(shared.marginal_change(weights), copied.marginal_change(weights))
    assert shared.marginal_change(weights).shape == (len(direction) - 1,)


@pytest.mark.parametrize(("of_direction", "of_key"), [(1e-24, 1.0), (1e-24, 1e24), (1e30, 1e-30), (1.0, 1e-24)])
def test_nothing_over_or_underflows_on_the_way(of_direction: float, of_key: float) -> None:
    """In float32, whose squares leave its range here, all numbers are those of float64."""
    exact, weights = _drawn(3)
    op = exact.operator
    wide = ImplicitUpdate(ContextOperator(of_direction * op.direction, of_key * op.key))
    narrow = ImplicitUpdate(ContextOperator(wide.operator.direction.float(), wide.operator.key.float()))
    small = [weight.float() for weight in weights]
    for name in ("norm", "marginal_change"):
        number = getattr(narrow, name)(small)
        torch.testing.assert_close(number.double(), getattr(wide, name)(weights), rtol=1e-5, atol=0)
        assert bool((number > 0).all())
    angles = narrow[1:].alignment(narrow[:-1], small).double()
    torch.testing.assert_close(angles, wide[1:].alignment(wide[:-1], weights), rtol=1e-4, atol=1e-5)

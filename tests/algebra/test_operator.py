"""Operators and low-rank matrices against dense ones in float64, with bounds of round-off times the norms of the factors."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from ctxblocks import (
    ArgumentError,
    ContextOperator,
    ImplicitUpdate,
    LowRank,
    OperatorProduct,
    ShapeError,
    SingularOperatorError,
)

U = 2.0**-53
sizes = st.integers(1, 6)
seeds = st.integers(0, 2**32 - 1)


def operator(gen: torch.Generator, batch: tuple[int, ...], d: int, offset: bool = False) -> ContextOperator:
    def draw(*shape: int) -> Tensor:
        return torch.randn((*batch, *shape), generator=gen, dtype=torch.float64)

    return ContextOperator(draw(d), draw(d), draw() if offset else None)


def size(*operators: ContextOperator) -> float:
    """A bound on the norm of the product of `I + |δ||k|ᵀ` (and `I + |δ||β|`), times a factor for the length of the sums."""
    total = 1.0
    for op in operators:
        beta = 0.0 if op.offset is None else float(op.offset.abs().max())
        total *= 1 + float(op.direction.norm(dim=-1).max()) * (float(op.key.norm(dim=-1).max()) + beta)
    return 8 * operators[0].key.shape[-1] * len(operators) * total


def close(got: Tensor, wanted: Tensor, scale: float) -> bool:
    return bool((got - wanted).abs().max() <= U * scale)


@settings(deadline=None)
@given(seed=seeds, d=sizes, count=sizes, offset=st.booleans())
def test_product_is_composition(seed: int, d: int, count: int, offset: bool) -> None:
    """A product applies its last factor first, and its dense form is the product of the dense factors."""
    gen = torch.Generator().manual_seed(seed)
    factors = [operator(gen, (2,), d, offset) for _ in range(count)]
    product, z = OperatorProduct(tuple(factors)), torch.randn(2, d, generator=gen, dtype=torch.float64)
    direct, dense = z, torch.eye(d, dtype=torch.float64).expand(2, d, d)
    for factor in reversed(factors):
        direct = factor.apply(direct)
    for factor in factors:
        dense = dense @ factor.dense()
    scale = size(*factors)
    assert close(product.apply(z), direct, scale * float(z.norm()))
    assert close(product.dense(), dense, scale)
    weight = torch.randn(5, d, generator=gen, dtype=torch.float64)
    whole = (weight @ dense @ z.unsqueeze(-1)).squeeze(-1) + product.bias(weight)
    assert close(product.apply(z) @ weight.mT, whole, 4 * scale * float(weight.norm()) * (1 + float(z.norm())))
    assert close(product.delta(weight).dense(), weight @ dense - weight, 4 * scale * float(weight.norm()))


@settings(deadline=None)
@given(seed=seeds, d=sizes)
def test_determinant_inverse_and_commutator(seed: int, d: int) -> None:
    """`det`, `inverse` and `commutator` equal those of the dense matrices."""
    gen = torch.Generator().manual_seed(seed)
    a, b = operator(gen, (3,), d), operator(gen, (3,), d)
    assert close(a.det(), torch.linalg.det(a.dense()), size(a) * size(a))
    assert close(a.commutator(b).dense(), a.dense() @ b.dense() - b.dense() @ a.dense(), 2 * size(a, b))
    condition = float((1 / a.det()).abs().max())
    identity = a.inverse().dense() @ a.dense()
    assert close(identity, torch.eye(d, dtype=torch.float64), size(a) ** 2 * (1 + condition) ** 2)


@settings(deadline=None)
@given(seed=seeds, d=sizes)
def test_inverse_undoes_an_affine_operator(seed: int, d: int) -> None:
    """The inverse of `z + δ(kᵀz + β)` has the same key and offset."""
    gen = torch.Generator().manual_seed(seed)
    op, z = operator(gen, (), d, offset=True), torch.randn(d, generator=gen, dtype=torch.float64)
    scale = size(op) ** 2 * (1 + float((1 / op.det()).abs())) ** 2 * (1 + float(z.norm()))
    assert close(op.inverse().apply(op.apply(z)), z, scale)


def test_inverse_of_a_singular_operator_is_refused() -> None:
    """`det P = 0` is a typed error that names the alternative."""
    op = ContextOperator(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 0.0]))
    with pytest.raises(SingularOperatorError, match=r"det P = 0 .*Augmented\(\)"):
        op.inverse()


def test_apply_refuses_another_width() -> None:
    """An operator applies to vectors of its own width only."""
    with pytest.raises(ShapeError, match=r"z: got width 3, needs 2"):
        ContextOperator(torch.ones(2), torch.ones(2)).apply(torch.ones(3))


def test_empty_product_is_refused_when_it_needs_a_width() -> None:
    """The width of an empty product is unknown."""
    with pytest.raises(ArgumentError, match="got no factors"):
        OperatorProduct(()).dense()


@settings(deadline=None)
@given(seed=seeds, m=sizes, d=sizes, r=st.integers(1, 4))
def test_low_rank_measures_are_those_of_the_matrix(seed: int, m: int, d: int, r: int) -> None:
    """Norm, inner product, application and truncation agree with those of the dense matrix."""
    gen = torch.Generator().manual_seed(seed)

    def draw() -> LowRank:
        columns = torch.randn(2, m, r, generator=gen, dtype=torch.float64)
        return LowRank(columns, torch.randn(2, r, d, generator=gen, dtype=torch.float64))

    one, two, z = draw(), draw(), torch.randn(2, d, generator=gen, dtype=torch.float64)
    scale = 16 * (m + d) * r * float(one.columns.norm() * one.rows.norm())
    other = float(two.columns.norm() * two.rows.norm())
    assert close(one.norm(), torch.linalg.matrix_norm(one.dense()), scale)
    assert close(one.inner(two), (one.dense() * two.dense()).sum((-2, -1)), scale * other)
    assert close(one.apply(z), (one.dense() @ z.unsqueeze(-1)).squeeze(-1), scale * float(z.norm()))
    assert close(one.truncate(r).dense(), one.dense(), 4 * scale)
    values = torch.linalg.svdvals(one.dense())
    lost = torch.linalg.matrix_norm(one.dense() - one.truncate(1).dense())
    assert close(lost, values[..., 1:].norm(dim=-1), 8 * scale)


def test_norm_of_a_cancelling_sum_keeps_its_digits() -> None:
    """`‖a kᵀ − a k'ᵀ‖` with `k' = k + 1e-9 e` is accurate, where a Gram matrix would lose it to cancellation."""
    a, k = torch.ones(3, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    nudged = k.clone()
    nudged[0] += 1e-9
    low = LowRank(torch.stack([a, -a], dim=-1), torch.stack([k, nudged]))
    wanted = 3**0.5 * float(nudged[0] - k[0])
    assert float(low.norm()) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_float32(dtype: torch.dtype) -> None:
    """`kᵀz` of 4096 equal terms is exact, where a running sum in half precision would stop growing."""
    op = ContextOperator(torch.ones(4096, dtype=dtype), torch.full((4096,), 1 / 4096, dtype=dtype))
    assert float(op.gain(torch.ones(4096, dtype=dtype))) == 1.0


def test_alignment_of_small_updates_does_not_underflow() -> None:
    """In float16 the product of two small norms, and `Wδ`, underflow to 0, but the cosine is 1."""
    direction, key = torch.full((3,), 1e-4, dtype=torch.float16), torch.full((3,), 0.5, dtype=torch.float16)
    update = ImplicitUpdate(ContextOperator(direction, key))
    weight = torch.full((2, 3), 1e-4, dtype=torch.float16)  # Wδ is 3e-8, half the least positive float16
    assert update.alignment(update, weight).item() == pytest.approx(1, abs=2.0**-11)

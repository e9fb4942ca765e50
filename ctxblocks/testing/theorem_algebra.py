"""The algebra of operators and updates against dense matrices, and what each solver promises [Sec. 1 of the theory].

Every formula is held against its dense counterpart, taken in float64 from the same stored `δ`, `k`, `β` and `W`. A sum of
products of `n` terms is off by at most `c (u + n u_acc)` times the same sum of absolute values (`c = 4` leaves room for the few
roundings around it), so the tolerance is the dense formula itself on absolute values. In float16 products underflow too.
"""

from typing import NamedTuple

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.algebra.solvers import LeastNorm, Metric
from ctxblocks.blocks.update import ImplicitUpdate
from ctxblocks.exactness.identity import solve
from ctxblocks.exactness.tolerance import READERS, precision, within
from ctxblocks.testing.cases import Case
from ctxblocks.testing.theorem_draws import draw_block, draw_metric, draw_part, draw_solver
from ctxblocks.theorems.transfer import transfer

__all__ = [
    "commutator_is_dense",
    "determinant_and_inverse",
    "key_reads_one",
    "metric_is_least_in_its_norm",
    "norms_and_alignments",
    "operator_is_dense",
    "product_is_dense",
]


class Rounding(NamedTuple):
    """What a result may be off by: `relative` times the sum of absolute values, and a floor for underflow."""

    relative: float
    floor: float


def rounding(case: Case, terms: int, *factors: Tensor) -> Rounding:
    """`c (u + n u_acc)`, `c = 4`, and the subnormal spacing for each of `n` products that underflow, times one more factor."""
    kind = torch.finfo(case.dtype)
    largest = max((float(factor.detach().abs().max()) for factor in factors if factor.numel()), default=0.0)
    relative = READERS * precision(case.dtype, case.device).of_dot(terms)
    return Rounding(relative, kind.smallest_normal * kind.eps * terms * (1 + largest))


def close(got: Tensor, wanted: Tensor, size: Tensor, unit: Rounding) -> None:
    """Assert `|got − wanted| ≤ relative · size + floor` entry by entry."""
    found = within((got.detach().double() - wanted).abs(), unit.relative * size + unit.floor)
    assert found.ok, str(found)


def dense(operator: ContextOperator, sign: bool = True) -> Tensor:  # (…, d, d), float64
    """`I + δkᵀ`, or with `sign=False` `I + |δ||k|ᵀ`."""
    delta, key = operator.direction.detach().double(), operator.key.detach().double()
    delta, key = (delta, key) if sign else (delta.abs(), key.abs())
    eye = torch.eye(key.shape[-1], dtype=key.dtype, device=key.device)
    return eye + delta.unsqueeze(-1) * key.unsqueeze(-2)


def two_updates(case: Case, data: st.DataObject) -> tuple[ImplicitUpdate, ImplicitUpdate, list[Tensor]]:
    """Updates of the whole context and of a part of it in one drawn block, and the weights of its readers."""
    block, reduced = draw_block(case, data), draw_part(case, data)
    solver = draw_solver(case, data, block.width)
    whole = solve(block, case.query, case.context, case.context[..., :0, :], solver=solver)
    part = solve(block, case.query, case.context, reduced, solver=solver)
    return whole, part, [reader.weight.detach() for reader in block.network.readers.values()]


def operator_is_dense(case: Case, data: st.DataObject) -> None:
    """`apply`, `delta`, `bias` and `dense` are `z + δ(kᵀz + β)`, `(Wδ)kᵀ`, `βWδ` and `I + δkᵀ` [Eq. 1]."""
    update, _, weights = two_updates(case, data)
    op, weight = update.operator, weights[0]
    z = case.tensor(*op.key.shape)
    unit = rounding(case, op.key.shape[-1], op.key, op.direction, weight, z)
    offset = torch.zeros_like(op.key[..., :1]) if op.offset is None else op.offset.unsqueeze(-1)
    beta, wide = (
        offset.double(),
        (z.double(), weight.double(), op.direction.detach().double(), op.key.detach().double()),
    )
    x, w, delta, key = wide
    gain, size = (key * x).sum(-1, keepdim=True) + beta, (key * x).abs().sum(-1, keepdim=True) + beta.abs()
    close(op.apply(z), x + delta * gain, x.abs() + delta.abs() * size, unit)
    moved, moved_size = delta @ w.mT, delta.abs() @ w.abs().mT  # Wδ (…, m)
    outer, outer_size = moved.unsqueeze(-1) * key.unsqueeze(-2), moved_size.unsqueeze(-1) * key.unsqueeze(-2).abs()
    close(op.delta(weight).dense(), outer, outer_size, unit)
    close(update.delta_weight(weight), outer, outer_size, unit)
    close(op.bias(weight), beta * moved, beta.abs() * moved_size, unit)
    close(op.dense(), dense(op), dense(op, sign=False), unit)
    through = (outer_size @ x.abs().unsqueeze(-1)).squeeze(-1)
    close(op.delta(weight).apply(z), (outer @ x.unsqueeze(-1)).squeeze(-1), through, unit)


def norms_and_alignments(case: Case, data: st.DataObject) -> None:
    """`‖ΔW‖` and `⟨ΔW_1, ΔW_2⟩`, over the stack of readers, without a dense matrix [Sec. 3, Fig. 3 and 4]."""
    one, two, weights = two_updates(case, data)
    stack = torch.cat(weights).double()  # (M, d)
    unit = rounding(case, stack.shape[0] + stack.shape[1], *(update.operator.key for update in (one, two)))
    pair, sizes = [], []
    for update in (one, two):
        delta, key = update.operator.direction.detach().double(), update.operator.key.detach().double()
        pair.append((delta @ stack.mT).unsqueeze(-1) * key.unsqueeze(-2))  # (…, M, d)
        sizes.append((delta.abs() @ stack.abs().mT).unsqueeze(-1) * key.unsqueeze(-2).abs())
        length = torch.linalg.matrix_norm(pair[-1])
        close(update.norm(weights), length, torch.linalg.matrix_norm(sizes[-1]), unit)
    low = [update.operator.delta(torch.cat(weights)) for update in (one, two)]
    close(low[0].inner(low[1]), (pair[0] * pair[1]).sum((-2, -1)), (sizes[0] * sizes[1]).sum((-2, -1)), unit)
    _alignment(one.alignment(two, weights), pair, sizes, unit.relative)


def _alignment(got: Tensor, pair: list[Tensor], sizes: list[Tensor], unit: float) -> None:
    """The cosine against the dense one; a relative error `e_i` of each norm moves it by `e_1 + e_2` to first order."""
    norms, largest = ([torch.linalg.matrix_norm(value) for value in values] for values in (pair, sizes))
    moves = (norms[0] > 0) & (norms[1] > 0)
    scale = torch.where(moves, norms[0] * norms[1], 1)
    wanted = torch.where(moves, (pair[0] * pair[1]).sum((-2, -1)) / scale, 0)
    off = unit * sum(big / torch.where(length > 0, length, 1) for big, length in zip(largest, norms, strict=True))
    product = unit * (sizes[0] * sizes[1]).sum((-2, -1)) / scale
    small = off < 0.1  # where the first order is what counts
    found = within(torch.where(small & moves, (got.double() - wanted).abs(), 0), 2 * (2 * product + off))
    assert found.ok, str(found)
    assert (got[~moves] == 0).all()


def determinant_and_inverse(case: Case, data: st.DataObject) -> None:
    """`det P = 1 + kᵀδ` and `P⁻¹ = I − δkᵀ/det P` (Sherman–Morrison), against dense ones."""
    update, _, _ = two_updates(case, data)
    op = update.operator
    delta, key = op.direction.detach().double(), op.key.detach().double()
    unit = rounding(case, key.shape[-1] + 1, key, delta)
    det, size = 1 + (delta * key).sum(-1), 1 + (delta * key).abs().sum(-1)
    close(op.det(), det, size, unit)
    rows = torch.linalg.vector_norm(dense(op), dim=-1).prod(-1)  # Hadamard's bound, of what LU may be off by
    close(op.det(), torch.linalg.det(dense(op)), size + rows, unit)
    off = unit.relative * size / det.abs()  # relative error of det P
    assume(bool((off < 0.1).all()))
    inverse, ratio = op.inverse(), (1 / det.abs()).unsqueeze(-1)
    unit = Rounding(2 * (unit.relative + float(off.max())), unit.floor * (1 + float(ratio.max())))
    close(inverse.direction, -delta / det.unsqueeze(-1), delta.abs() * ratio, unit)
    z = op.apply(case.tensor(*op.key.shape)).detach()
    grown = dense(op, sign=False) @ dense(inverse, sign=False) @ z.double().abs().unsqueeze(-1)
    beta = torch.zeros_like(det) if op.offset is None else op.offset.double().abs()
    size = (grown.squeeze(-1) + delta.abs() * (1 + ratio) * beta.unsqueeze(-1)) * size.unsqueeze(-1)
    close(op.apply(inverse.apply(z)), z.double(), size, unit)


def product_is_dense(case: Case, data: st.DataObject) -> None:
    """`P_2 P_1` applied, built, measured and inverted as the product of the dense matrices [Eq. 31]."""
    one, two, weights = two_updates(case, data)
    p, q = one.operator, two.operator
    product = p @ q @ p
    terms = 3 * (p.key.shape[-1] + 3)  # three factors, each a dot product of d terms and one of 3
    unit = rounding(case, terms, p.key, q.key)
    wanted = dense(p) @ dense(q) @ dense(p)
    size = dense(p, sign=False) @ dense(q, sign=False) @ dense(p, sign=False)
    close(product.dense(), wanted, size, unit)
    weight = weights[0].double()
    eye = torch.eye(p.key.shape[-1], dtype=torch.float64, device=p.key.device)
    close(product.delta(weights[0]).dense(), weight @ (wanted - eye), weight.abs() @ size, unit)
    sizes = [1 + (f.key.double() * f.direction.double()).abs().sum(-1) for f in (p, q, p)]
    dets = [1 + (f.key.double() * f.direction.double()).sum(-1) for f in (p, q, p)]
    close(product.det(), dets[0] * dets[1] * dets[2], sizes[0] * sizes[1] * sizes[2], unit)
    z = case.tensor(*p.key.shape)
    by_hand = p.apply(q.apply(p.apply(z)))
    assert torch.equal(product.apply(z), by_hand)


def commutator_is_dense(case: Case, data: st.DataObject) -> None:
    """`[P_2, P_1] = (k_2ᵀδ_1) δ_2 k_1ᵀ − (k_1ᵀδ_2) δ_1 k_2ᵀ`."""
    one, two, _ = two_updates(case, data)
    p, q = dense(one.operator), dense(two.operator)
    eye = torch.eye(p.shape[-1], dtype=p.dtype, device=p.device)
    a, b = (dense(update.operator, sign=False) - eye for update in (one, two))  # |δ||k|ᵀ
    got = one.operator.commutator(two.operator).dense().double()
    exact = (
        torch.finfo(torch.float64).eps * p.shape[-1] * (p.abs() @ q.abs() + q.abs() @ p.abs())
    )  # of the dense products
    unit = rounding(case, p.shape[-1] + 2, one.operator.key, two.operator.key)
    found = within((got - (p @ q - q @ p)).abs(), unit.relative * (a @ b + b @ a) + unit.floor + exact)
    assert found.ok, str(found)


def key_reads_one(case: Case, data: st.DataObject) -> None:
    """Every solver: `kᵀz + β = 1` at the read without the removed part, and `P z = z'`."""
    block, reduced = draw_block(case, data), draw_part(case, data)
    assume(block.reads_context)
    solver = draw_solver(case, data, block.width)
    base, full = (block.site("network").read(case.query, tokens).z.detach() for tokens in (reduced, case.context))
    op = solve(block, case.query, case.context, reduced, solver=solver).operator
    assume(bool((base != 0).any(-1).all()))
    unit = rounding(case, base.shape[-1], base, full)
    beta = torch.zeros_like(base[..., 0]) if op.offset is None else op.offset
    reads = (op.key.double() * base.double()).abs().sum(-1) + beta.double().abs()
    close(op.gain(base), torch.ones_like(reads), reads, unit)
    size = base.abs().double() + full.abs().double() + op.direction.detach().abs().double() * reads.unsqueeze(-1)
    close(op.apply(base), full.double(), size, unit)


def metric_is_least_in_its_norm(case: Case, data: st.DataObject) -> None:
    """`Metric(M)` has the least `‖ΔW M^{1/2}‖_F` among all keys with `kᵀz = 1`, and `Metric(I)` is `LeastNorm()`."""
    block, reduced = draw_block(case, data), draw_part(case, data)
    assume(block.reads_context)
    z = block.site("network").read(case.query, reduced).z.detach()
    assume(bool((z != 0).any(-1).all()))
    unit, eye = rounding(case, z.shape[-1], z), torch.eye(block.width, dtype=case.dtype, device=case.device)
    plain = transfer(block, case.query, case.context, reduced, solver=LeastNorm()).operator.key.double()
    close(transfer(block, case.query, case.context, reduced, solver=Metric(eye)).operator.key, plain, plain.abs(), unit)
    metric = draw_metric(case, block.width)
    m = metric.double()
    key = transfer(block, case.query, case.context, reduced, solver=Metric(metric)).operator.key.double()
    drawn = torch.randn(z.shape, generator=case.generator(), dtype=torch.float64).to(z.device)
    wide = z.double()
    v = drawn - plain * (drawn * wide).sum(-1, keepdim=True)  # vᵀz = 0, up to the rounding of the stored key
    for other in (plain, key + v * key.norm(dim=-1, keepdim=True), key + v * key.norm(dim=-1, keepdim=True) / 100):
        cost, least = ((k @ m * k).sum(-1) for k in (other, key))
        slack = (
            2 * unit.relative * float(torch.linalg.cond(m)) ** 2
        )  # k and v as stored are off by `unit`, cond(M) once for each
        assert (least <= cost * (1 + slack)).all()

"""Properties of operators, updates and solvers on drawn reads, compared with dense matrices [Sec. 1 of the theory].

The tolerances are those of `ctxblocks.testing.rounding`.
"""

from collections.abc import Callable
from functools import cached_property

import attrs
import torch
from hypothesis import assume, given, settings, strategies as st
from torch import Tensor

from ctxblocks import Augmented, ContextOperator, DegenerateQueryError, ImplicitUpdate, LeastNorm, Metric
from ctxblocks.exactness.dtypes import DTYPES
from ctxblocks.exactness.tolerance import within
from ctxblocks.testing.rounding import Rounding, close, dense, rounding
from ctxblocks.testing.theorem_draws import draw_metric

DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
BATCHES = ((), (1,), (3,), (2, 2))
EXAMPLES = 200  # cases for each property


@attrs.frozen(kw_only=True, slots=False)
class Case:
    """Drawn reads, all determined by the seed."""

    dtype: torch.dtype
    device: str
    batch: tuple[int, ...]
    width: int
    seed: int

    @cached_property
    def _stream(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def tensor(self, *shape: int) -> Tensor:
        """A further Gaussian tensor of the case's dtype and device."""
        drawn = torch.randn(shape, generator=self._stream, dtype=torch.float64)
        return drawn.to(device=self.device, dtype=self.dtype)

    def read(self) -> Tensor:  # (…, d)
        """A further read."""
        return self.tensor(*self.batch, self.width)

    def generator(self) -> torch.Generator:
        """A new generator, which always gives the same numbers."""
        return torch.Generator().manual_seed(self.seed + 1)


CASES = st.builds(
    Case,
    dtype=st.sampled_from(tuple(DTYPES.values())),
    device=st.sampled_from(DEVICES),
    batch=st.sampled_from(BATCHES),
    width=st.integers(3, 8),
    seed=st.integers(0, 2**32 - 2),
)
Property = Callable[[Case, st.DataObject], None]


def check(prop: Property, cases: st.SearchStrategy[Case] = CASES) -> None:
    """Run a property on drawn cases, with the settings of the active profile."""

    def run(case: Case, data: st.DataObject) -> None:
        prop(case, data)

    run.__name__ = prop.__name__
    settings(max_examples=EXAMPLES, deadline=None)(given(case=cases, data=st.data())(run))()


def draw_operator(case: Case, data: st.DataObject, base: Tensor, full: Tensor) -> ContextOperator:
    """The operator from one read to another by a drawn solver; by `Augmented` where that solver has none."""
    name = data.draw(st.sampled_from(("LeastNorm", "Augmented", "Metric")), label="solver")
    metric = draw_metric(base, case.generator(), case.width)
    solver = {"LeastNorm": LeastNorm(), "Augmented": Augmented(), "Metric": Metric(metric)}[name]
    try:
        return solver.solve(base, full)
    except DegenerateQueryError:
        return Augmented().solve(base, full)


def two_updates(case: Case, data: st.DataObject) -> tuple[ImplicitUpdate, ImplicitUpdate, list[Tensor]]:
    """Updates from two reads to a third one, and the weights of one to three readers.

    The second update may be between equal reads, or the identity, which is the update of a parallel block.
    """
    one, two, full = case.read(), case.read(), case.read()
    second = data.draw(st.sampled_from(("other read", "equal reads", "identity")), label="second update")
    whole = draw_operator(case, data, one, full)
    part = {
        "other read": lambda: draw_operator(case, data, two, full),
        "equal reads": lambda: draw_operator(case, data, full, full),
        "identity": lambda: ContextOperator.identity(full),
    }[second]()
    heights = data.draw(
        st.lists(st.integers(1, case.width + 3), min_size=1, max_size=3), label="outputs of the readers"
    )
    weights = [case.tensor(height, case.width) / case.width**0.5 for height in heights]
    return ImplicitUpdate(whole), ImplicitUpdate(part), weights


def operator_is_dense(case: Case, data: st.DataObject) -> None:
    """`apply`, `delta`, `bias` and `dense` are `z + δ(kᵀz + β)`, `(Wδ)kᵀ`, `βWδ` and `I + δkᵀ` [Eq. 1]."""
    update, _, weights = two_updates(case, data)
    op, weight = update.operator, weights[0]
    z = case.tensor(*op.key.shape)
    unit = rounding(z, op.key.shape[-1], op.key, op.direction, weight, z)
    offset = torch.zeros_like(op.key[..., :1]) if op.offset is None else op.offset.unsqueeze(-1)
    beta, x, w, delta, key = (each.double() for each in (offset, z, weight, op.direction, op.key))
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
    """`‖ΔW‖` and `⟨ΔW_1, ΔW_2⟩` over all readers equal those of the dense matrices [Sec. 3, Fig. 3 and 4]."""
    one, two, weights = two_updates(case, data)
    stack = torch.cat(weights).double()  # (M, d)
    unit = rounding(weights[0], stack.shape[0] + stack.shape[1], *(update.operator.key for update in (one, two)))
    pair, sizes = [], []
    for update in (one, two):
        delta, key = update.operator.direction.double(), update.operator.key.double()
        pair.append((delta @ stack.mT).unsqueeze(-1) * key.unsqueeze(-2))  # (…, M, d)
        sizes.append((delta.abs() @ stack.abs().mT).unsqueeze(-1) * key.unsqueeze(-2).abs())
        length = torch.linalg.matrix_norm(pair[-1])
        close(update.norm(weights), length, torch.linalg.matrix_norm(sizes[-1]), unit)
    low = [update.operator.delta(torch.cat(weights)) for update in (one, two)]
    close(low[0].inner(low[1]), (pair[0] * pair[1]).sum((-2, -1)), (sizes[0] * sizes[1]).sum((-2, -1)), unit)
    _alignment(one.alignment(two, weights), pair, sizes, unit.relative)


def _alignment(got: Tensor, pair: list[Tensor], sizes: list[Tensor], unit: float) -> None:
    """Compare the cosine with the dense one; relative errors of the norms add up in it, to first order."""
    norms, largest = ([torch.linalg.matrix_norm(value) for value in values] for values in (pair, sizes))
    moves = (norms[0] > 0) & (norms[1] > 0)
    scale = torch.where(moves, norms[0] * norms[1], 1)
    wanted = torch.where(moves, (pair[0] * pair[1]).sum((-2, -1)) / scale, 0)
    off = unit * sum(big / torch.where(length > 0, length, 1) for big, length in zip(largest, norms, strict=True))
    product = unit * (sizes[0] * sizes[1]).sum((-2, -1)) / scale
    small = off < 0.1  # where the first order dominates
    comparison = within(torch.where(small & moves, (got.double() - wanted).abs(), 0), 2 * (2 * product + off))
    assert comparison.ok, str(comparison)
    assert (got[~moves] == 0).all()


def determinant_and_inverse(case: Case, data: st.DataObject) -> None:
    """`det P = 1 + kᵀδ` and `P⁻¹ = I − δkᵀ/det P` (Sherman–Morrison) equal those of the dense matrix."""
    update, _, _ = two_updates(case, data)
    op = update.operator
    delta, key = op.direction.double(), op.key.double()
    unit = rounding(op.key, key.shape[-1] + 1, key, delta)
    det, size = 1 + (delta * key).sum(-1), 1 + (delta * key).abs().sum(-1)
    close(op.det(), det, size, unit)
    rows = torch.linalg.vector_norm(dense(op), dim=-1).prod(
        -1
    )  # Hadamard's bound, for the error of the LU decomposition
    close(op.det(), torch.linalg.det(dense(op)), size + rows, unit)
    off = unit.relative * size / det.abs()  # relative error of det P
    assume(bool((off < 0.1).all()))
    inverse, ratio = op.inverse(), (1 / det.abs()).unsqueeze(-1)
    unit = Rounding(2 * (unit.relative + float(off.max())), unit.floor * (1 + float(ratio.max())))
    close(inverse.direction, -delta / det.unsqueeze(-1), delta.abs() * ratio, unit)
    z = op.apply(case.tensor(*op.key.shape))
    grown = dense(op, sign=False) @ dense(inverse, sign=False) @ z.double().abs().unsqueeze(-1)
    beta = torch.zeros_like(det) if op.offset is None else op.offset.double().abs()
    size = (grown.squeeze(-1) + delta.abs() * (1 + ratio) * beta.unsqueeze(-1)) * size.unsqueeze(-1)
    close(op.apply(inverse.apply(z)), z.double(), size, unit)


def product_is_dense(case: Case, data: st.DataObject) -> None:
    """`P_1 P_2 P_1` is applied, built and measured like the product of the dense matrices [Eq. 31]."""
    one, two, weights = two_updates(case, data)
    p, q = one.operator, two.operator
    product = p @ q @ p
    terms = 3 * (p.key.shape[-1] + 3)  # three factors, each a dot product of d terms and one of 3
    unit = rounding(p.key, terms, p.key, q.key)
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
    assert torch.equal(product.apply(z), p.apply(q.apply(p.apply(z))))


def commutator_is_dense(case: Case, data: st.DataObject) -> None:
    """`[P_2, P_1] = (k_2ᵀδ_1) δ_2 k_1ᵀ − (k_1ᵀδ_2) δ_1 k_2ᵀ`."""
    one, two, _ = two_updates(case, data)
    p, q = dense(one.operator), dense(two.operator)
    eye = torch.eye(p.shape[-1], dtype=p.dtype, device=p.device)
    a, b = (dense(update.operator, sign=False) - eye for update in (one, two))  # |δ||k|ᵀ
    got = one.operator.commutator(two.operator).dense().double()
    products = torch.finfo(torch.float64).eps * p.shape[-1] * (p.abs() @ q.abs() + q.abs() @ p.abs())  # error of p @ q
    unit = rounding(one.operator.key, p.shape[-1] + 2, one.operator.key, two.operator.key)
    comparison = within((got - (p @ q - q @ p)).abs(), unit.relative * (a @ b + b @ a) + unit.floor + products)
    assert comparison.ok, str(comparison)


def solvers_read_one(case: Case, data: st.DataObject) -> None:
    """Every solver: `kᵀz + β = 1` at the read `z` without the removed context, and `P z = z'`."""
    base, full = case.read(), case.read()
    op = draw_operator(case, data, base, full)
    unit = rounding(base, base.shape[-1], base, full)
    beta = torch.zeros_like(base[..., 0]) if op.offset is None else op.offset
    reads = (op.key.double() * base.double()).abs().sum(-1) + beta.double().abs()
    close(op.gain(base), torch.ones_like(reads), reads, unit)
    size = base.abs().double() + full.abs().double() + op.direction.abs().double() * reads.unsqueeze(-1)
    close(op.apply(base), full.double(), size, unit)


def metric_is_least_in_its_norm(case: Case, data: st.DataObject) -> None:
    """`Metric(M)` has the least `‖ΔW M^{1/2}‖_F` among all keys with `kᵀz = 1`, and `Metric(I)` is `LeastNorm()`."""
    z, full = case.read(), case.read()
    unit, eye = rounding(z, z.shape[-1], z), torch.eye(case.width, dtype=case.dtype, device=case.device)
    plain = LeastNorm().solve(z, full).key.double()
    close(Metric(eye).solve(z, full).key, plain, plain.abs(), unit)
    metric = draw_metric(z, case.generator(), case.width)
    m = metric.double()
    key = Metric(metric).solve(z, full).key.double()
    drawn = torch.randn(z.shape, generator=case.generator(), dtype=torch.float64).to(z.device)
    v = drawn - plain * (drawn * z.double()).sum(-1, keepdim=True)  # vᵀz = 0, up to the rounding of the stored key
    for other in (plain, key + v * key.norm(dim=-1, keepdim=True), key + v * key.norm(dim=-1, keepdim=True) / 100):
        cost, least = ((k @ m * k).sum(-1) for k in (other, key))
        # the stored k and v have an error of `unit` each, which cond(M) multiplies once for each
        slack = 2 * unit.relative * float(torch.linalg.cond(m)) ** 2
        assert (least <= cost * (1 + slack)).all()

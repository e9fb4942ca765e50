"""The factorisation of an update into one operator per token, and fine-tuning on the tokens [App. E, Sec. 4.4]."""

import copy

import torch
from hypothesis import assume, strategies as st
from torch import Tensor

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.algebra.solvers import Augmented, LeastNorm
from ctxblocks.base.errors import DegenerateQueryError
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.read import Read
from ctxblocks.blocks.update import ImplicitUpdate
from ctxblocks.exactness.measure import Measure, Transferred
from ctxblocks.exactness.tolerance import DRAWS, SPREAD, round_off, within
from ctxblocks.testing.cases import Case
from ctxblocks.testing.rounding import close, dense, rounding
from ctxblocks.testing.theorem_draws import SMOOTH, draw_block, first
from ctxblocks.testing.theorem_simulation import noisy
from ctxblocks.testing.theorem_stack import draw_solver_for
from ctxblocks.theorems.factorization import Factorization, factorize
from ctxblocks.theorems.finetuning import finetune, half_square, last_entry_hidden

__all__ = ["factors_carry_the_read", "factors_keep_the_output", "finetuning_is_sgd"]


def draw_factorization(case: Case, data: st.DataObject) -> Factorization:
    """The factorisation for a drawn block, by least norm or augmented."""
    block = draw_block(case, data)
    solver = draw_solver_for(case, data, block)
    with torch.no_grad():
        try:
            return factorize(block, case.query, case.context, solver=solver)
        except DegenerateQueryError:
            return factorize(block, case.query, case.context, solver=Augmented())


def _grown(factors: Factorization, i: int) -> Tensor:  # (…, d), float64
    """`|P_1| … |P_i||z_i|`: the product of `i` factors and the read on absolute values."""
    size = factors.reads.z[..., i, :].detach().double().abs()
    for j in range(i, 0, -1):
        factor = factors.factor(j)
        size = (dense(factor, sign=False) @ size.unsqueeze(-1)).squeeze(-1)
        if factor.offset is not None:
            size = size + factor.direction.detach().double().abs() * factor.offset.double().abs().unsqueeze(-1)
    return size


def factors_carry_the_read(case: Case, data: st.DataObject) -> None:
    """`P_1 … P_i A_i = A_0`; the product and the total update differ by a `K` with `K A(x) = 0` [App. E, Eq. 31, Rem. 2.4]."""
    factors = draw_factorization(case, data)
    assume(factors.block.reads_context)
    i = data.draw(st.integers(0, case.tokens), label="tokens moved")
    reads = factors.reads.z.detach()
    unit = rounding(case.query, max(i, 1) * reads.shape[-1], reads)
    size = _grown(factors, i) + reads[..., 0, :].double().abs()
    close(factors.partial(i).apply(reads[..., i, :]), reads[..., 0, :].double(), size, unit)
    last = reads[..., -1, :]
    total = LeastNorm() if bool((last != 0).any(-1).all()) else Augmented()
    operator = total.solve(last, reads[..., 0, :])
    grown = _grown(factors, case.tokens) + reads.double().abs().sum(-2)
    product, whole = factors.product().apply(last).double(), operator.apply(last).double()
    close(
        product - whole,
        torch.zeros_like(product),
        grown,
        rounding(case.query, (case.tokens + 1) * reads.shape[-1], reads),
    )


def factors_keep_the_output(case: Case, data: st.DataObject) -> None:
    """`T_{W_i}(c_{i+1} … c_n, x)` equals the output with the full context for every `i` [App. E, Eq. 27]."""
    factors = draw_factorization(case, data)
    block, reads, query = factors.block, factors.reads, case.query
    with torch.no_grad():
        outputs = factors.outputs()
    measure = Measure(block, case.seed)
    for i in range(case.tokens + 1):
        shift = factors.shift(i)
        base, full = (
            Read(reads.z[..., j, :], None if reads.bypass is None else reads.bypass[..., j, :]) for j in (i, 0)
        )
        solver = LeastNorm() if bool((base.z != 0).any(-1).all()) else Augmented()
        operator = solver.solve(base.z, full.z) if block.reads_context else ContextOperator.identity(base.z)
        used = Transferred(query, base, full, ImplicitUpdate(operator, shift))
        chain = (
            max(i, 1) * rounding(case.query, base.z.shape[-1]).relative * _grown(factors, i)
            if block.reads_context
            else None
        )
        compared = measure.outputs(used, outputs[..., i, :], outputs[..., 0, :], off=chain)
        assert compared.ok, f"{i} tokens moved: {compared}"


def finetuning_is_sgd(case: Case, data: st.DataObject) -> None:
    """`finetune` gives the outputs of SGD on the readers, one example after another, for every task of a batch [Sec. 4.4].

    The tolerance is that of an output: three times the largest deviation over 8 runs of SGD in float64 with noise in the layer
    and the readers, three times the error of the definition, and `4u max|out|`.
    """
    assume(case.layer.context_width == case.layer.width)
    block = draw_block(case, data, SMOOTH)
    lr = 0.05
    context = case.context[..., :3, :]  # three steps: autograd is slow
    fast = first(finetune(block, case.query, context, lr).outputs, 2)
    task = first(case.query, 1), first(context, 2)
    wide = task[0].double(), task[1].double()
    wanted, clean = _sgd(block, *task, lr).double(), _sgd(copy.deepcopy(block).double(), *wide, lr)
    off = noisy(block, case)
    assert isinstance(off, ContextualBlock)
    spread = torch.stack([(_sgd(off, *wide, lr) - clean).abs().amax(-1) for _ in range(DRAWS)]).amax(0)
    own, unit = (wanted - clean).abs().amax(-1), round_off(case.dtype)
    compared = within(
        (fast.double() - wanted).abs().amax(-1), SPREAD * (spread + own) + 4 * unit * wanted.abs().amax(-1)
    )
    assert compared.ok, str(compared)


def _sgd(block: ContextualBlock, query: Tensor, context: Tensor, lr: float) -> Tensor:  # (d,), (n, d) -> (n + 1, d)
    """The outputs for the query alone after every step of SGD; the block's weights are restored afterwards."""
    weights = [reader.weight for reader in block.network.readers.values()]
    before = [weight.detach().clone() for weight in weights]
    inputs, targets = last_entry_hidden(context)
    outputs = [block(query).detach()]
    for example, target in zip(inputs, targets, strict=True):
        slopes = torch.autograd.grad(half_square(block(example), target), weights)
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight.sub_(lr * slope)
        outputs.append(block(query).detach())
    with torch.no_grad():
        for weight, old in zip(weights, before, strict=True):
            weight.copy_(old)
    return torch.stack(outputs)

"""The learning dynamics of a prompt, its factorisation, and fine-tuning [Sec. 3, Sec. 4.4, App. E]."""

import copy

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from ctxblocks._blocks import ContextualBlock, Read
from ctxblocks._dynamics import Dynamics, dynamics
from ctxblocks._errors import DegenerateQueryError
from ctxblocks._factorization import Factorization, factorize
from ctxblocks._finetuning import finetune, half_square, last_entry_hidden
from ctxblocks._plan import Block
from ctxblocks._solvers import Augmented, LeastNorm, Solver
from ctxblocks._stack import Stack
from ctxblocks._transfer import transfer
from ctxblocks.testing._cases import Case
from ctxblocks.testing._measure import Measure, Transferred
from ctxblocks.testing._theorem_algebra import close, dense, rounding
from ctxblocks.testing._theorem_draws import DENSE, SMOOTH, draw_block
from ctxblocks.testing._theorem_simulation import simulate
from ctxblocks.testing._theorem_stack import draw_solver_for, draw_stack
from ctxblocks.testing._tolerance import fast_against_definition

__all__ = [
    "dynamics_serve_every_prefix",
    "factors_carry_the_read",
    "factors_keep_the_output",
    "finetuning_is_sgd",
    "marginal_norms_are_dense",
    "steps_are_gradient_steps",
    "updated_outputs_are_outputs",
]


def draw_dynamics(case: Case, data: st.DataObject) -> Dynamics:
    """Of a drawn block, by least norm or augmented."""
    block = draw_block(case, data)
    solver = draw_solver_for(case, data, block)
    with torch.no_grad():
        try:
            found = dynamics(block, case.query, case.context, solver=solver)
        except DegenerateQueryError:
            found = dynamics(block, case.query, case.context, solver=Augmented())
    assert isinstance(found, Dynamics)
    return found


def updated_outputs_are_outputs(case: Case, data: st.DataObject) -> None:
    """`T_{W_0}(C_i, x) = T_{W_i}(x)` for every prefix [Cor. 2.5.1, Sec. 3]."""
    found = draw_dynamics(case, data)
    z, update = found.base.z.expand_as(found.outputs), found.updates
    base = Read(z, None if found.base.bypass is None else found.base.bypass.expand_as(z))
    shifted = None if base.bypass is None or update.shift is None else base.bypass + update.shift
    full = Read(z + update.operator.direction, shifted)
    query = case.query.unsqueeze(-2).expand_as(found.outputs)
    with torch.no_grad():
        got = found.updated_outputs()
    compared = Measure(found.block, case.seed).outputs(Transferred(query, base, full, update), got, found.outputs)
    assert compared.ok, str(compared)


def _prefix_outputs(model: Block, query: Tensor, context: Tensor) -> Tensor:  # (…, n + 1, d)
    """`T(C_i, x)` by the definition."""
    return torch.stack([model(query, context[..., :i, :]) for i in range(context.shape[-2] + 1)], dim=-2)


def dynamics_serve_every_prefix(case: Case, data: st.DataObject) -> None:
    """The updates of all prefixes at once, each in a block or a stack called on the query alone [Sec. 3, App. C]."""
    stacked = data.draw(st.booleans(), label="stack")
    model = draw_stack(case, data, DENSE) if stacked else draw_block(case, data, DENSE)

    def updated(model: Block, query: Tensor, context: Tensor) -> Tensor:
        found = dynamics(model, query, context, solver=Augmented())
        rows = range(context.shape[-2] + 1)
        if isinstance(model, Stack):
            assert isinstance(found, list)
            return torch.stack([model(query, None, [each.updates[..., i] for each in found]) for i in rows], dim=-2)
        assert isinstance(found, Dynamics)
        return torch.stack([model(query, None, found.updates[..., i]) for i in rows], dim=-2)

    compared = simulate(case, model, updated, _prefix_outputs, case.query, case.context)
    assert compared.ok, str(compared)


def _reader(found: Dynamics, data: st.DataObject) -> tuple[str, Tensor]:
    """One reader's name and `W_0 (m, d)` in float64."""
    readers = found.block.network.readers
    name = data.draw(st.sampled_from(tuple(readers)), label="reader")
    return name, readers[name].weight.detach().double()


def steps_are_gradient_steps(case: Case, data: st.DataObject) -> None:
    """`W_{i+1} − W_i = −h ∇L_i(W)` with `h = 1/‖z‖²` and `L_i(W) = trace(Δ_iᵀ W)`; the steps add up to `ΔW(C)` [Prop. 3.1, Eq. 6–10]."""
    block = draw_block(case, data)
    assume(block.reads_context and case.tokens > 0)
    with torch.no_grad():
        try:
            found = dynamics(block, case.query, case.context, solver=LeastNorm())
        except DegenerateQueryError:
            return  # no rank-one dynamics here: the property of degenerate queries has its message
    assert isinstance(found, Dynamics)
    name, weight = _reader(found, data)
    i = data.draw(st.integers(0, case.tokens - 1), label="step")
    z, op = found.base.z[..., 0, :].double(), found.updates.operator
    here, there, key = (
        op.direction[..., i, :].double(),
        op.direction[..., i + 1, :].double(),
        op.key[..., i, :].double(),
    )
    unit = rounding(case, z.shape[-1], z, key, weight)
    size = weight.abs() + ((here.abs() + there.abs()) @ weight.abs().mT).unsqueeze(-1) * key.unsqueeze(-2).abs()
    step = ((there - here) @ weight.mT).unsqueeze(-1) * key.unsqueeze(-2)
    close(found.weight(i + 1, name).double() - found.weight(i, name).double(), step, size, unit)
    # L_i(W) = trace(Δ_iᵀ W) written out, and its gradient by autograd
    variable = weight.expand(*z.shape[:-1], *weight.shape).clone().requires_grad_()
    columns = (here - there) @ weight.mT  # W_0 (A_i − A_{i+1}), constant
    loss = torch.einsum("...m,...d,...md->...", columns, z, variable)
    (slope,) = torch.autograd.grad(loss.sum(), variable)
    large = ((here.abs() + there.abs()) @ weight.abs().mT).unsqueeze(-1) * z.unsqueeze(-2).abs()
    close(found.gradient(i, name).dense(), slope, large, unit)
    squares = (z * z).sum(-1)
    assume(bool((squares > torch.finfo(case.dtype).smallest_normal / torch.finfo(case.dtype).eps).all()))
    close(found.step_size, 1 / squares, 1 / squares, unit)
    h = (1 / squares)[..., None, None]
    close(
        -h * found.gradient(i, name).dense().double(),
        step,
        h * large,
        rounding(case, 2 * z.shape[-1], z, key, weight, h),
    )
    moved = weight @ (z + here * (key * z).sum(-1, keepdim=True)).unsqueeze(-1)  # W_i z
    value = (columns * moved.squeeze(-1)).sum(-1)
    reach = (z.abs() + here.abs()) @ weight.abs().mT
    sizes = (((here.abs() + there.abs()) @ weight.abs().mT) * reach).sum(-1)
    close(found.loss(i, name), value, sizes, rounding(case, 2 * z.shape[-1] + weight.shape[0], weight, z))


def marginal_norms_are_dense(case: Case, data: st.DataObject) -> None:
    """`‖W_{i+1} − W_i‖_F` over all readers, of rank one in a block and of rank two further up a stack [Fig. 3]."""
    assume(case.tokens > 0)
    stacked = data.draw(st.booleans(), label="stack")
    model: Block = draw_stack(case, data) if stacked else draw_block(case, data)
    solver: Solver = Augmented()
    with torch.no_grad():
        found = dynamics(model, case.query, case.context, solver=solver)
    for each in found if isinstance(found, list) else [found]:
        stack = torch.cat(each.weights()).detach().double()  # (M, d)
        op = each.updates.operator
        delta, key = op.direction.double() @ stack.mT, op.key.double()
        weights = delta.unsqueeze(-1) * key.unsqueeze(-2)  # (…, n + 1, M, d)
        sizes = (op.direction.double().abs() @ stack.abs().mT).unsqueeze(-1) * key.unsqueeze(-2).abs()
        wanted = torch.linalg.matrix_norm(weights[..., 1:, :, :] - weights[..., :-1, :, :])
        size = torch.linalg.matrix_norm(sizes[..., 1:, :, :] + sizes[..., :-1, :, :])
        # c = k'ᵀk/‖k‖² is off by the products' rounding times ‖k'‖/‖k‖, and multiplies all of W δ'
        long = key.norm(dim=-1)
        early, late = long[..., :-1], long[..., 1:]
        stretch = torch.where(early > 0, late / torch.where(early > 0, early, 1), 0)
        moved = torch.linalg.vector_norm(op.direction.double().abs() @ stack.abs().mT, dim=-1)
        size = size + moved[..., 1:] * (early * stretch + late)
        close(each.marginal_norms(), wanted, size, rounding(case, sum(stack.shape), key, op.direction, stack))


def draw_factorization(case: Case, data: st.DataObject) -> Factorization:
    """Of a drawn block, by least norm or augmented."""
    block = draw_block(case, data)
    solver = draw_solver_for(case, data, block)
    with torch.no_grad():
        try:
            return factorize(block, case.query, case.context, solver=solver)
        except DegenerateQueryError:
            return factorize(block, case.query, case.context, solver=Augmented())


def _grown(found: Factorization, i: int) -> Tensor:  # (…, d), float64
    """`|P_1| … |P_i||z_i|`: what a chain of `i` factors makes of absolute values."""
    size = found.reads.z[..., i, :].detach().double().abs()
    for j in range(i, 0, -1):
        factor = found.factor(j)
        size = (dense(factor, sign=False) @ size.unsqueeze(-1)).squeeze(-1)
        if factor.offset is not None:
            size = size + factor.direction.detach().double().abs() * factor.offset.double().abs().unsqueeze(-1)
    return size


def factors_carry_the_read(case: Case, data: st.DataObject) -> None:
    """`P_1 … P_i A_i = A_0`; product and total update differ by a `K` with `K A(x) = 0` [App. E, Eq. 31, Rem. 2.4]."""
    found = draw_factorization(case, data)
    assume(found.block.reads_context)
    i = data.draw(st.integers(0, case.tokens), label="tokens moved")
    reads = found.reads.z.detach()
    unit = rounding(case, max(i, 1) * reads.shape[-1], reads)
    size = _grown(found, i) + reads[..., 0, :].double().abs()
    close(found.partial(i).apply(reads[..., i, :]), reads[..., 0, :].double(), size, unit)
    last = reads[..., -1, :]
    total = LeastNorm() if bool((last != 0).any(-1).all()) else Augmented()
    operator = total.solve(last, reads[..., 0, :])
    grown = _grown(found, case.tokens) + reads.double().abs().sum(-2)
    product, whole = found.product().apply(last).double(), operator.apply(last).double()
    close(product - whole, torch.zeros_like(product), grown, rounding(case, (case.tokens + 1) * reads.shape[-1], reads))


def factors_keep_the_output(case: Case, data: st.DataObject) -> None:
    """`T_{W_i}(c_{i+1} … c_n, x)` is the output with all of the context, for every `i` [App. E, Eq. 27]."""
    found = draw_factorization(case, data)
    block, reads, query = found.block, found.reads, case.query
    with torch.no_grad():
        outputs = found.outputs()
    measure = Measure(block, case.seed)
    for i in range(case.tokens + 1):
        shift = found.shift(i)
        base, full = (
            Read(reads.z[..., j, :], None if reads.bypass is None else reads.bypass[..., j, :]) for j in (i, 0)
        )
        solver = LeastNorm() if bool((base.z != 0).any(-1).all()) else Augmented()
        update = transfer(
            block, query, case.context[..., i:, :], solver=Augmented()
        )  # for its kind; the reads are the factors'
        operator = solver.solve(base.z, full.z) if block.reads_context else update.operator
        used = Transferred(query, base, full, type(update)(operator, shift))
        chain = (
            max(i, 1) * rounding(case, base.z.shape[-1]).relative * _grown(found, i) if block.reads_context else None
        )
        compared = measure.outputs(used, outputs[..., i, :], outputs[..., 0, :], off=chain)
        assert compared.ok, f"{i} tokens moved: {compared}"


def finetuning_is_sgd(case: Case, data: st.DataObject) -> None:
    """The rank-one steps are those of SGD on the readers of a copied block, one example after another [Sec. 4.4, Fig. 4]."""
    assume(case.layer.context_width == case.layer.width)
    block = draw_block(case, data, SMOOTH)
    lr = 0.05
    fast = finetune(block, case.query, case.context, lr).outputs
    definition = _sgd(block, case.query, case.context, lr)
    exact = _sgd(copy.deepcopy(block).double(), case.query.double(), case.context.double(), lr)
    compared = fast_against_definition(fast, definition, exact)
    assert compared.ok, str(compared)


def _sgd(block: ContextualBlock, query: Tensor, context: Tensor, lr: float) -> Tensor:  # (…, n + 1, d)
    """The outputs at the query alone after every step of SGD, each batch element a task of its own."""
    batch, n = context.shape[:-2], context.shape[-2]
    tasks = zip(query.reshape(-1, query.shape[-1]), context.reshape(-1, n, context.shape[-1]), strict=True)
    outputs = [_sgd_task(copy.deepcopy(block), x, tokens, lr) for x, tokens in tasks]
    return torch.stack(outputs).reshape(*batch, n + 1, -1)


def _sgd_task(block: ContextualBlock, query: Tensor, context: Tensor, lr: float) -> Tensor:  # (n + 1, d)
    weights = [reader.weight for reader in block.network.readers.values()]
    inputs, targets = last_entry_hidden(context)
    outputs = [block(query).detach()]
    for example, target in zip(inputs, targets, strict=True):
        slopes = torch.autograd.grad(half_square(block(example), target), weights)
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight.sub_(lr * slope)
        outputs.append(block(query).detach())
    return torch.stack(outputs)

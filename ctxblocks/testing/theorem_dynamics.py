"""The learning dynamics of a prompt [Sec. 3, Prop. 3.1]."""

import torch
from hypothesis import assume, strategies as st
from torch import Tensor

from ctxblocks.algebra.solvers import Augmented, LeastNorm, Solver
from ctxblocks.base.errors import DegenerateQueryError
from ctxblocks.blocks.read import Read
from ctxblocks.blocks.stack import Stack
from ctxblocks.exactness.measure import Measure, Transferred
from ctxblocks.testing.cases import Case
from ctxblocks.testing.rounding import close, rounding
from ctxblocks.testing.theorem_draws import DENSE, draw_block
from ctxblocks.testing.theorem_simulation import simulate
from ctxblocks.testing.theorem_stack import draw_solver_for, draw_stack
from ctxblocks.theorems.arguments import Block
from ctxblocks.theorems.dynamics import Dynamics, dynamics

__all__ = [
    "dynamics_serve_every_prefix",
    "marginal_norms_are_dense",
    "steps_are_gradient_steps",
    "updated_outputs_are_outputs",
]


def draw_dynamics(case: Case, data: st.DataObject) -> Dynamics:
    """The dynamics of a drawn block, by least norm or augmented."""
    block = draw_block(case, data)
    solver = draw_solver_for(case, data, block)
    with torch.no_grad():
        try:
            drawn = dynamics(block, case.query, case.context, solver=solver)
        except DegenerateQueryError:
            drawn = dynamics(block, case.query, case.context, solver=Augmented())
    assert isinstance(drawn, Dynamics)
    return drawn


def updated_outputs_are_outputs(case: Case, data: st.DataObject) -> None:
    """`T_{W_0}(C_i, x) = T_{W_i}(x)` for every prefix [Cor. 2.5.1, Sec. 3]."""
    drawn = draw_dynamics(case, data)
    with torch.no_grad():
        outputs, got = drawn.outputs, drawn.updated_outputs()
    z, update = drawn.base.z.expand_as(outputs), drawn.updates
    base = Read(z, None if drawn.base.bypass is None else drawn.base.bypass.expand_as(z))
    shifted = None if base.bypass is None or update.shift is None else base.bypass + update.shift
    full = Read(z + update.operator.direction, shifted)
    query = case.query.unsqueeze(-2).expand_as(outputs)
    compared = Measure(drawn.block, case.seed).outputs(Transferred(query, base, full, update), got, outputs)
    assert compared.ok, str(compared)


def _prefix_outputs(model: Block, query: Tensor, context: Tensor) -> Tensor:  # (…, n + 1, d)
    """`T(C_i, x)` for every prefix, by the definition."""
    return torch.stack([model(query, context[..., :i, :]) for i in range(context.shape[-2] + 1)], dim=-2)


def _stack_prefixes(model: Block, query: Tensor, context: Tensor) -> Tensor:  # (…, n + 1, d)
    """`T(C_i, x)` for every prefix, by one pass over the context."""
    assert isinstance(model, Stack)
    return model.prefixes(query, context)


def dynamics_serve_every_prefix(case: Case, data: st.DataObject) -> None:
    """A block or stack with the update of a prefix maps the query alone to the output for that prefix [Sec. 3, App. C]."""
    stacked = data.draw(st.booleans(), label="stack")
    model = draw_stack(case, data, DENSE) if stacked else draw_block(case, data, DENSE)

    def updated(model: Block, query: Tensor, context: Tensor) -> Tensor:
        every = dynamics(model, query, context, solver=Augmented())
        rows = range(context.shape[-2] + 1)
        if isinstance(model, Stack):
            assert isinstance(every, list)
            return torch.stack([model(query, None, [one.updates[..., i] for one in every]) for i in rows], dim=-2)
        assert isinstance(every, Dynamics)
        return torch.stack([model(query, None, every.updates[..., i]) for i in rows], dim=-2)

    compared = simulate(case, model, updated, _prefix_outputs, case.query, case.context)
    assert compared.ok, str(compared)
    if isinstance(model, Stack):
        compared = simulate(case, model, _stack_prefixes, _prefix_outputs, case.query, case.context)
        assert compared.ok, str(compared)


def _reader(drawn: Dynamics, data: st.DataObject) -> tuple[str, Tensor]:
    """The name of a drawn reader and its weight `W_0 (m, d)` in float64."""
    readers = drawn.block.network.readers
    name = data.draw(st.sampled_from(tuple(readers)), label="reader")
    return name, readers[name].weight.detach().double()


def steps_are_gradient_steps(case: Case, data: st.DataObject) -> None:
    """`W_{i+1} − W_i = −h ∇L_i(W)` with `h = 1/‖z‖²` and `L_i(W) = trace(Δ_iᵀ W)` [Prop. 3.1, Eq. 6–10]."""
    block = draw_block(case, data)
    assume(block.reads_context and case.tokens > 0)
    with torch.no_grad():
        try:
            drawn = dynamics(block, case.query, case.context, solver=LeastNorm())
        except DegenerateQueryError:
            return  # there are no rank-one dynamics; `degenerate_query` tests the message
    assert isinstance(drawn, Dynamics)
    name, weight = _reader(drawn, data)
    i = data.draw(st.integers(0, case.tokens - 1), label="step")
    z, op = drawn.base.z[..., 0, :].double(), drawn.updates.operator
    here, there, key = (
        op.direction[..., i, :].double(),
        op.direction[..., i + 1, :].double(),
        op.key[..., i, :].double(),
    )
    unit = rounding(case.query, z.shape[-1], z, key, weight)
    size = weight.abs() + ((here.abs() + there.abs()) @ weight.abs().mT).unsqueeze(-1) * key.unsqueeze(-2).abs()
    step = ((there - here) @ weight.mT).unsqueeze(-1) * key.unsqueeze(-2)
    close(drawn.weight(i + 1, name).double() - drawn.weight(i, name).double(), step, size, unit)
    # L_i(W) = trace(Δ_iᵀ W), and its gradient by autograd
    variable = weight.expand(*z.shape[:-1], *weight.shape).clone().requires_grad_()
    columns = (here - there) @ weight.mT  # W_0 (A_i − A_{i+1}), constant
    loss = torch.einsum("...m,...d,...md->...", columns, z, variable)
    (slope,) = torch.autograd.grad(loss.sum(), variable)
    large = ((here.abs() + there.abs()) @ weight.abs().mT).unsqueeze(-1) * z.unsqueeze(-2).abs()
    close(drawn.gradient(i, name).dense(), slope, large, unit)
    squares = (z * z).sum(-1)
    assume(bool((squares > torch.finfo(case.dtype).smallest_normal / torch.finfo(case.dtype).eps).all()))
    close(drawn.step_size, 1 / squares, 1 / squares, unit)
    h = (1 / squares)[..., None, None]
    close(
        -h * drawn.gradient(i, name).dense().double(),
        step,
        h * large,
        rounding(case.query, 2 * z.shape[-1], z, key, weight, h),
    )
    _loss_is_the_trace(case, drawn, (i, name), columns)


def _loss_is_the_trace(case: Case, drawn: Dynamics, at: tuple[int, str], columns: Tensor) -> None:
    """`L_i(W_i) = trace(Δ_iᵀ W_i)`, where `columns` are the columns `W_0 (A_i − A_{i+1})` of `Δ_i`."""
    i, name = at
    weight = drawn.block.network.readers[name].weight.detach().double()
    z, op = drawn.base.z[..., 0, :].double(), drawn.updates.operator
    here, there, key = (
        op.direction[..., i, :].double(),
        op.direction[..., i + 1, :].double(),
        op.key[..., i, :].double(),
    )
    moved = weight @ (z + here * (key * z).sum(-1, keepdim=True)).unsqueeze(-1)  # W_i z
    sizes = (((here.abs() + there.abs()) @ weight.abs().mT) * ((z.abs() + here.abs()) @ weight.abs().mT)).sum(-1)
    unit = rounding(case.query, 2 * z.shape[-1] + weight.shape[0], weight, z)
    close(drawn.loss(i, name), (columns * moved.squeeze(-1)).sum(-1), sizes, unit)


def marginal_norms_are_dense(case: Case, data: st.DataObject) -> None:
    """`‖W_{i+1} − W_i‖_F` over all readers; the difference has rank one in a block and rank two in later blocks [Fig. 3]."""
    assume(case.tokens > 0)
    stacked = data.draw(st.booleans(), label="stack")
    model: Block = draw_stack(case, data) if stacked else draw_block(case, data)
    solver: Solver = Augmented()
    with torch.no_grad():
        every = dynamics(model, case.query, case.context, solver=solver)
    for each in every if isinstance(every, list) else [every]:
        stack = torch.cat(each.weights()).detach().double()  # (M, d)
        op = each.updates.operator
        delta, key = op.direction.double() @ stack.mT, op.key.double()
        weights = delta.unsqueeze(-1) * key.unsqueeze(-2)  # (…, n + 1, M, d)
        sizes = (op.direction.double().abs() @ stack.abs().mT).unsqueeze(-1) * key.unsqueeze(-2).abs()
        wanted = torch.linalg.matrix_norm(weights[..., 1:, :, :] - weights[..., :-1, :, :])
        size = torch.linalg.matrix_norm(sizes[..., 1:, :, :] + sizes[..., :-1, :, :])
        # c = k'ᵀk/‖k‖² has a rounding error proportional to ‖k'‖/‖k‖, and multiplies W δ'
        long = key.norm(dim=-1)
        early, late = long[..., :-1], long[..., 1:]
        stretch = torch.where(early > 0, late / torch.where(early > 0, early, 1), 0)
        moved = torch.linalg.vector_norm(op.direction.double().abs() @ stack.abs().mT, dim=-1)
        size = size + moved[..., 1:] * (early * stretch + late)
        close(each.marginal_norms(), wanted, size, rounding(case.query, sum(stack.shape), key, op.direction, stack))

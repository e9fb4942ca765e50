"""The theorem functions under `torch.compile`, `torch.func` transforms and autograd."""

import pytest
import torch
from theorems.helpers import BLOCKS, NETWORKS, block, problem
from torch import Tensor

from ctxblocks import (
    Augmented,
    DegenerateQueryError,
    LeastNorm,
    PlainBlock,
    Stack,
    dynamics,
    factorize,
    transfer,
)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("net", NETWORKS)
def test_vmap_equals_the_batched_call(kind: str, net: str) -> None:
    """`vmap` over tasks of `transfer` and `dynamics` equals the batched call, to a few units of round-off."""
    made, (query, context) = block(kind, net), problem(3)
    update = torch.func.vmap(lambda x, c: transfer(made, x, c))(query, context)
    wanted = transfer(made, query, context)
    torch.testing.assert_close(update.operator.key, wanted.operator.key, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(update.operator.direction, wanted.operator.direction, rtol=1e-13, atol=1e-14)
    steps = torch.func.vmap(lambda x, c: dynamics(made, x, c))(query, context)
    torch.testing.assert_close(steps.outputs, dynamics(made, query, context).outputs, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("kind", BLOCKS)
def test_compile_has_no_graph_break(kind: str) -> None:
    """`transfer` and `dynamics` compile without a graph break and give the same results."""
    made, (query, context) = block(kind, "gated"), problem(2)

    def both(x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        update = transfer(made, x, c)
        return made(x, update=update), dynamics(made, x, c).marginal_norms()

    compiled = torch.compile(both, fullgraph=True, backend="eager")
    for got, wanted in zip(compiled(query, context), both(query, context), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", ["plain", "pre-norm", "sandwich"])
def test_updates_are_differentiable(kind: str) -> None:
    """The gradient of the updated output, which flows through the update too, is that of the output with the context."""
    made, (query, context) = block(kind), problem()
    query, context = query.requires_grad_(), context.requires_grad_()
    direct = torch.autograd.grad(made(query, context).square().sum(), (query, context))
    updated = made(query, update=transfer(made, query, context)).square().sum()
    for got, wanted in zip(torch.autograd.grad(updated, (query, context)), direct, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-12)


def test_dynamics_and_factorization_pass_gradcheck() -> None:
    """The gradients of marginal norms and factorised outputs agree with finite differences."""
    made, (query, context) = block("pre-norm", "gated"), problem(n=3)
    query, context = query.requires_grad_(), context.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, c: dynamics(made, x, c).marginal_norms(), (query, context))
    assert torch.autograd.gradcheck(lambda x, c: factorize(made, x, c).outputs(), (query, context))


def test_norms_of_a_deep_block_pass_gradcheck() -> None:
    """The norm of a rank-two change, where the base read depends on the prefix, has the right gradient too."""
    stack = Stack([block("skip", seed=1), block("pre-norm", "gated", seed=2)])
    query, context = (t.requires_grad_() for t in problem(n=3))
    assert torch.autograd.gradcheck(lambda x, c: dynamics(stack, x, c)[1].marginal_norms(), (query, context))


def degenerate() -> PlainBlock:
    """A block whose network input without context is exactly zero for the query 0."""
    made = block("plain")
    assert isinstance(made, PlainBlock)
    with torch.no_grad():
        made.layer.get_parameter("values.bias").zero_()
        made.layer.get_parameter("projection.bias").zero_()
    return made


def test_degenerate_query_is_refused_and_points_to_augmented() -> None:
    """Where `z = 0` and `δ ≠ 0` there is no least-norm update, and the message names the solver that has one."""
    made, (_, context) = degenerate(), problem(2)
    query = torch.zeros(2, 4, dtype=torch.float64)
    with pytest.raises(DegenerateQueryError, match=r"query: .*zero.* 2 of 2 queries.*Augmented\(\)"):
        transfer(made, query, context)
    update = transfer(made, query, context, solver=Augmented())
    torch.testing.assert_close(made(query, update=update), made(query, context), rtol=1e-13, atol=1e-14)


def test_degenerate_query_inside_a_transform_is_nan_only_where_the_context_matters() -> None:
    """Inside `vmap` values cannot be checked: where `z = 0`, the key is 0 if `δ = 0` and NaN otherwise."""
    made, (_, context) = degenerate(), problem(2)
    context[1] = 0  # δ = 0
    query = torch.zeros(2, 4, dtype=torch.float64)
    keys = torch.func.vmap(lambda x, c: transfer(made, x, c).operator.key)(query, context)
    assert keys[0].isnan().all()
    assert (keys[1] == 0).all()
    assert not transfer(made, query[1], context[1]).operator.key.any()


def test_least_norm_key_neither_over_nor_underflows() -> None:
    """`z / ‖z‖²` at the ends of float32's range, where the plain formula is 0/0 or ∞/∞."""
    for scale in (1e-30, 1e30):
        z = scale * torch.ones(4)
        key, _, absent = LeastNorm().key(z)
        assert not absent
        torch.testing.assert_close(key * scale, torch.full((4,), 0.25), rtol=4 * 2.0**-24, atol=0)


def test_half_precision_key_of_large_reads() -> None:
    """The key of a float16 input with 1024 entries of 10, whose squared norm is beyond float16's range."""
    key, _, absent = LeastNorm().key(torch.full((1024,), 10.0, dtype=torch.float16))
    assert not absent
    assert float(key[0]) == pytest.approx(1 / 10240, rel=2.0**-10)

"""Reads that are not finite: every update is refused, and the message says which block, read, row and parameter."""

from collections.abc import Callable

import pytest
import torch
from theorems.helpers import BLOCKS, block, problem

from ctxblocks import (
    Augmented,
    ContextualBlock,
    LeastNorm,
    NonFiniteError,
    Read,
    Stack,
    dynamics,
    factorize,
    finetune,
    implicit_update,
    transfer,
    transfer_generation,
)

QUERY, CONTEXT = problem(2)
CALLS: dict[str, Callable[[ContextualBlock], object]] = {
    "transfer": lambda made: transfer(made, QUERY, CONTEXT),
    "augmented": lambda made: transfer(made, QUERY, CONTEXT, solver=Augmented()),
    "kept": lambda made: transfer(made, QUERY, CONTEXT, keep=[1], patch_kept=True),
    "dynamics": lambda made: dynamics(made, QUERY, CONTEXT),
    "factorize": lambda made: factorize(made, QUERY, CONTEXT),
    "generation": lambda made: transfer_generation(made, CONTEXT, CONTEXT),
    "finetune": lambda made: finetune(made, QUERY, CONTEXT, 0.1),
}


def spoilt(kind: str, name: str) -> ContextualBlock:
    """A block one of whose parameters holds one NaN."""
    made = block(kind)
    with torch.no_grad():
        made.get_parameter(name).view(-1)[0] = torch.nan
    return made


@pytest.mark.parametrize("kind", [kind for kind in BLOCKS if kind != "parallel"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_weight_of_the_layer_is_named(kind: str, call: Callable[[ContextualBlock], object]) -> None:
    """Also for the solver that always has an update; no advice to use that one."""
    with pytest.raises(
        NonFiniteError, match=r"^block 0: .* repair the weights of its parameter 'layer.values.weight'$"
    ):
        call(spoilt(kind, "layer.values.weight"))


def test_the_first_prefix_is_named() -> None:
    """The key of a context token is infinite from the third on, and the read without context is fine."""
    context = CONTEXT.clone()
    context[:, 2] = 1e308
    made = block("skip")
    with torch.no_grad():
        made.layer.values.weight.fill_(10.0)
        made.layer.values.weight[0, 1:] *= -1
    with pytest.raises(
        NonFiniteError, match=r"with the context .* first at prefix 3, needs .* its own weights are finite"
    ):
        dynamics(made, QUERY, context)


def test_the_block_of_a_stack_is_named() -> None:
    """Its number, and where its own weights are finite those before it are suspected."""
    with pytest.raises(NonFiniteError, match=r"^block 1: .*'layer.values.bias'"):
        transfer(Stack([block("skip"), spoilt("skip", "layer.values.bias")]), QUERY, CONTEXT)
    with pytest.raises(NonFiniteError, match=r"^block 1: .*look at the weights of what comes before it"):
        dynamics(Stack([spoilt("skip", "network.down.bias"), block("skip")]), QUERY, CONTEXT)


def test_measures_refuse_weights_that_are_not_finite() -> None:
    """The reads are finite, and the changes of the weights would be NaN."""
    steps = dynamics(spoilt("skip", "network.up.weight"), QUERY, CONTEXT)
    with pytest.raises(NonFiniteError, match=r"^weight of the reader 'up': got NaN or infinity in 1 of"):
        steps.marginal_norms()
    assert dynamics(spoilt("skip", "network.up.weight"), QUERY, CONTEXT, check=False).marginal_norms().isnan().any()


@pytest.mark.parametrize("solver", [LeastNorm(), Augmented()])
def test_differences_that_overflow(solver: LeastNorm | Augmented) -> None:
    """Two finite reads in float16 whose difference is infinite, of the input and of the residual stream."""
    large, small = torch.full((4,), 6e4).half(), torch.ones(4).half()
    with pytest.raises(NonFiniteError, match=r"difference δ of the reads .* overflows float16"):
        implicit_update(Read(-large), Read(large), solver)
    with pytest.raises(NonFiniteError, match=r"difference Δb' of the reads .* overflows float16"):
        implicit_update(Read(small, -large), Read(small, large), solver)


def test_unchecked_reads_pass_and_tensors_without_values_too() -> None:
    """With `check=False`, and on the meta device."""
    assert transfer(spoilt("skip", "layer.values.weight"), QUERY, CONTEXT, check=False).operator.direction.isnan().any()
    read = Read(torch.empty(3, 4, device="meta"))
    assert implicit_update(read, read, LeastNorm())[0].direction.shape == (3, 4)

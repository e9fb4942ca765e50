"""The theorem functions under `torch.compile` and `torch.func.vmap`, with every bundled layer."""

import pytest
import torch
from torch import Tensor

from ctxblocks import GatedMLP, ResidualBlock, Stack, dynamics, registry, transfer
from ctxblocks.theorems.arguments import Block

LAYERS = ("delta-rule", "griffin", "gru", "linear-attention", "local-attention", "lstm", "rnn", "self-attention", "ssm")
CASES = [
    pytest.param(name, options, id="-".join([name, *map(str, options.values())]))
    for name in LAYERS
    for options in registry().layer(name).benchmarks
]


def model(name: str, options: dict[str, object], stacked: bool) -> Block:
    """Pre-norm blocks of width 8 in float64."""
    spec = registry().layer(name)
    torch.manual_seed(1)
    blocks = [
        ResidualBlock(spec.build(spec.config(width=8, **options)), GatedMLP(8, 12), norm="pre").double() for _ in "ab"
    ]
    return Stack(blocks) if stacked else blocks[0]


def everything(made: Block, query: Tensor, context: Tensor) -> tuple[Tensor, ...]:
    """Updated outputs by `transfer`, and outputs, marginal norms and updated outputs by `dynamics`."""
    update, course = transfer(made, query, context), dynamics(made, query, context)
    steps = course if isinstance(course, list) else [course]
    rows = [x for step in steps for x in (step.outputs, step.marginal_norms(), step.updated_outputs())]
    return made(query, update=update), *rows


@pytest.mark.parametrize("stacked", [False, True], ids=["block", "stack"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_vmap_gives_the_batched_answer(name: str, options: dict[str, object], stacked: bool) -> None:
    """Mapped over a batch of queries and contexts, all results equal those of the batch."""
    made = model(name, options, stacked)
    query, context = torch.randn(3, 8, dtype=torch.float64), torch.randn(3, 5, 8, dtype=torch.float64)
    mapped = torch.func.vmap(lambda x, c: everything(made, x, c))(query, context)
    for got, wanted in zip(mapped, everything(made, query, context), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_compiles_as_one_graph(name: str, options: dict[str, object]) -> None:
    """`torch.compile(fullgraph=True)` compiles a stack without a graph break, with the results of the plain call."""
    made = model(name, options, stacked=True)
    query, context = torch.randn(2, 8, dtype=torch.float64), torch.randn(2, 5, 8, dtype=torch.float64)
    torch.compiler.reset()
    compiled = torch.compile(lambda x, c: everything(made, x, c), fullgraph=True, backend="eager")
    for got, wanted in zip(compiled(query, context), everything(made, query, context), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-11)

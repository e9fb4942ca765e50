"""Comparisons of this package with plain torch code, and of all prefixes with one forward pass."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import attrs
import torch
from torch import Tensor, nn

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.base.memory import memory_errors
from ctxblocks.bench.config import WAY_OUT, BenchConfig
from ctxblocks.bench.counting import count_work
from ctxblocks.bench.layers import Bench
from ctxblocks.bench.plain import PlainAttentionBlock
from ctxblocks.bench.records import Comparison
from ctxblocks.bench.start_up import start_up
from ctxblocks.bench.timing import Call, Timed
from ctxblocks.blocks.networks import MLP
from ctxblocks.blocks.residual import PlainBlock, ResidualBlock
from ctxblocks.blocks.stack import Stack
from ctxblocks.registration.registry import create
from ctxblocks.theorems.dynamics import dynamics


@attrs.frozen(kw_only=True)
class Sizes:
    """Sizes of the comparisons; reports use the defaults.

    Attributes:
        width: width `d` of the updated network.
        hidden: hidden width `m` of the updated network.
        queries: number of queries of the updated network, each with a different operator.
        tokens: length `n` of the paper's prompts.
        batch: prompts in a training step.
        tasks: prompts whose dynamics are computed.
        blocks: number of blocks in the stack.
        stack_width: width `d` of the stack; the hidden layers of its networks are four times as wide.
        stack_tokens: length `n` of the stack's context.
    """

    width: int = 1024
    hidden: int = 4096
    queries: int = 512
    tokens: int = 100
    batch: int = 128
    tasks: int = 100
    blocks: int = 6
    stack_width: int = 256
    stack_tokens: int = 512


PAPER = {"width": 3, "heads": 8, "head_width": 32}
"""The configuration of the paper's attention layer."""
PAPER_HIDDEN = 128
LEARNING_RATE = 1e-3


def factored_update(bench: Bench, config: BenchConfig, sizes: Sizes = Sizes()) -> Comparison:
    """A network with a different operator for each query, kept in factored form, compared with the network alone."""
    network = _made(config, bench, lambda: MLP(sizes.width, sizes.hidden))
    z, direction, key = _drawn(config, bench, 3, sizes.queries, sizes.width).unbind()
    operator = ContextOperator(direction, key)
    calls: dict[str, Call] = {"updated": lambda: network(z, operator), "plain": lambda: network(z)}
    compared = _compare(
        bench,
        "factored-update",
        f"MLP({sizes.width}, {sizes.hidden}) on {sizes.queries} queries, each with its own operator, ÷ without any",
        calls,
        [("updated", "plain")],
    )
    memory = {name: count_work(call, bench.device).memory for name, call in calls.items()}
    ratios = {**compared.ratios, "updated/plain memory": memory["updated"] / memory["plain"]}
    return attrs.evolve(compared, memory=memory, ratios=ratios)


def training_step(bench: Bench, config: BenchConfig, sizes: Sizes = Sizes()) -> Comparison:
    """Forward pass, backward pass and a step of Adam for the paper's block: plain torch code compared with this package."""
    query, context = _prompts(config, bench, sizes.batch, sizes.tokens)
    target = _drawn(config, bench, sizes.batch)
    plain, ours = _plain_block(config, bench), _paper_block(config, bench)
    return _compare(
        bench,
        "training-step",
        f"the paper's block, {sizes.tokens} tokens, batch {sizes.batch}: written plainly in torch ÷ ours",
        {"plain": _step(plain, query, context, target), "ours": _step(ours, query, context, target)},
        [("plain", "ours")],
    )


def paper_dynamics(bench: Bench, config: BenchConfig, sizes: Sizes = Sizes()) -> Comparison:
    """The updates of all prefixes of the paper's prompts, compared with one plain forward pass over the prompts."""
    query, context = _prompts(config, bench, sizes.tasks, sizes.tokens)
    block, plain = _paper_block(config, bench), _plain_block(config, bench)

    def everything() -> tuple[Tensor, Tensor]:
        taken = dynamics(block, query, context, chunk=config.chunk)
        return taken.marginal_norms(), taken.updated_outputs()

    return _compare(
        bench,
        "paper-dynamics",
        f"the paper's block, {sizes.tasks} tasks, all {sizes.tokens + 1} prefixes, with norms of the steps and updated "
        f"outputs ÷ one plain forward of the {sizes.tasks} prompts",
        {
            "dynamics": everything,
            "plain at the query": lambda: plain(query, context),
            "plain at every token": lambda: plain.every_token(query, context),
        },
        [("dynamics", "plain at the query"), ("dynamics", "plain at every token")],
    )


def stack(bench: Bench, config: BenchConfig, sizes: Sizes = Sizes()) -> Comparison:
    """All prefixes of a stack, compared with one forward pass over its context."""
    model = _made(config, bench, lambda: _stack(sizes))
    query = _drawn(config, bench, sizes.stack_width)
    context = _drawn(config, bench, sizes.stack_tokens, sizes.stack_width)
    return _compare(
        bench,
        "stack",
        f"{sizes.blocks} pre-norm blocks of self-attention and MLP({sizes.stack_width}, {4 * sizes.stack_width}), "
        f"{sizes.stack_tokens} tokens: all prefixes ÷ one forward over the context",
        {
            "prefixes": lambda: model.prefixes(query, context),
            "dynamics": lambda: dynamics(model, query, context, chunk=config.chunk),
            "sequence": lambda: model.sequence(context),
        },
        [("prefixes", "sequence"), ("dynamics", "sequence")],
    )


M = TypeVar("M", bound=nn.Module)
Compare = Callable[[Bench, BenchConfig], Comparison]
COMPARISONS: Mapping[str, Compare] = {
    "factored update": factored_update,
    "training step": training_step,
    "paper's dynamics": paper_dynamics,
    "stack": stack,
    "start-up": start_up,
}
"""The comparisons by the names of their steps."""


def _compare(
    bench: Bench, name: str, what: str, calls: Mapping[str, Call], ratios: Sequence[tuple[str, str]]
) -> Comparison:
    """Warm up every call, time all of them in the same rounds, and divide medians.

    Args:
        bench: the instruments.
        name: name of the comparison.
        what: description of the comparison.
        calls: the functions to time, by name; all have the number of repeats that the slowest one allows.
        ratios: pairs of names, numerator first.
    """
    with memory_errors(bench.device, f"comparison: got {name}, whose tensors", WAY_OUT):
        for call in calls.values():
            call()
        seconds = {label: bench.stopwatch.clock(call) for label, call in calls.items()}
        repeats = bench.budget.repeats_of(max(seconds.values()))
        timed = {
            label: Timed(call=call, repeats=repeats, calls=bench.budget.calls_of(seconds[label]))
            for label, call in calls.items()
        }
        times = bench.stopwatch.interleave(timed)
    divided = {f"{above}/{below}": times[above].median / times[below].median for above, below in ratios}
    return Comparison(name=name, what=what, times=times, ratios=divided)


def _step(model: nn.Module, query: Tensor, context: Tensor, target: Tensor) -> Call:
    """A training step with the squared error of the last component of the output."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)

    def step() -> None:
        with torch.enable_grad():
            optimizer.zero_grad()
            loss = (model(query, context)[..., -1] - target).square().mean()
            loss.backward()
            optimizer.step()

    return step


def _paper_block(config: BenchConfig, bench: Bench) -> PlainBlock:
    return _made(config, bench, lambda: PlainBlock(create("self-attention", **PAPER), MLP(3, PAPER_HIDDEN)))


def _plain_block(config: BenchConfig, bench: Bench) -> PlainAttentionBlock:
    return _made(config, bench, lambda: PlainAttentionBlock(**PAPER, hidden=PAPER_HIDDEN))


def _stack(sizes: Sizes) -> Stack:
    width = sizes.stack_width
    layers = [create("self-attention", width=width) for _ in range(sizes.blocks)]
    return Stack([ResidualBlock(layer, MLP(width, 4 * width), norm="pre") for layer in layers])


def _made(config: BenchConfig, bench: Bench, build: Callable[[], M]) -> M:
    """A module with random weights from the seed of the configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        module = build()
    return module.to(bench.device, config.torch_dtype)


def _drawn(config: BenchConfig, bench: Bench, *shape: int) -> Tensor:
    """A tensor of Gaussian entries, determined by the seed and the shape."""
    generator = torch.Generator().manual_seed((config.seed + sum(shape)) % 2**64)
    return torch.randn(*shape, generator=generator).to(bench.device, config.torch_dtype)


def _prompts(config: BenchConfig, bench: Bench, batch: int, tokens: int) -> tuple[Tensor, Tensor]:
    return _drawn(config, bench, batch, 3), _drawn(config, bench, batch, tokens, 3)

"""What the package does beside the plain way of doing it, or beside what it costs to do less."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

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
from ctxblocks.bench.statistics import Timing
from ctxblocks.bench.timing import Call, Timed
from ctxblocks.blocks.networks import MLP
from ctxblocks.blocks.residual import PlainBlock, ResidualBlock
from ctxblocks.blocks.stack import Stack
from ctxblocks.registration.registry import create
from ctxblocks.theorems.dynamics import Dynamics, dynamics


@attrs.frozen(kw_only=True)
class Sizes:
    """Sizes of the comparisons; the defaults are those that are reported.

    Attributes:
        width: d of the updated network.
        hidden: m of the updated network.
        queries: of the updated network, each with its own operator.
        tokens: n of the paper's prompts.
        batch: prompts of a training step.
        tasks: prompts whose dynamics are taken.
        blocks: of the stack.
        stack_width: d of the stack; its networks' hidden layers are four times as wide.
        stack_tokens: n of the stack's context.
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
"""The paper's attention."""
PAPER_HIDDEN = 128
LEARNING_RATE = 1e-3


def factored_update(bench: Bench, config: BenchConfig, sizes: Sizes = Sizes()) -> Comparison:
    """A network with one operator for each query, never built, beside the network alone."""
    network = _made(config, bench, lambda: MLP(sizes.width, sizes.hidden))
    z, direction, key = _drawn(config, bench, 3, sizes.queries, sizes.width).unbind()
    operator = ContextOperator(direction, key)
    calls: dict[str, Call] = {"updated": lambda: network(z, operator), "plain": lambda: network(z)}
    times = _times(bench, calls, "factored update")
    memory = {name: count_work(call, bench.device).memory for name, call in calls.items()}
    return Comparison(
        name="factored-update",
        what=f"MLP({sizes.width}, {sizes.hidden}) on {sizes.queries} queries, each with its own operator, ÷ without any",
        times=times,
        memory=memory,
        ratios={
            "updated/plain": _ratio(times, "updated", "plain"),
            "updated/plain memory": memory["updated"] / memory["plain"],
        },
    )


def training_step(bench: Bench, config: BenchConfig, sizes: Sizes = Sizes()) -> Comparison:
    """Forward, backward and a step of Adam on the paper's block, written plainly and ours."""
    query, context = _prompts(config, bench, sizes.batch, sizes.tokens)
    target = _drawn(config, bench, sizes.batch)
    calls = {
        name: _step(model, query, context, target)
        for name, model in (("plain", _plain_block(config, bench)), ("ours", _paper_block(config, bench)))
    }
    times = _times(bench, calls, "training step")
    return Comparison(
        name="training-step",
        what=f"the paper's block, {sizes.tokens} tokens, batch {sizes.batch}: written plainly in torch ÷ ours",
        times=times,
        ratios={"plain/ours": _ratio(times, "plain", "ours")},
    )


def paper_dynamics(bench: Bench, config: BenchConfig, sizes: Sizes = Sizes()) -> Comparison:
    """All prefixes' updates of the paper's prompts beside one plain forward of them."""
    query, context = _prompts(config, bench, sizes.tasks, sizes.tokens)
    block, plain = _paper_block(config, bench), _plain_block(config, bench)

    def everything() -> tuple[Tensor, Tensor]:
        found: Dynamics = _dynamics(config)(block, query, context)
        return found.marginal_norms(), found.updated_outputs()

    calls: dict[str, Call] = {
        "dynamics": everything,
        "plain at the query": lambda: plain(query, context),
        "plain at every token": lambda: plain.every_token(query, context),
    }
    times = _times(bench, calls, "paper's dynamics")
    return Comparison(
        name="paper-dynamics",
        what=f"the paper's block, {sizes.tasks} tasks, all {sizes.tokens + 1} prefixes, with norms of the steps and updated "
        f"outputs ÷ one plain forward of the {sizes.tasks} prompts",
        times=times,
        ratios={
            "dynamics/plain at the query": _ratio(times, "dynamics", "plain at the query"),
            "dynamics/plain at every token": _ratio(times, "dynamics", "plain at every token"),
        },
    )


def stack(bench: Bench, config: BenchConfig, sizes: Sizes = Sizes()) -> Comparison:
    """All prefixes of a stack beside one forward over its context."""
    model = _made(config, bench, lambda: _stack(sizes))
    query = _drawn(config, bench, sizes.stack_width)
    context = _drawn(config, bench, sizes.stack_tokens, sizes.stack_width)
    prefixes: Any = model.prefixes
    calls: dict[str, Call] = {
        "prefixes": lambda: prefixes(query, context),
        "dynamics": lambda: _dynamics(config)(model, query, context),
        "sequence": lambda: model.sequence(context),
    }
    times = _times(bench, calls, "stack's prefixes")
    return Comparison(
        name="stack",
        what=f"{sizes.blocks} pre-norm blocks of self-attention and MLP({sizes.stack_width}, {4 * sizes.stack_width}), "
        f"{sizes.stack_tokens} tokens: all prefixes ÷ one forward over the context",
        times=times,
        ratios={
            "prefixes/sequence": _ratio(times, "prefixes", "sequence"),
            "dynamics/sequence": _ratio(times, "dynamics", "sequence"),
        },
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
"""By the name that progress is told."""


def _times(bench: Bench, calls: Mapping[str, Call], what: str) -> dict[str, Timing]:
    """Every call warmed up, then timed side by side, all as often as the slowest allows."""
    with memory_errors(bench.device, f"comparison: got the {what}, whose tensors", WAY_OUT):
        for call in calls.values():
            call()
        seconds = {name: bench.stopwatch.clock(call) for name, call in calls.items()}
        repeats = bench.budget.repeats_of(max(seconds.values()))
        return bench.stopwatch.interleave(
            {
                name: Timed(call=c, repeats=repeats, calls=bench.budget.calls_of(seconds[name]))
                for name, c in calls.items()
            }
        )


def _ratio(times: Mapping[str, Timing], above: str, below: str) -> float:
    return times[above].median / times[below].median


def _step(model: nn.Module, query: Tensor, context: Tensor, target: Tensor) -> Call:
    """A step of training on the last component of the output."""
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


def _dynamics(config: BenchConfig) -> Callable[..., Any]:
    """`dynamics` with the chunk asked for."""
    call: Callable[..., Any] = dynamics
    if config.chunk is None:
        return call
    return lambda *arguments: call(*arguments, chunk=config.chunk)


def _made(config: BenchConfig, bench: Bench, build: Callable[[], M]) -> M:
    """A module with weights drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        module = build()
    return module.to(bench.device, config.torch_dtype)


def _drawn(config: BenchConfig, bench: Bench, *shape: int) -> Tensor:
    """Normal entries from the seed and the shape."""
    generator = torch.Generator().manual_seed(config.seed + sum(shape))
    return torch.randn(*shape, generator=generator).to(bench.device, config.torch_dtype)


def _prompts(config: BenchConfig, bench: Bench, batch: int, tokens: int) -> tuple[Tensor, Tensor]:
    return _drawn(config, bench, batch, 3), _drawn(config, bench, batch, tokens, 3)

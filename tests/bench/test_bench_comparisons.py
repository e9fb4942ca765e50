"""The comparisons with plain torch code, at small sizes."""

from typing import Any

import pytest
import torch
from bench_fakes import instruments
from torch import Tensor

from ctxblocks import MLP, PlainBlock, Stack, create, dynamics
from ctxblocks.bench import BenchConfig
from ctxblocks.bench.comparisons import (
    COMPARISONS,
    PAPER,
    PAPER_HIDDEN,
    Sizes,
    _step,
    factored_update,
    paper_dynamics,
    stack,
    training_step,
)
from ctxblocks.bench.plain import PlainAttentionBlock
from ctxblocks.bench.records import Comparison
from ctxblocks.bench.start_up import start_up

SMALL = Sizes(width=8, hidden=16, queries=4, tokens=5, batch=3, tasks=2, blocks=2, stack_width=8, stack_tokens=6)
CONFIG = BenchConfig(repeats=1)


def check(comparison: Comparison, times: list[str], ratios: list[str]) -> None:
    """Check the names of times and ratios, and that all ratios are positive."""
    assert list(comparison.times) == times
    assert list(comparison.ratios) == ratios
    assert min(comparison.ratios.values()) > 0


def test_the_factored_update() -> None:
    """Besides the network, the operator needs two tensors of the queries' shape `(4, 8)`, and no dense update."""
    with torch.no_grad():
        comparison = factored_update(instruments(), CONFIG, SMALL)
    check(comparison, ["updated", "plain"], ["updated/plain", "updated/plain memory"])
    assert comparison.ratios["updated/plain"] == comparison.times["updated"].median / comparison.times["plain"].median
    assert comparison.memory["plain"] == 4 * (4 * 16 + 4 * 16)  # outputs of `up` and of the activation
    assert comparison.memory["updated"] < comparison.memory["plain"] + 4 * 2 * 4 * 8 + 64


def test_the_training_step() -> None:
    """The ratio is the time of the plain code divided by ours."""
    comparison = training_step(instruments(), CONFIG, SMALL)
    check(comparison, ["plain", "ours"], ["plain/ours"])
    assert comparison.ratios["plain/ours"] == comparison.times["plain"].median / comparison.times["ours"].median


def test_the_training_step_trains() -> None:
    """The step changes the weights, also within `torch.no_grad()`."""
    block = PlainAttentionBlock(**PAPER, hidden=4)
    before = block.query.weight.clone()
    with torch.no_grad():
        _step(block, torch.randn(2, 3), torch.randn(2, 5, 3), torch.randn(2))()
    assert not torch.equal(block.query.weight, before)


def test_the_dynamics_of_the_paper() -> None:
    """They are compared with a plain forward pass for the query and with one for every token."""
    with torch.no_grad():
        comparison = paper_dynamics(instruments(), CONFIG, SMALL)
    check(
        comparison,
        ["dynamics", "plain at the query", "plain at every token"],
        ["dynamics/plain at the query", "dynamics/plain at every token"],
    )


def test_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """All prefixes and the dynamics are compared with one forward pass over the context."""
    given: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def prefixes(self: Stack, query: Tensor, context: Tensor) -> Tensor:
        given.append((tuple(query.shape), tuple(context.shape)))
        return context

    monkeypatch.setattr(Stack, "prefixes", prefixes, raising=False)
    with torch.no_grad():
        comparison = stack(instruments(), CONFIG, SMALL)
    check(comparison, ["prefixes", "dynamics", "sequence"], ["prefixes/sequence", "dynamics/sequence"])
    assert set(given) == {((8,), (6, 8))}


def test_start_up() -> None:
    """Help and imports are timed in new interpreters; `import ctxblocks` does not import torch."""
    comparison = start_up(instruments(), CONFIG)
    check(comparison, ["help", "import ctxblocks", "import torch"], ["import ctxblocks/import torch"])
    assert comparison.ratios["import ctxblocks/import torch"] < 1


def test_every_comparison_is_there() -> None:
    """Under the names of their steps."""
    assert list(COMPARISONS) == ["factored update", "training step", "paper's dynamics", "stack", "start-up"]


def test_the_plain_block_is_the_paper_s() -> None:
    """With the same weights it gives the same outputs as ours, for the query and for every token."""
    layer: Any = create("self-attention", **PAPER)
    ours, plain = PlainBlock(layer, MLP(3, PAPER_HIDDEN)), PlainAttentionBlock(**PAPER, hidden=PAPER_HIDDEN)
    with torch.no_grad():
        for mine, theirs in zip(plain.parameters(), ours.parameters(), strict=True):
            mine.copy_(theirs)
        query, context = torch.randn(2, 3), torch.randn(2, 5, 3)
        torch.testing.assert_close(plain(query, context), ours(query, context))
        prompt = torch.cat([context, query.unsqueeze(1)], dim=1)
        torch.testing.assert_close(plain.every_token(query, context), ours.sequence(prompt))


def test_the_chunk_goes_to_the_dynamics(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dynamics of the paper's block use the chunk of the configuration."""
    given: list[int | None] = []

    def recorded(*arguments: Any, chunk: int | None) -> Any:
        given.append(chunk)
        return dynamics(*arguments)

    monkeypatch.setattr("ctxblocks.bench.comparisons.dynamics", recorded)
    with torch.no_grad():
        paper_dynamics(instruments(), BenchConfig(repeats=1, chunk=2), SMALL)
    assert set(given) == {2}

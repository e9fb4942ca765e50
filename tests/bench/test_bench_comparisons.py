"""The comparisons with plain counterparts, at small sizes."""

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


def check(found: Comparison, times: list[str], ratios: list[str]) -> None:
    """Times, all positive, and ratios as named."""
    assert list(found.times) == times
    assert list(found.ratios) == ratios
    assert min(found.ratios.values()) > 0


def test_the_factored_update() -> None:
    """The operator costs one more read of the queries, and no dense update: twice `(4, 8)` beside the network."""
    with torch.no_grad():
        found = factored_update(instruments(), CONFIG, SMALL)
    check(found, ["updated", "plain"], ["updated/plain", "updated/plain memory"])
    assert found.ratios["updated/plain"] == found.times["updated"].median / found.times["plain"].median
    assert found.memory["plain"] == 4 * (4 * 16 + 4 * 16)  # what up and the activation give
    assert found.memory["updated"] < found.memory["plain"] + 4 * 2 * 4 * 8 + 64


def test_the_training_step() -> None:
    """Plain over ours."""
    found = training_step(instruments(), CONFIG, SMALL)
    check(found, ["plain", "ours"], ["plain/ours"])
    assert found.ratios["plain/ours"] == found.times["plain"].median / found.times["ours"].median


def test_the_training_step_trains() -> None:
    """Weights move, also where gradients are off outside."""
    block = PlainAttentionBlock(**PAPER, hidden=4)
    before = block.query.weight.clone()
    with torch.no_grad():
        _step(block, torch.randn(2, 3), torch.randn(2, 5, 3), torch.randn(2))()
    assert not torch.equal(block.query.weight, before)


def test_the_dynamics_of_the_paper() -> None:
    """Over a plain forward at the query, and over one at every token."""
    with torch.no_grad():
        found = paper_dynamics(instruments(), CONFIG, SMALL)
    check(
        found,
        ["dynamics", "plain at the query", "plain at every token"],
        ["dynamics/plain at the query", "dynamics/plain at every token"],
    )


def test_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """All prefixes and the dynamics over one forward of the context."""
    given: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def prefixes(self: Stack, query: Tensor, context: Tensor) -> Tensor:
        given.append((tuple(query.shape), tuple(context.shape)))
        return context

    monkeypatch.setattr(Stack, "prefixes", prefixes, raising=False)
    with torch.no_grad():
        found = stack(instruments(), CONFIG, SMALL)
    check(found, ["prefixes", "dynamics", "sequence"], ["prefixes/sequence", "dynamics/sequence"])
    assert set(given) == {((8,), (6, 8))}


def test_start_up() -> None:
    """Help and imports in interpreters of their own; ctxblocks imports no torch."""
    found = start_up(instruments(), CONFIG)
    check(found, ["help", "import ctxblocks", "import torch"], ["import ctxblocks/import torch"])
    assert found.ratios["import ctxblocks/import torch"] < 1


def test_every_comparison_is_there() -> None:
    """By the names that a report has them under."""
    assert list(COMPARISONS) == ["factored update", "training step", "paper's dynamics", "stack", "start-up"]


def test_the_plain_block_is_the_paper_s() -> None:
    """With the same weights it computes what ours does, at the query and at every token."""
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
    """Of the paper's block too."""
    given: list[int] = []

    def recorded(*arguments: Any, chunk: int) -> Any:
        given.append(chunk)
        return dynamics(*arguments)

    monkeypatch.setattr("ctxblocks.bench.comparisons.dynamics", recorded)
    with torch.no_grad():
        paper_dynamics(instruments(), BenchConfig(repeats=1, chunk=2), SMALL)
    assert set(given) == {2}

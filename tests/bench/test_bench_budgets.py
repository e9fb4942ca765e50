"""Which functions a budget leaves out, and which shorter contexts are measured first."""

import pytest
import torch
from bench_fakes import CPU, World, instruments, registered
from testing import faulty_layers as layers
from torch import Tensor

from ctxblocks import LayerSpec
from ctxblocks.bench import BenchConfig
from ctxblocks.bench.budget import Budget
from ctxblocks.bench.config import Variant
from ctxblocks.bench.run import growth_of
from ctxblocks.bench.subject import Subject


class Timed(layers.Honest):
    """A sequence takes one second per token, and suffixes the square of the number of tokens."""

    world: World

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        self.world.work("forward", 1.0)
        return super().forward(query, context)

    def sequence(self, tokens: Tensor) -> Tensor:
        self.world.work(f"sequence {tokens.shape[-2]}", tokens.shape[-2])
        return tokens.clone()

    def prefixes(self, query: Tensor, context: Tensor) -> Tensor:
        self.world.work(f"prefixes {context.shape[-2]}", 0.5)
        return query.expand(context.shape[-2] + 1, -1)

    def suffixes(self, query: Tensor, context: Tensor) -> Tensor:
        self.world.work(f"suffixes {context.shape[-2]}", context.shape[-2] ** 2)
        return query.expand(context.shape[-2] + 1, -1)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """The simulated time of the layer `Timed`."""
    world = World()
    monkeypatch.setattr(Timed, "world", world, raising=False)
    return world


def subject_of(spec: LayerSpec, lengths: tuple[int, ...]) -> Subject:
    return Subject(Variant(spec=spec, options={}), BenchConfig(width=8, lengths=lengths), CPU)


def test_a_budget_leaves_out_what_takes_too_long(world: World) -> None:
    """Sequences of 64 s and a loop of 65 s fit into 100 s; suffixes of 4096 s do not, and are never called at that length."""
    bench = instruments(Budget(seconds=100, repeats=1), world.stopwatch())
    with registered(Timed) as spec, torch.no_grad():
        subject = subject_of(spec, (64,))
        row = bench.measure(subject, 64)
    suffixes = row.functions["suffixes"]
    assert (suffixes.status, suffixes.estimate, suffixes.time) == ("not affordable", pytest.approx(4096), None)
    assert (
        suffixes.note == "about 4.1e+03 s a call, estimated from shorter contexts; the budget of all repeats is 100 s"
    )
    assert "suffixes 64" not in world.calls
    assert row.ratios["suffixes/sequence"] is None
    assert row.functions["sequence"].time is not None
    assert row.functions["sequence"].time.median == 64
    assert row.functions["loop"].estimate == pytest.approx(65)
    assert row.functions["loop"].time is not None
    assert row.functions["loop"].time.median == 65


def test_trial_calls_stay_within_the_budget(world: World) -> None:
    """Suffixes of 16 tokens take 256 s; those of 64 would take 4096 s, so the estimate for 256 does without them."""
    bench = instruments(Budget(seconds=400, repeats=1), world.stopwatch())
    with registered(Timed) as spec, torch.no_grad():
        row = bench.measure(subject_of(spec, (256,)), 256)
    assert row.functions["suffixes"].status == "not affordable"
    assert {call for call in world.calls if call.startswith("suffixes")} == {"suffixes 16"}


def test_measured_lengths_serve_the_next(world: World) -> None:
    """The second length needs no trial calls."""
    bench = instruments(Budget(seconds=1e6, repeats=1), world.stopwatch())
    with registered(Timed) as spec, torch.no_grad():
        subject = subject_of(spec, (16, 64))
        rows = [bench.measure(subject, length) for length in (16, 64)]
    assert {call for call in world.calls if call.startswith("sequence")} == {f"sequence {n}" for n in (4, 8, 16, 64)}
    growth = growth_of(subject.variant, rows)
    assert growth.exponents == {
        "sequence": pytest.approx(1),
        "prefixes": pytest.approx(0),
        "suffixes": pytest.approx(2),
    }
    assert growth.lengths["suffixes"] == (16, 64)
    assert growth_of(subject.variant, rows[:1]).exponents["sequence"] is None

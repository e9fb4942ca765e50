"""Rows of a layer: measurements, omissions with their reasons, ratios and bounds."""

import math
from collections.abc import Callable

import attrs
import pytest
import torch
from bench_fakes import CEILINGS, CPU, instruments, registered
from testing import faulty_layers as layers
from torch import Tensor

from ctxblocks import ContextualLayer, LayerSpec, OutOfMemoryError, dynamics
from ctxblocks.bench.config import BenchConfig, Variant
from ctxblocks.bench.counting import Work
from ctxblocks.bench.layers import Bench, bound_of
from ctxblocks.bench.records import FUNCTIONS, Row
from ctxblocks.bench.subject import Subject


@attrs.frozen(kw_only=True)
class Biased:
    """A configuration with one option."""

    width: int
    bias: bool = False


def same(layer: ContextualLayer) -> Callable[[Tensor], Tensor]:
    """A reference that calls the layer itself on a batch."""
    return layer.sequence


def another(layer: ContextualLayer) -> Callable[[Tensor], Tensor]:
    """A reference that computes another function."""
    return lambda tokens: 2 * layer.sequence(tokens)


def absent(layer: ContextualLayer) -> Callable[[Tensor], Tensor]:
    """A reference of a library that is not installed."""
    raise ImportError("no module named 'fast'")


def subject_of(spec: LayerSpec, **changes: object) -> Subject:
    config = BenchConfig(**{"width": 8, "lengths": (8, 16), **changes})  # type: ignore[arg-type]
    return Subject(Variant(spec=spec, options=spec.benchmarks[0]), config, CPU)


def measured(spec: LayerSpec, bench: Bench | None = None, length: int = 16) -> Row:
    with torch.no_grad():
        return (bench or instruments()).measure(subject_of(spec), length)


def test_everything_is_measured() -> None:
    """Every function has time, work and bound, and every ratio is there; the loop has only a time."""
    with registered(config=Biased, reference=same, benchmarks=({"bias": True},)) as spec:
        row = measured(spec)
    assert (row.layer, row.variant, row.options, row.length) == ("fault", "fault bias=True", {"bias": True}, 16)
    assert list(row.functions) == list(FUNCTIONS)
    for name, measurement in row.functions.items():
        assert measurement.status == "measured"
        assert measurement.time is not None
        assert measurement.time.median > 0
        assert (measurement.work is None) == (measurement.bound is None) == (name == "loop")
    assert all(value is not None and value > 0 for value in row.ratios.values())
    assert list(row.ratios) == [
        "prefixes/sequence",
        "suffixes/sequence",
        "loop/prefixes",
        "sequence/reference",
        "dynamics/block",
        "prefixes/sequence memory",
        "dynamics/block memory",
    ]


def test_ratios_are_medians_over_medians() -> None:
    """And memory ratios are peaks over peaks."""
    with registered(reference=same) as spec:
        row = measured(spec)
    seconds = {name: m.time.median for name, m in row.functions.items() if m.time}
    bytes_ = {name: m.work.memory for name, m in row.functions.items() if m.work}
    assert row.ratios["loop/prefixes"] == seconds["loop"] / seconds["prefixes"]
    assert row.ratios["sequence/reference"] == seconds["sequence"] / seconds["reference"]
    assert row.ratios["dynamics/block memory"] == bytes_["dynamics"] / bytes_["block"]


def test_a_missing_reference_has_a_reason() -> None:
    """The library is not installed, or the plugin names none; everything else is measured."""
    with registered(reference=absent) as spec:
        reference = measured(spec).functions["reference"]
    assert (reference.status, reference.note) == ("not installed", "ImportError: no module named 'fast'")
    with registered() as spec:
        row = measured(spec)
    assert row.functions["reference"].status == "absent"
    assert row.ratios["sequence/reference"] is None
    assert row.functions["prefixes"].status == "measured"


def test_a_reference_that_differs_is_noted() -> None:
    """The note gives the difference relative to the largest entry; an equal reference has no note."""
    with registered(reference=another) as spec, torch.no_grad():
        assert subject_of(spec).difference(8) == "differs from sequence by 1.0e+00, relative"
    with registered(reference=same) as spec, torch.no_grad():
        assert subject_of(spec).difference(8) is None


def test_a_cross_attention_has_no_sequence() -> None:
    """Its prefixes are measured nevertheless."""
    with registered(layers.Cross) as spec:
        row = measured(spec)
    assert {name for name, measurement in row.functions.items() if measurement.status == "absent"} == {
        "sequence",
        "reference",
        "block",
    }
    assert row.functions["sequence"].note == "sequence: its tokens have width 10 and its queries 8"
    assert row.functions["dynamics"].status == "measured"


def test_a_degenerate_layer_takes_another_solver() -> None:
    """For a layer that is zero without context, the dynamics use `Augmented()`."""

    class Centred(layers.Honest):
        def forward(self, query: Tensor, context: Tensor) -> Tensor:
            return super().forward(query, context) - super().forward(query, context[..., :0, :])

    with registered(Centred) as spec:
        assert measured(spec).functions["dynamics"].status == "measured"


def test_a_missing_operation_is_reported() -> None:
    """The note is torch's message."""

    class NoHalf(layers.Honest):
        def forward(self, query: Tensor, context: Tensor) -> Tensor:
            raise RuntimeError("\"scan_cpu\" not implemented for 'Half'")

    with registered(NoHalf) as spec:
        row = measured(spec)
    for name in ("sequence", "prefixes", "suffixes", "loop", "block", "dynamics"):
        assert row.functions[name].status == "not available"
        assert row.functions[name].note == "\"scan_cpu\" not implemented for 'Half'"


def test_bounds_name_the_limit() -> None:
    """The bound is the larger of operations and bytes over their peak rates; the share is its ratio to the measured time."""
    heavy = bound_of(Work(memory=0, flops=4 * 10**9, moved=10**9), 8.0, CEILINGS)
    assert (heavy.seconds, heavy.by, heavy.share) == (4.0, "operations", 0.5)
    wide = bound_of(Work(memory=0, flops=10**9, moved=4 * 10**9), 8.0, CEILINGS)
    assert (wide.seconds, wide.by, wide.share) == (4.0, "bytes", 0.5)


def test_refused_memory_names_the_context() -> None:
    """The message gives the size of the allocation, the function and the option."""

    class Greedy(layers.Honest):
        def prefixes(self, query: Tensor, context: Tensor) -> Tensor:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 3221225472 bytes.")

    with (
        registered(Greedy) as spec,
        pytest.raises(
            OutOfMemoryError,
            match=r"context: got 16 tokens of width 8, whose prefixes need 3 GiB at once, where .* --chunk",
        ),
    ):
        measured(spec)


def test_the_chunk_goes_to_the_dynamics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a chunk in the configuration it is None."""
    given: list[object] = []

    def recorded(*arguments: object, chunk: int | None = None, **options: object) -> object:
        given.append(chunk)
        return original(*arguments, **options)  # type: ignore[arg-type]

    original = dynamics
    monkeypatch.setattr("ctxblocks.bench.subject.dynamics", recorded)
    with registered() as spec, torch.no_grad():
        for chunk in (None, 4):
            subject_of(spec, chunk=chunk).calls(8)["dynamics"]()
    assert given == [None, None, None, 4]  # the first call of each pair chooses the solver


def test_weights_and_tokens_depend_on_the_seed() -> None:
    """And on nothing else."""
    with registered() as spec:
        one, two, other = (subject_of(spec, seed=seed).context for seed in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert math.isclose(float(one.std()), 1, abs_tol=0.3)

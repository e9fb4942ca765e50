"""A benchmark from start to end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ctxblocks.base.memory import bounded_memory, memory_errors
from ctxblocks.bench.budget import Budget
from ctxblocks.bench.ceilings import ceilings, machine
from ctxblocks.bench.comparisons import COMPARISONS
from ctxblocks.bench.config import WAY_OUT, BenchConfig, BenchPlan, Variant, context_of, plan_bench
from ctxblocks.bench.layers import Bench
from ctxblocks.bench.load import read_usage
from ctxblocks.bench.records import GROWING, Comparison, Growth, Row
from ctxblocks.bench.report import Report
from ctxblocks.bench.statistics import growth
from ctxblocks.bench.subject import Subject
from ctxblocks.bench.timing import Stopwatch, clock_of

Progress = Callable[[str], None]
"""Called before every step with its name."""


def silent(step: str) -> None:
    """No progress."""


def steps_of(plan: BenchPlan) -> int:
    """How often progress is called."""
    return 1 + len(plan.variants) * len(plan.config.lengths) + (len(COMPARISONS) if plan.compared else 0)


def bench(plan: BenchPlan | BenchConfig, *, progress: Progress = silent) -> Report:
    """Measure layers, one query and one context each, at growing lengths, and compare with plain counterparts.

    Args:
        plan: the settings, checked or not.
        progress: called before every step.

    Raises:
        UnknownLayerError, PluginError, DeviceError: see `plan_bench`.
        OutOfMemoryError: a context is too long for the memory.
    """
    plan = plan_bench(plan) if isinstance(plan, BenchConfig) else plan
    everything = memory_errors(plan.device, context_of(plan.config.lengths[-1], plan.config.width, "tensors"), WAY_OUT)
    with _threads(plan.config.threads), bounded_memory(plan.device), everything, torch.no_grad():
        progress("ceilings")
        here = machine(plan.device)
        clock = clock_of(plan.device)
        instruments = Bench(
            device=plan.device,
            stopwatch=Stopwatch(
                clock=clock,
                usage=read_usage,
                processors=here.processors,
                threads=1 if plan.device.type == "cuda" else here.threads,
            ),
            budget=Budget(repeats=plan.config.repeats),
            ceilings=ceilings(clock, plan.config.torch_dtype, plan.device),
        )
        rows, growths, notes = _layers(plan, instruments, progress)
        compared = _comparisons(plan, instruments, progress) if plan.compared else ()
    return Report(
        config=plan.config,
        machine=here,
        ceilings=instruments.ceilings,
        rows=rows,
        growths=growths,
        comparisons=compared,
        notes=notes,
    )


def _layers(
    plan: BenchPlan, instruments: Bench, progress: Progress
) -> tuple[tuple[Row, ...], tuple[Growth, ...], tuple[str, ...]]:
    rows, growths, notes = [], [], []
    for variant in plan.variants:
        mine, subject = [], Subject(variant, plan.config, plan.device)
        for length in plan.config.lengths:
            progress(f"{variant.label}, n = {length}")
            mine.append(instruments.measure(subject, length))
        if mine[0].functions["reference"].time and (gap := subject.difference(plan.config.lengths[0])):
            notes.append(f"{variant.label}: the reference {gap}")
        rows += mine
        growths.append(growth_of(variant, mine))
    return tuple(rows), tuple(growths), tuple(notes)


def growth_of(variant: Variant, rows: list[Row]) -> Growth:
    """The exponents of a variant's rows."""
    exponents: dict[str, float | None] = {}
    lengths: dict[str, tuple[int, int] | None] = {}
    for name in GROWING:
        seconds = {row.length: time.median for row in rows if (time := row.functions[name].time)}
        exponents[name] = growth(seconds)
        lengths[name] = (min(seconds), max(seconds)) if len(seconds) > 1 else None
    return Growth(layer=variant.spec.name, variant=variant.label, exponents=exponents, lengths=lengths)


def _comparisons(plan: BenchPlan, instruments: Bench, progress: Progress) -> tuple[Comparison, ...]:
    found = []
    for name, compare in COMPARISONS.items():
        progress(name)
        found.append(compare(instruments, plan.config))
    return tuple(found)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Within it, torch computes on so many threads of the CPU; None leaves them."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if number is None else number)
    try:
        yield
    finally:
        torch.set_num_threads(before)

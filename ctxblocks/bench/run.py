"""Running a benchmark: ceilings, layers, comparisons, report."""

from collections.abc import Callable

import torch

from ctxblocks.base.memory import bounded_memory, memory_errors
from ctxblocks.base.threads import torch_threads
from ctxblocks.bench.budget import Budget
from ctxblocks.bench.ceilings import ceilings, machine
from ctxblocks.bench.comparisons import COMPARISONS
from ctxblocks.bench.config import WAY_OUT, BenchConfig, BenchPlan, Variant, context_of, plan_bench
from ctxblocks.bench.layers import Bench
from ctxblocks.bench.load import read_usage
from ctxblocks.bench.records import GROWING, Comparison, Growth, Row
from ctxblocks.bench.report import Report
from ctxblocks.bench.statistics import overall_exponent
from ctxblocks.bench.subject import Subject
from ctxblocks.bench.timing import Stopwatch, clock_of

Progress = Callable[[str], None]
"""A function that is called with the name of a step before the step starts."""


def silent(step: str) -> None:
    """Report no progress."""


def steps_of(plan: BenchPlan) -> int:
    """The number of steps, and so of calls of the progress function."""
    return 1 + len(plan.variants) * len(plan.config.lengths) + (len(COMPARISONS) if plan.compared else 0)


def bench(plan: BenchPlan | BenchConfig, *, progress: Progress = silent) -> Report:
    """Measure layers on contexts of several lengths, with one query and one context, and compare with plain torch code.

    Args:
        plan: a plan, or the settings from which it is made.
        progress: called with the name of each step before the step starts.

    Raises:
        UnknownLayerError, PluginError, DeviceError: see `plan_bench`.
        OutOfMemoryError: a context does not fit into memory.
    """
    plan = plan_bench(plan) if isinstance(plan, BenchConfig) else plan
    errors = memory_errors(plan.device, context_of(plan.config.lengths[-1], plan.config.width, "tensors"), WAY_OUT)
    with torch_threads(plan.config.threads), bounded_memory(plan.device), errors, torch.no_grad():
        progress("ceilings")
        this_machine = machine(plan.device)
        clock = clock_of(plan.device)
        instruments = Bench(
            device=plan.device,
            stopwatch=Stopwatch(
                clock=clock,
                usage=read_usage,
                processors=this_machine.processors,
                threads=1 if plan.device.type == "cuda" else this_machine.threads,
            ),
            budget=Budget(repeats=plan.config.repeats),
            ceilings=ceilings(clock, plan.config.torch_dtype, plan.device),
        )
        rows, growths, notes = _layers(plan, instruments, progress)
        compared = _comparisons(plan, instruments, progress) if plan.compared else ()
    return Report(
        config=plan.config,
        machine=this_machine,
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
        measured, subject = [], Subject(variant, plan.config, plan.device)
        for length in plan.config.lengths:
            progress(f"{variant.label}, n = {length}")
            measured.append(instruments.measure(subject, length))
        if measured[0].functions["reference"].time and (difference := subject.difference(plan.config.lengths[0])):
            notes.append(f"{variant.label}: the reference {difference}")
        rows += measured
        growths.append(growth_of(variant, measured))
    return tuple(rows), tuple(growths), tuple(notes)


def growth_of(variant: Variant, rows: list[Row]) -> Growth:
    """The exponents of growth of a variant, from its rows."""
    exponents: dict[str, float | None] = {}
    lengths: dict[str, tuple[int, int] | None] = {}
    for name in GROWING:
        seconds = {row.length: time.median for row in rows if (time := row.functions[name].time)}
        exponents[name] = overall_exponent(seconds)
        lengths[name] = (min(seconds), max(seconds)) if len(seconds) > 1 else None
    return Growth(layer=variant.spec.name, variant=variant.label, exponents=exponents, lengths=lengths)


def _comparisons(plan: BenchPlan, instruments: Bench, progress: Progress) -> tuple[Comparison, ...]:
    compared = []
    for name, compare in COMPARISONS.items():
        progress(name)
        compared.append(compare(instruments, plan.config))
    return tuple(compared)

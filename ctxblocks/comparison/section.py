"""The section of a comparison: errors with controls and baselines, and the effect of a context on the weights of each layer."""

import itertools
from collections.abc import Iterator

import numpy as np

from ctxblocks.comparison.claims import check
from ctxblocks.comparison.conditions import CONDITIONS
from ctxblocks.comparison.config import ERROR, CompareConfig
from ctxblocks.comparison.decay import SUFFIXES
from ctxblocks.comparison.figures import compose
from ctxblocks.comparison.folder import Comparison
from ctxblocks.comparison.series import Key, Measurements
from ctxblocks.comparison.summary import Line, lengths_of, lines_of
from ctxblocks.registration.probes import TOKENS
from ctxblocks.report import Section, Table
from ctxblocks.runs.document import as_plain
from ctxblocks.runs.statistics import Mean

Cell = str | int | Mean | None


def comparison_section(comparison: Comparison) -> Section:
    """The section of a comparison, finished or not."""
    seen = Measurements(comparison.table, comparison.config.trials)
    missing = [*comparison.missing, *(f"{name}: failed, {problem}" for name, problem in comparison.failed.items())]
    tasks = [task for task in comparison.config.tasks if seen.layers(task)]
    return Section(
        title=f"Architectures compared on {', '.join(comparison.config.tasks)}",
        lead=_lead(comparison.config, seen),
        command=comparison.command,
        missing=tuple(missing),
        notes=comparison.notes,
        statements=tuple(check(comparison, seen)),
        tables=tuple(_errors(comparison.config, seen, task) for task in tasks),
        figures=tuple(compose(comparison, seen)),
        details=tuple(table for task in tasks for table in _details(comparison, seen, task)),
        settings=tuple((name, _said(value)) for name, value in as_plain(comparison.config).items()),
        seeds=comparison.seeds,
        versions=comparison.origin.versions,
    )


def _said(value: object) -> str:
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def _lead(config: CompareConfig, seen: Measurements) -> str:
    firsts = [lines[0] for task in config.tasks if (lines := lines_of(seen, task, config.inputs, config.examples))]
    best = "; ".join(map(_best, firsts))
    layers = "1 layer" if len(config.layers) == 1 else f"{len(config.layers)} layers of equal size"
    models = "1 model" if config.seeds == 1 else f"{config.seeds} models"
    return (
        f"{layers} in stacks of {config.blocks} pre-norm blocks of width {config.width}, {models} of each, trained on the same "
        f"prompts and measured on {config.trials} new tasks." + (f" {best}." if best else "")
    )


def _best(line: Line) -> str:
    baseline = f", {line.baseline} {Mean(line.best)}" if line.baseline else ""
    return (
        f"Smallest error on {line.task} functions after {line.n} tokens: {line.layer} {Mean(line.value, line.error)}"
        f"{baseline}, untrained {Mean(line.untrained)}"
    )


def _details(comparison: Comparison, seen: Measurements, task: str) -> Iterator[Table]:
    yield _robustness(comparison, seen, task)
    yield _dynamics(comparison, seen, task)
    yield _costs(comparison, seen, task)


def _errors(config: CompareConfig, seen: Measurements, task: str) -> Table:
    rows = tuple(
        (
            line.layer,
            line.n,
            Mean(line.value, line.error),
            Mean(line.untrained),
            line.baseline,
            Mean(line.best),
            line.parameters,
            None if line.published is None else Mean(line.published),
        )
        for n in lengths_of(config)
        for line in lines_of(seen, task, config.inputs, n)
    )
    return Table(
        title=f"{task}: squared error in context",
        note="After n tokens, mean ± standard error over seeds (for a single seed over new tasks), with the untrained twin and "
        "the best baseline; published errors, where there are any for this setting, are of larger models trained longer.",
        heads=("layer", "n", "squared error", "untrained", "best baseline", "its error", "parameters", "published"),
        rows=rows,
    )


def _robustness(comparison: Comparison, seen: Measurements, task: str) -> Table:
    """All probes after all tokens, under every condition."""
    rows: list[tuple[Cell, ...]] = []
    for probe in dict.fromkeys((ERROR, *comparison.config.probes)):
        words = comparison.origin.probes.get(probe)
        if probe != ERROR and (words is None or words.summed or words.places != TOKENS):
            continue
        for layer in seen.layers(task):
            for control in ("trained", "untrained"):
                values = [_last(seen, Key(task, layer, control, probe, condition)) for condition in CONDITIONS]
                if any(value is not None for value in values):
                    rows.append((probe, layer, control, *values))
    for name in seen.baselines(task):
        series = [seen.baselines(task, condition).get(name) for condition in CONDITIONS]
        ends = [None if each is None else each.last for each in series]
        rows.append((ERROR, f"baseline: {name}", "baseline", *ends))
    return Table(
        title=f"{task}: all measurements after all tokens, under noise and corruption",
        note="In the last block, for probes of single blocks. "
        + "; ".join(f"{name}: {what}" for name, what in CONDITIONS.items())
        + ". No model was trained on the last two.",
        heads=("probe", "layer", "control", *CONDITIONS),
        rows=tuple(rows),
    )


def _last(seen: Measurements, key: Key) -> Mean | None:
    """The value with all tokens, in the last block."""
    blocks = seen.blocks(key.task, key.probe)
    where = Key(key.task, key.layer, key.control, key.probe, key.condition, blocks[-1] if blocks else None)
    series, number = seen.series(where), seen.number(where)
    return number if series is None else series.last


def _dynamics(comparison: Comparison, seen: Measurements, task: str) -> Table:
    """The decay exponents of every block, with their intervals."""
    names = [words.exponent for words in comparison.origin.probes.values() if words.exponent]
    rows: list[tuple[Cell, ...]] = []
    for layer, name in itertools.product(seen.layers(task), names):
        for block, control in itertools.product(seen.blocks(task, name), ("trained", "untrained")):
            ends = [seen.number(Key(task, layer, control, name + suffix, block=block)) for suffix in SUFFIXES]
            if all(end is not None for end in ends):
                rows.append((layer, block + 1, control, *ends))
    return Table(
        title=f"{task}: decay of the marginal change",
        note="The exponent p of ‖W_i − W_{i−1}‖ ∼ i^(−p), fitted from the second token on, and the ends of its 95 % bootstrap "
        "interval over new tasks (means over seeds): 1 for averaging, 0 for a change that does not fall; – where the weights do "
        "not change.",
        heads=("layer", "block", "control", "exponent", "low", "high"),
        rows=tuple(rows),
    )


def _costs(comparison: Comparison, seen: Measurements, task: str) -> Table:
    timed = Measurements(comparison.timings, comparison.config.trials)
    summed = [name for name, words in comparison.origin.probes.items() if words.summed]
    names = ("seconds-per-step", "seconds-of-forward", "seconds-of-dynamics", "seconds-of-measuring")
    rows: list[tuple[Cell, ...]] = []
    for layer in seen.layers(task):
        size = seen.number(Key(task, layer, "trained", "parameters"))
        states = [
            series.value[-1]
            for probe in summed
            for block in seen.blocks(task, probe)
            if (series := seen.series(Key(task, layer, "trained", probe, block=block))) is not None
        ]
        times = [timed.number(Key(task, layer, "trained", name)) for name in names]
        rows.append(
            (
                layer,
                None if size is None else int(size.value),
                int(np.sum(states)) if states else None,
                *(None if time is None else Mean(1000 * time.value) for time in times),
            )
        )
    return Table(
        title=f"{task}: sizes and times",
        note="State: the numbers that the layers of all blocks keep of the context. Times are measured on one thread, while "
        "other models are trained, so that they are only a hint, and differ from run to run.",
        heads=(
            "layer",
            "parameters",
            "state with all tokens",
            "ms per step",
            "ms forward",
            "ms dynamics",
            "ms measuring",
        ),
        rows=tuple(rows),
    )

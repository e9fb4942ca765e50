"""The section of a comparison: errors beside controls and baselines, and what contexts do to the weights of each layer."""

from collections.abc import Iterator

import numpy as np

from ctxblocks.comparison.claims import check
from ctxblocks.comparison.conditions import CONDITIONS
from ctxblocks.comparison.config import ERROR, CompareConfig
from ctxblocks.comparison.figures import compose
from ctxblocks.comparison.folder import Comparison, plain
from ctxblocks.comparison.measuring import STATE
from ctxblocks.comparison.series import Key, Measurements
from ctxblocks.comparison.summary import Line, lengths_of, lines_of
from ctxblocks.registration.probes import TOKENS
from ctxblocks.report.content import Cell, Measured, Section, Table


def comparison_section(found: Comparison) -> Section:
    """Of a comparison, finished or not."""
    seen = Measurements(found.table)
    missing = [*found.missing, *(f"{name}: failed, {problem}" for name, problem in found.failed.items())]
    tasks = [task for task in found.config.tasks if seen.layers(task)]
    return Section(
        title=f"Architectures compared on {', '.join(found.config.tasks)}",
        lead=_lead(found.config, seen),
        command=found.command,
        missing=tuple(missing),
        statements=tuple(check(found.config, seen)),
        tables=tuple(_errors(found.config, seen, task) for task in tasks),
        figures=tuple(compose(found, seen)),
        details=tuple(table for task in tasks for table in _details(found, seen, task)),
        settings=tuple((name, _said(value)) for name, value in plain(found.config).items()),
        seeds=found.seeds,
        versions=found.origin.versions,
    )


def _said(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _lead(config: CompareConfig, seen: Measurements) -> str:
    firsts = [lines[0] for task in config.tasks if (lines := lines_of(seen, task, config.inputs, config.examples))]
    best = "; ".join(map(_best, firsts))
    return (
        f"{len(config.layers)} layers in stacks of {config.blocks} pre-norm blocks of width {config.width} with as many "
        f"parameters each, trained on the same prompts and measured on {config.trials} new tasks, {config.seeds} "
        f"of each." + (f" {best}." if best else "")
    )


def _best(line: Line) -> str:
    baseline = f", {line.baseline} {Measured(line.best)}" if line.baseline else ""
    return (
        f"Least error on {line.task} functions behind {line.n} tokens: {line.layer} {Measured(line.value, line.error)}"
        f"{baseline}, untrained {Measured(line.untrained)}"
    )


def _details(found: Comparison, seen: Measurements, task: str) -> Iterator[Table]:
    yield _robustness(found, seen, task)
    yield _dynamics(found, seen, task)
    yield _costs(found, seen, task)


def _errors(config: CompareConfig, seen: Measurements, task: str) -> Table:
    rows = tuple(
        (
            line.layer,
            line.n,
            Measured(line.value, line.error),
            Measured(line.untrained),
            line.baseline,
            Measured(line.best),
            line.parameters,
            None if line.published is None else Measured(line.published),
        )
        for n in lengths_of(config)
        for line in lines_of(seen, task, config.inputs, n)
    )
    return Table(
        title=f"{task}: squared error in context",
        note="Behind n tokens, mean ± standard error over seeds (of one seed over new tasks), beside the untrained twin and the "
        "best baseline; published errors where there are some for this setting, of larger models trained longer.",
        heads=("layer", "n", "squared error", "untrained", "best baseline", "its error", "parameters", "published"),
        rows=rows,
    )


def _robustness(found: Comparison, seen: Measurements, task: str) -> Table:
    """Everything behind all tokens, clean and under every condition."""
    rows: list[tuple[Cell, ...]] = []
    for probe in dict.fromkeys((ERROR, *found.config.probes)):
        if probe == STATE or (probe != ERROR and found.origin.probes[probe].places != TOKENS):
            continue
        for layer in seen.layers(task):
            for control in ("trained", "untrained"):
                values = [_last(seen, Key(task, layer, control, probe, condition)) for condition in CONDITIONS]
                if any(value is not None for value in values):
                    rows.append((probe, layer, control, *values))
    for name in seen.baselines(task):
        series = [seen.baselines(task, condition).get(name) for condition in CONDITIONS]
        ends = [None if each is None else Measured(each.value[-1], each.error[-1]) for each in series]
        rows.append((ERROR, f"baseline: {name}", "baseline", *ends))
    return Table(
        title=f"{task}: everything behind all tokens, under noise and corruption",
        note="Of the last block, where a probe is one of blocks. "
        + "; ".join(f"{name}: {what}" for name, what in CONDITIONS.items())
        + ". No model was trained on the last two.",
        heads=("probe", "layer", "control", *CONDITIONS),
        rows=tuple(rows),
    )


def _last(seen: Measurements, key: Key) -> Measured | None:
    """With all tokens, in the last block."""
    blocks = seen.blocks(key.task, key.probe)
    where = Key(key.task, key.layer, key.control, key.probe, key.condition, blocks[-1] if blocks else None)
    series, number = seen.series(where), seen.number(where)
    if series is not None:
        return Measured(float(series.value[-1]), float(series.error[-1]))
    return None if number is None else Measured(*number)


def _dynamics(found: Comparison, seen: Measurements, task: str) -> Table:
    """How fast the weights' changes fall, block by block, with the interval."""
    rows: list[tuple[Cell, ...]] = []
    for layer in seen.layers(task):
        for block in seen.blocks(task, "decay-exponent"):
            for control in ("trained", "untrained"):
                names = ("decay-exponent", "decay-exponent-low", "decay-exponent-high")
                ends = [seen.number(Key(task, layer, control, name, block=block)) for name in names]
                if all(end is not None for end in ends):
                    rows.append((layer, block + 1, control, *(Measured(*end) for end in ends if end is not None)))
    return Table(
        title=f"{task}: decay of the marginal change",
        note="The exponent p of ‖W_i − W_{i−1}‖ ∼ i^(−p), fitted from the second token on, and the ends of its 95 % bootstrap "
        "interval over new tasks (means over seeds): 1 is averaging, 0 a change that does not fall; – where weights do not move.",
        heads=("layer", "block", "control", "exponent", "low", "high"),
        rows=tuple(rows),
    )


def _costs(found: Comparison, seen: Measurements, task: str) -> Table:
    timed = Measurements(found.timings)
    names = ("seconds-per-step", "seconds-of-forward", "seconds-of-dynamics", "seconds-of-measuring")
    rows: list[tuple[Cell, ...]] = []
    for layer in seen.layers(task):
        size = seen.number(Key(task, layer, "trained", "parameters"))
        states = [
            series.value[-1]
            for block in seen.blocks(task, STATE)
            if (series := seen.series(Key(task, layer, "trained", STATE, block=block))) is not None
        ]
        times = [timed.number(Key(task, layer, "trained", name)) for name in names]
        rows.append(
            (
                layer,
                None if size is None else int(size.value),
                int(np.sum(states)) if states else None,
                *(None if time is None else Measured(1000 * time.value) for time in times),
            )
        )
    return Table(
        title=f"{task}: sizes and times",
        note="The state: numbers that the layers of all blocks keep of the context. Times on one thread, beside other models in "
        "training, so that they are no more than a hint; another run's differ.",
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

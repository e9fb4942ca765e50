"""`ctxblocks compare`: layers on the same tasks, each compared with its untrained twin and the best baseline."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import attrs
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from ctxblocks.cli.options import Device, Json, Observe, Seed, preset_option
from ctxblocks.cli.printing import console, new_table, print_json, print_lines, progress_bars

if TYPE_CHECKING:
    from ctxblocks.comparison import Comparison, Line

Layers = Annotated[
    list[str] | None,
    Parameter(name="--layers", consume_multiple=True, negative="", help="Registered layers [default: all]."),
]
Tasks = Annotated[
    list[str] | None,
    Parameter(name="--tasks", consume_multiple=True, negative="", help="Registered task classes [default: linear]."),
]
Probes = Annotated[
    list[str] | None,
    Parameter(name="--probes", consume_multiple=True, negative="", help="Registered probes [default: all]."),
]
Preset = Annotated[
    Literal["quick", "default"], Parameter(name="--preset", help="Size of the models and length of their training.")
]
Jobs = Annotated[
    int | None,
    Parameter(
        name="--jobs", show_default=False, help="Number of processes side by side [default: one for each processor]."
    ),
]


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Sizes:
    """Settings that replace those of a preset; None keeps its value."""

    seeds: Annotated[int | None, preset_option("--seeds", "Models of each layer and task [default: 1].")] = None
    inputs: Annotated[int | None, preset_option("--inputs", "Components of x [default: 5].")] = None
    examples: Annotated[
        int | None, preset_option("--examples", "Examples in a prompt [default: 8 in quick, 32 in default].")
    ] = None
    blocks: Annotated[
        int | None, preset_option("--blocks", "Blocks of each model [default: 2 in quick, 4 in default].")
    ] = None
    width: Annotated[
        int | None, preset_option("--width", "Width of the blocks [default: 16 in quick, 32 in default].")
    ] = None
    steps: Annotated[
        int | None, preset_option("--steps", "Training steps [default: 1500 in quick, 3000 in default].")
    ] = None
    batch: Annotated[int | None, preset_option("--batch", "Tasks in a training step [default: 64].")] = None
    learning_rate: Annotated[
        float | None, preset_option("--learning-rate", "Peak learning rate of Adam [default: 0.003].")
    ] = None
    trials: Annotated[
        int | None,
        preset_option("--trials", "New tasks on which models are measured [default: 64 in quick, 256 in default]."),
    ] = None
    noise: Annotated[
        float | None,
        preset_option("--noise", "Noise on labels, in standard deviations of the labels [default: 0.5]."),
    ] = None
    corruption: Annotated[
        float | None, preset_option("--corruption", "Share of labels taken from another prompt, 0 to 1 [default: 0.2].")
    ] = None


Out = Annotated[
    Path | None,
    Parameter(
        name="--out",
        show_default=False,
        help="Folder of the run, resumed if it holds a part of it [default: runs/compare-PRESET].",
    ),
]


def compare(
    *,
    layers: Layers = None,
    tasks: Tasks = None,
    probes: Probes = None,
    preset: Preset = "quick",
    sizes: Sizes = Sizes(),
    jobs: Jobs = None,
    out: Out = None,
    observe: Observe = None,
    as_json: Json = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> int:
    """Train layers at matched sizes on the same tasks, and measure the effect of contexts on the weights of each.

    The same settings give the same table, however often the command was interrupted. A model that fails is reported, the
    others finish, and the exit code is 1.
    """
    from ctxblocks import comparison
    from ctxblocks.registration.requests import device_of

    names = (tuple(each or ()) for each in (layers, tasks, probes))
    config = comparison.compare_config(preset, *names, seed=seed, device=device_of(device).type, **attrs.asdict(sizes))
    folder = Path("runs", f"compare-{preset}") if out is None else out
    with progress_bars({"cells": len(config.cells())}) as advance:
        result = comparison.compare(
            config, folder, jobs, lambda done, of, what: advance("cells", done, what), observe or ()
        )
    lengths = comparison.lengths_of(config)
    lines = comparison.summarize(result.table, config.inputs, lengths)
    parts = ([line for line in lines if line.n == n] for n in lengths)
    notes = [f"after {part[0].n} examples {note}" for part in parts if (note := comparison.order_differs(part))]
    notes += result.notes
    if as_json:
        print_json(
            {
                "out": str(folder),
                "failed": result.failed,
                "lines": [attrs.asdict(line) for line in lines],
                "notes": notes,
            }
        )
    else:
        _print(result, lines, notes, folder, console())
    return 1 if result.failed else 0


def _print(result: "Comparison", lines: "list[Line]", notes: list[str], folder: Path, out: Console) -> None:
    config = result.config
    about = (
        f"{config.blocks} pre-norm blocks of width {config.width}, {config.steps} steps of {config.batch} tasks, "
        f"{config.seeds} of each, measured on {config.trials} new tasks"
    )
    print_lines(out, [about])
    out.print(_table(lines, out))
    print_lines(out, notes)
    print_lines(out, (f"failed: {name}: {problem}" for name, problem in result.failed.items()))
    print_lines(out, [f"wrote {folder}: report.html, figures, metrics.parquet, timings.parquet, run.json, cells"])


HEADS = ("task", "n", "layer", "squared error", "±", "untrained", "best baseline", "its error", "parameters")


def _table(lines: "list[Line]", out: Console) -> Table:
    published = ("published",) if any(line.published is not None for line in lines) else ()
    table = new_table(out, *HEADS, *published)
    for line in lines:
        numbers = (f"{value:.3g}" for value in (line.value, line.error, line.untrained))
        known = "" if line.published is None else f"{line.published:g}"
        best = (line.baseline, f"{line.best:.2g}", str(line.parameters))
        table.add_row(line.task, str(line.n), line.layer, *numbers, *best, *([known] if published else []))
    return table

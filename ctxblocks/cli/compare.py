"""`ctxblocks compare`: layers side by side on the same tasks, each beside its untrained twin and the best baseline."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs
from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table

from ctxblocks.cli.options import Device, Json, Observe, Seed, console, print_json

if TYPE_CHECKING:
    from ctxblocks.comparison import Comparison, Line
    from ctxblocks.comparison.run import Progress

Layers = Annotated[
    list[str] | None,
    Parameter(name="--layers", consume_multiple=True, negative="", help="Registered layers; by default all."),
]
Tasks = Annotated[
    list[str] | None,
    Parameter(name="--tasks", consume_multiple=True, negative="", help="Task classes; by default linear."),
]
Probes = Annotated[
    list[str] | None,
    Parameter(name="--probes", consume_multiple=True, negative="", help="Registered probes; by default all."),
]
Preset = Annotated[
    Literal["quick", "default"], Parameter(name="--preset", help="How large the models are, and how long they train.")
]
Jobs = Annotated[
    int | None, Parameter(name="--jobs", show_default=False, help="Processes side by side; one for each processor.")
]


def _option(name: str, help: str) -> Any:
    """Of a number that the preset has a value for."""
    return Parameter(name=name, show_default=False, help=help)


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Sizes:
    """What changes a preset; None leaves its value."""

    seeds: Annotated[int | None, _option("--seeds", "Models of each layer and task; 1.")] = None
    inputs: Annotated[int | None, _option("--inputs", "Components of x; 5.")] = None
    examples: Annotated[int | None, _option("--examples", "Examples in a prompt.")] = None
    blocks: Annotated[int | None, _option("--blocks", "Blocks of the models.")] = None
    width: Annotated[int | None, _option("--width", "Of the blocks.")] = None
    steps: Annotated[int | None, _option("--steps", "Steps of training.")] = None
    batch: Annotated[int | None, _option("--batch", "Tasks in a step.")] = None
    learning_rate: Annotated[float | None, _option("--learning-rate", "Of Adam, the highest; 0.003.")] = None
    trials: Annotated[int | None, _option("--trials", "New tasks that models are measured on.")] = None
    noise: Annotated[float | None, _option("--noise", "Added to labels, over their standard deviation; 0.5.")] = None
    corruption: Annotated[float | None, _option("--corruption", "Share of labels from another prompt; 0.2.")] = None


Out = Annotated[
    Path | None,
    Parameter(name="--out", show_default=False, help="Folder, gone on with where it holds a part; one in runs."),
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
    """Train layers at matched sizes on the same tasks, and measure what contexts do to the weights of each.

    The same settings give the same table, however often the command was cut short. A model that fails is reported, the
    rest finish, and the exit code is 1.
    """
    from ctxblocks import comparison
    from ctxblocks.registration.requests import device_of

    names = (tuple(each or ()) for each in (layers, tasks, probes))
    config = comparison.compare_config(preset, *names, seed=seed, device=device_of(device).type, **attrs.asdict(sizes))
    folder = Path("runs", f"compare-{preset}") if out is None else out
    with _progress(len(config.cells())) as progress:
        found = comparison.compare(config, folder, jobs, progress, observe or ())
    lengths = comparison.lengths_of(config)
    lines = comparison.summarize(found.table, config.inputs, lengths)
    parts = ([line for line in lines if line.n == n] for n in lengths)
    notes = [f"behind {part[0].n} examples {note}" for part in parts if (note := comparison.order_differs(part))]
    if as_json:
        print_json(
            {
                "out": str(folder),
                "failed": found.failed,
                "lines": [attrs.asdict(line) for line in lines],
                "notes": notes,
            }
        )
    else:
        _print(found, lines, notes, folder, console())
    return 1 if found.failed else 0


@contextmanager
def _progress(cells: int) -> "Iterator[Progress]":
    """A bar on a terminal, with the name of what has just landed."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bars(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        task = bars.add_task("cells", total=cells)
        yield lambda done, of, what: bars.update(task, completed=done, description=what)


def _print(found: "Comparison", lines: "list[Line]", notes: list[str], folder: Path, out: Console) -> None:
    config = found.config
    out.print(
        f"{config.blocks} pre-norm blocks of width {config.width}, {config.steps} steps of {config.batch} tasks, "
        f"{config.seeds} of each, measured on {config.trials} new tasks",
        soft_wrap=True,
    )
    out.print(_table(lines, out.is_terminal))
    for note in notes:
        out.print(note, soft_wrap=True)
    for name, problem in found.failed.items():
        out.print(f"failed: {name}: {problem}", soft_wrap=True)
    out.print(
        f"wrote {folder}: report.html, figures, metrics.parquet, timings.parquet, run.json, cells", soft_wrap=True
    )


HEADS = ("task", "n", "layer", "squared error", "±", "untrained", "best baseline", "its error", "parameters")


def _table(lines: "list[Line]", framed: bool) -> Table:
    published = ("published",) if any(line.published is not None for line in lines) else ()
    table = Table(*HEADS, *published, box=box.SIMPLE_HEAD if framed else None)
    for line in lines:
        numbers = (f"{value:.3g}" for value in (line.value, line.error, line.untrained))
        known = "" if line.published is None else f"{line.published:g}"
        best = (line.baseline, f"{line.best:.2g}", str(line.parameters))
        table.add_row(line.task, str(line.n), line.layer, *numbers, *best, *([known] if published else []))
    return table

"""`ctxblocks reproduce`: the paper's figures and claims, as a run on disk."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from ctxblocks import experiments
from ctxblocks.cli.options import Device, Json, Observe, Seed, console, print_json

if TYPE_CHECKING:
    from ctxblocks.experiments import Configuration, Record
    from ctxblocks.runs.jobs import Progress

Preset = Annotated[
    Literal["quick", "default", "paper"],
    Parameter(name="--preset", help="How long to train: about a minute, a few minutes, or as long as the paper."),
]
Dtype = Annotated[Literal["float32", "float64"], Parameter(name="--dtype", help="Of models and data.")]
Out = Annotated[
    Path | None,
    Parameter(
        name="--out", help="Folder of the run, gone on with where it holds a part of it; by default one in runs."
    ),
]
Figures = Annotated[int, Parameter(help="The figures to draw, some of 2 … 6; by default all.")]


def reproduce(
    *figures: Figures,
    preset: Preset = "default",
    out: Out = None,
    dtype: Dtype = "float32",
    observe: Observe = None,
    as_json: Json = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train, verify and draw the paper's Figures 2–6 with their controls, check its claims, and write a run and its report.

    The same seed gives the same numbers. A run that was cut short goes on when the same command is given again.
    A claim that does not hold is printed as such, and is no failure of the command.
    """
    config = experiments.preset(preset, figures or None, seed=seed, device=device, dtype=dtype)
    folder = Path("runs", config.name) if out is None else out
    with _progress(config) as progress:
        record = experiments.reproduce(config, folder, progress=progress, observers=observe or ())
    if as_json:
        print_json({"out": str(folder), **record.as_json()})
    else:
        _print(record, folder, console())


@contextmanager
def _progress(config: "Configuration") -> "Iterator[Progress]":
    """A bar for every model, with the time left, where stderr is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        tasks = {model.name: bars.add_task(model.name, total=model.steps) for model in config.models}
        yield lambda name, step, steps: bars.update(tasks[name], completed=step)


def _print(record: "Record", folder: Path, out: Console) -> None:
    """The claims, and what was written."""
    columns = ("figure", "claim", "criterion", "measured", "verdict")
    table = Table(*columns, box=box.SIMPLE_HEAD if out.is_terminal else None)
    for column in table.columns:
        column.overflow = "fold"
    for claim in record.claims:
        table.add_row(str(claim.figure), claim.statement, claim.criterion, claim.measured, claim.verdict)
    out.print(table)
    held = sum(claim.holds for claim in record.claims)
    out.print(f"{held} of {len(record.claims)} claims hold", soft_wrap=True)
    out.print(f"wrote {folder}: run.json, metrics.parquet, checkpoints, report.html and", soft_wrap=True)
    for figure in record.figures:
        out.print(f"  {', '.join(figure.files)}", soft_wrap=True)

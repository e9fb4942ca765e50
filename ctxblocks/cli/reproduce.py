"""`ctxblocks reproduce`: the paper's figures and claims, as a run on disk."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from ctxblocks import experiments
from ctxblocks.cli.options import Device, Json, Observe, Seed
from ctxblocks.cli.printing import console, new_table, print_json, print_lines, progress_bars

if TYPE_CHECKING:
    from ctxblocks.experiments import Record

Preset = Annotated[
    Literal["quick", "default", "paper"],
    Parameter(name="--preset", help="Length of training: about a minute, a few minutes, or as long as the paper's."),
]
Dtype = Annotated[Literal["float32", "float64"], Parameter(name="--dtype", help="Dtype of models and data.")]
Out = Annotated[
    Path | None,
    Parameter(
        name="--out",
        show_default=False,
        help="Folder of the run, resumed if it holds a part of it [default: a name in runs that says preset and seed].",
    ),
]
Figures = Annotated[int, Parameter(help="Numbers of the figures to draw, some of 2 … 6 [default: all].")]


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

    The same seed gives the same numbers. An interrupted run is resumed when the same command is given again. A claim that
    does not hold is printed as such, and the exit code is still 0.
    """
    config = experiments.preset(preset, figures or None, seed=seed, device=device, dtype=dtype)
    folder = Path("runs", config.name) if out is None else out
    with progress_bars({model.name: model.steps for model in config.models}) as advance:
        record = experiments.reproduce(
            config,
            folder,
            progress=lambda model, step, steps: advance(model, step, ""),
            observers=observe or (),
        )
    if as_json:
        print_json({"out": str(folder), **record.as_json()})
    else:
        _print(record, folder, console())


def _print(record: "Record", folder: Path, out: Console) -> None:
    """Print the claims, and the files that were written."""
    table = new_table(out, "figure", "claim", "criterion", "measured", "verdict")
    for claim in record.claims:
        table.add_row(str(claim.figure), claim.statement, claim.criterion, claim.measured, claim.verdict)
    out.print(table)
    held = sum(claim.holds is True for claim in record.claims)
    print_lines(
        out,
        [
            f"{held} of {len(record.claims)} claims hold",
            f"wrote {folder}: run.json, metrics.parquet, checkpoints, report.html and",
            *(f"  {', '.join(figure.files)}" for figure in record.figures),
        ],
    )

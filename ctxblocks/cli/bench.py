"""`ctxblocks bench`: the cost of layers as a table, a figure and a JSON document."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ctxblocks.cli.bench_table import print_report
from ctxblocks.cli.options import Device, Json, Seed, console, print_json

if TYPE_CHECKING:
    from ctxblocks.bench.config import BenchConfig
    from ctxblocks.bench.report import Report
    from ctxblocks.bench.run import Progress as StepCallback

Layers = Annotated[
    str, Parameter(name="LAYER", help="Registered layers to measure; by default all of them and the comparisons.")
]
Width = Annotated[
    int,
    Parameter(name="--width", help="Width of query and tokens; the hidden layer of the network is four times as wide."),
]
Lengths = Annotated[
    tuple[int, ...],
    Parameter(
        name="--lengths",
        negative="",
        consume_multiple=True,
        show_default=False,
        help="Lengths of the context in tokens, several or repeatable [default: 1024 4096 16384].",
    ),
]
Dtype = Annotated[
    Literal["float32", "float64", "bfloat16", "float16"], Parameter(name="--dtype", help="Dtype of layers and tokens.")
]
Repeats = Annotated[
    int | None,
    Parameter(name="--repeats", help="Repeats of every call; by default from 9 for short calls to 3 for long ones."),
]
Threads = Annotated[
    int | None, Parameter(name="--threads", help="CPU threads of torch; by default torch's own number.")
]
Chunk = Annotated[
    int | None,
    Parameter(name="--chunk", help="Tokens that the dynamics process at a time; a smaller number needs less memory."),
]
Out = Annotated[
    Path | None, Parameter(name="--out", help="Folder for document, table and figure; by default a folder in runs.")
]


def bench(
    *layers: Layers,
    width: Width = 256,
    lengths: Lengths = (),
    dtype: Dtype = "float32",
    repeats: Repeats = None,
    threads: Threads = None,
    chunk: Chunk = None,
    out: Out = None,
    as_json: Json = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Measure time and memory of all prefixes, all suffixes and the dynamics of each layer, relative to one forward pass.

    Results are medians of interleaved repeats, for one query and one context, without gradients. Calls that would take too
    long are reported with an estimate. Writes bench.json, bench.csv, bench.png and bench.svg.
    """
    from ctxblocks import bench as package

    config = package.BenchConfig(
        layers=layers or None,
        width=width,
        lengths=lengths or package.LENGTHS,
        dtype=dtype,
        repeats=repeats,
        threads=threads,
        chunk=chunk,
        seed=seed,
        device=device,
    )
    report, folder = _measured(config, out)
    if as_json:
        print_json({"out": str(folder), **report.as_json()})
    else:
        print_report(report, folder, console())


def _measured(config: "BenchConfig", out: Path | None) -> "tuple[Report, Path]":
    """The report, written to a folder that is created before the measurements, so that an invalid folder is an early error."""
    from ctxblocks import bench as package
    from ctxblocks.runs.files import make_folders

    plan = package.plan_bench(config)
    folder = Path("runs", plan.name) if out is None else out
    make_folders(folder)
    with _progress(package.steps_of(plan)) as progress:
        report: Report = package.bench(plan, progress=progress)
    report.write(folder)
    return report, folder


@contextmanager
def _progress(steps: int) -> "Iterator[StepCallback]":
    """A progress bar with the name of the present step, if stderr is a terminal."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=steps)
        begun = iter(range(steps))
        yield lambda name: bar.update(task, completed=next(begun), description=name)

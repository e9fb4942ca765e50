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
    from ctxblocks.bench.run import Progress as Told

Layers = Annotated[
    str, Parameter(name="LAYER", help="Registered layers to measure; by default all of them, and the comparisons.")
]
Width = Annotated[int, Parameter(name="--width", help="Of query and tokens; the network is four times as wide.")]
Lengths = Annotated[
    tuple[int, ...],
    Parameter(
        name="--lengths",
        negative="",
        consume_multiple=True,
        show_default=False,
        help="Tokens of the context, several or repeatable; by default 1024, 4096 and 16384.",
    ),
]
Dtype = Annotated[
    Literal["float32", "float64", "bfloat16", "float16"], Parameter(name="--dtype", help="Of layers and tokens.")
]
Repeats = Annotated[
    int | None, Parameter(name="--repeats", help="Of every call; by default 9 of a short one and 3 of a long one.")
]
Threads = Annotated[int | None, Parameter(name="--threads", help="Of torch on the CPU; by default torch's own number.")]
Chunk = Annotated[
    int | None, Parameter(name="--chunk", help="Tokens that the dynamics work on at a time, for less memory.")
]
Out = Annotated[
    Path | None, Parameter(name="--out", help="Folder for document, table and plot; by default one in runs.")
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
    """Measure time and memory of all prefixes, all suffixes and the dynamics beside one forward pass, layer by layer.

    One query and one context each, without gradients, as medians of interleaved repeats. What would take too long is
    reported with an estimate. Writes bench.json, bench.csv, bench.png and bench.svg.
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
    """The report, written into a folder that was seen to take it before."""
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
def _progress(steps: int) -> "Iterator[Told]":
    """A bar with the present step, where stderr is a terminal."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=steps)
        begun = iter(range(steps))
        yield lambda name: bar.update(task, completed=next(begun), description=name)

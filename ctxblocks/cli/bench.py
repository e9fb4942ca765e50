"""`ctxblocks bench`: the cost of layers, as a table, a plot and a document."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ctxblocks.cli.bench_table import print_report
from ctxblocks.cli.options import Device, Json, Seed
from ctxblocks.cli.printing import console, print_json, progress_bars

if TYPE_CHECKING:
    from ctxblocks.bench.config import BenchConfig
    from ctxblocks.bench.report import Report

Layers = Annotated[
    str, Parameter(name="LAYER", help="Registered layers to measure [default: all, and comparisons with plain code].")
]
Width = Annotated[int, Parameter(name="--width", help="Width of query and tokens; the network is four times as wide.")]
Lengths = Annotated[
    tuple[int, ...],
    Parameter(
        name="--lengths",
        negative="",
        consume_multiple=True,
        show_default=False,
        help="Numbers of context tokens, one or several [default: 1024 4096 16384].",
    ),
]
Dtype = Annotated[
    Literal["float32", "float64", "bfloat16", "float16"], Parameter(name="--dtype", help="Dtype of layers and tokens.")
]
Repeats = Annotated[
    int | None,
    Parameter(
        name="--repeats", show_default=False, help="Repeats of every call [default: 9 of short calls, 3 of long ones]."
    ),
]
Threads = Annotated[
    int | None,
    Parameter(name="--threads", show_default=False, help="Threads of torch on the CPU [default: that of torch]."),
]
Chunk = Annotated[
    int | None,
    Parameter(
        name="--chunk",
        show_default=False,
        help="Tokens that the dynamics process at a time, to save memory [default: all].",
    ),
]
Out = Annotated[
    Path | None,
    Parameter(
        name="--out", show_default=False, help="Folder for document, table and plot [default: a new name in runs]."
    ),
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
    """Measure time and memory of all prefixes, all suffixes and the dynamics relative to one forward pass, layer by layer.

    One query and one context each, without gradients, as medians of interleaved repeats. Calls that would take too long are
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
    """The report, written into a folder that was checked to be writable before."""
    from ctxblocks import bench as package
    from ctxblocks.runs.files import make_folders

    plan = package.plan_bench(config)
    folder = Path("runs", plan.name) if out is None else out
    make_folders(folder)
    steps = package.steps_of(plan)
    with progress_bars({"bench": steps}) as advance:
        begun = iter(range(steps))
        report: Report = package.bench(plan, progress=lambda name: advance("bench", next(begun), name))
    report.write(folder)
    return report, folder

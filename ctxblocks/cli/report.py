"""`ctxblocks report`: runs as one page."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ctxblocks.cli.options import Device, Json, Seed, console, print_json

Runs = Annotated[Path, Parameter(name="RUN", help="Folders that reproduce and compare wrote, finished or not.")]
Out = Annotated[
    Path | None,
    Parameter(
        name="--out", show_default=False, help="The page; report.html in the run's folder, or here for several runs."
    ),
]


def report(*runs: Runs, out: Out = None, as_json: Json = False, seed: Seed = 0, device: Device = "auto") -> None:
    """Write one HTML page of one run or several, which needs nothing beside itself.

    It holds claims with verdicts, tables that can be sorted, figures whose curves can be switched on and off, the numbers
    behind them, and settings, seeds and versions. Of an unfinished run it says what is missing, and shows the rest.
    Nothing is drawn at random or computed on a device: --seed and --device change nothing here.
    """
    from ctxblocks.report import write_report

    path = out or (runs[0] / "report.html" if len(runs) == 1 else Path("report.html"))
    sections = write_report(runs, path).sections
    missing = {str(run): list(each.missing) for run, each in zip(runs, sections, strict=True) if each.missing}
    if as_json:
        print_json({"out": str(path), "missing": missing})
        return
    for run, parts in missing.items():
        console().print(f"{run} is not complete, missing: {'; '.join(parts)}", soft_wrap=True)
    console().print(f"wrote {path}", soft_wrap=True)

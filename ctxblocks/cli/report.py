"""`ctxblocks report`: runs as one page."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ctxblocks.cli.options import Json, UnusedDevice, UnusedSeed
from ctxblocks.cli.printing import console, print_json, print_lines

Runs = Annotated[Path, Parameter(name="RUN", help="Folders of runs that reproduce and compare wrote, finished or not.")]
Out = Annotated[
    Path | None,
    Parameter(
        name="--out",
        show_default=False,
        help="HTML file to write [default: report.html in the run's folder, or in the current one for several runs].",
    ),
]


def report(
    *runs: Runs, out: Out = None, as_json: Json = False, seed: UnusedSeed = 0, device: UnusedDevice = "auto"
) -> None:
    """Write one self-contained HTML page of one or several runs.

    It holds claims with verdicts, tables that can be sorted, figures with their numbers and with curves that can be switched
    on and off, and settings, seeds and versions. For an unfinished run it lists what is missing, and shows the rest.
    """
    from ctxblocks.report import write_report

    path = out or (runs[0] / "report.html" if len(runs) == 1 else Path("report.html"))
    sections = write_report(runs, path).sections
    missing = {str(run): list(each.missing) for run, each in zip(runs, sections, strict=True) if each.missing}
    if as_json:
        print_json({"out": str(path), "missing": missing})
        return
    print_lines(console(), (f"{run} is not complete, missing: {'; '.join(parts)}" for run, parts in missing.items()))
    print_lines(console(), [f"wrote {path}"])

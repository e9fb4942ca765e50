"""`ctxblocks verify`: a table of the identity's worst errors and their bounds, by layer, block and dtype."""

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs
from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ctxblocks.cli.options import Device, Json, Seed, console, print_json

if TYPE_CHECKING:
    from ctxblocks.exactness.verify import VerifyPlan, VerifyRow

Layers = Annotated[str, Parameter(name="LAYER", help="Registered layers to verify; by default all of them.")]
Dtypes = Annotated[
    tuple[Literal["float64", "float32", "bfloat16", "float16"], ...],
    Parameter(
        name="--dtype",
        negative="",
        show_default=False,
        help="Dtype to verify, repeatable; by default all that the device supports for the layer.",
    ),
]
Examples = Annotated[int, Parameter(name="--examples", help="Number of queries for each layer, block and dtype.")]


def verify(
    *layers: Layers,
    dtype: Dtypes = (),
    examples: Examples = 16,
    as_json: Json = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> int:
    """Check for every layer, block and dtype that the implicit update of the weights replaces the context exactly.

    Blocks are plain, skip, pre-norm, post-norm, sandwich and parallel, each with an MLP, a gated MLP and a mixture of
    experts. The exit code is 1 if an error exceeds its bound.
    """
    from ctxblocks.exactness.verify import plan_verify

    plan = plan_verify(layers or None, device, dtype or None, examples, seed)
    rows = _run(plan)
    if as_json:
        print_json([_plain(row) for row in rows])
    else:
        _print(rows, plan.notes, console())
    return 0 if all(row.ok for row in rows) else 1


def _run(plan: "VerifyPlan") -> "list[VerifyRow]":
    """Compute all rows, with a progress bar if stderr is a terminal."""
    errors = Console(stderr=True)
    return list(
        track(
            plan.run(),
            "verifying",
            total=len(plan.rows),
            console=errors,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
    )


def _plain(row: "VerifyRow") -> dict[str, Any]:
    """A row as JSON types; a number that is not finite is null."""
    values = attrs.asdict(row)
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}


def _print(rows: "Sequence[VerifyRow]", notes: Sequence[str], out: Console) -> None:
    """Print one line for each layer and dtype, with the values of its worst block, then the failed rows."""
    heads = ("layer", "dtype", "device", "examples", "worst block", "error", "bound", "error/bound", "relative", "ok")
    table = Table(*heads, box=box.SIMPLE_HEAD if out.is_terminal else None)
    for column in table.columns:
        column.overflow = "fold"
    groups: dict[tuple[str, str], list[VerifyRow]] = {}
    for row in rows:
        groups.setdefault((row.layer, row.dtype), []).append(row)
    for group in groups.values():
        table.add_row(*_summary(group))
    out.print(table)
    failed = [row for row in rows if not row.ok]
    for row in failed:
        out.print(
            f"failed: {row.layer} {row.block} {row.dtype}: error {row.error:.2e}, bound {row.bound:.2e}, relative "
            f"{row.relative:.2e}",
            soft_wrap=True,
        )
    for note in notes:
        out.print(f"note: {note}", soft_wrap=True)
    out.print(_verdict(rows, failed), soft_wrap=True)


def _summary(group: "Sequence[VerifyRow]") -> tuple[str, ...]:
    """The cells of the line of one layer and dtype."""
    worst = max(group, key=lambda row: (not row.ok, row.ratio))
    return (
        worst.layer,
        worst.dtype,
        worst.device,
        str(sum(row.examples for row in group)),
        worst.block,
        f"{worst.error:.2e}",
        f"{worst.bound:.2e}",
        f"{worst.ratio:.3f}",
        f"{max(row.relative for row in group):.2e}",
        "yes" if all(row.ok for row in group) else "NO",
    )


def _verdict(rows: "Sequence[VerifyRow]", failed: "Sequence[VerifyRow]") -> str:
    left_out = sum(row.left_out for row in rows)
    near_ties = f"; {left_out} comparisons left out because a router was near a tie" if left_out else ""
    return f"{len(rows) - len(failed)} of {len(rows)} combinations of layer, block and dtype hold{near_ties}"

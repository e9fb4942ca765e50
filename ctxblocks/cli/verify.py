"""`ctxblocks verify`: the identity for every layer, block and dtype, as a table of largest errors and their bounds."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs
from cyclopts import Parameter
from rich.console import Console

from ctxblocks.cli.options import Device, Json, Seed
from ctxblocks.cli.printing import console, new_table, print_json, print_lines, progress_bars

if TYPE_CHECKING:
    from ctxblocks.exactness.verify import VerifyPlan, VerifyRow

Layers = Annotated[str, Parameter(name="LAYER", help="Registered layers to verify [default: all].")]
Dtypes = Annotated[
    tuple[Literal["float64", "float32", "bfloat16", "float16"], ...],
    Parameter(
        name="--dtype",
        negative="",
        show_default=False,
        help="Dtype to verify, repeatable [default: all that the device supports].",
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
    """Check for every layer, block and dtype that a context equals its update of the weights.

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
    """All rows, with a progress bar."""
    rows = []
    with progress_bars({"verifying": len(plan.rows)}) as advance:
        for row in plan.run():
            rows.append(row)
            advance("verifying", len(rows), "")
    return rows


def _plain(row: "VerifyRow") -> dict[str, Any]:
    """A row as JSON's own types, with null for numbers that are not finite."""
    values = attrs.asdict(row)
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}


def _print(rows: "Sequence[VerifyRow]", notes: Sequence[str], out: Console) -> None:
    """One line for each layer and dtype, with its worst block, then the failures."""
    heads = ("layer", "dtype", "device", "examples", "worst block", "error", "bound", "error/bound", "relative", "ok")
    table = new_table(out, *heads)
    groups: dict[tuple[str, str], list[VerifyRow]] = {}
    for row in rows:
        groups.setdefault((row.layer, row.dtype), []).append(row)
    for group in groups.values():
        table.add_row(*_summary(group))
    out.print(table)
    failed = [row for row in rows if not row.ok]
    for row in failed:
        numbers = f"error {row.error:.2e}, bound {row.bound:.2e}, relative {row.relative:.2e}"
        print_lines(out, [f"failed: {row.layer} {row.block} {row.dtype}: {numbers}"])
    print_lines(out, (f"note: {note}" for note in notes))
    print_lines(out, [_verdict(rows, failed)])


def _summary(group: "Sequence[VerifyRow]") -> tuple[str, ...]:
    """The line of one layer and dtype."""
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
    near_ties = f"; {left_out} comparisons left out, where a router is near a tie" if left_out else ""
    return f"{len(rows) - len(failed)} of {len(rows)} combinations of layer, block and dtype hold{near_ties}"

"""The report of a benchmark as tables on the terminal."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from ctxblocks.base.messages import in_units

if TYPE_CHECKING:
    from ctxblocks.bench.records import Comparison, Measurement, Row
    from ctxblocks.bench.report import Report

HEADS = {
    "layer": "",
    "n": "tokens of the context",
    "sequence": "ms of the layer's forward pass over the context",
    "prefixes": "ms of all prefixes",
    "suffixes": "ms of all suffixes",
    "dynamics": "ms of the updates of all prefixes, for a block with the layer",
    "pre÷": "prefixes ÷ sequence",
    "suf÷": "suffixes ÷ sequence",
    "loop÷": "one call per prefix ÷ prefixes",
    "seq÷": "sequence ÷ another library's layer",
    "dyn÷": "dynamics ÷ the block's forward pass",
    "mem÷": "the same ratio of peak memory",
    "peak": "speed of prefixes relative to the machine's peak rate, f of operations, b of bytes (above 100% because of caches)",
}
"""The columns, and their meaning for the legend."""
TIMES = ("prefixes", "suffixes", "dynamics")
"""Columns that are omitted on a narrow terminal, since the ratios contain the same information."""
WIDE = 110
"""Width of the terminal, in characters, from which all columns are printed."""
SHOWN = {"pre÷": "prefixes/sequence", "suf÷": "suffixes/sequence", "loop÷": "loop/prefixes"}
SHOWN |= {"seq÷": "sequence/reference", "dyn÷": "dynamics/block", "mem÷": "dynamics/block memory"}
MARKS = {"not affordable": ">", "not installed": "none", "not available": "n/a", "absent": "–"}
"""The mark in place of a time that was not measured, by status."""


def print_report(report: "Report", folder: Path, out: Console) -> None:
    """Print layers, comparisons, exponents, machine, notes and the files that were written."""
    out.print(_layers(report, out))
    for line in _legend():
        out.print(line, soft_wrap=True)
    if report.comparisons:
        out.print(_comparisons(report.comparisons, out))
        for comparison in report.comparisons:
            out.print(f"{comparison.name}: {comparison.what}", soft_wrap=True)
    out.print(_exponents(report, out))
    for line in _machine(report):
        out.print(line, soft_wrap=True)
    for note in (*_reasons(report.rows), *report.remarks):
        out.print(f"note: {note}", soft_wrap=True)
    out.print(f"wrote {folder}: bench.json, bench.csv, bench.png, bench.svg", soft_wrap=True)


def number(value: float | None) -> str:
    """A number with two or three digits."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2g}"


def _table(out: Console, *heads: str, words: int) -> Table:
    """A table whose first columns hold words and whose other columns hold numbers."""
    table = Table(
        box=box.SIMPLE_HEAD if out.is_terminal else None, padding=(0, 1) if not out.is_terminal else (0, 0, 0, 1)
    )
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if place < words else "right", overflow="fold", no_wrap=place >= words)
    return table


def _layers(report: "Report", out: Console) -> Table:
    """A table with a line for each length; only the first line of a variant names it."""
    names = [name for name in HEADS if name not in TIMES or out.width >= WIDE]
    table, before = _table(out, *names, words=1), None
    for row in report.rows:
        cells = {"layer": row.variant if row.variant != before else "", "n": str(row.length)}
        cells |= {name: _time(row.functions[name]) for name in ("sequence", *TIMES)}
        cells |= {head: number(row.ratios[name]) for head, name in SHOWN.items()}
        cells["peak"] = _share(row.functions["prefixes"])
        table.add_row(*(cells[name] for name in names))
        before = row.variant
    return table


def _time(measurement: "Measurement") -> str:
    """Milliseconds, or the mark of the status; a call that is not affordable has its estimate."""
    if measurement.time:
        return number(1000 * measurement.time.median)
    if measurement.status == "not affordable" and measurement.estimate is not None:
        return f">{number(measurement.estimate)} s"
    return MARKS[measurement.status]


def _share(measurement: "Measurement") -> str:
    bound = measurement.bound
    return f"{bound.share:.0%}{'f' if bound.by == 'operations' else 'b'}" if bound else "–"


def _legend() -> list[str]:
    return [
        "; ".join(f"{head}: {words}" for head, words in HEADS.items() if words),
        "–: see the notes; >: an estimate, too long to be measured",
    ]


def _comparisons(comparisons: "Iterable[Comparison]", out: Console) -> Table:
    table = _table(out, "comparison", "ratio", "value", "times", words=2)
    table.columns[1].no_wrap = True
    table.columns[3].justify, table.columns[3].no_wrap = "left", False
    for comparison in comparisons:
        times = ", ".join(f"{name} {number(1000 * time.median)} ms" for name, time in comparison.times.items())
        cells = [comparison.name, times]
        for ratio, value in comparison.ratios.items():
            table.add_row(cells[0], ratio, number(value), cells[1])
            cells = ["", ""]
    return table


def _exponents(report: "Report", out: Console) -> Table:
    names = list(report.growths[0].exponents)
    table = _table(out, "exponent of", *names, "between n", words=1)
    for growth in report.growths:
        spans = dict.fromkeys(f"{span[0]} and {span[1]}" for span in growth.lengths.values() if span)
        values = ["–" if value is None else f"{value:.2f}" for value in growth.exponents.values()]
        table.add_row(growth.variant, *values, ", ".join(spans) or "–")
    return table


def _machine(report: "Report") -> list[str]:
    machine, peak = report.machine, report.ceilings
    return [
        f"{machine.device}: {machine.name}, {machine.processors} processors, {machine.threads} threads, "
        f"{in_units(machine.memory)} free; torch {machine.torch}, Python {machine.python}; "
        f"{report.config.dtype}, width {report.config.width}",
        f"ceilings: {peak.flops / 1e9:.4g} GFLOP/s ({peak.flops_by}); {peak.bandwidth / 1e9:.4g} GB/s ({peak.bandwidth_by})",
        f"foreign load: other processes used {report.foreign:.1%} of the processors on average",
    ]


def _reasons(rows: "Iterable[Row]") -> list[str]:
    """The reasons why functions were not measured, one line for each variant, function and status."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        for name, measurement in row.functions.items():
            if measurement.time is None and measurement.status != "absent":
                key = (row.variant, name, measurement.status)
                reasons.setdefault(key, []).append(_reason(row.length, measurement))
    return [
        f"{variant}, {name}: {status}, {'; '.join(dict.fromkeys(why))}"
        for (variant, name, status), why in reasons.items()
    ]


def _reason(length: int, measurement: "Measurement") -> str:
    if measurement.status == "not affordable":
        return f"about {number(measurement.estimate)} s a call at n = {length}"
    return measurement.note or ""

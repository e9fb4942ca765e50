"""A benchmark's report as tables for people."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ctxblocks.base.messages import in_units
from ctxblocks.cli.printing import new_table, print_lines

if TYPE_CHECKING:
    from ctxblocks.bench.records import Comparison, Measurement, Row
    from ctxblocks.bench.report import Report

HEADS = {
    "layer": "",
    "n": "tokens of the context",
    "sequence": "ms of the layer's forward pass over the context; then ms of all",
    "prefixes": "",
    "suffixes": "",
    "dynamics": "ms of the updates of a block around the layer by all prefixes",
    "pre÷": "prefixes ÷ sequence",
    "suf÷": "suffixes ÷ sequence",
    "loop÷": "one call per prefix ÷ prefixes",
    "seq÷": "sequence ÷ another library's layer",
    "dyn÷": "dynamics ÷ the block's forward pass; next to it the same for peak memory",
    "mem÷": "",
    "peak": "share of the machine's peak that prefixes reach, f of operations, b of bytes (over 100% where caches help)",
}
"""Columns, with their description in the legend."""
TIMES = ("prefixes", "suffixes", "dynamics")
"""Columns that a narrow terminal omits; the ratios hold the same information."""
WIDE = 110
"""Characters in a line that holds all columns."""
SHOWN = {"pre÷": "prefixes/sequence", "suf÷": "suffixes/sequence", "loop÷": "loop/prefixes"}
SHOWN |= {"seq÷": "sequence/reference", "dyn÷": "dynamics/block", "mem÷": "dynamics/block memory"}
MARKS = {"not affordable": ">", "not installed": "none", "not available": "n/a", "absent": "–"}
"""In place of a time that was not measured."""


def print_report(report: "Report", folder: Path, out: Console) -> None:
    """Print layers, comparisons, exponents, then the machine, notes, and the files written."""
    out.print(_layers(report, out))
    print_lines(out, _legend())
    if report.comparisons:
        out.print(_comparisons(report.comparisons, out))
        print_lines(out, (f"{comparison.name}: {comparison.what}" for comparison in report.comparisons))
    out.print(_exponents(report, out))
    print_lines(out, _machine(report))
    print_lines(out, (f"note: {note}" for note in (*_reasons(report.rows), *report.remarks)))
    print_lines(out, [f"wrote {folder}: bench.json, bench.csv, bench.png, bench.svg"])


def number(value: float | None) -> str:
    """A number with three digits."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2g}"


def _layers(report: "Report", out: Console) -> Table:
    """A line for each length; the variant is named in its first."""
    names = [name for name in HEADS if name not in TIMES or out.width >= WIDE]
    table, before = new_table(out, *names, texts=1), None
    for row in report.rows:
        cells = {"layer": row.variant if row.variant != before else "", "n": str(row.length)}
        cells |= {name: _time(row.functions[name]) for name in ("sequence", *TIMES)}
        cells |= {head: number(row.ratios[name]) for head, name in SHOWN.items()}
        cells["peak"] = _share(row.functions["prefixes"])
        table.add_row(*(cells[name] for name in names))
        before = row.variant
    return table


def _time(measurement: "Measurement") -> str:
    """Milliseconds, or a mark for the reason why there are none; calls that take too long have an estimate."""
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
    table = new_table(out, "comparison", "ratio", "value", "times", texts=2)
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
    table = new_table(out, "exponent of", *names, "between n", texts=1)
    for growth in report.growths:
        spans = dict.fromkeys(f"{span[0]} and {span[1]}" for span in growth.lengths.values() if span)
        values = ["–" if value is None else f"{value:.2f}" for value in growth.exponents.values()]
        table.add_row(growth.variant, *values, ", ".join(spans) or "–")
    return table


def _machine(report: "Report") -> list[str]:
    here, most = report.machine, report.ceilings
    return [
        f"{here.device}: {here.name}, {here.processors} processors, {here.threads} threads, {in_units(here.memory)} free; "
        f"torch {here.torch}, Python {here.python}; {report.config.dtype}, width {report.config.width}",
        f"ceilings: {most.flops / 1e9:.4g} GFLOP/s ({most.flops_by}); {most.bandwidth / 1e9:.4g} GB/s ({most.bandwidth_by})",
        f"foreign load: other processes used {report.foreign:.1%} of the processors on average",
    ]


def _reasons(rows: "Iterable[Row]") -> list[str]:
    """The reasons why calls were not measured, once for each variant and function."""
    missing: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        for name, measurement in row.functions.items():
            if measurement.time is None and measurement.status != "absent":
                reasons = missing.setdefault((row.variant, name, measurement.status), [])
                reasons.append(_reason(row.length, measurement))
    return [
        f"{variant}, {name}: {status}, {'; '.join(dict.fromkeys(why))}"
        for (variant, name, status), why in missing.items()
    ]


def _reason(length: int, measurement: "Measurement") -> str:
    if measurement.status == "not affordable":
        return f"about {number(measurement.estimate)} s a call at n = {length}"
    return measurement.note or ""

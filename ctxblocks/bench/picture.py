"""The figure of a benchmark: times against lengths, one panel for each layer variant."""

from collections.abc import Iterable, Sequence

import numpy as np

from ctxblocks.bench.records import Row
from ctxblocks.runs.drawing import Pictures, draw_rows
from ctxblocks.runs.figure import BLUE, GREEN, ORANGE, PURPLE, Curve, Panel

COLUMNS = 3
"""Panels in a row."""
LEGEND = 0.3
"""Free space above the curves for the legend, relative to their height."""
CURVES = {
    "sequence": (BLUE, "marked"),
    "prefixes": (ORANGE, "marked"),
    "suffixes": (GREEN, "marked"),
    "loop": (PURPLE, "marked"),
}
"""Colour and style of each function's curve."""


def picture(rows: Sequence[Row]) -> Pictures:
    """The figure as PNG and SVG, with the same scale of times in all panels; only measured times are drawn."""
    variants = list(dict.fromkeys(row.variant for row in rows))
    limits = _limits(rows)
    panels = [_panel([row for row in rows if row.variant == variant], limits) for variant in variants]
    grid = [tuple((panel,) for panel in panels[start : start + COLUMNS]) for start in range(0, len(panels), COLUMNS)]
    return draw_rows(tuple(grid))


def _panel(rows: Sequence[Row], limits: tuple[float, float]) -> Panel:
    """The panel of one variant."""
    return Panel(
        title=rows[0].variant,
        xlabel="context tokens n",
        ylabel="ms per call, ± half of quartile range",
        curves=tuple(_curve(name, rows) for name in CURVES if any(row.functions[name].time for row in rows)),
        xscale="log",
        yscale="log",
        ylimits=limits,
        legend="upper right",
        xticks=tuple(row.length for row in rows),
    )


def _curve(name: str, rows: Sequence[Row]) -> Curve:
    """The curve of one function's medians."""
    points = [(row.length, time) for row in rows if (time := row.functions[name].time)]
    colour, style = CURVES[name]
    return Curve(
        label=name if name != "loop" else "one call per prefix",
        x=np.array([length for length, _ in points], dtype=np.float64),
        y=np.array([1000 * time.median for _, time in points]),
        error=np.array([500 * (time.upper - time.lower) for _, time in points]),
        colour=colour,
        style=style,
    )


def _limits(rows: Iterable[Row]) -> tuple[float, float]:
    """The range of all drawn times in ms, with space for the legend."""
    times = [1000 * time.median for row in rows for name in CURVES if (time := row.functions[name].time)]
    low, high = (min(times), max(times)) if times else (0.1, 1.0)
    return low / 2, 2 * high * (high / low) ** LEGEND

"""Figures as data: curves in panels, panels in rows, with a caption."""

from typing import Any, Literal

import attrs

from ctxblocks.runs.statistics import Array

BLUE, ORANGE, GREEN, RED, PURPLE, BLACK, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#000000",
    "#767676",
)
"""Okabe and Ito's palette, which colour-blind readers can distinguish."""
SCALE = ("#00204C", "#31446B", "#666970", "#958F78", "#CAB969", "#E8D35A")
"""Six steps of cividis, for ordered values."""
STYLES: dict[str, dict[str, Any]] = {
    "line": {"linestyle": "-", "linewidth": 1.6},
    "thick": {"linestyle": "-", "linewidth": 2.6},
    "dashed": {"linestyle": "--", "linewidth": 1.4},
    "dotted": {"linestyle": ":", "linewidth": 1.6},
    "dashdot": {"linestyle": "-.", "linewidth": 1.2},
    "marked": {"linestyle": "-", "linewidth": 1.2, "marker": "o", "markersize": 4},
    "dots": {"linestyle": "", "marker": "o", "markersize": 2.6},
    "rings": {"linestyle": "", "marker": "o", "markersize": 6, "markerfacecolor": "none", "markeredgewidth": 1.1},
}


Legend = Literal["best", "upper right", "lower right", "lower left"]
"""Position of a legend."""


@attrs.frozen(kw_only=True)
class Curve:
    """One entry of a legend.

    Attributes:
        label: in the legend.
        x: positions.
        y: values; those that are not finite are left out.
        error: half the height of the band, if any; NaN draws none.
        bars: draws error bars instead of a band; the index of the first one, different for each curve so that bars of
            several curves do not overlap.
        colour: of the palette.
        style: a key of `STYLES`.
        group: what it belongs to, such as a layer; a page shows and hides a group as a whole. By default the label.
        control: what distinguishes it within its group, such as "untrained"; "" for nothing.
    """

    label: str
    x: Array
    y: Array
    error: Array | None = None
    bars: int | None = None
    colour: str = BLUE
    style: str = "line"
    group: str = attrs.field()
    control: str = ""

    @group.default
    def _label(self) -> str:
        return self.label


@attrs.frozen(kw_only=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: above the axes.
        xlabel: with units.
        ylabel: with units.
        curves: drawn in order.
        xscale: `linear` or `log`.
        yscale: `linear` or `log`.
        ylimits: limits of the vertical axis; by default those of the curves.
        legend: position of the legend; None for no legend.
        headroom: free space above the curves, for the legend, as a fraction of their height.
        xticks: positions of the ticks; None leaves them to the scale.
    """

    title: str
    xlabel: str
    ylabel: str
    curves: tuple[Curve, ...]
    xscale: str = "linear"
    yscale: str = "linear"
    ylimits: tuple[float, float] | None = None
    legend: Legend | None = "best"
    headroom: float = 0.0
    xticks: tuple[float, ...] | None = None


Cell = tuple[Panel, ...]
"""Panels in one column: the first takes two thirds of the height."""
Rows = tuple[tuple[Cell, ...], ...]
"""Rows of cells, as laid out on the page."""


@attrs.frozen(kw_only=True)
class Figure:
    """A figure.

    Attributes:
        name: of its files.
        title: in a few words.
        rows: of cells.
        caption: what it shows, with which settings, and which claims hold.
        shared: whether one legend below all panels shows groups by colour and controls by line style, instead of a legend in
            each panel.
    """

    name: str
    title: str
    rows: Rows
    caption: str
    shared: bool = False

    @property
    def panels(self) -> list[Panel]:
        """All panels, row by row."""
        return [panel for row in self.rows for cell in row for panel in cell]

"""Figures as data: curves in panels, panels in rows, with a caption."""

from typing import Any, Literal

import attrs

from ctxblocks.experiments.metrics import Array

BLUE, ORANGE, GREEN, RED, PURPLE, BLACK, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#000000",
    "#767676",
)
"""Okabe and Ito's palette, told apart by colour-blind readers too."""
SCALE = ("#00204C", "#31446B", "#666970", "#958F78", "#CAB969", "#E8D35A")
"""Six steps of cividis, for what has an order."""
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
"""Where a legend stands."""


@attrs.frozen(kw_only=True)
class Curve:
    """One entry of a legend.

    Attributes:
        label: in the legend.
        x: positions.
        y: values; those that are not finite are left out.
        error: half the height of the band, if any.
        bars: draws bars in place of the band: the place of the first one, each curve's its own, so that they stand side by side.
        colour: of the palette.
        style: a key of `STYLES`.
        group: what it belongs to, such as a layer; a page switches all of a group together. By default the label.
        control: what sets it apart within its group, such as "untrained"; "" for nothing.
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
        title: above it.
        xlabel: with units.
        ylabel: with units.
        curves: drawn in order.
        xscale: `linear` or `log`.
        yscale: `linear` or `log`.
        ylimits: if not those of the curves.
        legend: where the legend stands; None for none.
        headroom: what stays free above the curves, for the legend, as a share of their height.
        xticks: positions that are marked; None leaves them to the scale.
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
"""Panels one above another: the first takes two thirds of the height."""
Rows = tuple[tuple[Cell, ...], ...]
"""Cells as they stand on the page."""


@attrs.frozen(kw_only=True)
class Figure:
    """A figure.

    Attributes:
        name: of its files.
        title: in a few words.
        rows: of cells.
        caption: what it shows, with which settings, and what holds.
        shared: whether one legend below all panels tells groups by colour and controls by line, instead of one in each panel.
    """

    name: str
    title: str
    rows: Rows
    caption: str
    shared: bool = False

    @property
    def panels(self) -> list[Panel]:
        """All of them, in the order of reading."""
        return [panel for row in self.rows for cell in row for panel in cell]

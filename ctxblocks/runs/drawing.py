"""Figures as PNG, SVG and CSV: the same numbers give the same bytes."""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np

from ctxblocks.runs.style import figure_style  # imports matplotlib, also where its environment is faulty

# isort: split

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from ctxblocks.runs.figure import GREY, STYLES, Curve, Figure, Panel, Rows

PAGE_SIZE = (4.4, 3.4)
"""Size in inches of one panel on a page, where a point is a pixel."""
BAR_DISTANCE = 20
"""Points of a curve from one error bar to the next."""
SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.fontsize": 8.5,
    "legend.framealpha": 0.85,
    "svg.fonttype": "none",
    "svg.hashsalt": "ctxblocks",
}
MANY_CURVES = 6
"""A legend of more curves takes two columns."""


class Pictures(NamedTuple):
    """A figure as image files.

    Attributes:
        png: a bitmap.
        svg: a vector graphic, whose texts stay texts.
    """

    png: bytes
    svg: bytes


def draw(figure: Figure) -> Pictures:
    """Both pictures of a figure."""
    return draw_rows(figure.rows, figure.shared)


def draw_rows(rows: Rows, shared: bool = False) -> Pictures:
    """Both pictures of rows of panels, laid out once; see `Figure` for `shared`."""
    with figure_style(SETTINGS):
        canvas = _compose(rows)
        if shared:
            canvas.legend(handles=_keys(rows), loc="outside lower center", ncols=5)
        png = _saved(canvas, "png", {"Software": "ctxblocks"})
        canvas.set_layout_engine("none")  # both pictures have the layout of the first
        return Pictures(png, _saved(canvas, "svg", {"Date": None, "Creator": "ctxblocks"}))


def draw_panel(panel: Panel) -> str:
    """One panel as SVG for a page: no legend, no background, and curve `i` in the groups `curve-i-line` and `curve-i-band`."""
    with figure_style({**SETTINGS, "svg.hashsalt": panel.title}):
        canvas = Canvas(figsize=PAGE_SIZE, layout="constrained")
        FigureCanvasAgg(canvas)
        canvas.patch.set_visible(False)
        axes = canvas.add_subplot()
        axes.patch.set_visible(False)
        _draw_panel(axes, attrs.evolve(panel, legend=None), marked=True)
        return _saved(canvas, "svg", {"Date": None, "Creator": "ctxblocks"}).decode()


def _compose(rows: Rows) -> Canvas:
    columns = max(len(row) for row in rows)
    canvas = Canvas(figsize=(4.3 * columns, 3.9 * len(rows)), layout="constrained")
    FigureCanvasAgg(canvas)
    grid = canvas.add_gridspec(len(rows), columns)
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            inner = grid[row, column].subgridspec(len(cell), 1, height_ratios=[2, 1][: len(cell)])
            for place, panel in enumerate(cell):
                _draw_panel(canvas.add_subplot(inner[place]), panel)
    return canvas


def _keys(rows: Rows) -> list[Line2D]:
    """A line in its colour for every group, and a grey one for every control that is drawn in another style."""
    curves = [curve for row in rows for cell in row for panel in cell for curve in panel.curves]
    groups: dict[str, Curve] = {}
    others: dict[str, Curve] = {}
    for curve in curves:
        first = groups.setdefault(curve.group, curve)
        if curve.style != first.style:
            others.setdefault(curve.control, curve)
    groups_shown = [
        Line2D([], [], color=curve.colour, label=name, **STYLES[curve.style]) for name, curve in groups.items()
    ]
    return groups_shown + [
        Line2D([], [], color=GREY, label=name, **STYLES[curve.style]) for name, curve in others.items()
    ]


def _saved(canvas: Canvas, kind: str, metadata: dict[str, str | None]) -> bytes:
    """The content of the file; its metadata hold no date."""
    content = io.BytesIO()
    canvas.savefig(content, format=kind, dpi=160, metadata=metadata)
    return content.getvalue()


def _draw_panel(axes: Axes, panel: Panel, marked: bool = False) -> None:
    for place, curve in enumerate(panel.curves):
        _draw_curve(axes, curve, f"curve-{place}" if marked else "")
    axes.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel, xscale=panel.xscale, yscale=panel.yscale)
    if panel.ylimits is not None:
        axes.set_ylim(*panel.ylimits)
    _make_room(axes, panel.headroom)
    if panel.xscale == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    else:
        axes.xaxis.set_major_formatter("{x:g}")
    if panel.xticks is not None:
        axes.set_xticks(panel.xticks)
        axes.xaxis.set_minor_locator(NullLocator())
    if panel.yscale == "log":
        axes.yaxis.set_major_locator(LogLocator(numticks=7))
    if panel.legend is not None:
        axes.legend(loc=panel.legend, ncols=2 if len(panel.curves) > MANY_CURVES else 1)


def _make_room(axes: Axes, share: float) -> None:
    """Raise the upper limit by a share of the axis, on its own scale."""
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(np.array(axes.get_ylim()))
    axes.set_ylim(top=float(scale.inverted().transform(np.array([high + share * (high - low)]))[0]))


def _draw_curve(axes: Axes, curve: Curve, name: str) -> None:
    """A line with its band or bars; with a name, each in a named group of the SVG."""
    kept = np.isfinite(curve.y)
    x, y = curve.x[kept], curve.y[kept]
    drawn: list[Artist] = []
    lines: list[Artist] = [*axes.plot(x, y, color=curve.colour, label=curve.label, **STYLES[curve.style])]
    if curve.error is not None and curve.bars is not None:
        part, error = slice(curve.bars, None, BAR_DISTANCE), curve.error[kept]
        bars = axes.errorbar(x[part], y[part], error[part], color=curve.colour, linestyle="", linewidth=1, capsize=2)
        drawn += [*bars.lines[1], *bars.lines[2]]
    elif curve.error is not None:
        error = curve.error[kept]
        drawn.append(axes.fill_between(x, y - error, y + error, color=curve.colour, alpha=0.22, linewidth=0))
    for artists, what in ((lines, "line"), (drawn, "band")):
        for artist in artists if name else ():
            artist.set_gid(f"{name}-{what}")


def numbers(figure: Figure) -> str:
    """The numbers that were drawn, as CSV: one row per point."""
    content = io.StringIO()
    table = csv.writer(content, lineterminator="\n")
    table.writerow(["figure", "panel", "curve", "x_label", "x", "y_label", "y", "error"])
    for panel in figure.panels:
        for curve in panel.curves:
            errors: Sequence[float | str] = [""] * len(curve.x) if curve.error is None else curve.error.tolist()
            for x, y, error in zip(curve.x.tolist(), curve.y.tolist(), errors, strict=True):
                table.writerow([figure.name, panel.title, curve.label, panel.xlabel, x, panel.ylabel, y, error])
    return content.getvalue()

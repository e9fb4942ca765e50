"""A page as HTML, rendered by jinja2."""

import math
from importlib import resources
from typing import NamedTuple

import jinja2
import numpy as np

from ctxblocks.report.content import Cell, Mean, Page, Table
from ctxblocks.report.svg import colours, panel_svg, variable
from ctxblocks.runs.figure import STYLES, Curve, Figure, Panel

DASHES = {"--": "6 3", ":": "2 3", "-.": "6 3 2 3"}


class Key(NamedTuple):
    """A switch in a legend: the curves that it shows and hides, and how they are drawn."""

    kind: str
    value: str
    label: str
    colour: str
    dashes: str


def render(page: Page) -> str:
    """One self-contained HTML document, which loads nothing from elsewhere."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ctxblocks.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    panels = [panel for section in page.sections for figure in section.figures for panel in figure.panels]
    return environment.get_template("page.html.jinja").render(
        page=page,
        style=_text("page.css"),
        script=_text("page.js"),
        colours=colours(panels),
        keys=keys,
        numbers=numbers,
        number=_sorted_by,
        picture=lambda panel, run, name, place: panel_svg(panel, f"run{run}-{name}-{place}-"),
    )


def _text(name: str) -> str:
    return resources.files("ctxblocks.report").joinpath(name).read_text("utf-8")


def keys(figure: Figure) -> list[Key]:
    """The switches of a figure: its groups, its controls if there are several, and its bands if there are any."""
    curves = [curve for panel in figure.panels for curve in panel.curves]
    first: dict[str, Curve] = {}
    for curve in curves:
        first.setdefault(curve.group, curve)
    controls = dict.fromkeys(curve.control for curve in curves if curve.control)
    groups = sorted(first.items(), key=lambda item: item[1].control == "baseline")
    switches = [Key("group", name, name, variable(curve.colour), _dashes(curve)) for name, curve in groups]
    if len(controls) > 1:
        styles = {name: next(curve for curve in curves if curve.control == name) for name in controls}
        switches += [Key("control", name, name, "var(--soft)", _dashes(curve)) for name, curve in styles.items()]
    if any(curve.error is not None for curve in curves):
        switches.append(Key("part", "band", "± bands", "", ""))
    return switches


def _dashes(curve: Curve) -> str:
    return DASHES.get(STYLES[curve.style]["linestyle"], "none")


def numbers(panel: Panel) -> Table:
    """The numbers that a panel shows: a row for every position, a column for every curve."""
    places = np.unique(np.concatenate([curve.x for curve in panel.curves])) if panel.curves else np.zeros(0)
    columns = [_column(curve) for curve in panel.curves]
    rows = tuple((_place(float(place)), *(column.get(float(place)) for column in columns)) for place in places)
    return Table(
        title=panel.title,
        heads=(panel.xlabel.split(",")[0] or "place", *(curve.label for curve in panel.curves)),
        rows=rows,
    )


def _column(curve: Curve) -> dict[float, Mean]:
    errors = np.full(len(curve.x), math.nan) if curve.error is None else curve.error
    return {float(x): Mean(float(y), float(error)) for x, y, error in zip(curve.x, curve.y, errors, strict=True)}


def _place(x: float) -> Cell:
    return int(x) if x == int(x) else Mean(x)


def _sorted_by(value: Cell) -> str:
    """The key by which a number is sorted."""
    number = float(value[0]) if isinstance(value, Mean) else float(value)  # type: ignore[arg-type]
    return f"{number:.6g}" if math.isfinite(number) else ""

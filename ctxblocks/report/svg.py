"""Panels as SVG elements of a page: curves that can be switched, and colours that follow those of the page."""

import colorsys
import re
from xml.etree import ElementTree

from ctxblocks.runs.drawing import draw_panel
from ctxblocks.runs.figure import Panel

SVG = "http://www.w3.org/2000/svg"
HREF = "{http://www.w3.org/1999/xlink}href"
COLOUR = re.compile(r"#[0-9a-f]{6}", re.IGNORECASE)
INK, PAPER = "#000000", "#ffffff"
DARKEST, STEEPNESS = 0.45, 0.4
"""On a dark background black gets the first lightness; the second keeps the order of lightness of other colours."""


def panel_svg(panel: Panel, prefix: str) -> str:
    """A panel without its legend.

    Every part of a curve is a group of class `curve` with `data-group`, `data-control` and `data-part` (`line` or `band`).

    Args:
        panel: to be drawn.
        prefix: of all identifiers inside; unique on the page.
    """
    root = ElementTree.fromstring(draw_panel(panel))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        _rename(element, panel, prefix)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.set("role", "img")
    root.set("aria-label", f"{panel.title}: {panel.ylabel} against {panel.xlabel}")
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    return ElementTree.tostring(root, encoding="unicode")


def _rename(element: ElementTree.Element, panel: Panel, prefix: str) -> None:
    """Make identifiers unique, replace colours by variables, and mark curves with their group, control and part."""
    name = element.attrib.pop("id", None)
    match = re.fullmatch(r"curve-(\d+)-(\w+)", name or "")
    if match:
        curve = panel.curves[int(match[1])]
        element.set("class", "curve")
        for key, value in (("group", curve.group), ("control", curve.control), ("part", match[2])):
            element.set(f"data-{key}", value)
        title = ElementTree.Element(f"{{{SVG}}}title")
        title.text = curve.label
        element.insert(0, title)
    elif name and not re.fullmatch(r"(figure|axes|patch|text|line2d|matplotlib\.axis|xtick|ytick)_\d+", name):
        element.set("id", prefix + name)
    for key, value in element.attrib.items():
        value = re.sub(r"url\(#", f"url(#{prefix}", value)
        if key in (HREF, "href"):
            value = value.replace("#", f"#{prefix}", 1)
        elif key in ("style", "fill", "stroke"):
            value = COLOUR.sub(lambda colour: variable(colour[0]), value)
        element.set(key, value)


def variable(colour: str) -> str:
    """The CSS variable of a colour; black and white are those of text and background."""
    return {INK: "var(--ink)", PAPER: "var(--paper)"}.get(colour.lower(), f"var(--c{colour.lower()[1:]})")


def colours(panels: list[Panel]) -> dict[str, tuple[str, str]]:
    """Every colour of the panels' curves and grids by its variable, on a light and on a dark background."""
    used = {curve.colour.lower() for panel in panels for curve in panel.curves} | {"#b0b0b0", "#cccccc"}
    return {f"--c{colour[1:]}": (colour, on_dark(colour)) for colour in sorted(used - {INK, PAPER})}


def on_dark(colour: str) -> str:
    """The same hue, light enough for a dark background."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)))
    faint = saturation < 0.05 and lightness > 0.6  # the grid's grey, as faint on a dark background as on a light one
    lightness = 1 - lightness if faint else max(lightness, DARKEST + STEEPNESS * lightness)
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, lightness, saturation))

"""The files of a figure: the picture twice, its numbers and its caption."""

from pathlib import Path

from ctxblocks.experiments._drawing import draw, numbers
from ctxblocks.experiments._figure import Figure
from ctxblocks.experiments._files import write_bytes, write_text


def write_figure(figure: Figure, out: Path) -> tuple[str, ...]:
    """Into `figures/`, as PNG, SVG, CSV and text; returns the names, relative to the run's folder."""
    pictures, stem = draw(figure), f"figures/{figure.name}"
    write_bytes(out / f"{stem}.png", pictures.png)
    write_bytes(out / f"{stem}.svg", pictures.svg)
    write_text(out / f"{stem}.csv", numbers(figure))
    write_text(out / f"{stem}.txt", figure.caption + "\n")
    return tuple(f"{stem}.{kind}" for kind in ("png", "svg", "csv", "txt"))

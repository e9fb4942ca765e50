"""The files of a figure: its picture as PNG and SVG, its numbers and its caption."""

from collections.abc import Sequence
from pathlib import Path

from ctxblocks.registration.observers import Observer
from ctxblocks.runs.drawing import draw, numbers
from ctxblocks.runs.figure import Figure
from ctxblocks.runs.files import write_bytes, write_text


def write_figure(figure: Figure, out: Path, observers: Sequence[Observer] = ()) -> tuple[str, ...]:
    """Write a figure into `figures/` as PNG, SVG, CSV and text, and notify observers; returns the paths in the folder."""
    pictures, stem = draw(figure), f"figures/{figure.name}"
    write_bytes(out / f"{stem}.png", pictures.png)
    write_bytes(out / f"{stem}.svg", pictures.svg)
    write_text(out / f"{stem}.csv", numbers(figure))
    write_text(out / f"{stem}.txt", figure.caption + "\n")
    for observer in observers:
        observer.figure(figure.name, pictures.png)
    return tuple(f"{stem}.{kind}" for kind in ("png", "svg", "csv", "txt"))

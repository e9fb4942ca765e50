"""The pictures of a page: curves that can be distinguished, colours that follow the page's, and their numbers."""

import itertools
import re
from xml.etree import ElementTree

import numpy as np

from ctxblocks.report.page import keys, numbers
from ctxblocks.report.svg import colours, on_dark, panel_svg
from ctxblocks.runs.figure import SCALE, Curve, Figure, Panel
from ctxblocks.runs.statistics import Mean


def panel(**options: object) -> Panel:
    x = np.arange(3.0)
    curves = (
        Curve(label="a & b", x=x, y=x + 1, error=x / 10, colour="#0072b2", group="one", control="trained"),
        Curve(label="c", x=x, y=np.array([1.0, np.nan, 2.0]), colour="#d55e00", group="two", control="untrained"),
    )
    return Panel(title="t", xlabel="n, tokens", ylabel="y", curves=curves, **options)


def test_curves_of_a_picture_can_be_told() -> None:
    """Each part with its group, control and kind; names with the prefix; colours as variables."""
    root = ElementTree.fromstring(panel_svg(panel(), "p-"))
    found = [
        (e.get("data-group"), e.get("data-control"), e.get("data-part"))
        for e in root.iter()
        if e.get("class") == "curve"
    ]
    assert sorted(found) == [("one", "trained", "band"), ("one", "trained", "line"), ("two", "untrained", "line")]
    assert all(e.get("id").startswith("p-") for e in root.iter() if e.get("id"))
    text = ElementTree.tostring(root, encoding="unicode")
    assert "var(--c0072b2)" in text
    assert not re.search(r"#[0-9a-f]{6}", text)
    assert colours([panel()])["--c0072b2"] == ("#0072b2", on_dark("#0072b2"))


def test_colours_on_dark_paper_are_light() -> None:
    """Bright enough to be seen, in the order of lightness that a scale has, and greys of the grid as faint as on white."""
    on_paper = [sum(int(on_dark(colour)[i : i + 2], 16) for i in (1, 3, 5)) for colour in SCALE]
    assert on_paper == sorted(on_paper)
    assert min(b - a for a, b in itertools.pairwise(on_paper)) > 15
    for colour in (*SCALE, "#0072b2", "#7a4b2a"):
        assert max(int(on_dark(colour)[i : i + 2], 16) for i in (1, 3, 5)) > 150
    assert on_dark("#ffffff") == "#000000"


def test_switches_and_numbers_of_a_figure() -> None:
    """Groups, controls, bands; and what the panel was drawn from, missing values left out."""
    figure = Figure(name="f", title="f", rows=(((panel(),),),), caption="")
    assert [(key.kind, key.value) for key in keys(figure)] == [
        ("group", "one"),
        ("group", "two"),
        ("control", "trained"),
        ("control", "untrained"),
        ("part", "band"),
    ]
    table = numbers(panel())
    assert table.heads == ("n", "a & b", "c")
    assert table.rows[1][:2] == (1, Mean(2.0, 0.1))
    assert [str(row[2]) for row in table.rows] == ["1", "–", "2"]

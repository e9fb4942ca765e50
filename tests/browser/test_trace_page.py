"""The page of a trace in a browser: what it colours and tells is what it holds."""

import json
from pathlib import Path

import pytest
import torch
from browser.watching import Visit
from ctxblocks_transformers import page, trace
from ctxblocks_transformers.prefixes.measures import MEASURES
from lm.tiny import prompt, tiny
from playwright.sync_api import Locator, Page

TOKENS = ["</script>", "<b>bold</b>", " of", "\n", "é", "&amp;", "end"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a tiny model's prompt."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("pages") / "trace.html"
    path.write_text(page(trace(tiny("llama"), prompt(len(TOKENS))), TOKENS, title="<tiny> model"))
    return path


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a prompt that no window is wide enough for."""
    path = tmp_path_factory.mktemp("pages") / "long.html"
    path.write_text(page(trace(tiny("llama", max_position_embeddings=512), prompt(400)), title="a" * 120))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(390, 844), (1440, 900)], ids=["phone", "desk"])
def test_it_opens(scheme: str, size: tuple[int, int], written: Path, long: Path, visit: Visit) -> None:
    """At either width, a long prompt too; the heatmap scrolls by itself."""
    for path in (written, long):
        assert visit(path, *size, color_scheme=scheme).sticking_out() == []


def test_tokens_are_text(written: Path, visit: Visit) -> None:
    """Whatever they look like."""
    shown = visit(written).page
    assert shown.locator("#text").evaluate("each => each.textContent") == "".join(TOKENS)
    assert shown.locator("#text b").count() == 0
    assert shown.locator("h1").inner_text() == "<tiny> model: effect of each token on the weights"


def test_line_breaks_and_nothing_can_be_pointed_at(tmp_path: Path, visit: Visit) -> None:
    """A token that only breaks the line is seen, and so is one without any text."""
    path = tmp_path / "trace.html"
    path.write_text(page(trace(tiny("llama"), prompt(4)), ["a", "\n", "", "b"]))
    shown = visit(path).page
    for i, name in ((1, '"\\n"'), (2, '""')):
        shown.locator("#text span").nth(i).hover(position={"x": 3, "y": 10})
        assert (
            shown.locator("#readout").inner_text().startswith(f"token {i} {name}, mean of all blocks: marginal-change ")
        )


def measures(shown: Page) -> list[str]:
    found: list[str] = shown.evaluate("[...document.querySelectorAll('#measure option')].map((e) => e.value)")
    return found


CONTRAST = """() => [...document.querySelectorAll("#text span[style]")].map((e) => {
  const luminance = (colour) => colour.match(/\\d+/g).map((c) => c / 255)
    .map((c) => (c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], .05);
  const [a, b] = ["color", "backgroundColor"].map((name) => luminance(getComputedStyle(e)[name]));
  return Math.max(a, b) / Math.min(a, b);
})"""


def test_tokens_can_be_read(long: Path, visit: Visit) -> None:
    """Whatever a token's colour, its text has WCAG's contrast of 4.5 to it."""
    shown = visit(long).page
    assert len(measures(shown)) >= 4
    for name in measures(shown):
        shown.select_option("#measure", name)
        found = shown.evaluate(CONTRAST)
        assert len(found) == 399
        assert min(found) >= 4.5


def test_every_measure_says_what_it_is(written: Path, visit: Visit) -> None:
    """In the words of the library, with the range of the text's colours."""
    shown = visit(written).page
    data = json.loads(shown.locator("#data").evaluate("each => each.textContent"))
    for name in measures(shown):
        shown.select_option("#measure", name)
        shown.select_option("#block", "1")
        assert shown.locator("#what").inner_text() == MEASURES[name]
        values = data["measures"][name]["values"][1]
        if data["measures"][name]["middle"] is None:
            words = shown.locator("#range").inner_text().rstrip(",").split()
            assert float(words[4].rstrip(",")) == pytest.approx(max(values), rel=1e-2)


def colours(shown: Page) -> list[str]:
    found: list[str] = shown.evaluate("[...document.querySelectorAll('#text span')].map((e) => e.style.background)")
    return found


def test_measures_and_blocks(written: Path, visit: Visit) -> None:
    """Another one colours anew; every measure says what it is."""
    shown = visit(written).page
    said, first = shown.locator("#what").inner_text(), colours(shown)
    assert len(set(first)) > 2
    shown.select_option("#measure", "norm")
    assert shown.locator("#what").inner_text() != said
    assert colours(shown) != first
    shown.select_option("#measure", "marginal-change")
    shown.select_option("#block", "0")
    of_block = colours(shown)
    shown.select_option("#block", "1")
    assert colours(shown) != of_block


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("queries", ["last", "every"])
def test_the_readout_holds_the_measured_value(queries: str, width: int, visit: Visit, tmp_path: Path) -> None:
    """The value under the pointer, of the heatmap's cell and of the text's token."""
    path = tmp_path / "trace.html"
    path.write_text(page(trace(tiny("llama"), prompt(len(TOKENS)), queries=queries), TOKENS))
    shown = visit(path, width).page
    data = json.loads(shown.locator("#data").evaluate("each => each.textContent"))
    values = data["measures"]["marginal-change"]["values"]
    canvas = shown.locator("#canvas")
    box = canvas.bounding_box()
    assert box is not None
    width, height = box["width"] / len(values[0]), box["height"] / len(values)
    canvas.hover(position={"x": 2.5 * width, "y": 1.5 * height})
    text = shown.locator("#readout").inner_text()
    token = data["first"] + 2
    assert text.startswith(f"token {token} {json.dumps(TOKENS[token], ensure_ascii=False)}, block 1: marginal-change ")
    assert float(text.rsplit(" ", 1)[1]) == pytest.approx(values[1][2], rel=1e-3)
    shown.select_option("#block", "0")
    shown.locator("#text span").nth(data["first"] + 1).hover()
    assert float(shown.locator("#readout").inner_text().rsplit(" ", 1)[1]) == pytest.approx(values[0][1], rel=1e-3)


def test_the_value_shown_follows_the_measure(written: Path, visit: Visit) -> None:
    """After another measure is selected, the same token shows its value there."""
    shown = visit(written).page
    shown.locator("#canvas").hover(position={"x": 30, "y": 5})
    shown.select_option("#measure", "norm")
    text = shown.locator("#readout").inner_text()
    value = json.loads(shown.locator("#data").evaluate("each => each.textContent"))["measures"]["norm"]["values"][0][1]
    assert text.startswith(f"token 1 {json.dumps(TOKENS[1])}, block 0: norm ")
    assert float(text.rsplit(" ", 1)[1]) == pytest.approx(value, rel=1e-3)


def in_window(part: Locator) -> bool:
    found: bool = part.evaluate(
        "(e) => { const b = e.getBoundingClientRect(); return b.top >= 0 && b.bottom <= innerHeight; }"
    )
    return found


def test_the_readout_is_in_sight(long: Path, visit: Visit) -> None:
    """On a phone too, with the heatmap far below."""
    shown = visit(long, 390, 844).page
    shown.locator("#text span").first.hover()
    assert not in_window(shown.locator("#canvas"))
    assert in_window(shown.locator("#readout"))


@pytest.mark.parametrize("measure", ["marginal-change", "alignment"])
def test_a_token_can_be_marked(measure: str, written: Path, visit: Visit) -> None:
    """By a click, in the text and in the heatmap, and let go by another."""
    shown = visit(written).page
    shown.select_option("#measure", measure)
    plain = shown.locator("#canvas").evaluate("each => each.toDataURL()")
    shown.locator("#text span").nth(1).click()
    marked = shown.locator("#text span.chosen")
    assert marked.evaluate_all("all => all.map((each) => each.textContent)") == [TOKENS[1]]
    assert marked.evaluate("each => getComputedStyle(each).outlineColor") == "rgb(26, 26, 26)"
    assert shown.locator("#canvas").evaluate("each => each.toDataURL()") != plain
    marked.click()
    assert marked.count() == 0
    assert shown.locator("#canvas").evaluate("each => each.toDataURL()") == plain


def test_it_prints_dark_on_white(written: Path, visit: Visit) -> None:
    """Whatever the screen's colours are; tokens keep theirs, since white letters stand on some."""
    shown = visit(written, color_scheme="dark").page
    shown.emulate_media(media="print")
    style = "getComputedStyle(document.querySelector('{}')).{}"
    assert shown.evaluate(style.format("body", "backgroundColor")) == "rgb(255, 255, 255)"
    assert shown.evaluate(style.format("body", "color")) == "rgb(26, 26, 26)"
    assert shown.evaluate(style.format("#text span", "printColorAdjust")) == "exact"
    assert not shown.locator("#readout").is_visible()

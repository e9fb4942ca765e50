"""The page of a trace in a browser: what it colours and tells is what it holds."""

import json
from pathlib import Path

import pytest
import torch
from browser.watching import Visit
from ctxblocks_transformers import page, trace
from lm.tiny import prompt, tiny
from playwright.sync_api import Page

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
    assert shown.locator("h1").inner_text() == "<tiny> model: what each token does to the weights"


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
    shown.select_option("#measure", "marginal")
    shown.select_option("#block", "0")
    of_block = colours(shown)
    shown.select_option("#block", "1")
    assert colours(shown) != of_block


def test_what_is_told_is_what_is_held(written: Path, visit: Visit) -> None:
    """The value under the pointer, of the heatmap's cell and of the text's token."""
    shown = visit(written).page
    data = json.loads(shown.locator("#data").evaluate("each => each.textContent"))
    values = data["measures"]["marginal"]["values"]
    canvas = shown.locator("#canvas")
    box = canvas.bounding_box()
    assert box is not None
    width, height = box["width"] / len(values[0]), box["height"] / len(values)
    canvas.hover(position={"x": 2.5 * width, "y": 1.5 * height})
    told = shown.locator("#told").inner_text()
    token = data["first"] + 2
    assert told.startswith(f"token {token} {json.dumps(TOKENS[token], ensure_ascii=False)}, block 1: marginal ")
    assert float(told.rsplit(" ", 1)[1]) == pytest.approx(values[1][2], rel=1e-3)
    shown.select_option("#block", "0")
    shown.locator("#text span").nth(data["first"] + 1).hover()
    assert float(shown.locator("#told").inner_text().rsplit(" ", 1)[1]) == pytest.approx(values[0][1], rel=1e-3)


def test_a_token_can_be_marked(written: Path, visit: Visit) -> None:
    """By a click, and let go by another."""
    shown = visit(written).page
    span = shown.locator("#text span").nth(1)
    span.click()
    assert shown.locator("#text span.chosen").count() == 1
    shown.locator("#text span.chosen").click()
    assert shown.locator("#text span.chosen").count() == 0

"""The watcher sees what it is for, on pages made to do it."""

from pathlib import Path

import pytest
from browser.watching import Visit

WIDE = "<p style='width: 2000px'>wide</p>"


def page(folder: Path, body: str) -> Path:
    path = folder / "page.html"
    path.write_text(f"<!DOCTYPE html><html><head><title>t</title></head><body>{body}</body></html>")
    return path


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("<script>console.error('oh')</script>", "console: oh"),
        ("<script>nothing.there()</script>", "error: nothing is not defined"),
        ("<img src='http://127.0.0.1:9/a.png' alt=''>", "request: http://127.0.0.1:9/a.png"),
        ("<link rel='stylesheet' href='beside.css'>", "beside.css"),
    ],
)
def test_a_page_is_caught(body: str, problem: str, visit: Visit, tmp_path: Path) -> None:
    """Errors in the console, errors of scripts, and requests for anything but the page."""
    seen = visit(page(tmp_path, body))
    seen.page.wait_for_timeout(100)
    assert any(problem in each for each in seen.problems)
    seen.problems.clear()


def test_a_good_page_is_not_caught(visit: Visit, tmp_path: Path) -> None:
    """Data within the page is no request."""
    seen = visit(page(tmp_path, "<img alt='' src='data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='><p>good</p>"))
    assert seen.problems == []
    assert seen.sticking_out() == []


@pytest.mark.parametrize("width", [390, 1440])
def test_what_sticks_out(width: int, visit: Visit, tmp_path: Path) -> None:
    """A wide paragraph does, inside of what scrolls it does not."""
    assert any("wide" in each for each in visit(page(tmp_path, WIDE), width).sticking_out())
    scrolled = f"<div style='overflow-x: auto'>{WIDE}</div>"
    assert visit(page(tmp_path, scrolled), width).sticking_out() == []

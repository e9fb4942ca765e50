"""The watcher sees what it is for, on pages made to do it."""

import sys
from pathlib import Path

import pytest
from browser.conftest import NAMES
from browser.watching import Visit

TESTS = Path(__file__).parents[1]
WIDE = "<p style='width: 2000px'>wide</p>"
LONG = "a" * 400


def page(folder: Path, body: str) -> Path:
    path = folder / "page.html"
    path.write_text(f"<!DOCTYPE html><html><head><title>t</title></head><body>{body}</body></html>")
    return path


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("<script>console.error('oh')</script>", "console: oh"),
        ("<script>console.warn('hm')</script>", "console: hm"),
        ("<script>nothing.there()</script>", "error: nothing is not defined"),
        ("<script>Promise.reject(new Error('late'))</script>", "error: late"),
        ("<script>setTimeout(() => nothing.there())</script>", "error: nothing is not defined"),
        ("<script>alert('hello')</script>", "dialog: hello"),
        ("<img src='http://127.0.0.1:9/a.png' alt=''>", "request: http://127.0.0.1:9/a.png"),
        ("<link rel='stylesheet' href='beside.css'>", "beside.css"),
        ("<img src='page.html.png' alt=''>", "page.html.png"),
        ("<script>new WebSocket('ws://127.0.0.1:9/')</script>", "request: ws://127.0.0.1:9/"),
    ],
)
def test_a_page_is_caught(body: str, problem: str, visit: Visit, tmp_path: Path) -> None:
    """Errors in the console, errors of scripts, dialogs, and requests for anything but the page."""
    seen = visit(page(tmp_path, body))
    seen.page.evaluate("() => new Promise((done) => setTimeout(done))")
    assert any(problem in each for each in seen.problems)
    seen.problems.clear()
    seen.page.goto("about:blank")  # no more of it
    seen.problems.clear()


def test_a_good_page_is_not_caught(visit: Visit, tmp_path: Path) -> None:
    """Data within the page is no request, nor is a place in it."""
    image = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    seen = visit(page(tmp_path, f"<img alt='' src='{image}'><a href='#good'>to</a><p id='good'>good</p>"))
    seen.page.locator("a").click()
    assert seen.page.url.endswith("#good")
    seen.page.reload()
    assert seen.problems == []
    assert seen.sticking_out() == []


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize(
    ("body", "found"),
    [
        (WIDE, "box in p: wide"),
        (f"<p style='width: 100px'>{LONG}</p>", "text in p: aaa"),
        (f"<div style='overflow: hidden'>{WIDE}</div>", "box in p: wide"),
        ("<div style='overflow-x: auto; width: 2000px'>scrolls</div>", "box in div: scrolls"),
        ("<p style='position: fixed; left: 0; width: 2000px'>fixed</p>", "box in p: fixed"),
        ("<style>body::after { content: ''; display: block; width: 2000px; height: 1px }</style>", "the document: 20"),
    ],
    ids=["wide", "long-word", "cut-off", "scroller", "fixed", "made-by-style"],
)
def test_what_sticks_out(width: int, body: str, found: str, visit: Visit, tmp_path: Path) -> None:
    """Boxes, words longer than their box, what is cut off, and what only the document knows of."""
    assert any(each.startswith(found) for each in visit(page(tmp_path, body), width).sticking_out())


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize(
    "body",
    [
        f"<div style='overflow-x: auto'>{WIDE}</div>",
        f"<div style='overflow-x: scroll'><section>{LONG}</section></div>",
        f"<p style='overflow-wrap: anywhere'>{LONG}</p>",
        f"<div style='display: none'>{WIDE}</div>",
        f"<script>'{LONG}'</script>",
    ],
    ids=["wide-in-scroller", "long-word-in-scroller", "broken-word", "not-shown", "script"],
)
def test_what_does_not_stick_out(width: int, body: str, visit: Visit, tmp_path: Path) -> None:
    """What scrolls by itself, what wraps, and what is not seen."""
    assert visit(page(tmp_path, body), width).sticking_out() == []


@pytest.fixture
def outside(pytester: pytest.Pytester) -> pytest.Pytester:
    """A run of its own with the fixtures of this folder; in another process, which may have one playwright only."""
    pytester.makeini(f"[pytest]\npythonpath = {TESTS}")
    pytester.makeconftest("from browser.conftest import chromium, visit")
    pytester.makepyfile(
        """
        from pathlib import Path

        def opened(visit, body):
            path = Path("page.html").absolute()
            path.write_text(f"<!DOCTYPE html><title>t</title>{body}")
            return visit(path).page

        def test_good(visit):
            opened(visit, "<p>good</p>")

        def test_bad(visit):
            opened(visit, "<script>console.error('oh')</script><img src='http://127.0.0.1:9/a.png' alt=''>")

        def test_late(visit):
            opened(visit, "").evaluate("() => { setTimeout(() => { console.error('late'); nothing.there(); }); }")
        """
    )
    return pytester


def test_a_problem_fails_the_test(outside: pytest.Pytester) -> None:
    """When its page is left, and no other test."""
    result = outside.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_bad*"])
    for problem in (
        "console: oh",
        "request: http://127.0.0.1:9/a.png",
        "console: late",
        "error: nothing is not defined",
    ):
        result.stdout.fnmatch_lines([f"E *AssertionError*{problem}*"])


@pytest.mark.parametrize("ci", [False, True], ids=["at-home", "on-a-ci"])
def test_no_browser(ci: bool, outside: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skipped, with what to install; on a CI an error."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.delenv("CTXBLOCKS_BROWSER", raising=False)
    monkeypatch.setenv("CI", "true") if ci else monkeypatch.delenv("CI", raising=False)
    result = outside.runpytest_subprocess("-rs", "-p", "no:cacheprovider")
    result.assert_outcomes(**({"errors": 3} if ci else {"skipped": 3}))
    result.stdout.fnmatch_lines(["*no browser: install Debian's chromium, or name one in CTXBLOCKS_BROWSER*"])


def test_a_named_browser_has_to_be_there(outside: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else is taken in its place, and nothing is skipped."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("CTXBLOCKS_BROWSER", "/nowhere/chromium")
    result = outside.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines([f"*CTXBLOCKS_BROWSER: got '/nowhere/chromium', needs a program*{NAMES[-1]}*"])

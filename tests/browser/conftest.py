"""A real Chromium for pages: what it complains of and what it asks the network for fails the test that opened the page."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser.watching import Visit, Watched
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


def found() -> str | None:
    """The browser's program; one that is named has to be there."""
    named = os.environ.get("CTXBLOCKS_BROWSER")
    if named and shutil.which(named) is None:
        pytest.fail(f"CTXBLOCKS_BROWSER: got {named!r}, needs a program; unset it to search for {', '.join(NAMES)}")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One for the session. Without a browser tests are skipped with what to install, but on a CI they fail."""
    program = found()
    if program is None:
        problem = "no browser: install Debian's chromium, or name one in CTXBLOCKS_BROWSER"
        if os.environ.get("CI"):
            pytest.fail(problem)
        pytest.skip(problem)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    """Open an HTML file at a width, in a scheme; what is wrong with it by the end of the test fails the test."""
    pages: list[Watched] = []

    def open_page(path: Path, width: int = 1440, height: int = 900, **options: Any) -> Watched:
        pages.append(Watched(chromium.new_page(viewport={"width": width, "height": height}, **options), path))
        return pages[-1]

    yield open_page
    problems = [problem for page in pages for problem in page.close()]
    assert not problems, problems

"""A page that is watched: its console, its errors, its requests, and what sticks out of it."""

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Page, Request

STICKING_OUT = """() => {
  const width = document.documentElement.clientWidth, found = [];
  const scrolls = (e) => e && e !== document.body && e !== document.documentElement &&
    (["auto", "scroll", "hidden"].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  for (const e of document.body.querySelectorAll("*")) {
    if (e.closest("svg") && e.tagName !== "svg") continue;
    const box = e.getBoundingClientRect();
    if (box.width && box.right > width + 1 && !scrolls(e)) found.push(`${e.tagName.toLowerCase()} ${e.textContent.slice(0, 40)}`);
  }
  if (document.documentElement.scrollWidth > width) found.push(`the document: ${document.documentElement.scrollWidth} px`);
  return found;
}"""


class Watched:
    """A page from a file, and what it did that it should not."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page, self.problems = page, list[str]()
        self._own = path.resolve().as_uri()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("request", self._asked)
        page.goto(self._own)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self._own, "data:", "blob:")):
            self.problems.append(f"request: {request.url}")

    def sticking_out(self) -> list[str]:
        """What is wider than the window, outside of what scrolls by itself."""
        found: list[str] = self.page.evaluate(STICKING_OUT)
        return found

    def close(self) -> list[str]:
        """Leave the page; the problems so far."""
        self.page.close()
        return self.problems


Visit = Callable[..., Watched]
"""Open a file at a width."""

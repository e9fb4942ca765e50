"""A page that is watched: its console, its errors, its requests, and what sticks out of it."""

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Dialog, Page, Request, WebError

STICKING_OUT = """() => {
  const width = document.documentElement.clientWidth, found = [];
  const scrolls = (e) => e && e !== document.body && e !== document.documentElement &&
    (["auto", "scroll"].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  const out = (box) => box.width > 1 && box.right > width + 1;
  const say = (e, what) => found.push(`${what} in ${e.tagName.toLowerCase()}: ${e.textContent.trim().slice(0, 40)}`);
  for (const e of document.body.querySelectorAll("*")) {
    if (scrolls(e.parentElement) || getComputedStyle(e).visibility !== "visible") continue;
    if ((!e.closest("svg") || e.tagName === "svg") && out(e.getBoundingClientRect())) { say(e, "box"); continue; }
    if (scrolls(e)) continue;
    for (const node of e.childNodes) {
      if (node.nodeType !== Node.TEXT_NODE || !node.data.trim()) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      if ([...range.getClientRects()].some(out)) say(e, "text");
    }
  }
  const wide = document.documentElement.scrollWidth;
  if (wide > width) found.push(`the document: ${wide} px in a window of ${width}`);
  return found;
}"""


class Watched:
    """A page from a file, and what it did that it should not."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page, self.problems = page, list[str]()
        self._own = path.resolve().as_uri()
        context = page.context  # windows that the page opens count too
        context.on("console", self._heard)
        context.on("weberror", self._failed)
        context.on("request", self._asked)
        page.on("websocket", lambda socket: self.problems.append(f"request: {socket.url}"))
        page.on("dialog", self._interrupted)
        page.on("crash", lambda _: self.problems.append("crashed"))
        page.goto(self._own)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"console: {message.text}")

    def _failed(self, error: WebError) -> None:
        self.problems.append(f"error: {error.error}")

    def _asked(self, request: Request) -> None:
        if request.url != self._own and not request.url.startswith(("data:", "blob:")):
            self.problems.append(f"request: {request.url}")

    def _interrupted(self, dialog: Dialog) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def sticking_out(self) -> list[str]:
        """What is wider than the window, outside of what scrolls by itself; what is cut off counts."""
        found: list[str] = self.page.evaluate(STICKING_OUT)
        return found

    def close(self) -> list[str]:
        """Leave the page and all that it opened; the problems so far."""
        self.page.context.close()
        return self.problems


Visit = Callable[..., Watched]
"""Open a file at a width."""

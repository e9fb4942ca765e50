"""Runs as one HTML page that needs nothing beside itself: `write_report(["runs/mine"], "mine.html")`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Architectures side by side: the same tasks, the same number of parameters, and the effect of a context on their weights."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

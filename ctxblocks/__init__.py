"""ctxblocks: the effect of a context as an exact rank-one update of a network's weights, for any contextual layer.

Public names are resolved on first use, so that `import ctxblocks` imports neither torch nor any plugin. The names and
the modules that define them are listed once, in `__init__.pyi`.
"""

import importlib.metadata
from typing import Any

import lazy_loader

_resolve, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ = sorted([*__all__, "__version__"])


def __getattr__(name: str) -> Any:
    if name != "__version__":
        return _resolve(name)
    globals()[name] = importlib.metadata.version("ctxblocks")  # looked up once
    return globals()[name]

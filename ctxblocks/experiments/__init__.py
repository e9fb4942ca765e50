"""The paper's experiments: training on in-context regression, Figures 2–6 with their controls, and the claims.

`reproduce(preset("quick"), out)` is what `ctxblocks reproduce --preset quick` does.
"""

import importlib
from typing import Any

_HOMES = {
    "Claim": "_claims",
    "Configuration": "_presets",
    "Metrics": "_metrics",
    "ModelConfig": "_presets",
    "Prompts": "_tasks",
    "Record": "_record",
    "linear_prompts": "_tasks",
    "preset": "_presets",
    "reproduce": "_run",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ctxblocks.experiments' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ctxblocks.experiments.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

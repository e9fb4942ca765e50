"""What layers cost: time, memory and work of all prefixes beside one forward pass, and plain counterparts.

`bench(BenchConfig(layers=("gru",)))` is what `ctxblocks bench gru` does.
"""

import importlib
from typing import Any

_HOMES = {
    "BenchConfig": "_config",
    "BenchPlan": "_config",
    "LENGTHS": "_config",
    "Report": "_report",
    "bench": "_run",
    "plan_bench": "_config",
    "steps_of": "_run",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ctxblocks.bench' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ctxblocks.bench.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

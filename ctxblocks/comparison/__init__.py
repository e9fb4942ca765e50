"""Layers side by side: the same tasks, the same number of parameters, and what context does to the weights of each."""

from ctxblocks.comparison._cells import SCHEMA
from ctxblocks.comparison._config import PRESETS, CompareConfig, compare_config
from ctxblocks.comparison._run import Comparison, compare
from ctxblocks.comparison._summary import Line, order_differs, summarize

__all__ = [
    "PRESETS",
    "SCHEMA",
    "CompareConfig",
    "Comparison",
    "Line",
    "compare",
    "compare_config",
    "order_differs",
    "summarize",
]

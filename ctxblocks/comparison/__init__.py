"""Layers side by side: the same tasks, the same number of parameters, and what context does to the weights of each."""

from ctxblocks.comparison.cells import SCHEMA
from ctxblocks.comparison.conditions import CONDITIONS
from ctxblocks.comparison.config import PRESETS, CompareConfig, compare_config
from ctxblocks.comparison.folder import Comparison, read_comparison
from ctxblocks.comparison.run import compare
from ctxblocks.comparison.summary import Line, lengths_of, order_differs, summarize

__all__ = [
    "CONDITIONS",
    "PRESETS",
    "SCHEMA",
    "CompareConfig",
    "Comparison",
    "Line",
    "compare",
    "compare_config",
    "lengths_of",
    "order_differs",
    "read_comparison",
    "summarize",
]

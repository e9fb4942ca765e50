"""Runs in small, of both kinds, that tests of the page look at."""

from pathlib import Path

from ctxblocks.comparison import CompareConfig, Comparison, compare, compare_config

PROBES = ("effective-rank", "marginal-change", "norm", "state-size")


def small_comparison(**options: object) -> CompareConfig:
    """Two layers, two tasks, two seeds, a few steps."""
    sizes = {"inputs": 2, "examples": 8, "blocks": 2, "width": 8, "steps": 6, "batch": 8, "trials": 12, "seeds": 2}
    return compare_config(
        "quick", ("gru", "self-attention"), ("linear", "decision-tree"), PROBES, **{**sizes, **options}
    )


def compared(folder: Path, **options: object) -> Comparison:
    """Such a comparison in a folder, with figures and page."""
    return compare(small_comparison(**options), folder, 1)

"""Times of sequence, prefixes, suffixes and the loop over prefixes of every layer, for pytest-benchmark.

Run them with `pytest tests/benchmarks/bench_layers.py`; this file is not collected by default. With `--benchmark-disable`
each function is called once, as a test that it works. `ctxblocks bench` measures more.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ctxblocks import ContextualLayer, create, registry

WIDTH = 64
LENGTHS = (64, 256)
VARIANTS = [(spec, options) for spec in registry().layers.values() for options in spec.benchmarks]
FUNCTIONS: dict[str, Callable[[ContextualLayer, torch.Tensor, torch.Tensor], object]] = {
    "sequence": lambda layer, query, context: layer.sequence(context),
    "prefixes": lambda layer, query, context: layer.prefixes(query, context),
    "suffixes": lambda layer, query, context: layer.suffixes(query, context),
    "loop": lambda layer, query, context: [layer(query, context[:i]) for i in range(len(context) + 1)],
}


def _name(variant: Any) -> str:
    """The name of the layer and its options."""
    spec, options = variant
    return "-".join([spec.name, *(f"{name}={value}" for name, value in options.items())])


@pytest.mark.parametrize("variant", VARIANTS, ids=_name)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_layer(benchmark: Any, function: str, length: int, variant: Any) -> None:
    """One query and one context, without gradients; times are compared within one layer and length."""
    spec, options = variant
    benchmark.group = f"{_name(variant)}, n = {length}"
    layer = create(spec.name, width=WIDTH, **options).eval()
    query, context = torch.randn(WIDTH), torch.randn(length, layer.context_width)
    with torch.no_grad():
        benchmark(FUNCTIONS[function], layer, query, context)

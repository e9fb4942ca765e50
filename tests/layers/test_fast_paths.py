"""The fast paths of linear attention, the delta rule and Griffin against their definitions."""

import copy
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from hypothesis import given, settings, strategies as st
from layers import test_delta_rule, test_griffin, test_linear_attention
from layers.definitions import METHODS, SEEDS, arguments, assert_as_defined, results
from torch import Tensor

from ctxblocks import ContextualLayer, registry


@attrs.frozen
class Kind:
    """A layer, and what its tests draw."""

    name: str
    build: Callable[[Any, int, int], ContextualLayer]  # of a configuration, a number of tokens and a seed
    pieces: st.SearchStrategy[int]  # tokens in a chunk or block
    scale: float  # of tokens that drive scores, rates and gates to their limits
    options: dict[str, object]  # of a configuration with every part

    def draw(self, data: st.DataObject, pieces: int | None = None) -> tuple[ContextualLayer, int]:
        """A layer and a seed."""
        config = data.draw(st.sampled_from(registry().layer(self.name).examples), label="config")
        seed = data.draw(SEEDS, label="seed")
        pieces = data.draw(self.pieces, label="pieces") if pieces is None else pieces
        return self.build(config, pieces, seed), seed


KINDS = [
    Kind("linear-attention", test_linear_attention.small, st.integers(2, 7), 100.0, {"heads": 2, "decay": (0.9, 0.5)}),
    Kind("delta-rule", test_delta_rule.small, st.integers(2, 7), 100.0, {"heads": 2, "gated": True}),
    Kind("griffin", test_griffin.small, st.integers(1, 12), 1e4, {"heads": 2}),
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])


@every_kind
@settings(deadline=None, max_examples=60)
@given(
    data=st.data(),
    method=st.sampled_from(METHODS),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    n=st.integers(0, 20),
    batch=st.sampled_from([(), (2,), (2, 1)]),
)
def test_fast_paths_agree_with_their_definitions(
    kind: Kind, data: st.DataObject, method: str, dtype: torch.dtype, n: int, batch: tuple[int, ...]
) -> None:
    """Outputs and gradients of each override equal those of one forward for each row, over several chunks or blocks."""
    layer, seed = kind.draw(data)
    assert_as_defined(layer, method, arguments(method, layer.width, n, seed, batch), dtype)


@every_kind
@settings(deadline=None, max_examples=15)
@given(data=st.data(), method=st.sampled_from(METHODS), n=st.integers(0, 20))
def test_fast_paths_in_bfloat16(kind: Kind, data: st.DataObject, method: str, n: int) -> None:
    """In bfloat16 outputs are within the error of the definition, and in bfloat16."""
    layer, seed = kind.draw(data, pieces=4)
    inputs = arguments(method, layer.width, n, seed, (2,))
    assert_as_defined(layer, method, inputs, torch.bfloat16, gradients=False)
    half = copy.deepcopy(layer).to(torch.bfloat16)
    assert getattr(half, method)(*(x.bfloat16() for x in inputs)).dtype == torch.bfloat16


@every_kind
@settings(deadline=None, max_examples=30)
@given(data=st.data(), method=st.sampled_from(METHODS), dtype=st.sampled_from([torch.float64, torch.float32]))
def test_large_tokens(kind: Kind, data: st.DataObject, method: str, dtype: torch.dtype) -> None:
    """Scores, rates and gates at their limits neither over- nor underflow into disagreement, and gradients are finite."""
    layer, seed = kind.draw(data, pieces=5)
    inputs = arguments(method, layer.width, 16, seed, (2,), scale=kind.scale)
    assert_as_defined(layer, method, inputs, dtype, gradients=False)
    assert all(x.isfinite().all() for x in results(layer, getattr(layer, method), inputs))


@every_kind
def test_compiles_and_maps(kind: Kind) -> None:
    """Every method compiles as one graph and maps over a batch, with the results of plain calls."""
    spec = registry().layer(kind.name)
    layer = kind.build(spec.config(width=4, **kind.options), 4, 3)
    for method in METHODS:
        inputs = arguments(method, 4, 10, 2, (3,))
        plain = getattr(layer, method)(*inputs)
        compiled: Callable[..., Tensor] = torch.compile(getattr(layer, method), fullgraph=True, backend="eager")
        mapped: Callable[..., Tensor] = torch.func.vmap(getattr(layer, method))
        torch.testing.assert_close(compiled(*inputs), plain)
        torch.testing.assert_close(mapped(*inputs), plain)


@pytest.mark.parametrize(
    ("kind", "options", "pieces", "lengths"),
    [
        (KINDS[0], {"heads": 2, "decay": (0.99, 0.8)}, 128, (1, 127, 128, 129, 300)),
        (KINDS[1], {"heads": 2, "gated": True}, 64, (1, 64, 65, 150)),
        (KINDS[2], {}, 150, (63, 64, 65, 200)),  # the recurrence has chunks of about √n
    ],
    ids=[kind.name for kind in KINDS],
)
def test_long_contexts(kind: Kind, options: dict[str, object], pieces: int, lengths: tuple[int, ...]) -> None:
    """Contexts shorter and longer than one and than two chunks of the default length."""
    for n in lengths:
        layer = kind.build(registry().layer(kind.name).config(width=4, **options), pieces, n)
        for method in METHODS:
            assert_as_defined(layer, method, arguments(method, 4, n, n, ()), torch.float32, gradients=False)

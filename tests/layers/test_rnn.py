"""The recurrent layers, against torch's modules and cells, and refused configurations."""

from collections.abc import Callable

import pytest
import torch
from ctxblocks_rnn import GRU, LSTM, RNN, GRUConfig, LSTMConfig, RNNConfig, ctxblocks_layers
from ctxblocks_rnn.config import RecurrentConfig
from ctxblocks_rnn.recurrent import RecurrentLayer
from ctxblocks_rnn.reference import reference
from hypothesis import given, settings, strategies as st
from layers.definitions import UNIT, arguments, draw_double, sizes
from torch import Tensor, nn

from ctxblocks import ArgumentError

CONFIGS: list[RecurrentConfig] = [config for spec in ctxblocks_layers() for config in spec.examples]
BUILD: dict[type, Callable[..., RecurrentLayer]] = {RNNConfig: RNN, GRUConfig: GRU, LSTMConfig: LSTM}
configs, seeds = st.sampled_from(CONFIGS), st.integers(0, 10**6)


def build(config: RecurrentConfig, seed: int, dtype: torch.dtype = torch.float64) -> RecurrentLayer:
    torch.manual_seed(seed)
    layer: RecurrentLayer = BUILD[type(config)](config).to(dtype)
    return layer


def cell(layer: RecurrentLayer, config: RecurrentConfig) -> nn.RNNCellBase:
    """Torch's cell with the layer's weights."""
    cells = {RNN: nn.RNNCell, GRU: nn.GRUCell, LSTM: nn.LSTMCell}
    extra = {"nonlinearity": config.nonlinearity} if isinstance(config, RNNConfig) else {}
    torch_cell: nn.RNNCellBase = cells[type(layer)](config.width, config.state_width, bias=config.bias, **extra)
    torch_cell.double().load_state_dict(
        {name.removesuffix("_l0"): w for name, w in layer.recurrence.state_dict().items()}
    )
    return torch_cell


def tolerance(layer: RecurrentLayer, n: int, want: Tensor) -> float:
    """A few round-offs for each term of the products and each step, at torch's initial weights, whose steps contract."""
    terms = layer.width + layer.projection.in_features
    return float(UNIT[want.dtype] * 4 * terms * (n + 1) * want.detach().abs().max().clamp(min=1))


@settings(deadline=None, max_examples=60)
@given(config=configs, seed=seeds, n=sizes)
def test_every_method_agrees_with_torchs_module(config: RecurrentConfig, seed: int, n: int) -> None:
    """Forward, sequence and causal are torch's module on the tokens with the query last, and a projection."""
    layer = build(config, seed)
    theirs = reference(layer)
    queries, context = arguments("causal", config.width, n, seed, (2,), dtype=torch.float64)
    for i in range(n + 1):
        tokens = torch.cat([context[:, :i], queries[:, i : i + 1]], dim=1)
        want = theirs(tokens)
        bound = tolerance(layer, n, want)
        assert (layer(queries[:, i], context[:, :i]) - want[:, -1]).abs().max() <= bound
        assert (layer.causal(queries, context)[:, i] - want[:, -1]).abs().max() <= bound
        assert (layer.sequence(tokens) - want).abs().max() <= bound


@settings(deadline=None, max_examples=40)
@given(config=configs, seed=seeds, n=sizes)
def test_the_loop_agrees_with_torchs_cell(config: RecurrentConfig, seed: int, n: int) -> None:
    """The plain loop agrees with torch's cell, including the memory of an LSTM."""
    layer = build(config, seed)
    step = cell(layer, config)
    tokens = draw_double(seed, 2, n, config.width)
    start = tuple(draw_double(seed + k, 2, config.state_width) for k in range(layer.parts))
    state = start if layer.parts == 2 else start[0]
    outputs, final = layer.looped(tokens, start)
    for t in range(n):
        state = step(tokens[:, t], state)
        shown = state[0] if layer.parts == 2 else state
        assert (outputs[:, t] - shown).abs().max() <= tolerance(layer, n, shown)
    for got, want in zip(final, state if layer.parts == 2 else (state,), strict=True):
        assert (got - want).abs().max() <= tolerance(layer, n, want)


@pytest.mark.parametrize("kind", [RNNConfig, GRUConfig, LSTMConfig])
def test_sizes_below_one_are_refused(kind: type[RecurrentConfig]) -> None:
    """The message names the field, what it got and what it needs."""
    with pytest.raises(
        ArgumentError, match=rf"{kind.__name__}: got width=0, needs at least 1; give width a positive size"
    ):
        kind(width=0)
    with pytest.raises(ArgumentError, match=r"got hidden=-1, needs at least 1"):
        kind(width=2, hidden=-1)
    assert kind(width=5).state_width == 5
    assert kind(width=5, hidden=2).state_width == 2


def test_an_unknown_nonlinearity_is_refused() -> None:
    """The message names both choices."""
    with pytest.raises(ArgumentError, match=r"RNNConfig: got nonlinearity='gelu', needs one of 'tanh', 'relu'"):
        RNNConfig(width=2, nonlinearity="gelu")

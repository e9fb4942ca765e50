"""Griffin's recurrent branch: against RecurrentGemma's block, and at its limits."""

import ctxblocks_griffin
import pytest
import torch
from ctxblocks_griffin.config import GriffinConfig
from ctxblocks_griffin.griffin import Griffin
from ctxblocks_griffin.lru import RESET
from ctxblocks_griffin.reference import reference
from hypothesis import given, settings, strategies as st
from layers.definitions import SEEDS, UNIT, draw, draw_weights, results
from torch import Tensor

from ctxblocks import ArgumentError, ContextualLayer

SPEC = next(spec for spec in ctxblocks_griffin.ctxblocks_layers() if spec.name == "griffin")
CONFIGS = st.sampled_from(SPEC.examples)


def small(config: GriffinConfig, block: int, seed: int) -> Griffin:
    """The layer with its weights drawn from the seed, processing `block` tokens at a time."""
    layer = Griffin(config)
    layer.block = block
    draw_weights(layer, seed)
    return layer


def states(layer: Griffin, tokens: Tensor) -> Tensor:
    """The recurrent state after each token."""
    return layer._advance(layer.linear_x(tokens), layer._start(tokens))[1]


def magnitude(layer: Griffin, tokens: Tensor) -> Tensor:
    """The largest state times gate and output weights: the scale of output errors that come from relative errors of states."""
    gate = torch.nn.functional.gelu(layer.linear_y(tokens), approximate="tanh").abs()
    largest = states(layer, tokens).abs().amax(-2, keepdim=True)
    return (gate * largest) @ layer.projection.weight.abs().T


@pytest.mark.parametrize("config", SPEC.examples)
@pytest.mark.parametrize("n", [1, 2, 30])
def test_against_recurrent_gemma(config: GriffinConfig, n: int) -> None:
    """With the same weights `sequence` and `forward` are RecurrentGemma's block, whose state is in float32.

    Its recurrence rounds `a`, `h` and the sum in each step, and no step amplifies an error: after `n` tokens the error of
    the state is at most `4 n u` times the largest state, which is then multiplied by gate and output weights.
    """
    layer = small(config, 512, 4).double()
    tokens = draw(2, 3, n, config.width).double()
    expected = reference(layer)(tokens)
    bound = 4 * n * UNIT[torch.float32] * magnitude(layer, tokens)
    assert ((layer.sequence(tokens) - expected).abs() <= bound).all()
    assert ((ContextualLayer.sequence(layer, tokens) - expected).abs() <= bound).all()


def test_gradients_against_differences() -> None:
    """Gradients of the whole branch, including the bounded root, agree with finite differences."""
    layer = small(GriffinConfig(width=3, recurrent_width=4, heads=2), 512, 1).double()
    tokens = draw(2, 6, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(layer.sequence, (tokens,))
    assert torch.autograd.gradcheck(lambda t: layer.suffixes(t[0], t[1:]), (tokens,))


def kept(layer: Griffin, log_decay: float) -> Griffin:
    """The layer with all decays set to `exp(log_decay)`, independent of the tokens."""
    layer.lru.recurrence_gate.weight.data.zero_()
    layer.lru.recurrence_gate.bias.data.zero_()
    layer.lru.recurrence.data.fill_(torch.tensor(-log_decay / 4, dtype=torch.float64).expm1().log().item())
    return layer


def test_the_factor_of_a_slow_decay_keeps_its_digits() -> None:
    """At `1 − a = 1e-7` the factor `√(1 − a²)` is correct to rounding in float32, where `1 − a·a` has a large error."""
    layer = kept(small(GriffinConfig(width=4), 512, 6), -1e-7)
    u = draw(1, 5, 4)
    factor = (layer.lru(u)[2] / layer.lru(u, RESET)[2]).double()
    exact = (1 - torch.tensor(-2e-7, dtype=torch.float64).exp()).sqrt()
    # Λ ≈ −17.5 has an error of u|Λ| in float32, of which the root takes half
    assert ((factor - exact).abs() <= (18 + 8) * UNIT[torch.float32] * exact).all()


def test_a_closed_gate_keeps_finite_gradients() -> None:
    """Where `a` is 1 the factor is 0 and its derivative would be infinite; output and gradients are finite."""
    layer = small(GriffinConfig(width=4), 512, 8)
    layer.lru.recurrence_gate.weight.data.zero_()
    layer.lru.recurrence_gate.bias.data.fill_(-200.0)
    tokens = draw(1, 6, 4)
    assert all(each.isfinite().all() for each in results(layer, layer.sequence, [tokens]))
    kept_states = states(layer, tokens)
    assert (kept_states == kept_states[:1]).all()  # nothing enters after the reset, and nothing decays


def test_the_first_token_resets() -> None:
    """At position 0 the state is the gated input without the factor `√(1 − a²)`."""
    layer = small(GriffinConfig(width=4, conv=1), 512, 3).double()
    x = draw(1, 4).double()
    u = layer.conv_bias + layer.conv_weight[:, 0] * layer.linear_x(x)
    h = torch.sigmoid(layer.lru.input_gate(u)) * u
    expected = layer.projection(torch.nn.functional.gelu(layer.linear_y(x), approximate="tanh") * h)
    torch.testing.assert_close(layer(x, x.new_zeros(0, 4)), expected, rtol=1e-14, atol=1e-14)


@settings(deadline=None, max_examples=15)
@given(config=CONFIGS, seed=SEEDS)
def test_order_counts(config: GriffinConfig, seed: int) -> None:
    """The trait `positional`: reversing a context changes the output by more than rounding."""
    assert SPEC.traits(config).positional
    layer = small(config, 512, seed).double()
    x, context = draw(seed, config.width).double(), draw(seed + 1, 4, config.width).double()
    outputs = layer(x, context), layer(x, context.flip(0))
    assert (outputs[0] - outputs[1]).abs().max() > 1e3 * UNIT[torch.float64] * outputs[0].abs().max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "width=0"),
        ({"width": 4, "heads": 3}, "heads=3 for a recurrent width of 4"),
        ({"width": 4, "recurrent_width": -1}, "recurrent_width=-1"),
        ({"width": 4, "conv": 0}, "conv=0"),
    ],
)
def test_refused_configurations(arguments: dict[str, int], message: str) -> None:
    """The message names the field and its value."""
    with pytest.raises(ArgumentError, match=message):
        GriffinConfig(**arguments)

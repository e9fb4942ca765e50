"""Griffin's recurrent branch: against RecurrentGemma's block, and its fast paths against their definitions."""

import copy
from collections.abc import Callable

import ctxblocks_griffin
import pytest
import torch
from ctxblocks_griffin.config import GriffinConfig
from ctxblocks_griffin.griffin import Griffin
from ctxblocks_griffin.lru import RESET
from ctxblocks_griffin.reference import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from layers.definitions import METHODS, SEEDS, UNIT, arguments, assert_as_defined, draw, draw_weights, results
from torch import Tensor

from ctxblocks import ArgumentError, ContextualLayer

SPEC = next(spec for spec in ctxblocks_griffin.ctxblocks_layers() if spec.name == "griffin")
CONFIGS = st.sampled_from(SPEC.examples)


def drawn(config: GriffinConfig, seed: int, block: int = 512) -> Griffin:
    """The layer with its weights drawn from the seed, working on `block` tokens at a time."""
    layer = Griffin(config)
    layer.block = block
    draw_weights(layer, seed)
    return layer


def states(layer: Griffin, tokens: Tensor) -> Tensor:
    """The recurrence's state after each token."""
    return layer._advance(layer.linear_x(tokens), layer._start(tokens))[1]


def magnitude(layer: Griffin, tokens: Tensor) -> Tensor:
    """The largest state as the gate and the last map scale it: what an error of 1 in the states may do to the output."""
    gate = torch.nn.functional.gelu(layer.linear_y(tokens), approximate="tanh").abs()
    largest = states(layer, tokens).abs().amax(-2, keepdim=True)
    return (gate * largest) @ layer.projection.weight.abs().T


@pytest.mark.parametrize("config", SPEC.examples)
@pytest.mark.parametrize("n", [1, 2, 30])
def test_against_recurrent_gemma(config: GriffinConfig, n: int) -> None:
    """With the same weights `sequence` and `forward` are RecurrentGemma's block, whose state alone is in float32.

    Its recurrence rounds `a`, `h` and the sum in each step, and no step lengthens an error: after `n` tokens the state
    is off by at most `4 n u` of the largest state, which the gate and the last map then scale.
    """
    layer = drawn(config, seed=4).double()
    tokens = draw(2, 3, n, config.width).double()
    expected = reference(layer)(tokens)
    bound = 4 * n * UNIT[torch.float32] * magnitude(layer, tokens)
    assert ((layer.sequence(tokens) - expected).abs() <= bound).all()
    assert ((ContextualLayer.sequence(layer, tokens) - expected).abs() <= bound).all()


@settings(deadline=None, max_examples=60)
@given(
    config=CONFIGS,
    method=st.sampled_from(METHODS),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    n=st.integers(0, 20),
    block=st.integers(1, 12),
    batch=st.sampled_from([(), (2,), (2, 1)]),
    seed=SEEDS,
)
def test_fast_paths_agree_with_their_definitions(
    config: GriffinConfig, method: str, dtype: torch.dtype, n: int, block: int, batch: tuple[int, ...], seed: int
) -> None:
    """Outputs and gradients of each override equal those of one forward for each row, over several blocks."""
    layer = drawn(config, seed, block)
    assert_as_defined(layer, method, arguments(method, config.width, n, seed, batch), dtype)


@settings(deadline=None, max_examples=15)
@given(config=CONFIGS, method=st.sampled_from(METHODS), n=st.integers(0, 20), seed=SEEDS)
def test_fast_paths_in_bfloat16(config: GriffinConfig, method: str, n: int, seed: int) -> None:
    """In bfloat16 outputs stay within the definition's own error, and in bfloat16."""
    layer = drawn(config, seed)
    inputs = arguments(method, config.width, n, seed, (2,))
    assert_as_defined(layer, method, inputs, torch.bfloat16, gradients=False)
    half = copy.deepcopy(layer).to(torch.bfloat16)
    assert getattr(half, method)(*(x.bfloat16() for x in inputs)).dtype == torch.bfloat16


@settings(deadline=None, max_examples=30)
@given(
    config=CONFIGS,
    method=st.sampled_from(METHODS),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=SEEDS,
)
def test_wide_scores(config: GriffinConfig, method: str, dtype: torch.dtype, seed: int) -> None:
    """Gates driven to ±1e4 and beyond keep the agreement, and gradients stay finite."""
    layer = drawn(config, seed)
    inputs = arguments(method, config.width, 16, seed, (2,), scale=1e4)
    assert_as_defined(layer, method, inputs, dtype, gradients=False)
    assert all(x.isfinite().all() for x in results(layer, getattr(layer, method), inputs, gradients=True))


@pytest.mark.parametrize("n", [63, 64, 65, 200])
def test_long_contexts(n: int) -> None:
    """Contexts around and beyond a square number of tokens, by which the scan sets its chunks."""
    layer = drawn(GriffinConfig(width=4), n, block=150)
    for method in METHODS:
        assert_as_defined(layer, method, arguments(method, 4, n, n, ()), torch.float32, gradients=False)


def test_gradients_against_differences() -> None:
    """Gradients of the whole branch, bounded root included, are those of finite differences."""
    layer = drawn(GriffinConfig(width=3, recurrent_width=4, heads=2), 1).double()
    tokens = draw(2, 6, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(layer.sequence, (tokens,))
    assert torch.autograd.gradcheck(lambda t: layer.suffixes(t[0], t[1:]), (tokens,))


def kept(layer: Griffin, log_decay: float) -> Griffin:
    """The layer with every decay at `exp(log_decay)`: gates half open, whatever the token."""
    layer.lru.recurrence_gate.weight.data.zero_()
    layer.lru.recurrence_gate.bias.data.zero_()
    layer.lru.recurrence.data.fill_(torch.tensor(-log_decay / 4, dtype=torch.float64).expm1().log().item())
    return layer


def test_the_factor_of_a_slow_decay_keeps_its_digits() -> None:
    """At `1 − a = 1e-7` the factor `√(1 − a²)` is right to rounding in float32, where `1 − a·a` is off by tenths."""
    layer = kept(drawn(GriffinConfig(width=4), 6), -1e-7)
    u = draw(1, 5, 4)
    factor = (layer.lru.steps(u)[2] / layer.lru.steps(u, RESET)[2]).double()
    exact = (1 - torch.tensor(-2e-7, dtype=torch.float64).exp()).sqrt()
    # Λ ≈ −17.5 in float32 is off by u|Λ|, and the root halves what that does to log a
    assert ((factor - exact).abs() <= (18 + 8) * UNIT[torch.float32] * exact).all()


def test_a_shut_gate_keeps_finite_gradients() -> None:
    """Where `a` is 1 the factor is 0 and its slope would be infinite; output and gradients stay finite."""
    layer = drawn(GriffinConfig(width=4), 8)
    layer.lru.recurrence_gate.weight.data.zero_()
    layer.lru.recurrence_gate.bias.data.fill_(-200.0)
    tokens = draw(1, 6, 4)
    found = results(layer, layer.sequence, [tokens], gradients=True)
    assert all(each.isfinite().all() for each in found)
    found_states = states(layer, tokens)
    assert (found_states == found_states[:1]).all()  # nothing enters after the reset, and nothing fades


def test_the_first_token_resets() -> None:
    """At position 0 the state is the gated input itself, without the factor `√(1 − a²)`."""
    layer = drawn(GriffinConfig(width=4, conv=1), 3).double()
    x = draw(1, 4).double()
    u = layer.conv_bias + layer.conv_weight[:, 0] * layer.linear_x(x)
    h = torch.sigmoid(layer.lru.input_gate(u)) * u
    expected = layer.projection(torch.nn.functional.gelu(layer.linear_y(x), approximate="tanh") * h)
    torch.testing.assert_close(layer(x, x.new_zeros(0, 4)), expected, rtol=1e-14, atol=1e-14)


@settings(deadline=None, max_examples=15)
@given(config=CONFIGS, seed=SEEDS)
def test_order_counts(config: GriffinConfig, seed: int) -> None:
    """The claim `positional`: reversing a context changes the output by more than rounding."""
    assert SPEC.traits(config).positional
    layer = drawn(config, seed).double()
    x, context = draw(seed, config.width).double(), draw(seed + 1, 4, config.width).double()
    outputs = layer(x, context), layer(x, context.flip(0))
    assert (outputs[0] - outputs[1]).abs().max() > 1e3 * UNIT[torch.float64] * outputs[0].abs().max()


def test_compiles_and_maps() -> None:
    """Every method traces as one graph and maps over a batch, with the results of plain calls."""
    layer = drawn(GriffinConfig(width=4, heads=2), 3)
    for method in METHODS:
        inputs = arguments(method, 4, 10, 2, (3,))
        plain = getattr(layer, method)(*inputs)
        compiled: Callable[..., Tensor] = torch.compile(getattr(layer, method), fullgraph=True, backend="eager")
        mapped: Callable[..., Tensor] = torch.func.vmap(getattr(layer, method))
        torch.testing.assert_close(compiled(*inputs), plain)
        torch.testing.assert_close(mapped(*inputs), plain)


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
    """A configuration that no layer serves says what it got."""
    with pytest.raises(ArgumentError, match=message):
        GriffinConfig(**arguments)

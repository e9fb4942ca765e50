"""Softmax attention: against the attention of torch and transformers, and the traits of its configurations."""

from typing import Any

import attrs
import pytest
import torch
from ctxblocks_attention import ctxblocks_layers
from ctxblocks_attention.attention import SelfAttention
from ctxblocks_attention.config import LocalAttentionConfig, SelfAttentionConfig
from ctxblocks_attention.local import LocalAttention
from ctxblocks_attention.reference import multihead_attention, reference, transformers_attention
from hypothesis import given, settings, strategies as st
from layers.definitions import METHODS, SEEDS, UNIT, arguments, draw, draw_weights
from torch import Tensor

from ctxblocks import ArgumentError

SPECS = {spec.name: spec for spec in ctxblocks_layers()}
EXAMPLES = [config for spec in SPECS.values() for config in spec.examples]


def build(config: SelfAttentionConfig, seed: int, chunk: int = 3, block: int = 2) -> SelfAttention:
    """The layer with short chunks and blocks, its weights and biases drawn from the seed."""
    layer = LocalAttention(config) if isinstance(config, LocalAttentionConfig) else SelfAttention(config)
    draw_weights(layer, seed)
    layer.chunk, layer.tile, layer.narrow = chunk, chunk, seed % 2 * layer.narrow  # both kinds of running averages
    if isinstance(layer, LocalAttention):
        layer.block = block
    return layer


def magnitude(layer: SelfAttention, tokens: Tensor) -> float:
    """`(1 + max|s|) ‖W_o‖∞ max|v|`: an error of `u` in scores and values moves the output by no more than `2u` times this."""
    q, k, v = (projection(tokens).detach().abs().amax() for projection in (layer.q_proj, layer.k_proj, layer.v_proj))
    return float((1 + q * k * layer.head_width**0.5) * (1 + layer.projection.weight.detach().abs().sum(-1).amax() * v))


@pytest.mark.parametrize("bias", [False, True])
def test_is_multihead_attention_of_torch(bias: bool) -> None:
    """A sequence is `nn.MultiheadAttention` under a causal mask, and a call is its last row."""
    layer = build(SelfAttentionConfig(width=8, bias=bias), seed=1).double()
    tokens = draw(2, 3, 11, 8).double()
    wanted = multihead_attention(layer)(tokens)
    bound = 2 * (8 + 11) * UNIT[torch.float64] * magnitude(layer, tokens)
    assert (layer.sequence(tokens) - wanted).abs().max() <= bound
    assert (layer(tokens[:, -1], tokens[:, :-1]) - wanted[:, -1]).abs().max() <= bound


@pytest.mark.parametrize("config", SPECS["self-attention"].examples)
def test_is_llama_attention(config: SelfAttentionConfig) -> None:
    """Heads of any width, grouped keys and rotary positions are those of Llama.

    The weights of n tokens are off by n + 4 round-offs. Llama's angles are in float32: each is off by at most 3n of its
    round-offs, its cosine and sine by 3n + 1, a rotated query and key by twice that and a score by four times.
    """
    layer = build(config, seed=3).double()
    tokens = draw(4, 2, 9, config.width).double()
    wanted = transformers_attention(layer)(tokens)
    rotary = config.positions == "rotary"
    unit = 4 * (3 * 9 + 1) * UNIT[torch.float32] if rotary else (9 + 4) * UNIT[torch.float64]
    bound = 2 * unit * magnitude(layer, tokens)
    assert (layer.sequence(tokens) - wanted).abs().max() <= bound
    assert (layer(tokens[:, -1], tokens[:, :-1]) - wanted[:, -1]).abs().max() <= bound


def test_rotary_base_is_that_of_llama() -> None:
    """Another base gives Llama's rotation with that base, and not with the default one."""
    config = SelfAttentionConfig(width=8, heads=2, positions="rotary", rotary_base=50.0)
    layer, usual = (build(c, seed=5).double() for c in (config, attrs.evolve(config, rotary_base=10_000.0)))
    tokens = draw(6, 1, 9, 8).double()
    bound = 8 * (3 * 9 + 1) * UNIT[torch.float32] * magnitude(layer, tokens)
    assert (layer.sequence(tokens) - transformers_attention(layer)(tokens)).abs().max() <= bound
    assert (layer.sequence(tokens) - transformers_attention(usual)(tokens)).abs().max() > bound


@pytest.mark.parametrize("window", [1, 3, 20])
def test_is_mistral_attention(window: int) -> None:
    """Sliding windows are Mistral's, whose window counts the token itself."""
    config = LocalAttentionConfig(width=8, heads=4, kv_heads=2, window=window, positions="rotary")
    layer = build(config, seed=7).double()
    tokens = draw(8, 2, 13, 8).double()
    wanted = transformers_attention(layer)(tokens)
    bound = 8 * (3 * 13 + 1) * UNIT[torch.float32] * magnitude(layer, tokens)
    assert (layer.sequence(tokens) - wanted).abs().max() <= bound
    assert (layer(tokens[:, -1], tokens[:, :-1]) - wanted[:, -1]).abs().max() <= bound


@pytest.mark.parametrize(
    "config",
    [
        SelfAttentionConfig(width=8, positions="rotary"),
        SelfAttentionConfig(width=8, kv_heads=2),
        SelfAttentionConfig(width=8, head_width=4),
        LocalAttentionConfig(width=8),
    ],
)
def test_multihead_attention_refuses_what_torch_lacks(config: SelfAttentionConfig) -> None:
    """Positions, grouped keys, other head widths and windows are refused; the error names the alternative."""
    layer = build(config, seed=9)
    with pytest.raises(
        ArgumentError,
        match=r"multihead_attention: got a \w+ with heads=4.*needs a SelfAttention.*transformers_attention",
    ):
        multihead_attention(layer)


@pytest.mark.parametrize("config", EXAMPLES)
def test_calls_with_no_tokens(config: SelfAttentionConfig) -> None:
    """With no tokens the query attends to itself alone: `A(x) = W_o W_v x`, biases included."""
    layer = build(config, seed=11).double()
    query = draw(12, 4, config.width).double()
    values = layer.v_proj(query).unflatten(-1, (layer.kv_heads, -1))
    wanted = layer.projection(values.repeat_interleave(layer.heads // layer.kv_heads, dim=-2).flatten(-2))
    bound = 2 * config.width * UNIT[torch.float64] * magnitude(layer, query)
    empty = query.new_empty(4, 0, config.width)
    for rows in (layer(query, empty), layer.prefixes(query, empty)[:, 0], layer.suffixes(query, empty)[:, 0]):
        assert (rows - wanted).abs().max() <= bound
    assert layer.sequence(empty).shape == empty.shape


@settings(deadline=None, max_examples=30)
@given(config=st.sampled_from(SPECS["local-attention"].examples), n=st.integers(0, 12), seed=SEEDS)
def test_tokens_outside_the_window_change_no_bit(config: LocalAttentionConfig, n: int, seed: int) -> None:
    """The output depends on the last `window` tokens only, bit for bit."""
    layer = build(config, seed)
    query, near = draw(seed, config.width), draw(seed + 1, config.window, config.width)
    far = 1e3 * draw(seed + 2, n, config.width)
    assert torch.equal(layer(query, torch.cat((far, near))), layer(query, near))


@pytest.mark.parametrize("name", list(SPECS))
def test_a_skip_adds_the_query(name: str) -> None:
    """With `skip=True` every method adds the query to its output, and `has_skip` is true."""
    config = attrs.evolve(SPECS[name].examples[0], skip=True)
    plain, layer = build(attrs.evolve(config, skip=False), 13), build(config, 13)
    assert layer.has_skip
    assert not plain.has_skip
    for method in METHODS:
        inputs = arguments(method, config.width, 6, 14)
        added = inputs[0] if method in ("causal", "sequence") else inputs[0][None]
        assert torch.equal(getattr(layer, method)(*inputs), added + getattr(plain, method)(*inputs))
    query, context = arguments("prefixes", config.width, 6, 14)
    assert torch.equal(layer(query, context), query + plain(query, context))
    assert torch.equal(reference(layer)(context[None]), context + reference(plain)(context[None]))


@pytest.mark.parametrize("config", EXAMPLES)
def test_traits_hold(config: SelfAttentionConfig) -> None:
    """The order of tokens matters only with rotary positions or a window; the window is a trait."""
    window = config.window if isinstance(config, LocalAttentionConfig) else None
    traits = SPECS["self-attention" if window is None else "local-attention"].traits(config)
    layer = build(config, 19).double()
    query, context = (x.double() for x in arguments("prefixes", config.width, 6, 20))
    moved = (layer(query, context.flip(0)) - layer(query, context)).abs().max()
    noise = 8 * (config.width + 6) * UNIT[torch.float64] * magnitude(layer, torch.cat((query[None], context)))
    assert (traits.positional, traits.permutation_invariant) == (bool(moved > noise), bool(moved <= noise))
    assert traits.windowed == window


def test_a_configuration_needs_a_width_only() -> None:
    """By default 4 heads, or 1 where 4 does not divide the width, and as many heads of keys as of queries."""
    assert SelfAttentionConfig(width=12).shape() == (4, 3, 4)
    assert LocalAttentionConfig(width=6).shape() == (1, 6, 1)
    assert SelfAttentionConfig(width=3, heads=8, head_width=32, kv_heads=2).shape() == (8, 32, 2)


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        (SelfAttentionConfig, {"width": 0}, "width: got 0, needs an integer ≥ 1"),
        (SelfAttentionConfig, {"width": 4, "heads": 2.0}, "heads: got 2.0, needs an integer ≥ 1"),
        (SelfAttentionConfig, {"width": 8, "heads": 3}, "heads: got 3 for width 8, needs a divisor .* head_width=2"),
        (SelfAttentionConfig, {"width": 8, "kv_heads": 3}, "kv_heads: got 3, needs a divisor of heads = 4"),
        (
            SelfAttentionConfig,
            {"width": 4, "positions": "alibi"},
            "positions: got 'alibi', needs one of 'none', 'rotary'",
        ),
        (SelfAttentionConfig, {"width": 3, "positions": "rotary"}, "head_width: got 3 .* even .* head_width=4"),
        (SelfAttentionConfig, {"width": 4, "rotary_base": 0.0}, "rotary_base: got 0.0, needs more than 0"),
        (LocalAttentionConfig, {"width": 4, "window": 0}, "window: got 0, needs an integer ≥ 1"),
    ],
)
def test_a_configuration_that_cannot_be_built_says_why(
    config: type[SelfAttentionConfig], arguments: dict[str, Any], message: str
) -> None:
    """The message names the field, its value, what is needed and what to do."""
    with pytest.raises(ArgumentError, match=message):
        config(**arguments)

"""The delta rule: against Qwen3-Next's gated delta rule and its own recurrence."""

from typing import Any

import ctxblocks_linear_attention
import pytest
import torch
import torch.nn.functional as F
from ctxblocks_linear_attention.config import DeltaRuleConfig
from ctxblocks_linear_attention.delta import DeltaRule
from ctxblocks_linear_attention.reference import gated_delta_rule
from hypothesis import given, settings, strategies as st
from layers.definitions import SEEDS, UNIT, assert_as_defined, draw, draw_weights
from torch import Tensor
from transformers.models.qwen3_next.modeling_qwen3_next import torch_recurrent_gated_delta_rule

from ctxblocks import ArgumentError, ContextualLayer

SPEC = next(spec for spec in ctxblocks_linear_attention.ctxblocks_layers() if spec.name == "delta-rule")
CONFIGS = st.sampled_from(SPEC.examples)


def small(config: DeltaRuleConfig, chunk: int, seed: int) -> DeltaRule:
    """The layer with short chunks, its weights drawn from the seed."""
    layer = DeltaRule(config)
    draw_weights(layer, seed)
    layer.chunk, layer.running_chunk = chunk, chunk
    return layer


def bare(gated: bool, seed: int) -> tuple[DeltaRule, Tensor, dict[str, Tensor]]:
    """A float64 layer of two heads that ends in the identity, 23 tokens, and the rule's tensors of them."""
    layer = small(DeltaRuleConfig(width=6, heads=2, gated=gated), 5, seed).double()
    layer.projection.weight.data = torch.eye(6, dtype=torch.float64)
    tokens = draw(seed, 2, 23, 6).double()
    return layer, tokens, rule_tensors(layer, tokens)


def rule_tensors(layer: DeltaRule, tokens: Tensor) -> dict[str, Tensor]:
    """Unit queries and keys, values, log gates and rates of the tokens, `(batch, n, heads, …)`."""
    q, k, v = (maps(tokens).unflatten(-1, (layer.heads, -1)) for maps in (layer.query, layer.key, layer.value))
    q, k = (x / torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-6) for x in (q, k))
    g = torch.zeros_like(q[..., 0])
    if layer.gate is not None and layer.log_decay is not None:
        g = -layer.log_decay.exp() * F.softplus(layer.gate(tokens))
    return {"query": q, "key": k, "value": v, "g": g, "beta": torch.sigmoid(layer.rate(tokens))}


def literal(query: Tensor, key: Tensor, value: Tensor, g: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """`S ← α S (I − β k kᵀ) + β v kᵀ`, token by token, with the output `S q/√e` after each step; and the largest ‖S‖."""
    state = torch.zeros(*value.shape[:1], *value.shape[2:], key.shape[-1], dtype=value.dtype)
    rows, largest = [], torch.zeros((), dtype=value.dtype)
    for t in range(query.shape[1]):
        q, k, v = (x[:, t].unsqueeze(-1) for x in (query, key, value))  # (batch, heads, e, 1)
        rate, gate = beta[:, t, :, None, None], g[:, t, :, None, None].exp()
        identity = torch.eye(key.shape[-1], dtype=value.dtype)
        state = gate * state @ (identity - rate * k @ k.mT) + rate * v @ k.mT
        largest = torch.maximum(largest, torch.linalg.matrix_norm(state).max())
        rows.append((state @ q).squeeze(-1) * key.shape[-1] ** -0.5)
    return torch.stack(rows, dim=1), largest


def rounding(unit: float, tokens: int, width: int, largest: Tensor) -> Tensor:
    """How far two ways of the recurrence may differ.

    No step amplifies an error (‖α (I − β k kᵀ)‖ ≤ 1), and each adds at most `(2e + 8) u` times the norm of the state by its
    products of length `e`; the query has length `1/√e ≤ 1`.
    """
    return 2 * tokens * (2 * width + 8) * unit * largest


@pytest.mark.parametrize("gated", [False, True])
def test_against_the_literal_recurrence(gated: bool) -> None:
    """In float64 `sequence`, and `forward` for each row, are the recurrence carried out token by token."""
    layer, tokens, given_tensors = bare(gated, seed=11)
    expected, largest = literal(**given_tensors)
    bound = rounding(UNIT[torch.float64], 23, 3, largest)
    assert (layer.sequence(tokens) - expected.flatten(2)).abs().max() <= bound
    assert (ContextualLayer.sequence(layer, tokens) - expected.flatten(2)).abs().max() <= bound


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("chunks", [False, True])
def test_against_qwen3_next(chunks: bool, gated: bool) -> None:
    """With the same q, k, v, g and β the layer is Qwen3-Next's rule, up to rounding in float32, which the latter uses."""
    layer, tokens, given_tensors = bare(gated, seed=7)
    steps = torch_recurrent_gated_delta_rule(**given_tensors)[0].flatten(2)
    expected = gated_delta_rule(layer)(tokens) if chunks else steps
    _, largest = literal(**given_tensors)
    bound = rounding(UNIT[torch.float32], 23, 3, largest)
    assert (layer.sequence(tokens) - expected).abs().max() <= bound
    assert bound < 1e-3 * expected.abs().max()  # the bound is much smaller than the outputs


def test_a_closed_gate_forgets() -> None:
    """After a gate that closes within a chunk, products are accurate: none is a difference of large sums."""
    layer = small(DeltaRuleConfig(width=4, heads=1, gated=True), 8, 2)
    assert layer.gate is not None
    layer.gate.weight.data.zero_()
    layer.gate.weight.data[0, 0] = 1.0
    context = draw(3, 7, 4)
    context[3, 0] = 1e5
    context[4:, 0] = -3.0
    for dtype in (torch.float32, torch.float64):
        assert_as_defined(layer, "prefixes", [draw(4, 4), context], dtype, gradients=False)
        assert_as_defined(layer, "sequence", [context], dtype, gradients=False)


@settings(deadline=None, max_examples=15)
@given(config=CONFIGS, seed=SEEDS)
def test_order_counts(config: DeltaRuleConfig, seed: int) -> None:
    """The trait `positional`: reversing a context changes the output by more than rounding."""
    assert SPEC.traits(config).positional
    layer = small(config, 4, seed).double()
    x, context = draw(seed, config.width).double(), draw(seed + 1, 4, config.width).double()
    outputs = layer(x, context), layer(x, context.flip(0))
    assert (outputs[0] - outputs[1]).abs().max() > 1e3 * UNIT[torch.float64] * outputs[0].abs().max()


def test_repeating_a_token_writes_nothing_new() -> None:
    """At rate 1 a token that occurs again does not change the state."""
    layer = small(DeltaRuleConfig(width=4, heads=1, bias=True), 4, 9).double()
    assert layer.rate.bias is not None
    layer.rate.bias.data.fill_(50.0)
    x, token = draw(1, 4).double(), draw(2, 1, 4).double()
    once, often = layer(x, token), layer(x, token.expand(9, 4))
    shortfall = 1e-6 / (layer.key(token) ** 2).sum()  # half of it is missing from the length 1 of keys
    assert (once - often).abs().max() <= 4 * shortfall.item() * layer.value(token).abs().sum().item()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "width=0"),
        ({"width": 4, "head_width": 0}, "head_width=0"),
        ({"width": 3, "heads": 4}, "head width"),
    ],
)
def test_refused_configurations(arguments: dict[str, Any], message: str) -> None:
    """The message names the field and its value."""
    with pytest.raises(ArgumentError, match=message):
        DeltaRuleConfig(**arguments)

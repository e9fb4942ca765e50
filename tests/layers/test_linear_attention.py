"""Linear attention: against lightning attention of transformers, its limits, and the traits of its configurations."""

import math
from collections.abc import Callable, Iterator

import ctxblocks_linear_attention
import pytest
import torch
import torch.nn.functional as F
from ctxblocks_linear_attention.config import LinearAttentionConfig
from ctxblocks_linear_attention.linear import LinearAttention
from ctxblocks_linear_attention.reference import lightning_attention
from hypothesis import given, settings, strategies as st
from layers.definitions import SEEDS, UNIT, draw, draw_weights
from torch import Tensor

from ctxblocks import ArgumentError, ContextualLayer

SPEC = next(spec for spec in ctxblocks_linear_attention.ctxblocks_layers() if spec.name == "linear-attention")
CONFIGS = st.sampled_from(SPEC.examples)
MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": lambda x: F.elu(x) + 1,
    "relu": F.relu,
    "softplus": F.softplus,
    "identity": lambda x: x,
}


def small(config: LinearAttentionConfig, chunk: int, seed: int) -> LinearAttention:
    """The layer with short chunks, its weights drawn from the seed."""
    layer = LinearAttention(config)
    draw_weights(layer, seed)
    layer.chunk, layer.running_chunk, layer.block = chunk, chunk, 2 * chunk + 1
    return layer


def weighted(q: Tensor, k: Tensor, v: Tensor, decays: tuple[float, ...] | None) -> Tensor:
    """`Σ_{j ≤ i} γ^(i−j) (q_i·k_j) v_j` of tensors `(batch, n, heads, e)`, term by term."""
    lag = torch.arange(v.shape[1])[:, None] - torch.arange(v.shape[1])
    base = torch.tensor(decays or (1.0,), dtype=v.dtype)[:, None, None]
    weights = torch.einsum("bihe,bjhe->bhij", q, k) * (base ** lag.clamp(min=0)).tril()
    return torch.einsum("bhij,bjhe->bihe", weights, v)


@pytest.mark.parametrize(
    ("features", "normalize"),
    [("elu", True), ("relu", True), ("softplus", True), ("elu", False), ("relu", False), ("identity", False)],
)
@pytest.mark.parametrize("decay", [None, (0.9, 0.6)])
def test_against_lightning_attention(features: str, normalize: bool, decay: tuple[float, ...] | None) -> None:
    """The layer is MiniMax's lightning attention on its features, divided by the same with all values 1."""
    config = LinearAttentionConfig(width=6, heads=2, head_width=5, features=features, normalize=normalize, decay=decay)
    layer = small(config, chunk=3, seed=5).double()
    tokens = draw(1, 2, 11, 6).double()
    expected = lightning_attention(layer, block=4)(tokens)
    q, k = (MAPS[features](m(tokens).reshape(2, 11, 2, 5)).abs() for m in (layer.query, layer.key))
    magnitude = weighted(q, k, layer.value(tokens).reshape(2, 11, 2, 5).abs(), decay)
    if normalize:
        sums = weighted(q, k, torch.ones(2, 11, 2, 1).double(), decay)
        magnitude = torch.where(sums > 0, magnitude / sums, 0)
    bound = 4 * (11 + 5) * UNIT[torch.float64] * (magnitude.flatten(2) @ layer.projection.weight.abs().T)
    assert ((layer.sequence(tokens) - expected).abs() <= bound).all()
    assert ((ContextualLayer.sequence(layer, tokens) - expected).abs() <= bound).all()


def silent(features: str) -> Iterator[tuple[LinearAttention, Tensor, Tensor]]:
    """Layers, queries and contexts whose features are all zero, or so small that their products underflow."""
    depth = {"relu": -1.0, "elu": -400.0, "softplus": -400.0}[features]
    for decay in (None, 0.5):
        layer = LinearAttention(LinearAttentionConfig(width=4, heads=1, features=features, decay=decay))
        for parameter in (layer.query.weight, layer.key.weight):
            parameter.data = depth * torch.eye(4)
        yield layer, torch.ones(4, requires_grad=True), torch.ones(3, 4, requires_grad=True)


@pytest.mark.parametrize("features", ["relu", "elu", "softplus"])
def test_silent_features_give_zero(features: str) -> None:
    """Where all weights are 0, the output of every method is 0, not 0/0, and gradients are finite."""
    for layer, query, context in silent(features):
        outputs = [layer(query, context), layer.prefixes(query, context), layer.suffixes(query, context)]
        outputs += [layer.sequence(context), lightning_attention(layer)(context[None])[0]]
        for output in outputs:
            assert (output == 0).all()
            slopes = torch.autograd.grad(output.sum(), [query, context, *layer.parameters()], allow_unused=True)
            assert all(each is None or each.isfinite().all() for each in slopes)


def test_elu_features_keep_their_digits() -> None:
    """Far below zero `elu(x) + 1` is eˣ to rounding, where the plain sum has no correct digit."""
    layer = LinearAttention(LinearAttentionConfig(width=1, heads=1, normalize=False))
    for parameter in layer.parameters():
        parameter.data.fill_(1.0)
    x, c = torch.tensor([1.0]), torch.tensor([[-20.0]])
    delta = layer(x, c) - layer(x, c[:0])  # φ(1) φ(−20) · (−20)
    assert layer(-20 * x, c[:0]).item() == pytest.approx(-20 * math.exp(-40), rel=1e-6, abs=0)
    assert delta.item() == pytest.approx(-40 * torch.exp(torch.tensor(-20.0)).item(), abs=2 * UNIT[torch.float32] * 4)


@settings(deadline=None, max_examples=20)
@given(config=CONFIGS, seed=SEEDS)
def test_traits_hold(config: LinearAttentionConfig, seed: int) -> None:
    """The traits are true, and where additivity or permutation invariance is not claimed, it fails."""
    traits = SPEC.traits(config)
    layer = small(config, 4, seed).double()
    x, first, second = (
        draw(seed, config.width).double(),
        draw(seed + 1, 3, config.width),
        draw(seed + 2, 2, config.width),
    )
    first, second = first.double(), second.double()
    both = torch.cat([first, second])
    base = layer(x, both[:0])
    joint, parts = layer(x, both) - base, layer(x, first) + layer(x, second) - 2 * base
    scale = sum(each.abs().max() for each in (layer(x, both), layer(x, first), layer(x, second), base))
    rounding = 64 * UNIT[torch.float64] * scale
    assert ((joint - parts).abs().max() <= rounding) == traits.additive
    reversed_ = (layer(x, both.flip(0)) - layer(x, both)).abs().max()
    assert (reversed_ <= rounding) == traits.permutation_invariant
    assert traits.positional != traits.permutation_invariant


def test_identity_features_need_no_normaliser() -> None:
    """Identity features with normalisation are refused, since the sum of their products may be 0."""
    with pytest.raises(ArgumentError, match="normalize=False"):
        LinearAttentionConfig(width=4, features="identity")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "width=0"),
        ({"width": 4, "heads": 0}, "heads=0"),
        ({"width": 3, "heads": 4}, "head width of at least 1"),
        ({"width": 4, "features": "cosine"}, "'cosine'"),
        ({"width": 4, "decay": (0.5, 0.5)}, "2 decays for 4 heads"),
        ({"width": 4, "decay": 1.0}, "0 < decay < 1"),
    ],
)
def test_refused_configurations(arguments: dict[str, object], message: str) -> None:
    """The message names the field and its value."""
    with pytest.raises(ArgumentError, match=message):
        LinearAttentionConfig(**arguments)  # type: ignore[arg-type]


def test_defaults() -> None:
    """Four heads, or one where four does not divide the width."""
    assert LinearAttentionConfig(width=8).head_shape == (4, 2)
    assert LinearAttentionConfig(width=6).head_shape == (1, 6)
    assert LinearAttentionConfig(width=3, heads=8, head_width=32).head_shape == (8, 32)
    assert LinearAttentionConfig(width=8, decay=0.5).decays == (0.5,) * 4

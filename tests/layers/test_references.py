"""References: another library's implementation of each layer equals its `sequence`, within the rounding of both."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from layers import test_attention, test_delta_rule, test_griffin, test_linear_attention, test_rnn, test_ssm
from layers.definitions import UNIT, draw, draw_weights
from torch import Tensor

import ctxblocks
from ctxblocks import LayerSpec

SINGLE = UNIT[torch.float32]


def attention(layer: Any, tokens: Tensor) -> float:
    """Products of d, inner and n terms; angles in float32 put a score off by four times `3n + 1`."""
    n = tokens.shape[1]
    angles = 0 if layer.rotary_base is None else 4 * (3 * n + 1) * SINGLE
    terms = layer.width + layer.projection.in_features + n
    return 2 * (terms * UNIT[tokens.dtype] + angles) * test_attention.magnitude(layer, tokens)


def recurrent(layer: Any, tokens: Tensor) -> float:
    """Products of d and hidden terms in each step."""
    return test_rnn.tolerance(layer, tokens.shape[1], layer.sequence(tokens))


def linear_attention(layer: Any, tokens: Tensor) -> Tensor:
    """Products of d, e, n and inner terms; φ does not amplify errors of `W t`, which are bounded by `|W| |t|`."""
    weighted, decays = test_linear_attention.weighted, layer.config.decays
    sizes = (F.linear(tokens.abs(), *(p.abs() for p in m.parameters())) for m in (layer.query, layer.key, layer.value))
    features = (test_linear_attention.MAPS[layer.config.features](m(tokens)) for m in (layer.query, layer.key))
    q_size, k_size, v_size, q, k = (x.unflatten(-1, (layer.heads, -1)) for x in (*sizes, *features))
    total = weighted(q.abs() + q_size, k.abs() + k_size, v_size, decays)
    if layer.config.normalize:
        total = 2 * total / weighted(q, k, torch.ones_like(v_size[..., :1]), decays)
    terms = layer.width + layer.head_width + tokens.shape[1] + layer.projection.in_features
    return 4 * terms * UNIT[tokens.dtype] * (total.flatten(2) @ layer.projection.weight.abs().T)


def delta_rule(layer: Any, tokens: Tensor) -> Tensor:
    """Products of inner terms, at least as many as e, in float32, which the reference uses."""
    _, largest = test_delta_rule.literal(**test_delta_rule.rule_tensors(layer, tokens))
    bound = test_delta_rule.rounding(SINGLE, tokens.shape[1], layer.projection.in_features, largest)
    return bound * layer.projection.weight.abs().sum(-1)


def griffin(layer: Any, tokens: Tensor) -> Tensor:
    """States in float32; in float32 also products of d, conv and e terms, and an error of one round-off in `1 − a²`."""
    roundings = 4 * tokens.shape[1]
    if tokens.dtype == torch.float32:
        conv, inner = layer.config.conv, layer.config.state_width
        padded = F.pad(layer.linear_x(tokens).mT, (conv - 1, 0))
        u = F.conv1d(padded, layer.conv_weight.unsqueeze(1), layer.conv_bias, groups=inner).mT
        lost = 1 - torch.exp(2 * layer.lru(u)[0])
        roundings = roundings * (layer.width + conv + inner + float((1 / lost).detach().max()))
    return roundings * SINGLE * test_griffin.magnitude(layer, tokens)


def ssm(layer: Any, tokens: Tensor) -> float:
    """The reference computes its scan and norm in float32."""
    return test_ssm.tolerance(layer, tokens.shape[1], SINGLE)


BOUNDS: dict[str, Callable[[Any, Tensor], Tensor | float]] = {
    "self-attention": attention,
    "local-attention": attention,
    "rnn": recurrent,
    "gru": recurrent,
    "lstm": recurrent,
    "linear-attention": linear_attention,
    "delta-rule": delta_rule,
    "griffin": griffin,
    "ssm": ssm,
}
LAYERS = ctxblocks.registry().layers
CASES = [
    pytest.param(spec, config, id=f"{name}-{i}")
    for name, spec in LAYERS.items()
    if spec.reference is not None
    for i, config in enumerate([*spec.examples, *(spec.config(width=8, **options) for options in spec.benchmarks)])
]


def drawn(spec: LayerSpec, config: Any) -> Any:
    """The layer with drawn weights, except recurrent layers, whose bound needs steps that contract."""
    layer = spec.build(config)
    if BOUNDS[spec.name] is not recurrent:
        draw_weights(layer, seed=5)
    return layer


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("spec", "config"), CASES)
def test_a_reference_is_the_sequence(spec: LayerSpec, config: Any, dtype: torch.dtype) -> None:
    """With the same weights both give the same outputs, in the dtype of the layer and independent of earlier calls."""
    assert spec.reference is not None
    layer = drawn(spec, config).to(dtype)
    theirs = spec.reference(layer)
    calls = [draw(n, 2, n, config.width).to(dtype) for n in (1, 7, 40)]
    outputs = [theirs(tokens) for tokens in calls]
    for tokens, output in zip(calls, outputs, strict=True):
        assert output.dtype == dtype
        assert ((output - layer.sequence(tokens)).abs() <= BOUNDS[spec.name](layer, tokens)).all()
        assert torch.equal(theirs(tokens), output)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_reference_keeps_the_weights_it_was_made_with(name: str) -> None:
    """Every bundled layer has a reference, and later changes of the layer do not affect it."""
    layer, tokens = LAYERS[name].build(LAYERS[name].config(width=8)), draw(1, 2, 7, 8)
    reference = LAYERS[name].reference
    assert reference is not None
    theirs = reference(layer)
    before = theirs(tokens)
    for parameter in layer.parameters():
        parameter.data.zero_()
    assert torch.equal(theirs(tokens), before)


@pytest.mark.parametrize("name", BOUNDS)
def test_only_a_reference_needs_its_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without transformers all layers work; references from transformers raise ImportError, those of torch work."""
    for module in [each for each in sys.modules if each.partition(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "transformers", None)
    layer, tokens = LAYERS[name].build(LAYERS[name].config(width=8)), draw(1, 2, 7, 8)
    reference = LAYERS[name].reference
    assert reference is not None
    assert layer.sequence(tokens).shape == tokens.shape
    if name in ("self-attention", "rnn", "gru", "lstm"):
        assert reference(layer)(tokens).shape == tokens.shape
    else:
        with pytest.raises(ImportError, match="transformers"):
            reference(layer)

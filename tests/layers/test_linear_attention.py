"""Linear attention: against lightning attention of transformers, and its fast paths against their definitions."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import ctxblocks_linear_attention
import pytest
import torch
import torch.nn.functional as F
from ctxblocks_linear_attention._config import LinearAttentionConfig
from ctxblocks_linear_attention._linear import LinearAttention
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.models.minimax.configuration_minimax import MiniMaxConfig
from transformers.models.minimax.modeling_minimax import MiniMaxLightningAttention

from ctxblocks import ArgumentError, ContextualLayer

UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8}
SPEC = next(spec for spec in ctxblocks_linear_attention.ctxblocks_layers() if spec.name == "linear-attention")
METHODS = ("causal", "prefixes", "suffixes", "sequence")
CONFIGS = st.sampled_from(SPEC.examples)
SEEDS = st.integers(0, 2**31 - 1)


def draw(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """A float32 tensor that float64 holds exactly."""
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def arguments(method: str, width: int, n: int, seed: int, batch: tuple[int, ...], scale: float = 1.0) -> list[Tensor]:
    """What the method takes: tokens, or one query or n + 1 of them and a context."""
    context = draw(seed, *batch, n, width, scale=scale)
    if method == "sequence":
        return [context]
    rows = (n + 1,) if method == "causal" else ()
    return [draw(seed + 1, *batch, *rows, width, scale=scale), context]


def results(
    layer: ContextualLayer, function: Callable[..., Tensor], inputs: list[Tensor], gradients: bool
) -> list[Tensor]:
    """The output in float64, then the gradients of a fixed weighted sum of it, for inputs and parameters."""
    leaves = [x.clone().requires_grad_(gradients) for x in inputs]
    output = function(*leaves)
    if not gradients or not output.numel():
        return [output.detach().double()]
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    found = torch.autograd.grad((output * weights).sum(), [*leaves, *layer.parameters()], allow_unused=True)
    kept = [
        torch.zeros_like(x) if each is None else each
        for x, each in zip([*leaves, *layer.parameters()], found, strict=True)
    ]
    return [output.detach().double(), *(each.double() for each in kept)]


def assert_as_defined(
    layer: ContextualLayer, method: str, inputs: list[Tensor], dtype: torch.dtype, gradients: bool = True
) -> None:
    """Hold a fast path to its definition, both in `dtype`, by the errors that the definition itself makes.

    `‖fast − exact‖ ≤ 8 max‖def − exact‖ + 8u max|exact|`. In float64 the definition's error is that of float32 times the
    ratio of their round-offs, since rounding errors grow in proportion to the round-off.
    """
    wide, measured = copy.deepcopy(layer).double(), torch.float32 if dtype == torch.float64 else dtype
    narrow, fast = copy.deepcopy(layer).to(measured), copy.deepcopy(layer).to(dtype)
    cast = [[x.to(kind) for x in inputs] for kind in (torch.float64, measured, dtype)]
    if dtype not in (torch.float32, torch.float64):
        wide = copy.deepcopy(fast).double()
        cast[0] = [x.double() for x in cast[2]]
    define = getattr(ContextualLayer, method)
    exact = results(wide, lambda *a: define(wide, *a), cast[0], gradients)
    slow = results(narrow, lambda *a: define(narrow, *a), cast[1], gradients)
    quick = results(fast, getattr(fast, method), cast[2], gradients)
    assert [each.shape for each in quick] == [each.shape for each in exact]
    for part in (
        slice(0, 1),
        slice(1, None),
    ):  # the output; all gradients together, since some are zero but for rounding
        e, s, q = (
            torch.cat([each.flatten() for each in found[part]] or [torch.zeros(0)]) for found in (exact, slow, quick)
        )
        if e.numel():
            error = (s - e).abs().max() * UNIT[dtype] / UNIT[measured]
            assert (q - e).abs().max() <= 8 * error + 8 * UNIT[dtype] * e.abs().max(), (method, part)


def small(config: LinearAttentionConfig, chunk: int, seed: int) -> LinearAttention:
    """The layer with short chunks, its weights drawn from the seed."""
    layer = LinearAttention(config)
    for index, parameter in enumerate(layer.parameters()):
        parameter.data = draw(seed + index, *parameter.shape) / parameter.shape[-1] ** 0.5
    layer.chunk, layer.running_chunk, layer.block = chunk, chunk, 2 * chunk + 1
    return layer


class Zero(nn.Module):
    """Maps everything to one zero."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(1)


def lightning(q: Tensor, k: Tensor, v: Tensor, decays: tuple[float, ...] | None) -> Tensor:
    """MiniMax's lightning attention on given queries, keys and values `(batch, n, heads, e)`, its dense maps put aside."""
    heads, e = v.shape[-2:]
    k, q = (F.pad(x, (0, e - x.shape[-1])) for x in (k, q))
    theirs: Any = MiniMaxLightningAttention(
        MiniMaxConfig(
            hidden_size=heads * e,
            num_attention_heads=heads,
            head_dim=e,
            block_size=4,
            layer_types=["linear_attention"] * 2,
            num_hidden_layers=2,
        ),
        layer_idx=0,
    )
    theirs.qkv_proj = theirs.act_fn = theirs.norm = theirs.out_proj = nn.Identity()
    theirs.output_gate = Zero()  # whose sigmoid is 1/2
    slopes = [1e-300] * heads if decays is None else [-math.log(each) for each in decays]  # 0 would undo their mask
    theirs.slope_rate = torch.tensor(slopes, dtype=torch.float64)[:, None, None]
    theirs.query_decay, theirs.key_decay, theirs.diagonal_decay = theirs.decay_factors(theirs.slope_rate)
    output, _ = theirs(torch.cat([q, k, v], dim=-1).flatten(2), None, None)
    doubled: Tensor = 2 * output
    return doubled.reshape(*v.shape)


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
    maps: dict[str, Callable[[Tensor], Tensor]] = {
        "elu": lambda x: F.elu(x) + 1,
        "relu": F.relu,
        "softplus": F.softplus,
        "identity": lambda x: x,
    }
    q, k = (maps[features](m(tokens).reshape(2, 11, 2, 5)) for m in (layer.query, layer.key))
    v = F.pad(layer.value(tokens).reshape(2, 11, 2, 5), (0, 1), value=1.0)
    totals = lightning(q, k, v, decay)
    heads = totals[..., :-1]
    if normalize:
        heads = torch.where(totals[..., -1:] > 0, heads / totals[..., -1:], 0)
    expected = layer.projection(heads.flatten(2))
    magnitude = lightning(q.abs(), k.abs(), v.abs(), decay)[..., :-1]
    if normalize:
        magnitude = torch.where(totals[..., -1:] > 0, magnitude / totals[..., -1:], 0)
    bound = 4 * (11 + 5) * UNIT[torch.float64] * (magnitude.flatten(2) @ layer.projection.weight.abs().T)
    assert ((layer.sequence(tokens) - expected).abs() <= bound).all()
    assert ((ContextualLayer.sequence(layer, tokens) - expected).abs() <= bound).all()


@settings(deadline=None, max_examples=60)
@given(
    config=CONFIGS,
    method=st.sampled_from(METHODS),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    n=st.integers(0, 20),
    chunk=st.integers(2, 7),
    batch=st.sampled_from([(), (2,), (2, 1)]),
    seed=SEEDS,
)
def test_fast_paths_agree_with_their_definitions(
    config: LinearAttentionConfig,
    method: str,
    dtype: torch.dtype,
    n: int,
    chunk: int,
    batch: tuple[int, ...],
    seed: int,
) -> None:
    """Outputs and gradients of each override equal those of one forward for each row, over several chunks."""
    layer = small(config, chunk, seed)
    assert_as_defined(layer, method, arguments(method, config.width, n, seed, batch), dtype)


@settings(deadline=None, max_examples=15)
@given(config=CONFIGS, method=st.sampled_from(METHODS), n=st.integers(0, 20), seed=SEEDS)
def test_fast_paths_in_bfloat16(config: LinearAttentionConfig, method: str, n: int, seed: int) -> None:
    """In bfloat16 outputs stay within the definition's own error, and in bfloat16."""
    layer = small(config, 4, seed)
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
def test_wide_scores(config: LinearAttentionConfig, method: str, dtype: torch.dtype, seed: int) -> None:
    """Scores spread over ±1e4 neither overflow nor underflow into disagreement, and gradients stay finite."""
    layer = small(config, 5, seed)
    inputs = arguments(method, config.width, 16, seed, (2,), scale=100.0)
    assert_as_defined(layer, method, inputs, dtype, gradients=False)
    assert all(x.isfinite().all() for x in results(layer, getattr(layer, method), inputs, gradients=True))


@pytest.mark.parametrize("n", [1, 127, 128, 129, 300])
def test_default_chunks(n: int) -> None:
    """The chunk lengths as shipped serve contexts shorter and longer than one and than two chunks."""
    config = LinearAttentionConfig(width=4, heads=2, decay=(0.99, 0.8))
    layer = LinearAttention(config)
    for method in METHODS:
        assert_as_defined(layer, method, arguments(method, 4, n, n, ()), torch.float32, gradients=False)


def silent(features: str) -> Iterator[tuple[LinearAttention, Tensor, Tensor]]:
    """Layers, queries and contexts whose features are all zero, or so small that their products underflow."""
    depth = {"relu": -1.0, "elu": -60.0, "softplus": -60.0}[features]
    for decay in (None, 0.5):
        layer = LinearAttention(LinearAttentionConfig(width=4, heads=1, features=features, decay=decay))
        for parameter in (layer.query.weight, layer.key.weight):
            parameter.data = depth * torch.eye(4)
        yield layer, torch.ones(4, requires_grad=True), torch.ones(3, 4, requires_grad=True)


@pytest.mark.parametrize("features", ["relu", "elu", "softplus"])
def test_silent_features_give_zero(features: str) -> None:
    """Where all weights vanish the output is 0, not 0/0, in every method, and gradients are finite."""
    for layer, query, context in silent(features):
        outputs = [layer(query, context), layer.prefixes(query, context), layer.suffixes(query, context)]
        outputs.append(layer.sequence(context))
        for output in outputs:
            assert (output == 0).all()
            found = torch.autograd.grad(output.sum(), [query, context, *layer.parameters()], allow_unused=True)
            assert all(each is None or each.isfinite().all() for each in found)


def test_elu_features_keep_their_digits() -> None:
    """Far below zero `elu(x) + 1` is eˣ to the last digits, where the plain sum has lost all of them."""
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
    """Claims are true, and where none is made for additivity or order, the property fails."""
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
    turned = (layer(x, both.flip(0)) - layer(x, both)).abs().max()
    assert (turned <= rounding) == traits.permutation_invariant
    assert traits.positional != traits.permutation_invariant


def test_compiles_and_maps() -> None:
    """Every method traces as one graph and maps over a batch, with the results of plain calls."""
    config = LinearAttentionConfig(width=4, heads=2, decay=(0.9, 0.5))
    layer = small(config, 4, seed=3)
    for method in METHODS:
        inputs = arguments(method, 4, 10, 2, (3,))
        plain = getattr(layer, method)(*inputs)
        compiled: Callable[..., Tensor] = torch.compile(getattr(layer, method), fullgraph=True, backend="eager")
        mapped: Callable[..., Tensor] = torch.func.vmap(getattr(layer, method))
        torch.testing.assert_close(compiled(*inputs), plain)
        torch.testing.assert_close(mapped(*inputs), plain)


def test_identity_features_need_no_normaliser() -> None:
    """Identity features with a normaliser are refused: their sum may vanish."""
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
    """A configuration that no layer serves says what it got."""
    with pytest.raises(ArgumentError, match=message):
        LinearAttentionConfig(**arguments)  # type: ignore[arg-type]


def test_defaults() -> None:
    """Four heads, or one where four does not divide the width."""
    assert LinearAttentionConfig(width=8).head_shape == (4, 2)
    assert LinearAttentionConfig(width=6).head_shape == (1, 6)
    assert LinearAttentionConfig(width=3, heads=8, head_width=32).head_shape == (8, 32)
    assert LinearAttentionConfig(width=8, decay=0.5).decays == (0.5,) * 4

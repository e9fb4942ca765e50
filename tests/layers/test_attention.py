"""Softmax attention: against torch's and transformers' attention, and its fast paths against their definitions."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from ctxblocks_attention import ctxblocks_layers
from ctxblocks_attention._attention import SelfAttention
from ctxblocks_attention._config import LocalAttentionConfig, SelfAttentionConfig
from ctxblocks_attention._fused import Reads, causal_with_self
from ctxblocks_attention._local import LocalAttention
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import LlamaConfig, MistralConfig
from transformers.masking_utils import sliding_window_causal_mask_function
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding
from transformers.models.mistral.modeling_mistral import MistralAttention, MistralRotaryEmbedding

from ctxblocks import ArgumentError, ContextualLayer

UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
METHODS = ("causal", "prefixes", "suffixes", "sequence")
SPECS = {spec.name: spec for spec in ctxblocks_layers()}
EXAMPLES = [config for spec in SPECS.values() for config in spec.examples]
SEEDS = st.integers(0, 2**31 - 1)


def draw(seed: int, *shape: int) -> Tensor:
    """A float32 tensor that float64 holds exactly."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def build(config: SelfAttentionConfig, seed: int, chunk: int = 3, block: int = 2) -> SelfAttention:
    """The layer with short chunks and blocks, its weights and biases drawn from the seed."""
    layer = LocalAttention(config) if isinstance(config, LocalAttentionConfig) else SelfAttention(config)
    for index, parameter in enumerate(layer.parameters()):
        parameter.data = draw(seed + index, *parameter.shape) / parameter.shape[-1] ** 0.5
    layer.chunk = chunk
    if isinstance(layer, LocalAttention):
        layer.block = block
    return layer


def arguments(method: str, width: int, n: int, seed: int, batch: tuple[int, ...] = ()) -> list[Tensor]:
    """What the method takes: tokens, or one query or n + 1 of them and a context."""
    context = draw(seed, *batch, n, width)
    if method == "sequence":
        return [context]
    rows = (n + 1,) if method == "causal" else ()
    return [draw(seed + 1, *batch, *rows, width), context]


def results(layer: nn.Module, function: Callable[..., Tensor], inputs: list[Tensor], gradients: bool) -> list[Tensor]:
    """In float64: the output, and all gradients of a fixed weighted sum of it, side by side."""
    leaves = [x.clone().requires_grad_(gradients) for x in inputs]
    output = function(*leaves)
    if not gradients or not output.numel():
        return [output.detach().double()]
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    found = torch.autograd.grad((output * weights).sum(), [*leaves, *layer.parameters()])
    return [output.detach().double(), torch.cat([each.flatten().double() for each in found])]


def check_against_definition(
    layer: SelfAttention, method: str, inputs: list[Tensor], dtype: torch.dtype, gradients: bool, score: float = 0.0
) -> None:
    """`‖fast − exact‖ ≤ 8 max‖definition − exact‖ + 8u max|exact|`, `exact` being the definition in float64.

    The definition's error in float64 is taken as its error in float32 by the ratio of their round-offs, to which errors of
    rounding are proportional. Gradients get `u (1 + score) max|exact|` in the second term, for a largest score of that size:
    where a softmax is all but one-hot the definition's `p_j (g_j − Σ p g)` is 0 without rounding, by luck, while in the
    fused kernel and in running sums the two terms meet rounded, and the score's derivatives grow with the score.
    """
    measured = torch.float32 if dtype == torch.float64 else dtype
    fast, slow = copy.deepcopy(layer).to(dtype), copy.deepcopy(layer).to(measured)
    wide = copy.deepcopy(slow).double()
    definition = getattr(ContextualLayer, method)
    stored = [x.to(measured) for x in inputs]
    exact = results(wide, lambda *a: definition(wide, *a), [x.double() for x in stored], gradients)
    own = results(slow, lambda *a: definition(slow, *a), stored, gradients)
    quick = results(fast, getattr(fast, method), [x.to(dtype) for x in stored], gradients)
    for e, s, q, size in zip(exact, own, quick, (1.0, 1.0 + score), strict=False):
        assert q.shape == e.shape
        if e.numel():
            error = (s - e).abs().max() * UNIT[dtype] / UNIT[measured]
            assert (q - e).abs().max() <= 8 * error + 8 * UNIT[dtype] * size * e.abs().max()


def magnitude(layer: SelfAttention, tokens: Tensor) -> float:
    """`(1 + max|s|) ‖W_o‖∞ max|v|`: an error of `u` in scores and values moves the output by no more than `2u` times this."""
    q, k, v = (projection(tokens).detach().abs().amax() for projection in (layer.q_proj, layer.k_proj, layer.v_proj))
    return float((1 + q * k * layer.head_width**0.5) * (1 + layer.projection.weight.detach().abs().sum(-1).amax() * v))


@pytest.mark.parametrize("bias", [False, True])
def test_is_multihead_attention_of_torch(bias: bool) -> None:
    """A sequence is `nn.MultiheadAttention` under a causal mask, and a call is its last row."""
    layer = build(SelfAttentionConfig(width=8, bias=bias), seed=1).double()
    theirs = nn.MultiheadAttention(8, 4, bias=bias, batch_first=True, dtype=torch.float64)
    inner = (layer.q_proj, layer.k_proj, layer.v_proj)
    theirs.in_proj_weight.data = torch.cat([each.weight for each in inner])
    theirs.out_proj.weight.data = layer.projection.weight
    if bias:
        theirs.in_proj_bias.data = torch.cat([each.bias for each in inner])
        theirs.out_proj.bias.data = layer.projection.bias
    tokens = draw(2, 3, 11, 8).double()
    mask = ~torch.ones(11, 11, dtype=torch.bool).tril()
    wanted, _ = theirs(tokens, tokens, tokens, attn_mask=mask)
    bound = 2 * (8 + 11) * UNIT[torch.float64] * magnitude(layer, tokens)
    assert (layer.sequence(tokens) - wanted).abs().max() <= bound
    assert (layer(tokens[:, -1], tokens[:, :-1]) - wanted[:, -1]).abs().max() <= bound


def transformers_attention(kind: str, layer: SelfAttention, base: float, window: int | None = None) -> nn.Module:
    """`LlamaAttention` or `MistralAttention`, eager, in float64, with the layer's weights."""
    config_type, attention = {"llama": (LlamaConfig, LlamaAttention), "mistral": (MistralConfig, MistralAttention)}[
        kind
    ]
    config: Any = config_type(
        hidden_size=layer.width,
        num_attention_heads=1,
        head_dim=layer.head_width,
        rope_parameters={"rope_type": "default", "rope_theta": base},
    )
    config.num_attention_heads, config.num_key_value_heads = (
        layer.heads,
        layer.kv_heads,
    )  # heads need not divide the width
    config.attention_bias, config.sliding_window, config._attn_implementation = layer.has_bias, window, "eager"
    theirs: nn.Module = attention(config, layer_idx=0).double()
    names = {"q_proj": "q_proj", "k_proj": "k_proj", "v_proj": "v_proj", "o_proj": "projection"}
    theirs.load_state_dict(
        {f"{n}.{k}": x for n, m in names.items() for k, x in layer.get_submodule(m).state_dict().items()}
    )
    return theirs


def llama(layer: SelfAttention, tokens: Tensor, base: float | None) -> Tensor:
    """Llama's attention over a sequence; with no base nothing turns."""
    theirs: Any = transformers_attention("llama", layer, base or 1.0)
    n = tokens.shape[-2]
    still = torch.ones(1, n, layer.head_width).double(), torch.zeros(1, n, layer.head_width).double()
    angles = still if base is None else LlamaRotaryEmbedding(theirs.config)(tokens, torch.arange(n)[None])
    output: Tensor = theirs(tokens, angles, additive(torch.ones(n, n, dtype=torch.bool).tril()))[0]
    return output


def additive(seen: Tensor) -> Tensor:
    """The mask that transformers adds to scores."""
    return torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, -torch.inf)[None, None]


@pytest.mark.parametrize("config", SPECS["self-attention"].examples)
def test_is_llama_attention(config: SelfAttentionConfig) -> None:
    """Heads of any width, grouped keys and rotary positions are those of Llama.

    Llama takes its softmax in float32: the weights of n tokens are off by n + 4 round-offs. So are its angles: each is off
    by at most 3n, its cosine and sine by 3n + 1, a turned query and key by twice that and a score by four times.
    """
    layer = build(config, seed=3).double()
    tokens = draw(4, 2, 9, config.width).double()
    rotary = config.positions == "rotary"
    wanted = llama(layer, tokens, config.rotary_base if rotary else None)
    unit = (4 * (3 * 9 + 1) if rotary else 9 + 4) * UNIT[torch.float32]
    bound = 2 * unit * magnitude(layer, tokens)
    assert (layer.sequence(tokens) - wanted).abs().max() <= bound
    assert (layer(tokens[:, -1], tokens[:, :-1]) - wanted[:, -1]).abs().max() <= bound


def test_rotary_base_is_that_of_llama() -> None:
    """Another base turns as Llama's does with it, and not as the default."""
    layer = build(SelfAttentionConfig(width=8, heads=2, positions="rotary", rotary_base=50.0), seed=5).double()
    tokens = draw(6, 1, 9, 8).double()
    bound = 8 * (3 * 9 + 1) * UNIT[torch.float32] * magnitude(layer, tokens)
    assert (layer.sequence(tokens) - llama(layer, tokens, 50.0)).abs().max() <= bound
    assert (layer.sequence(tokens) - llama(layer, tokens, 10_000.0)).abs().max() > bound


@pytest.mark.parametrize("window", [1, 3, 20])
def test_is_mistral_attention(window: int) -> None:
    """Sliding windows are Mistral's, whose window counts the token itself."""
    config = LocalAttentionConfig(width=8, heads=4, kv_heads=2, window=window, positions="rotary")
    layer = build(config, seed=7).double()
    theirs: Any = transformers_attention("mistral", layer, config.rotary_base, window + 1)
    tokens = draw(8, 2, 13, 8).double()
    sees = sliding_window_causal_mask_function(window + 1)
    seen = sees(torch.tensor(0), torch.tensor(0), torch.arange(13)[:, None], torch.arange(13))
    angles = MistralRotaryEmbedding(theirs.config)(tokens, torch.arange(13)[None])
    wanted = theirs(tokens, angles, additive(seen))[0]
    bound = 8 * (3 * 13 + 1) * UNIT[torch.float32] * magnitude(layer, tokens)
    assert (layer.sequence(tokens) - wanted).abs().max() <= bound
    assert (layer(tokens[:, -1], tokens[:, :-1]) - wanted[:, -1]).abs().max() <= bound


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=40)
@given(
    config=st.sampled_from(EXAMPLES),
    n=st.integers(0, 17),
    seed=SEEDS,
    batch=st.sampled_from([(), (2,), (2, 3)]),
    dtype=st.sampled_from(list(UNIT)),
    chunk=st.integers(2, 6),
    block=st.integers(1, 6),
)
def test_fast_paths_are_their_definitions(
    method: str,
    config: SelfAttentionConfig,
    n: int,
    seed: int,
    batch: tuple[int, ...],
    dtype: torch.dtype,
    chunk: int,
    block: int,
) -> None:
    """Every fast path gives the outputs, and in float64 and float32 the gradients, of the calls that define it."""
    inputs = arguments(method, config.width, n, seed, batch)
    check_against_definition(build(config, seed, chunk, block), method, inputs, dtype, dtype.itemsize >= 4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("config", SPECS["local-attention"].examples)
def test_windows_about_as_long_as_the_context(config: LocalAttentionConfig, method: str) -> None:
    """Contexts of a few tokens less or more than the window, with blocks of its length and longer, are as defined."""
    for n in range(max(1, config.window - 1), config.window + 5):
        for block in (1, config.window + 1):
            layer = build(config, seed=n, block=block)
            inputs = arguments(method, config.width, n, seed=21)
            check_against_definition(layer, method, inputs, torch.float64, gradients=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_self_scores_keep_their_precision_in_half_types(dtype: torch.dtype) -> None:
    """Beside a score of 100 a self score of 100.3 weighs σ(0.3), which 100.3 rounded to half precision would miss."""
    ones = torch.ones(1, 1, 1, dtype=dtype)
    queries, scores = 100 * ones.expand(1, 2, 1), torch.full((1, 2), 100.3)
    reads = Reads(queries, keys=ones, values=0 * ones, self_scores=scores, self_values=ones, scale=1.0)
    weights = causal_with_self(reads)[0, :, 0].double()
    wanted = torch.tensor(0.3, dtype=torch.float64).sigmoid()
    assert weights[0] == 1
    assert (weights[1] - wanted).abs() <= 2 * UNIT[dtype]


def flat(inputs: list[Tensor]) -> Tensor:
    """All queries and tokens in one list."""
    return torch.cat([x.reshape(-1, x.shape[-1]) for x in inputs])


def spread(layer: SelfAttention, inputs: list[Tensor]) -> None:
    """Scale the query weights so that the largest score is 1e4."""
    tokens = flat(inputs)
    queries = (layer.q_proj(tokens).detach().unflatten(-1, (layer.kv_heads, -1, layer.head_width))).movedim(0, -2)
    keys = layer.k_proj(tokens).detach().unflatten(-1, (layer.kv_heads, 1, layer.head_width)).movedim(0, -2)
    layer.q_proj.weight.data *= 1e4 / float((queries @ keys.mT * layer.scale).abs().max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("config", [each for each in EXAMPLES if not each.bias])
def test_scores_of_ten_thousand(config: SelfAttentionConfig, dtype: torch.dtype, method: str) -> None:
    """Scores spread over ±1e4 neither overflow nor underflow: outputs and gradients stay those of the definition.

    Only near-ties of such scores round at all, so a measure of the definition's error takes many rows: 64 contexts.
    """
    layer, inputs = build(config, 24, chunk=5, block=4), arguments(method, config.width, 16, 25, (64,))
    spread(layer, inputs)
    check_against_definition(layer, method, inputs, dtype, True, score=1e4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("config", [each for each in EXAMPLES if not each.bias])
def test_scores_of_ten_thousand_in_half_precision(config: SelfAttentionConfig, dtype: torch.dtype) -> None:
    """In half precision such scores give finite outputs, by every path."""
    for method in METHODS:
        layer, inputs = build(config, 9, chunk=5, block=4), arguments(method, config.width, 30, 10)
        spread(layer, inputs)
        assert getattr(layer.to(dtype), method)(*(x.to(dtype) for x in inputs)).isfinite().all()


@pytest.mark.parametrize("rising", [True, False])
def test_running_maxima_follow_the_scores(rising: bool) -> None:
    """Scores from −1e4 to 1e4, in order, leave each prefix its own newest or oldest token rather than 0/0."""
    layer = SelfAttention(SelfAttentionConfig(width=2, heads=1)).double()
    for projection in (layer.q_proj, layer.k_proj, layer.v_proj, layer.projection):
        projection.weight.data = torch.eye(2, dtype=torch.float64)
    ramp = torch.linspace(-1e4, 1e4, 300, dtype=torch.float64) * 2**0.5
    context = torch.stack((ramp if rising else ramp.flip(0), torch.arange(300.0).double()), dim=-1)
    rows = layer.prefixes(torch.tensor([1.0, 0.0], dtype=torch.float64), context)[:, 1]
    wanted = torch.arange(300.0).double() if rising else torch.zeros(300).double()
    past = 150 if rising else 0  # from here on some token outscores the query, whose own score is 1/√2
    assert (rows[past + 2 :] - wanted[past + 1 :]).abs().max() <= 300 * UNIT[torch.float64]


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


@pytest.mark.parametrize("config", EXAMPLES)
def test_batches_of_nothing(config: SelfAttentionConfig) -> None:
    """An empty batch gives an empty output of the shape that a full one would have, by every path."""
    layer = build(config, 22)
    for method in METHODS:
        for n in (0, 9):
            full, none = (arguments(method, config.width, n, 23, (size, 2)) for size in (1, 0))
            shape = getattr(layer, method)(*full).shape
            assert getattr(layer, method)(*none).shape == (0, *shape[1:])
    query, context = arguments("prefixes", config.width, 0, 23, (0, 2))
    assert layer(query, context).shape == query.shape


@settings(deadline=None, max_examples=30)
@given(config=st.sampled_from(SPECS["local-attention"].examples), n=st.integers(0, 12), seed=SEEDS)
def test_tokens_outside_the_window_change_no_bit(config: LocalAttentionConfig, n: int, seed: int) -> None:
    """The last `window` tokens decide the output, bit for bit, whatever stands before them and however long it is."""
    layer = build(config, seed)
    query, near = draw(seed, config.width), draw(seed + 1, config.window, config.width)
    far = 1e3 * draw(seed + 2, n, config.width)
    assert torch.equal(layer(query, torch.cat((far, near))), layer(query, near))


@pytest.mark.parametrize("name", list(SPECS))
def test_a_skip_adds_the_query(name: str) -> None:
    """With `skip=True` every path adds the query to its output, and the layer says so to blocks."""
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


@pytest.mark.parametrize("config", EXAMPLES)
def test_every_path_has_batching_rules(config: SelfAttentionConfig) -> None:
    """Under `vmap`, also of Jacobians, every path gives what it gives on the batch, without a slow substitute."""
    layer = build(config, 15).double()
    for method in METHODS:
        inputs = [x.double() for x in arguments(method, config.width, 7, 16, (3,))]
        function = getattr(layer, method)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            rows = torch.func.vmap(function)(*inputs)
            torch.func.vmap(torch.func.jacrev(function))(*inputs)
        bound = 8 * (config.width + 8) * UNIT[torch.float64] * magnitude(layer, flat(inputs))
        assert (rows - function(*inputs)).abs().max() <= bound


@pytest.mark.parametrize(("config", "methods"), [(EXAMPLES[1], ("prefixes", "suffixes")), (EXAMPLES[-1], ("causal",))])
def test_every_kernel_compiles_as_one_graph(config: SelfAttentionConfig, methods: tuple[str, ...]) -> None:
    """`torch.compile(fullgraph=True)` takes running averages, causal passes and bands, and changes no result."""
    layer = build(config, 17).double().requires_grad_(False)
    for method in methods:
        inputs = [x.double() for x in arguments(method, config.width, 7, 18)]
        function = getattr(layer, method)
        bound = 8 * (config.width + 8) * UNIT[torch.float64] * magnitude(layer, flat(inputs))
        compiled: Callable[..., Tensor] = torch.compile(function, fullgraph=True, backend="eager")
        assert (compiled(*inputs) - function(*inputs)).abs().max() <= bound


@pytest.mark.parametrize("config", EXAMPLES)
def test_traits_claim_what_the_configuration_gives(config: SelfAttentionConfig) -> None:
    """Order counts where positions are rotary or a window cuts, and only there; the window is claimed."""
    window = config.window if isinstance(config, LocalAttentionConfig) else None
    traits = SPECS["self-attention" if window is None else "local-attention"].traits(config)
    layer = build(config, 19).double()
    query, context = (x.double() for x in arguments("prefixes", config.width, 6, 20))
    moved = (layer(query, context.flip(0)) - layer(query, context)).abs().max()
    noise = 8 * (config.width + 6) * UNIT[torch.float64] * magnitude(layer, torch.cat((query[None], context)))
    assert (traits.positional, traits.permutation_invariant) == (bool(moved > noise), bool(moved <= noise))
    assert traits.windowed == window


def test_a_configuration_needs_a_width_only() -> None:
    """4 heads, or 1 where 4 does not divide the width, which they share; keys have as many heads as queries."""
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
        (SelfAttentionConfig, {"width": 4, "positions": "alibi"}, "positions: got 'alibi', needs 'none' or 'rotary'"),
        (SelfAttentionConfig, {"width": 3, "positions": "rotary"}, "head_width: got 3 .* even .* head_width=4"),
        (SelfAttentionConfig, {"width": 4, "rotary_base": 0.0}, "rotary_base: got 0.0, needs a positive number"),
        (LocalAttentionConfig, {"width": 4, "window": 0}, "window: got 0, needs an integer ≥ 1"),
    ],
)
def test_a_configuration_that_cannot_be_built_says_why(
    config: type[SelfAttentionConfig], arguments: dict[str, Any], message: str
) -> None:
    """A value out of range is an error that names the field, what it got, what it needs and the way out."""
    with pytest.raises(ArgumentError, match=message):
        config(**arguments)

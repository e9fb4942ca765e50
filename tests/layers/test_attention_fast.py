"""Softmax attention: its fast paths against their definitions, at wide scores, in half types and under transforms."""

import warnings
from collections.abc import Callable

import pytest
import torch
from ctxblocks_attention import fused as _fused
from ctxblocks_attention.attention import SelfAttention
from ctxblocks_attention.config import LocalAttentionConfig, SelfAttentionConfig
from ctxblocks_attention.fused import Reads, causal_with_self
from hypothesis import given, settings, strategies as st
from layers.definitions import METHODS, SEEDS, UNIT, arguments, assert_as_defined
from test_attention import EXAMPLES, SPECS, build, magnitude
from torch import Tensor


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
    """Every fast path gives the outputs, and in float64 and float32 the gradients, of its definition."""
    inputs = arguments(method, config.width, n, seed, batch)
    assert_as_defined(build(config, seed, chunk, block), method, inputs, dtype, dtype.itemsize >= 4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("config", SPECS["local-attention"].examples)
def test_windows_about_as_long_as_the_context(config: LocalAttentionConfig, method: str) -> None:
    """Contexts a few tokens shorter or longer than the window, with short and long blocks, agree with the definition."""
    for n in range(max(1, config.window - 1), config.window + 5):
        for block in (1, config.window + 1):
            layer = build(config, seed=n, block=block)
            inputs = arguments(method, config.width, n, seed=21)
            assert_as_defined(layer, method, inputs, torch.float64, gradients=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_self_scores_keep_their_precision_in_half_types(dtype: torch.dtype) -> None:
    """Next to a score of 100, a self score of 100.3 has the weight σ(0.3), unlike 100.3 rounded to half precision."""
    ones = torch.ones(1, 1, 1, dtype=dtype)
    queries, scores = 100 * ones.expand(1, 2, 1), torch.full((1, 2), 100.3)
    reads = Reads(queries, keys=ones, values=0 * ones, self_scores=scores, self_values=ones, scale=1.0)
    weights = causal_with_self(reads)[0, :, 0].double()
    wanted = torch.tensor(0.3, dtype=torch.float64).sigmoid()
    assert weights[0] == 1
    assert (weights[1] - wanted).abs() <= 2 * UNIT[dtype]


def flat(inputs: list[Tensor]) -> Tensor:
    """All queries and tokens as rows of one matrix."""
    return torch.cat([x.reshape(-1, x.shape[-1]) for x in inputs])


@settings(deadline=None, max_examples=40)
@given(
    config=st.sampled_from([each for each in EXAMPLES if each.kv_heads is None]),
    method=st.sampled_from(METHODS),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    n=st.integers(0, 9),
    wide=st.booleans(),
    seed=SEEDS,
)
def test_without_gradients_the_self_scores_meet_the_kernel_s_sums(
    config: SelfAttentionConfig, method: str, dtype: torch.dtype, n: int, wide: bool, seed: int
) -> None:
    """Without gradients, CPUs use no self slot, and give the outputs of the definition, also at scores of ±1e4."""
    wide = wide and dtype != torch.bfloat16 and n > 0
    layer, inputs = build(config, seed), arguments(method, config.width, n, seed + 1, (64,) if wide else (2, 3))
    if wide:
        spread(layer, inputs)
    with torch.no_grad():
        assert_as_defined(layer, method, inputs, dtype, gradients=False, score=1e4 if wide else 0.0)


def test_the_self_slot_is_left_out_only_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's log-sum-exp has no gradient, so the self slot is used where a gradient is needed."""
    taken: list[Reads] = []
    merged = _fused.merged_with_self
    monkeypatch.setattr(_fused, "merged_with_self", lambda reads: (taken.append(reads), merged(reads))[1])
    layer = build(SelfAttentionConfig(width=4, positions="rotary", heads=2), 3)
    query, context = arguments("prefixes", 4, 5, 4)
    layer.prefixes(query, context)
    assert not taken
    with torch.no_grad():
        layer.prefixes(query, context)
    layer.requires_grad_(False).prefixes(query, context)
    assert len(taken) == 2
    layer.prefixes(query.requires_grad_(), context)
    torch.func.vmap(layer.prefixes)(query.detach()[None], context[None])
    assert len(taken) == 2


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

    Only near-ties of such scores round at all, so many rows, 64 contexts, are needed to measure the definition's error.
    Gradients get `8 u score max|exact|` more: where a softmax is all but one-hot the definition's `p_j (g_j − Σ p g)` is 0
    without rounding, by chance, while in the fused kernel and in running sums the two terms are rounded before they meet,
    and the derivatives of a score grow with it.
    """
    layer, inputs = build(config, 24, chunk=5, block=4), arguments(method, config.width, 16, 25, (64,))
    spread(layer, inputs)
    assert_as_defined(layer, method, inputs, dtype, score=1e4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("config", [each for each in EXAMPLES if not each.bias])
def test_scores_of_ten_thousand_in_half_precision(config: SelfAttentionConfig, dtype: torch.dtype) -> None:
    """In half precision such scores give finite outputs, in every method."""
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
def test_batches_of_nothing(config: SelfAttentionConfig) -> None:
    """An empty batch gives an empty output of the right shape, in every method."""
    layer = build(config, 22)
    for method in METHODS:
        for n in (0, 9):
            full, none = (arguments(method, config.width, n, 23, (size, 2)) for size in (1, 0))
            shape = getattr(layer, method)(*full).shape
            assert getattr(layer, method)(*none).shape == (0, *shape[1:])
    query, context = arguments("prefixes", config.width, 0, 23, (0, 2))
    assert layer(query, context).shape == query.shape


@pytest.mark.parametrize("config", EXAMPLES)
def test_every_path_has_batching_rules(config: SelfAttentionConfig) -> None:
    """Under `vmap`, also of Jacobians, every method gives its batched results, without a slow fallback."""
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
    """`torch.compile(fullgraph=True)` compiles running averages, causal passes and bands, with the same results."""
    layer = build(config, 17).double().requires_grad_(False)
    for method in methods:
        inputs = [x.double() for x in arguments(method, config.width, 7, 18)]
        function = getattr(layer, method)
        bound = 8 * (config.width + 8) * UNIT[torch.float64] * magnitude(layer, flat(inputs))
        compiled: Callable[..., Tensor] = torch.compile(function, fullgraph=True, backend="eager")
        assert (compiled(*inputs) - function(*inputs)).abs().max() <= bound

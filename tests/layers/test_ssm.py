"""The state space layer, against transformers' Mamba-2 mixer and a plain recurrence, its limits and configurations."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from ctxblocks_ssm import SSM, SSMConfig, ctxblocks_layers
from ctxblocks_ssm.reference import reference
from ctxblocks_ssm.scan import decay, read_states
from hypothesis import given, settings, strategies as st
from layers.definitions import UNIT, arguments, draw_double, scales, sizes
from torch import Tensor

from ctxblocks import ArgumentError

CONFIGS: list[SSMConfig] = list(ctxblocks_layers()[0].examples)
configs, seeds = st.sampled_from(CONFIGS), st.integers(0, 10**6)
chunks = st.sampled_from([1, 2, 3, 128])


def build(config: SSMConfig, seed: int, dtype: torch.dtype = torch.float64, spread: float = 0.1) -> SSM:
    """A layer whose scales and biases are not exactly one and zero."""
    torch.manual_seed(seed)
    layer = SSM(config).to(dtype)
    with torch.no_grad():
        for parameter in (layer.norm_weight, layer.D, layer.A_log, layer.dt_bias):
            parameter += spread * torch.randn_like(parameter)
    return layer


def largest(x: Tensor) -> float:
    return float(x.detach().abs().max()) if x.numel() else 0.0


def tolerance(layer: SSM, n: int, u: float) -> float:
    """A few round-offs for each term of the products and sums, times a bound of the outputs.

    The entries of the normalised input of the output projection are at most `√(channels of a group)`.
    """
    c = layer.config
    terms = c.width + c.conv + c.state * (n + 1) + c.inner
    most = layer.norm_weight.detach().abs().max() * math.sqrt(c.inner / c.groups)
    return float(4 * u * terms * most * layer.projection.weight.detach().abs().sum(-1).max())


@settings(deadline=None, max_examples=60)
@given(config=configs, seed=seeds, n=sizes, chunk=st.sampled_from([2, 3, 8]))
def test_every_method_agrees_with_transformers(config: SSMConfig, seed: int, n: int, chunk: int) -> None:
    """The mixer computes its scan and norm in float32, so our float64 may differ from it by float32's round-off."""
    layer = build(config, seed)
    theirs = reference(layer, chunk)
    layer.chunk, layer.block = chunk + 1, chunk + 3
    queries, context = arguments("causal", config.width, n, seed, (2,), dtype=torch.float64)
    bound = tolerance(layer, n, UNIT[torch.float32])
    for i in range(n + 1):
        tokens = torch.cat([context[:, :i], queries[:, i : i + 1]], dim=1)
        want = theirs(tokens)
        assert largest(layer(queries[:, i], context[:, :i]) - want[:, -1]) <= bound
        assert largest(layer.causal(queries, context)[:, i] - want[:, -1]) <= bound
        assert largest(layer.sequence(tokens) - want) <= bound


def test_step_limits_are_those_of_transformers() -> None:
    """Limits that change steps have the same effect in both implementations, and differ from no limits."""
    free, layer = (build(SSMConfig(width=5, step_limit=limit), 1) for limit in ((0.0, math.inf), (0.3, 0.5)))
    tokens, bound = draw_double(2, 2, 9, 5), tolerance(layer, 9, UNIT[torch.float32])
    assert largest(layer.sequence(tokens) - reference(layer)(tokens)) <= bound
    assert largest(layer.sequence(tokens) - reference(free)(tokens)) > bound


def recurrence(layer: SSM, tokens: Tensor) -> Tensor:  # (n, d) -> (n, d)
    """The layer's equations, token by token and head by head."""
    c = layer.config
    share, per = c.heads // c.groups, c.inner // c.heads
    gate, inputs, raw = layer.in_proj(tokens).split([c.inner, c.convolved, c.heads], dim=-1)
    mixed = F.silu(layer.conv1d(F.pad(inputs.T, (c.conv - 1, 0))).T)
    size = F.softplus(raw + layer.dt_bias).clamp(*c.step_limit)
    states = torch.zeros(c.heads, c.state, per, dtype=tokens.dtype)
    rows = []
    for t in range(len(tokens)):
        x, B, C = mixed[t].split([c.inner, c.groups * c.state, c.groups * c.state])
        read = []
        for h in range(c.heads):
            group = slice(h // share * c.state, (h // share + 1) * c.state)
            own = x[h * per : (h + 1) * per]
            kept = torch.exp(-size[t, h] * layer.A_log[h].exp())
            states = states.clone()
            states[h] = kept * states[h] + size[t, h] * torch.outer(B[group], own)
            read.append(C[group] @ states[h] + layer.D[h] * own)
        gated = (torch.cat(read) * F.silu(gate[t])).view(c.groups, -1)
        normed = gated * torch.rsqrt(gated.square().mean(-1, keepdim=True) + c.eps)
        rows.append(layer.projection(normed.flatten() * layer.norm_weight))
    return torch.stack(rows)


@settings(deadline=None, max_examples=40)
@given(config=configs, seed=seeds, n=st.integers(1, 9), scale=scales, chunk=chunks)
def test_sequence_agrees_with_the_recurrence(config: SSMConfig, seed: int, n: int, scale: float, chunk: int) -> None:
    """In float64 the chunked scan and the sum over tokens agree with the recurrence, also for tokens that reset the state."""
    layer = build(config, seed)
    layer.chunk, layer.block = chunk, chunk + 2
    tokens = draw_double(seed, n, config.width, scale=scale)
    want, bound = recurrence(layer, tokens), tolerance(layer, n, UNIT[torch.float64]) * (1 + scale)
    assert largest(layer.sequence(tokens) - want) <= bound
    assert largest(layer(tokens[-1], tokens[:-1]) - want[-1]) <= bound


def test_a_strong_decay_forgets() -> None:
    """With a rate of 1e4 the output depends only on the query and the window of its convolution, without NaN."""
    layer = build(SSMConfig(width=4, conv=3, step_range=(0.5, 1.0)), 0)
    with torch.no_grad():
        layer.A_log.fill_(math.log(1e4))
    query, context = draw_double(1, 4), draw_double(2, 9, 4)
    assert largest(layer(query, context) - layer(query, context[-2:])) <= tolerance(layer, 9, UNIT[torch.float64])
    assert bool(torch.isfinite(layer.prefixes(query, context)).all())


def test_the_norm_of_a_large_read_does_not_overflow() -> None:
    """Values whose squares overflow float32 are normalised as in float64."""
    layer = build(SSMConfig(width=4), 0, torch.float32)
    with torch.no_grad():
        layer.D.fill_(1e25)
    query, context = draw_double(1, 4), draw_double(2, 5, 4)
    output = layer(query.float(), context.float())
    assert largest(output) > 0.01
    assert largest(output - copy.deepcopy(layer).double()(query, context)) <= tolerance(layer, 5, UNIT[torch.float32])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_decays_are_normal_numbers_or_zero(dtype: torch.dtype) -> None:
    """Where a decay would be no normal number it is 0, so that no forgotten token weighs anything; at or above zero it is one."""
    lowest = math.log(torch.finfo(dtype).tiny)
    decays = decay(torch.tensor([-1e9, lowest - 1, -1.0, 0.0, 5.0, lowest + 1], dtype=torch.float64), dtype)
    assert decays.dtype == dtype
    assert decays[0] == decays[1] == 0
    assert decays[5] > torch.finfo(dtype).tiny
    assert decays.tolist()[3:5] == [1.0, 1.0]
    assert decays[2] == torch.exp(torch.tensor(-1.0, dtype=dtype))


def test_the_scan_of_no_tokens_is_empty() -> None:
    """Without tokens there are no rows, and the state is unchanged."""
    values, keys = torch.zeros(2, 1, 0, 3, 4), torch.zeros(2, 1, 0, 5)
    rows, state = read_states(values, keys, keys, torch.zeros(2, 1, 3, 0).double(), torch.ones(2, 1, 5, 12).double(), 8)
    assert rows.shape == (2, 1, 0, 3, 4)
    assert (state == 1).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0}, r"got width=0, needs at least 1"),
        ({"width": 4, "conv": 0}, r"got conv=0, needs at least 1"),
        ({"width": 3, "groups": 4}, r"got groups=4, needs a divisor of expand · width = 6"),
        ({"width": 4, "head_width": 3}, r"got head_width=3, needs a divisor of expand · width / groups = 8"),
        ({"width": 4, "step_range": (0.0, 1.0)}, r"got step_range=\(0.0, 1.0\), needs 0 < low ≤ high"),
        ({"width": 4, "step_limit": (2.0, 1.0)}, r"got step_limit=\(2.0, 1.0\), needs 0 ≤ low ≤ high"),
        ({"width": 4, "eps": 0.0}, r"got eps=0.0, needs more than 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields: dict[str, object], message: str) -> None:
    """The message names the field, what it got and what it needs."""
    with pytest.raises(ArgumentError, match=message):
        SSMConfig(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("width", "heads"), [(1, 1), (2, 4), (3, 1), (4, 4), (5, 1), (256, 4)])
def test_every_width_has_a_default(width: int, heads: int) -> None:
    """Four heads where they fit, else one, and the layer runs."""
    config = SSMConfig(width=width)
    assert config.heads == heads
    assert SSM(config)(torch.ones(width), torch.ones(2, width)).shape == (width,)

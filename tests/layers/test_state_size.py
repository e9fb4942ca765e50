"""`state_size`: the size of the state of each bundled layer, and that this state is enough to answer a query."""

import copy
from collections.abc import Callable
from typing import Any

import ctxblocks_attention
import ctxblocks_griffin
import ctxblocks_linear_attention
import ctxblocks_rnn
import ctxblocks_ssm
import pytest
import torch
from ctxblocks_attention.attention import SelfAttention
from ctxblocks_attention.local import LocalAttention
from ctxblocks_griffin.griffin import Griffin
from ctxblocks_linear_attention import running as _running, wy as _wy
from ctxblocks_linear_attention.delta import DeltaRule
from ctxblocks_linear_attention.linear import LinearAttention
from ctxblocks_rnn.recurrent import RecurrentLayer
from ctxblocks_ssm import SSM
from layers.definitions import UNIT, assert_close, draw, draw_weights
from torch import Tensor

from ctxblocks import ContextualLayer

PLUGINS = (ctxblocks_attention, ctxblocks_griffin, ctxblocks_linear_attention, ctxblocks_rnn, ctxblocks_ssm)
SPECS = {spec.name: spec for plugin in PLUGINS for spec in plugin.ctxblocks_layers()}
EXAMPLES = [(name, config) for name, spec in SPECS.items() for config in spec.examples]
ATTENTION = [(name, config) for name, config in EXAMPLES if name.endswith("-attention") and name != "linear-attention"]
LENGTHS = (0, 1, 2, 3, 4, 5, 9)
Carried = tuple[Tensor, ...]


def build(name: str, config: Any) -> ContextualLayer:
    layer: ContextualLayer = SPECS[name].build(config)
    draw_weights(layer, seed=1)
    return layer


def inputs(config: Any, n: int) -> tuple[Tensor, Tensor]:
    """A query and a context of n tokens."""
    return draw(2, config.width), draw(3, n, config.width)


def attention(layer: SelfAttention, query: Tensor, context: Tensor) -> tuple[Carried, Tensor]:
    """Keys and values of each token in the window; scores depend on distances, so positions may start at its first."""
    seen = context[-layer.window :] if isinstance(layer, LocalAttention) else context
    keys, values = layer._keys_values(seen)
    row = query.unsqueeze(-2)
    mixed = layer._read(layer._reads(layer._projected(row), keys, values))
    return (keys, values), layer._finished(row, mixed[..., -1:, :]).squeeze(-2)


def recurrent(layer: RecurrentLayer, query: Tensor, context: Tensor) -> tuple[Carried, Tensor]:
    """The state of the cell after the tokens, and one step with the query."""
    state = layer.looped(context, layer.zero_state(query))[1]
    return state, layer.projection(layer.step(layer.input_product(query), state)[0])


def linear_attention(layer: LinearAttention, query: Tensor, context: Tensor) -> tuple[Carried, Tensor]:
    """A matrix for each head, to which tokens are added one by one."""
    keys, values = layer._write(context, layer.config.normalize)
    log_decay = layer._log_decay(keys)
    fade = None if log_decay is None else _running.powers(log_decay, torch.ones(1), keys.dtype).unsqueeze(-1)
    mask = _running.triangle(1, log_decay, keys)
    state = keys[..., :0, :].mT @ values[..., :0, :]  # zeros
    for j in range(context.shape[-2]):
        state = _running._advance(state, keys[..., j : j + 1, :], values[..., j : j + 1, :], mask, fade)
    q, own = layer._read(query.unsqueeze(-2))
    totals = layer._sums(layer._fade_once(q) @ state).map(torch.add, own)
    return (state,), layer._project(layer._output(totals, query.dtype)).squeeze(-2)


def delta_rule(layer: DeltaRule, query: Tensor, context: Tensor) -> tuple[Carried, Tensor]:
    """A matrix for each head, which is corrected token by token."""
    steps = layer._steps(context)
    state = steps.k[..., :0, :].mT @ steps.v[..., :0, :]  # zeros
    for j in range(context.shape[-2]):
        step = steps.part(j, j + 1)
        within, since = _wy._fades(step.log_gate, step.k)
        state = _wy._advance(state, step, _wy._corrections(state, step, within, since), within, since)
    q, own = layer._read(query.unsqueeze(-2))
    return (state,), layer._project(layer._output(q @ state + own, query.dtype)).squeeze(-2)


def griffin(layer: Griffin, query: Tensor, context: Tensor) -> tuple[Carried, Tensor]:
    """The state between blocks of tokens, with blocks of one token."""
    carry = layer._start(context)
    for token in context.unsqueeze(1):
        carry = layer._advance(layer.linear_x(token), carry)[2]
    after = layer._advance(layer.linear_x(query.unsqueeze(-2)), carry)[2]
    return (carry.inputs, carry.state), layer.projection(layer._gated(layer._gate(query), after.state))


def ssm(layer: SSM, query: Tensor, context: Tensor) -> tuple[Carried, Tensor]:
    """The state between blocks of tokens, with blocks of one token."""
    carry, output = layer._start(context), query
    for row in (*context.unsqueeze(1), query.unsqueeze(-2)):
        before = carry
        projected, steps = layer._project(row)
        window, carry = layer._window(projected, before)
        signals = layer._signals(window[..., :-1, :], projected)
        read, carry = layer._scan(signals, signals.C, steps, carry)
        output = layer._finished(read + layer._skips().unsqueeze(-1) * signals.x, layer._gate(row)).squeeze(-2)
    return tuple(before), output


ONE_BY_ONE: dict[str, Callable[[Any, Tensor, Tensor], tuple[Carried, Tensor]]] = {
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


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize(("name", "config"), EXAMPLES)
def test_the_state_has_that_many_numbers(name: str, config: Any, n: int) -> None:
    """`state_size(n)` is the number of entries of the tensors that a token-by-token computation keeps."""
    layer = build(name, config)
    carried, _ = ONE_BY_ONE[name](layer, *inputs(config, n))
    assert layer.state_size(n) == sum(tensor.numel() for tensor in carried)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize(("name", "config"), EXAMPLES)
def test_the_state_answers_a_query(name: str, config: Any, n: int) -> None:
    """The output computed from those tensors is that of the layer with the whole context."""
    layer = build(name, config)
    query, context = inputs(config, n)
    exact = copy.deepcopy(layer).double()(query.double(), context.double())
    got = ONE_BY_ONE[name](layer, query, context)[1]
    assert_close(got, layer(query, context), exact)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize(("name", "config"), ATTENTION)
def test_attention_counts_the_tokens_that_a_query_sees(name: str, config: Any, n: int) -> None:
    """Each of the last tokens that are counted changes the output; earlier tokens do not change a bit of it."""
    layer = build(name, config).double()
    query, context = (x.double() for x in inputs(config, n))
    first = n - layer.state_size(n) // layer.state_size(1)
    output = layer(query, context)
    for j in range(n):
        other = context.clone()
        other[j] += draw(4, config.width)
        moved = (layer(query, other) - output).abs().max()
        if j < first:
            assert moved == 0
        else:
            assert moved > 8 * UNIT[torch.float64] * output.abs().max()


@pytest.mark.parametrize(("name", "config"), [case for case in EXAMPLES if case not in ATTENTION])
def test_a_state_of_fixed_size_exists_before_any_token(name: str, config: Any) -> None:
    """Layers with a state of fixed size report the same size for no tokens and for a thousand."""
    layer = build(name, config)
    assert layer.state_size(0) == layer.state_size(1000) > 0


@pytest.mark.parametrize(("name", "config"), ATTENTION)
def test_attention_keeps_nothing_of_no_tokens(name: str, config: Any) -> None:
    """Without tokens there are no keys and values."""
    assert build(name, config).state_size(0) == 0


def test_a_layer_without_a_state_keeps_its_tokens() -> None:
    """The default is the number of entries of the context, whose width may differ from the query's."""

    class Total(ContextualLayer):
        def forward(self, query: Tensor, context: Tensor) -> Tensor:
            return query + context.sum((-2, -1)).unsqueeze(-1)

    assert [Total(3).state_size(n) for n in (0, 1, 7)] == [0, 3, 21]
    assert [Total(3, context_width=5).state_size(n) for n in (0, 1, 7)] == [0, 5, 35]

"""The recurrent layers, against torch's own modules and cells, and their fast paths against the definitions."""

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from ctxblocks_rnn import GRU, LSTM, RNN, GRUConfig, LSTMConfig, RNNConfig, ctxblocks_layers
from ctxblocks_rnn._recurrent import RecurrentConfig, RecurrentLayer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ctxblocks import ArgumentError, ContextualLayer

CONFIGS: list[RecurrentConfig] = [config for spec in ctxblocks_layers() for config in spec.examples]
BUILD: dict[type, Callable[..., RecurrentLayer]] = {RNNConfig: RNN, GRUConfig: GRU, LSTMConfig: LSTM}
METHODS = ("causal", "prefixes", "suffixes", "sequence")
ROUNDOFF = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
configs, seeds, sizes = st.sampled_from(CONFIGS), st.integers(0, 10**6), st.integers(0, 9)
scales, methods = st.sampled_from([1.0, 30.0, 1e4]), st.sampled_from(METHODS)
batches = st.sampled_from([(), (2,), (2, 3)])


def build(config: RecurrentConfig, seed: int, dtype: torch.dtype = torch.float64) -> RecurrentLayer:
    torch.manual_seed(seed)
    layer: RecurrentLayer = BUILD[type(config)](config).to(dtype)
    return layer


def draw(*shape: int, seed: int, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
    gen = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(*shape, generator=gen, dtype=torch.float64)).to(dtype)


def arguments(
    method: str, batch: tuple[int, ...], n: int, width: int, seed: int, scale: float = 1.0
) -> tuple[Tensor, ...]:
    """What the method takes, for `n` tokens."""
    context = draw(*batch, n, width, seed=seed, scale=scale)
    if method == "sequence":
        return (context,)
    rows = (n + 1,) if method == "causal" else ()
    return draw(*batch, *rows, width, seed=seed + 1, scale=scale), context


def bounds(exact: Tensor, plain: Tensor, u: float) -> float:
    """Eight times the definition's own error, and eight roundings of the largest entry."""
    if exact.numel() == 0:
        return 0.0
    return float((8 * (plain.double() - exact).abs().max() + 8 * u * exact.abs().max()).detach())


def held(fast: list[Tensor], exact: list[Tensor], plain: list[Tensor], dtype: torch.dtype) -> None:
    """Raise unless the fast results are as near to the float64 definition as the definition in `dtype` is.

    A float64 definition has no better one to be measured by: its error is that of float32, scaled by the round-offs.
    """
    for got, want, same in zip(fast, exact, plain, strict=True):
        bound = bounds(want, same, ROUNDOFF[torch.float32 if dtype == torch.float64 else dtype])
        if dtype == torch.float64:
            bound *= ROUNDOFF[torch.float64] / ROUNDOFF[torch.float32]
        assert got.shape == want.shape
        error = float((got.double() - want).detach().abs().max()) if got.numel() else 0.0
        assert error <= bound


def gradients(layer: nn.Module, outputs: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Of a fixed random combination of the outputs: by each input, and by all parameters as one vector."""
    weights = draw(*outputs.shape, seed=99).to(outputs.dtype)
    leaves = [*inputs, *layer.parameters()]
    found = torch.autograd.grad((outputs * weights).sum(), leaves, allow_unused=True)
    filled = [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]
    return [*filled[: len(inputs)], torch.cat([g.flatten() for g in filled[len(inputs) :]])]


def outcome(layer: RecurrentLayer, method: str, args: tuple[Tensor, ...], fast: bool, grad: bool) -> list[Tensor]:
    dtype = layer.projection.weight.dtype
    leaves = [arg.to(dtype).requires_grad_(grad) for arg in args]
    function = getattr(layer, method) if fast else lambda *a: getattr(ContextualLayer, method)(layer, *a)
    outputs = function(*leaves)
    return [outputs.detach(), *(gradients(layer, outputs, leaves) if grad and outputs.requires_grad else [])]


def check_fast(layer: RecurrentLayer, method: str, args: tuple[Tensor, ...], grad: bool = True) -> None:
    """The rule "fast against definition", for outputs and gradients."""
    dtype = layer.projection.weight.dtype
    exact = outcome(copy.deepcopy(layer).double(), method, args, fast=False, grad=grad)
    measured = copy.deepcopy(layer).float() if dtype == torch.float64 else layer
    held(outcome(layer, method, args, True, grad), exact, outcome(measured, method, args, False, grad), dtype)


def reference(layer: RecurrentLayer, config: RecurrentConfig) -> nn.RNNBase:
    """Torch's module with the layer's weights."""
    modules = {RNN: nn.RNN, GRU: nn.GRU, LSTM: nn.LSTM}
    extra = {"nonlinearity": config.nonlinearity} if isinstance(config, RNNConfig) else {}
    found: nn.RNNBase = modules[type(layer)](
        config.width, config.state_width, bias=config.bias, batch_first=True, **extra
    )
    found.double().load_state_dict(layer.recurrence.state_dict())
    return found


def cell(layer: RecurrentLayer, config: RecurrentConfig) -> nn.RNNCellBase:
    """Torch's cell with the layer's weights."""
    cells = {RNN: nn.RNNCell, GRU: nn.GRUCell, LSTM: nn.LSTMCell}
    extra = {"nonlinearity": config.nonlinearity} if isinstance(config, RNNConfig) else {}
    found: nn.RNNCellBase = cells[type(layer)](config.width, config.state_width, bias=config.bias, **extra)
    found.double().load_state_dict({name.removesuffix("_l0"): w for name, w in layer.recurrence.state_dict().items()})
    return found


def tolerance(layer: RecurrentLayer, n: int, want: Tensor) -> float:
    """A few roundings for each product's term and each of the steps, at torch's initial weights, whose steps contract."""
    terms = layer.width + layer.projection.in_features
    return float(ROUNDOFF[torch.float64] * 4 * terms * (n + 1) * want.detach().abs().max().clamp(min=1))


@settings(deadline=None, max_examples=60)
@given(config=configs, seed=seeds, n=sizes)
def test_every_method_agrees_with_torchs_module(config: RecurrentConfig, seed: int, n: int) -> None:
    """Forward, sequence and causal are torch's module on the tokens with the query last, and a projection."""
    layer = build(config, seed)
    module = reference(layer, config)
    queries, context = arguments("causal", (2,), n, config.width, seed)
    for i in range(n + 1):
        tokens = torch.cat([context[:, :i], queries[:, i : i + 1]], dim=1)
        want = module(tokens)[0] @ layer.projection.weight.T
        bound = tolerance(layer, n, want)
        assert (layer(queries[:, i], context[:, :i]) - want[:, -1]).abs().max() <= bound
        assert (layer.causal(queries, context)[:, i] - want[:, -1]).abs().max() <= bound
        assert (layer.sequence(tokens) - want).abs().max() <= bound


@settings(deadline=None, max_examples=40)
@given(config=configs, seed=seeds, n=sizes)
def test_the_loop_agrees_with_torchs_cell(config: RecurrentConfig, seed: int, n: int) -> None:
    """The plain loop steps as torch's cell does, the memory of an LSTM included."""
    layer = build(config, seed)
    step = cell(layer, config)
    tokens = draw(2, n, config.width, seed=seed)
    start = tuple(draw(2, config.state_width, seed=seed + k) for k in range(layer.parts))
    state = start if layer.parts == 2 else start[0]
    outputs, final = layer.looped(tokens, start)
    for t in range(n):
        state = step(tokens[:, t], state)
        shown = state[0] if layer.parts == 2 else state
        assert (outputs[:, t] - shown).abs().max() <= tolerance(layer, n, shown)
    for got, want in zip(final, state if layer.parts == 2 else (state,), strict=True):
        assert (got - want).abs().max() <= tolerance(layer, n, want)


@settings(deadline=None, max_examples=60)
@given(config=configs, seed=seeds, n=sizes, scale=scales, batch=batches)
def test_the_loop_agrees_with_the_fused_pass(
    config: RecurrentConfig, seed: int, n: int, scale: float, batch: tuple[int, ...]
) -> None:
    """The two routes give the same outputs and the same last state."""
    layer = build(config, seed)
    tokens = draw(*batch, n, config.width, seed=seed, scale=scale)
    start = layer.zero_state(draw(*batch, config.width, seed=seed))
    fused, looped = layer.outputs(tokens, start), layer.looped(tokens, start)
    narrow, begin = copy.deepcopy(layer).float(), tuple(part.float() for part in start)
    measured = narrow.looped(tokens.float(), begin)
    for got, want, same in zip(
        (fused[0], *fused[1]), (looped[0], *looped[1]), (measured[0], *measured[1]), strict=True
    ):
        held([got], [want], [same], torch.float64)


@settings(deadline=None, max_examples=100)
@given(
    config=configs, method=methods, seed=seeds, n=sizes, scale=scales, batch=batches,
    block=st.sampled_from([1, 2, 3, 1024]), dtype=st.sampled_from([torch.float64, torch.float32]),
)  # fmt: skip
def test_fast_paths_agree_with_their_definitions(
    config: RecurrentConfig,
    method: str,
    seed: int,
    n: int,
    scale: float,
    batch: tuple[int, ...],
    block: int,
    dtype: torch.dtype,
) -> None:
    """Outputs and gradients, over one block of tokens and several, zero tokens included.

    A saturated gate's slope `σ(1 − σ)` is rounding error in either route, so that gradients of large inputs need only be
    finite.
    """
    layer = build(config, seed, dtype)
    layer.block = block
    args = arguments(method, batch, n, config.width, seed, scale)
    check_fast(layer, method, args, grad=scale == 1.0)
    assert all(bool(torch.isfinite(found).all()) for found in outcome(layer, method, args, fast=True, grad=True))


@settings(deadline=None, max_examples=60)
@given(config=configs, method=methods, seed=seeds, n=sizes, dtype=st.sampled_from([torch.bfloat16, torch.float16]))
def test_half_types(config: RecurrentConfig, method: str, seed: int, n: int, dtype: torch.dtype) -> None:
    """The fast paths are as accurate as the definitions in half precision, and keep the dtype."""
    layer = build(config, seed, dtype)
    layer.block = 4
    args = tuple(arg.to(dtype) for arg in arguments(method, (2,), n, config.width, seed))
    assert getattr(layer, method)(*args).dtype == dtype
    check_fast(layer, method, args, grad=False)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("config", [kind(width=3, hidden=4) for kind in BUILD], ids=repr)
def test_transforms(config: RecurrentConfig, method: str) -> None:
    """`vmap`, `vmap` of `grad`, and `torch.compile` without a graph break give what the plain call gives."""
    layer = build(config, 0)
    args = arguments(method, (3,), 5, config.width, 7)
    function = getattr(layer, method)
    want = function(*args)
    bound = tolerance(layer, 5, want)
    assert (torch.func.vmap(function)(*args) - want).abs().max() <= bound
    torch.compiler.reset()
    assert (torch.compile(function, fullgraph=True, backend="eager")(*args) - want).abs().max() <= bound
    leaves = [arg.clone().requires_grad_() for arg in args]
    slopes = torch.autograd.grad(function(*leaves).square().sum(), leaves[0])[0]
    found = torch.func.vmap(torch.func.grad(lambda *a: function(*a).square().sum()))(*args)
    assert (found - slopes).abs().max() <= 8 * tolerance(layer, 5, slopes)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_fast_paths_do_not_loop_over_forward(config: RecurrentConfig) -> None:
    """Causal, prefixes and sequence take one pass per block and no `forward`; suffixes one step per token and query."""
    layer = build(config, 0)
    passes = count(layer, "outputs")
    forwards = count(layer, "mix")
    steps = count(layer, "step")
    layer.block = 4
    for method in ("causal", "prefixes", "sequence"):
        getattr(layer, method)(*arguments(method, (), 8, config.width, 3))
    assert (next(passes), next(forwards), next(steps)) == (6, 0, 0)
    layer.suffixes(*arguments("suffixes", (), 8, config.width, 3))
    assert (next(passes), next(forwards), next(steps)) == (6, 0, 9)


def count(layer: RecurrentLayer, name: str) -> Iterator[int]:
    """Yields how often the method has been called so far."""
    calls = []
    original = getattr(layer, name)

    def counted(*args: Tensor) -> Tensor:
        calls.append(name)
        found: Tensor = original(*args)
        return found

    object.__setattr__(layer, name, counted)
    return iter(lambda: len(calls), -1)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_gradients_in_eval_mode_and_again(config: RecurrentConfig) -> None:
    """Evaluation mode gives the same bits and gradients, and a second call the same bits."""
    layer = build(config, 0)
    args = arguments("prefixes", (2,), 6, config.width, 1)
    trained = outcome(layer, "prefixes", args, fast=True, grad=True)
    evaluated = outcome(layer.eval(), "prefixes", args, fast=True, grad=True)
    assert all(torch.equal(a, b) for a, b in zip(trained, evaluated, strict=True))
    assert torch.equal(layer.prefixes(*args), layer.prefixes(*args))


@pytest.mark.parametrize("kind", [RNNConfig, GRUConfig, LSTMConfig])
def test_sizes_below_one_are_refused(kind: type[RecurrentConfig]) -> None:
    """The message names the field, what it got and what it needs."""
    with pytest.raises(
        ArgumentError, match=rf"{kind.__name__}: got width=0, needs at least 1; give width a positive size"
    ):
        kind(width=0)
    with pytest.raises(ArgumentError, match=r"got hidden=-1, needs at least 1"):
        kind(width=2, hidden=-1)
    assert kind(width=5).state_width == 5
    assert kind(width=5, hidden=2).state_width == 2


def test_an_unknown_nonlinearity_is_refused() -> None:
    """The message names both that there are."""
    with pytest.raises(ArgumentError, match=r"RNNConfig: got nonlinearity='gelu', needs 'tanh' or 'relu'"):
        RNNConfig(width=2, nonlinearity="gelu")

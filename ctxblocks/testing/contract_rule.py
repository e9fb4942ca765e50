"""How the contract compares outputs: the methods of a layer, their definitions, and the tolerance."""

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor

from ctxblocks.blocks.layer import ContextualLayer
from ctxblocks.exactness.tolerance import fast_tolerance, round_off
from ctxblocks.testing.cases import WIDE, Case

Call = Callable[..., Tensor]  # takes a layer and the arguments of one of its methods
EXTRA = 3  # further draws for the error of the definition, which may be small by chance for one draw
LARGE = 100.0  # scale of arguments at which the scores of an attention layer spread over ±1e4


def forward(layer: ContextualLayer, query: Tensor, context: Tensor) -> Tensor:
    """`A(C, x)`."""
    return layer(query, context)


def causal(layer: ContextualLayer, queries: Tensor, context: Tensor) -> Tensor:
    """The definition of `causal`."""
    return ContextualLayer.causal(layer, queries, context)


def prefixes(layer: ContextualLayer, query: Tensor, context: Tensor) -> Tensor:
    """The definition of `prefixes`, which does not use the layer's `causal`."""
    rows = context.shape[-2] + 1
    return causal(layer, query.unsqueeze(-2).expand(*query.shape[:-1], rows, query.shape[-1]), context)


def suffixes(layer: ContextualLayer, query: Tensor, context: Tensor) -> Tensor:
    """The definition of `suffixes`."""
    return ContextualLayer.suffixes(layer, query, context)


def sequence(layer: ContextualLayer, tokens: Tensor) -> Tensor:
    """The definition of `sequence` for at least one token, which does not use the layer's `causal`."""
    return causal(layer, tokens, tokens[..., :-1, :])


def methods(case: Case) -> dict[str, tuple[Call, tuple[Tensor, ...]]]:
    """The methods that the layer supports, with arguments from the case; a cross-attention has no `sequence`."""
    layer, query, context = case.layer, case.query, case.context
    queries = case.tensor(*case.batch, case.tokens + 1, layer.width)
    calls: dict[str, tuple[Call, tuple[Tensor, ...]]] = {
        "forward": (forward, (query, context)),
        "causal": (lambda layer, *given: layer.causal(*given), (queries, context)),
        "prefixes": (lambda layer, *given: layer.prefixes(*given), (query, context)),
        "suffixes": (lambda layer, *given: layer.suffixes(*given), (query, context)),
    }
    if layer.width == layer.context_width:
        calls["sequence"] = (lambda layer, *given: layer.sequence(*given), (queries,))
    return calls


def drawn(case: Case, data: st.DataObject) -> tuple[str, Call, tuple[Tensor, ...]]:
    """One drawn method that the layer supports: its name, the call and its arguments."""
    calls = methods(case)
    name = data.draw(st.sampled_from(sorted(calls)), label="method")
    return (name, *calls[name])


def judge(case: Case, call: Call, *arguments: Tensor) -> tuple[Tensor, Tensor]:  # the shape of the output, ()
    """The output of the layer's float64 copy, and the tolerance by the rule "fast against definition".

    The rule measures the error of the definition against float64, here over all rows together. For a float64 layer the
    definition runs in float32 instead, and the tolerance is scaled by the ratio of the round-offs.
    """
    exact = call(case.wide_layer, *(argument.double() for argument in arguments)).detach()
    if case.dtype != torch.float64:
        return exact, fast_tolerance(_rows(call(case.layer, *arguments)), _rows(exact))
    single = call(case.single_layer, *(argument.float() for argument in arguments))
    scale = round_off(torch.float64) / round_off(torch.float32)
    return exact, scale * fast_tolerance(_rows(single), _rows(exact))


def assert_agrees(case: Case, got: Tensor, definition: Call, *arguments: Tensor, scale: float = 1.0) -> None:
    """Assert that `got` equals `definition(case.layer, *arguments)` within the tolerance of `judge`.

    Args:
        case: the case of the layer.
        got: the output to test.
        definition: the definition of the method.
        arguments: the arguments of the definition.
        scale: scale of the arguments, for the further draws.
    """
    more = [torch.cat([a.unsqueeze(0), scale * case.tensor(EXTRA, *a.shape)]) for a in arguments]
    exact, allowed = judge(case, definition, *more)
    assert got.shape == exact.shape[1:]
    assert_close(got, exact[0], allowed)


def assert_close(got: Tensor, wanted: Tensor, allowed: Tensor) -> None:
    """Assert that all entries differ by at most `allowed`; NaN fails."""
    error, limit = _distance(got, wanted), float(allowed)
    assert error <= limit, f"differs by {error:.3e}, needs at most {limit:.3e}"


def assert_same(case: Case, got: Tensor, wanted: Tensor, call: Call, *arguments: Tensor) -> None:
    """Assert that two outputs are equal: bit for bit on a CPU, within the tolerance of `judge` elsewhere."""
    if case.device.type == "cpu":
        same = torch.equal(got, wanted)
        assert same, f"differs by {_distance(got, wanted):.3e}, needs equal bits"
    else:
        assert_close(got, wanted, judge(case, call, *arguments)[1])


def gradients(call: Call) -> Call:
    """The gradients with respect to arguments and parameters, in one row, for a fixed Gaussian cotangent."""

    def run(layer: ContextualLayer, *arguments: Tensor) -> Tensor:  # (1, numbers)
        leaves = [argument.detach().requires_grad_() for argument in arguments]
        output = call(layer, *leaves)
        cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        inputs = [*leaves, *(p for p in layer.parameters() if p.requires_grad)]
        parts = torch.autograd.grad(output, inputs, cotangent.to(output), allow_unused=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts]).unsqueeze(0)

    return run


def is_wide(case: Case) -> bool:
    """Whether the case is in float64 or float32."""
    return case.dtype in WIDE


def _rows(output: Tensor) -> Tensor:  # (…, d) -> (rows, d)
    return output.detach().reshape(-1, output.shape[-1])


def _distance(got: Tensor, wanted: Tensor) -> float:
    return float((got.detach().double() - wanted.detach().double()).abs().max())

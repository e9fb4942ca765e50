"""How the contract compares: the calls that a layer answers, their definitions, and by how much two answers may differ."""

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor

from ctxblocks.blocks.layer import ContextualLayer
from ctxblocks.exactness.tolerance import fast_tolerance, round_off
from ctxblocks.testing.cases import WIDE, Case

Call = Callable[..., Tensor]  # of a layer and its arguments
EXTRA = 3  # further draws that the definition's own error is measured on: one draw's may be small by chance
LARGE = 100.0  # makes the scores of an attention layer spread over ±1e4


def forward(layer: ContextualLayer, query: Tensor, context: Tensor) -> Tensor:
    """`A(C, x)`."""
    return layer(query, context)


def causal(layer: ContextualLayer, queries: Tensor, context: Tensor) -> Tensor:
    """The definition of `causal`."""
    return ContextualLayer.causal(layer, queries, context)


def prefixes(layer: ContextualLayer, query: Tensor, context: Tensor) -> Tensor:
    """The definition of `prefixes`, whatever the layer's own `causal` does."""
    rows = context.shape[-2] + 1
    return causal(layer, query.unsqueeze(-2).expand(*query.shape[:-1], rows, query.shape[-1]), context)


def suffixes(layer: ContextualLayer, query: Tensor, context: Tensor) -> Tensor:
    """The definition of `suffixes`."""
    return ContextualLayer.suffixes(layer, query, context)


def sequence(layer: ContextualLayer, tokens: Tensor) -> Tensor:
    """The definition of `sequence` of at least one token, whatever the layer's own `causal` does."""
    return causal(layer, tokens, tokens[..., :-1, :])


def answers(case: Case) -> dict[str, tuple[Call, tuple[Tensor, ...]]]:
    """Every call that the layer answers, with arguments from the case; a cross-attention answers no `sequence`."""
    layer, query, context = case.layer, case.query, case.context
    queries = case.tensor(*case.batch, case.tokens + 1, layer.width)
    found: dict[str, tuple[Call, tuple[Tensor, ...]]] = {
        "forward": (forward, (query, context)),
        "causal": (lambda layer, *given: layer.causal(*given), (queries, context)),
        "prefixes": (lambda layer, *given: layer.prefixes(*given), (query, context)),
        "suffixes": (lambda layer, *given: layer.suffixes(*given), (query, context)),
    }
    if layer.width == layer.context_width:
        found["sequence"] = (lambda layer, *given: layer.sequence(*given), (queries,))
    return found


def drawn(case: Case, data: st.DataObject) -> tuple[str, Call, tuple[Tensor, ...]]:
    """One call that the layer answers, and its arguments: with many cases every call has its turn."""
    found = answers(case)
    name = data.draw(st.sampled_from(sorted(found)), label="call")
    return (name, *found[name])


def judge(case: Case, call: Call, *arguments: Tensor) -> tuple[Tensor, Tensor]:  # the shape of the answer, ()
    """What the layer's float64 copy answers, and by how much an answer may differ: the rule "fast against definition".

    The rule measures the definition's own error against float64, here over all rows together. In float64 itself there is
    none to see, so there the definition runs in float32 and both terms, being proportional to the round-off, are scaled.
    """
    exact = call(case.wide_layer, *(argument.double() for argument in arguments)).detach()
    if case.dtype != torch.float64:
        return exact, fast_tolerance(_rows(call(case.layer, *arguments)), _rows(exact))
    single = call(case.single_layer, *(argument.float() for argument in arguments))
    scale = round_off(torch.float64) / round_off(torch.float32)
    return exact, scale * fast_tolerance(_rows(single), _rows(exact))


def assert_agrees(case: Case, got: Tensor, definition: Call, *arguments: Tensor, scale: float = 1.0) -> None:
    """Hold `got` against what the definition answers to these arguments.

    Args:
        case: whose layer answered.
        got: of the shape that `definition(layer, *arguments)` has.
        definition: see above.
        arguments: of the definition.
        scale: of the arguments, for the further draws.
    """
    more = [torch.cat([a.unsqueeze(0), scale * case.tensor(EXTRA, *a.shape)]) for a in arguments]
    exact, allowed = judge(case, definition, *more)
    assert got.shape == exact.shape[1:]
    assert_close(got, exact[0], allowed)


def assert_close(got: Tensor, wanted: Tensor, allowed: Tensor) -> None:
    """Fail unless all entries differ by no more than `allowed`; not a number is a difference."""
    error, limit = _distance(got, wanted), float(allowed)
    assert error <= limit, f"off by {error:.3e}, may be off by {limit:.3e}"


def assert_same(case: Case, got: Tensor, wanted: Tensor, call: Call, *arguments: Tensor) -> None:
    """Two answers to the same arguments: equal bit for bit on a CPU, by the rule elsewhere."""
    if case.device.type == "cpu":
        same = torch.equal(got, wanted)
        assert same, f"off by {_distance(got, wanted):.3e}, needs equal bits"
    else:
        assert_close(got, wanted, judge(case, call, *arguments)[1])


def gradients(call: Call) -> Call:
    """The gradients of a call, of inputs and parameters in one row, for a fixed Gaussian cotangent."""

    def run(layer: ContextualLayer, *arguments: Tensor) -> Tensor:  # (1, numbers)
        leaves = [argument.detach().requires_grad_() for argument in arguments]
        output = call(layer, *leaves)
        cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        inputs = [*leaves, *(p for p in layer.parameters() if p.requires_grad)]
        found = torch.autograd.grad(output, inputs, cotangent.to(output), allow_unused=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in found]).unsqueeze(0)

    return run


def is_wide(case: Case) -> bool:
    """Whether the case is in float64 or float32."""
    return case.dtype in WIDE


def _rows(output: Tensor) -> Tensor:  # (…, d) -> (rows, d)
    return output.detach().reshape(-1, output.shape[-1])


def _distance(got: Tensor, wanted: Tensor) -> float:
    return float((got.detach().double() - wanted.detach().double()).abs().max())

"""Group *contract*, methods that may be faster than their definitions, and gradients."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from ctxblocks.blocks.layer import ContextualLayer
from ctxblocks.testing import contract_rule as rule
from ctxblocks.testing.cases import Case, Conformance
from ctxblocks.testing.contract_rule import LARGE, Call, assert_agrees, assert_close, drawn, is_wide, judge, methods

LONG = 300  # tokens: longer than the chunks of common scans


def causal(case: Case, data: st.DataObject) -> None:
    """`causal` equals its definition, gradients included."""
    queries = case.tensor(*case.batch, case.tokens + 1, case.layer.width)
    agrees(case, data, lambda layer, *given: layer.causal(*given), rule.causal, queries, case.context)


def test_causal(conformance: Conformance) -> None:
    conformance.check(causal)


def prefixes(case: Case, data: st.DataObject) -> None:
    """`prefixes` equals its definition, gradients included."""
    agrees(case, data, lambda layer, *given: layer.prefixes(*given), rule.prefixes, case.query, case.context)


def test_prefixes(conformance: Conformance) -> None:
    conformance.check(prefixes)


def suffixes(case: Case, data: st.DataObject) -> None:
    """`suffixes` equals its definition, gradients included."""
    agrees(case, data, lambda layer, *given: layer.suffixes(*given), rule.suffixes, case.query, case.context)


def test_suffixes(conformance: Conformance) -> None:
    conformance.check(suffixes)


def sequence(case: Case, data: st.DataObject) -> None:
    """`sequence` equals its definition, gradients included; for no tokens it returns no rows."""
    if case.layer.width != case.layer.context_width:
        return  # a cross-attention: `wrong_shapes` tests that it raises an error
    tokens = case.tensor(*case.batch, case.tokens, case.layer.width)
    if case.tokens == 0:
        assert case.layer.sequence(tokens).shape == tokens.shape
    else:
        agrees(case, data, lambda layer, *given: layer.sequence(*given), rule.sequence, tokens)


def test_sequence(conformance: Conformance) -> None:
    conformance.check(sequence)


def long_contexts(case: Case, data: st.DataObject) -> None:
    """On contexts of up to 300 tokens, rows of every method equal `forward`."""
    layer, n = case.layer, data.draw(st.integers(1, LONG), label="tokens")
    queries, context = case.tensor(n + 1, layer.width), case.tensor(n, layer.context_width)
    rows = sorted({0, n, data.draw(st.integers(0, n), label="row"), data.draw(st.integers(0, n), label="row")})
    name = data.draw(st.sampled_from(sorted(methods(case).keys() - {"forward"})), label="call")
    if name == "causal":
        got, pairs = layer.causal(queries, context), [(queries[i], context[:i]) for i in rows]
    elif name == "prefixes":
        got, pairs = layer.prefixes(queries[0], context), [(queries[0], context[:i]) for i in rows]
    elif name == "suffixes":
        got, pairs = layer.suffixes(queries[0], context), [(queries[0], context[i:]) for i in rows]
    else:
        got, pairs = layer.sequence(queries), [(queries[i], queries[:i]) for i in rows]
    flat = [tensor for pair in pairs for tensor in pair]
    assert_close(got[rows], *judge(case, _each, *flat))


def test_long_contexts(conformance: Conformance) -> None:
    conformance.fewer(4).check(long_contexts)


def causality(case: Case, data: st.DataObject) -> None:
    """Row `i` of `causal` and of `sequence` does not depend on later tokens and queries."""
    layer, n = case.layer, case.tokens
    i = data.draw(st.integers(0, n), label="row")
    scale = data.draw(st.sampled_from((1.0, LARGE)), label="scale of later tokens") if is_wide(case) else 1.0
    queries = case.tensor(*case.batch, n + 1, layer.width)
    later = torch.cat([queries[..., : i + 1, :], scale * case.tensor(*case.batch, n - i, layer.width)], dim=-2)
    more = torch.cat([case.context[..., :i, :], scale * case.tensor(*case.batch, n - i, layer.context_width)], dim=-2)
    kept = (queries[..., : i + 1, :], case.context[..., :i, :])
    assert_agrees(case, layer.causal(later, more)[..., : i + 1, :], rule.causal, *kept)
    if layer.width == layer.context_width:
        assert_agrees(case, layer.sequence(later)[..., : i + 1, :], rule.sequence, kept[0])


def test_causality(conformance: Conformance) -> None:
    conformance.check(causality)


def gradients_finite(case: Case, data: st.DataObject) -> None:
    """Gradients with respect to arguments and parameters are finite in every method, also at zero queries and tokens."""
    scale = data.draw(st.sampled_from((1.0, 0.0)), label="scale of the arguments")
    _, call, arguments = drawn(case, data)
    gradients = rule.gradients(call)(case.layer, *(scale * argument for argument in arguments))
    assert torch.isfinite(gradients).all()


def test_gradients_finite(conformance: Conformance) -> None:
    conformance.check(gradients_finite)


def agrees(case: Case, data: st.DataObject, fast: Call, definition: Call, *arguments: Tensor) -> None:
    """Assert that a method equals its definition, also for large scores; in float64 and float32 its gradients too."""
    scale = data.draw(st.sampled_from((1.0, LARGE)), label="scale") if case.dtype != torch.float16 else 1.0
    arguments = tuple(scale * argument for argument in arguments)
    got = fast(case.layer, *arguments)
    if is_wide(case) or scale == 1.0:
        assert_agrees(case, got, definition, *arguments, scale=scale)
    else:  # with near-ties among scores, any two orders of rounding disagree
        assert torch.isfinite(got).all()
    if is_wide(case) and scale == 1.0:
        gradients = rule.gradients(fast)(case.layer, *arguments)
        assert_close(gradients, *judge(case, rule.gradients(definition), *arguments))


def _each(layer: ContextualLayer, *pairs: Tensor) -> Tensor:  # x, C, x, C, … -> (rows, d)
    return torch.stack([layer(x, C) for x, C in zip(pairs[::2], pairs[1::2], strict=True)])

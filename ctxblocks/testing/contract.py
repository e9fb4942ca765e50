"""Group *contract*, arguments and outputs: shapes, dtypes, errors, and independence of batch elements."""

import torch
from hypothesis import strategies as st

from ctxblocks.base.errors import DtypeError, ShapeError
from ctxblocks.blocks.layer import ContextualLayer
from ctxblocks.testing.cases import Case, Conformance
from ctxblocks.testing.contract_rule import (
    LARGE,
    Call,
    assert_close,
    drawn,
    forward,
    is_wide,
    judge,
    methods,
)

TRIES = 8


def zero_tokens(case: Case, data: st.DataObject) -> None:
    """An empty context is valid: every method accepts it and returns the finite `A(x)`."""
    layer, query, empty = case.layer, case.query, case.context[..., :0, :]
    output = layer(query, empty)
    assert torch.isfinite(output).all()
    exact, allowed = judge(case, forward, query, empty)
    for got in (
        output,
        layer.causal(query.unsqueeze(-2), empty).squeeze(-2),
        layer.prefixes(query, empty).squeeze(-2),
        layer.suffixes(query, empty).squeeze(-2),
    ):
        assert got.shape == query.shape
        assert_close(got, exact, allowed)


def test_zero_tokens(conformance: Conformance) -> None:
    conformance.check(zero_tokens)


def output_shape(case: Case, data: st.DataObject) -> None:
    """`forward` returns `(…, d)`; `causal`, `prefixes` and `suffixes` return `n + 1` rows, and `sequence` one row per token."""
    name, call, arguments = drawn(case, data)
    rows = (*case.batch, case.tokens + 1, case.layer.width)  # of `sequence` too, whose argument has n + 1 tokens
    assert call(case.layer, *arguments).shape == (case.query.shape if name == "forward" else rows)


def test_output_shape(conformance: Conformance) -> None:
    conformance.check(output_shape)


def dtype_and_device(case: Case, data: st.DataObject) -> None:
    """Outputs have the dtype and the device of the query."""
    _, call, arguments = drawn(case, data)
    output = call(case.layer, *arguments)
    assert output.dtype == case.dtype
    assert output.device == case.query.device


def test_dtype_and_device(conformance: Conformance) -> None:
    conformance.check(dtype_and_device)


def widths(case: Case, data: st.DataObject) -> None:
    """The layer is a `ContextualLayer` of the configured width, and its `context_width` is at least 1."""
    assert isinstance(case.layer, ContextualLayer)
    assert case.layer.width == case.config.width
    assert case.layer.context_width >= 1


def test_widths(conformance: Conformance) -> None:
    conformance.check(widths)


def sees_context(case: Case, data: st.DataObject) -> None:
    """The layer uses its context: at least one of the drawn contexts changes the output by more than rounding."""
    for _ in range(TRIES):
        query, context = case.tensor(4, case.layer.width), case.tensor(4, 6, case.layer.context_width)
        full, allowed = judge(case, forward, query, context)
        empty, _ = judge(case, forward, query, context[..., :0, :])
        if (full - empty).abs().amax() > 2 * allowed:
            return
    raise AssertionError(f"none of {4 * TRIES} contexts of 6 tokens changes the output: the layer ignores its context")


def test_sees_context(conformance: Conformance) -> None:
    conformance.wide().check(sees_context)


def batch_elements(case: Case, data: st.DataObject) -> None:
    """Batch elements are independent: the output of each is the same alone and among any other elements."""
    _, call, arguments = drawn(case, data)
    size = data.draw(st.integers(2, 3), label="batch size")
    kept = data.draw(st.integers(0, size - 1), label="element to compare")
    scale = data.draw(st.sampled_from((1.0, LARGE)), label="scale of the others") if is_wide(case) else 1.0
    batched = [case.tensor(size, *argument.shape) for argument in arguments]
    others = [scale * case.tensor(size, *argument.shape) for argument in arguments]
    for other, tensor in zip(others, batched, strict=True):
        other[kept] = tensor[kept]
    exact, _ = judge(case, call, *[tensor[kept] for tensor in batched])
    _, allowed = judge(case, call, *batched)
    for given in (batched, others):
        got = call(case.layer, *given)
        assert got.shape == (size, *exact.shape)
        assert_close(got[kept], exact, allowed)


def test_batch_elements(conformance: Conformance) -> None:
    conformance.check(batch_elements)


def strides(case: Case, data: st.DataObject) -> None:
    """Expanded and transposed views give the same output as contiguous arguments."""
    _, call, arguments = drawn(case, data)
    plain = [argument.expand(2, *argument.shape).contiguous() for argument in arguments]
    if data.draw(st.booleans(), label="expanded"):
        views = [argument.expand(2, *argument.shape) for argument in arguments]
    else:
        views = [argument.mT.contiguous().mT for argument in plain]
    assert_close(call(case.layer, *views), *judge(case, call, *plain))


def test_strides(conformance: Conformance) -> None:
    conformance.check(strides)


def wrong_shapes(case: Case, data: st.DataObject) -> None:
    """Every method raises `ShapeError` for wrong widths, ranks, batch shapes and numbers of queries."""
    layer, query, context = case.layer, case.query, case.context
    queries = case.tensor(*case.batch, case.tokens + 1, layer.width)
    wide, scalar = case.tensor(*case.batch, layer.width + 1), case.tensor()
    tokens = case.tensor(*case.batch, case.tokens, layer.context_width + 1)
    batch = case.tensor(*case.batch, 5, case.tokens, layer.context_width)
    refused: list[tuple[Call, tuple[torch.Tensor, ...]]] = []
    for name, (call, _) in methods(case).items():
        if name in ("forward", "prefixes", "suffixes"):
            refused += [(call, bad) for bad in ((wide, context), (scalar, context), (query, tokens), (query, batch))]
            refused += [(call, (query, case.tensor(layer.context_width)))]
        if name == "causal":
            refused += [(call, bad) for bad in ((queries[..., 1:, :], context), (queries, tokens), (queries, batch))]
            refused += [(call, (queries[..., :-1], context)), (call, (case.tensor(layer.width), context))]
        if name == "sequence":
            refused += [(call, bad) for bad in ((queries[..., :-1],), (case.tensor(layer.width),))]
    if layer.width != layer.context_width:
        refused += [(lambda layer, given: layer.sequence(given), (queries,))]
    for call, arguments in refused:
        assert_raises(ShapeError, call, layer, *arguments)


def test_wrong_shapes(conformance: Conformance) -> None:
    conformance.check(wrong_shapes)


def wrong_dtypes(case: Case, data: st.DataObject) -> None:
    """Every method raises `DtypeError` for integers and for another floating-point dtype than the layer's."""
    other = torch.float32 if case.dtype != torch.float32 else torch.float64
    for call, arguments in methods(case).values():
        for at in range(len(arguments)):
            for dtype in (other, torch.int64):
                bad = [a.to(dtype) if i == at else a for i, a in enumerate(arguments)]
                assert_raises(DtypeError, call, case.layer, *bad)


def test_wrong_dtypes(conformance: Conformance) -> None:
    conformance.check(wrong_dtypes)


def assert_raises(error: type[Exception], call: Call, layer: ContextualLayer, *arguments: torch.Tensor) -> None:
    """Assert that the call raises this error."""
    try:
        call(layer, *arguments)
    except error:
        return
    shapes = ", ".join(f"{tuple(argument.shape)} {argument.dtype}" for argument in arguments)
    raise AssertionError(f"accepted arguments of shapes {shapes}, needs {error.__name__}")

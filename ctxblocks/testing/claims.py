"""Group *claims*: one property for each trait, tested on the configurations that claim the trait."""

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from ctxblocks.blocks.layer import ContextualLayer
from ctxblocks.exactness.tolerance import round_off
from ctxblocks.testing.cases import Case, Conformance
from ctxblocks.testing.contract_rule import LARGE, assert_close, is_wide, judge

TRIES = 8
TOKENS = 6


def permutation_invariant(case: Case, data: st.DataObject) -> None:
    """Claim `permutation_invariant`: permuting the context does not change the output."""
    order = list(data.draw(st.permutations(range(case.tokens)), label="permutation"))
    permuted = case.context[..., order, :]
    exact, allowed = judge(case, _each, case.query, case.context, permuted)
    assert_close(case.layer(case.query, permuted), exact[0], allowed)


@pytest.mark.ctx_claim("permutation_invariant")
def test_permutation_invariant(conformance: Conformance) -> None:
    conformance.check(permutation_invariant)


def additive(case: Case, data: st.DataObject) -> None:
    """Claim `additive`: `δ(C₁C₂) = δ(C₁) + δ(C₂)` for every split of the context, where `δ(C) = A(C, x) − A(x)`."""
    cut = data.draw(st.integers(0, case.tokens), label="split")
    query, first, second = case.query, case.context[..., :cut, :], case.context[..., cut:, :]
    empty = case.context[..., :0, :]
    parts = case.layer(query, first).double() + case.layer(query, second).double() - case.layer(query, empty).double()
    _, allowed = judge(case, _each, query, case.context, first, second, empty)
    assert_close(parts, case.layer(query, case.context), 4 * allowed)  # four outputs, each with this error


@pytest.mark.ctx_claim("additive")
def test_additive(conformance: Conformance) -> None:
    conformance.check(additive)


def windowed(case: Case, data: st.DataObject) -> None:
    """Claim `windowed`: the output depends only on the last `w` tokens of the context."""
    window = case.spec.traits(case.config).windowed
    assert window is not None
    before = data.draw(st.integers(1, TOKENS), label="tokens before the window")
    scale = data.draw(st.sampled_from((1.0, LARGE)), label="scale of these tokens") if is_wide(case) else 1.0
    last = case.tensor(*case.batch, window, case.layer.context_width)
    one, other = (
        torch.cat([factor * case.tensor(*case.batch, before, case.layer.context_width), last], dim=-2)
        for factor in (1.0, scale)
    )
    exact, allowed = judge(case, _each, case.query, one, other)
    assert_close(case.layer(case.query, other), exact[0], allowed)


@pytest.mark.ctx_claim("windowed")
def test_windowed(conformance: Conformance) -> None:
    conformance.check(windowed)


def positional(case: Case, data: st.DataObject) -> None:
    """Claim `positional`: some permutation of some context changes the output by more than rounding."""
    for _ in range(TRIES):
        query, context = case.tensor(4, case.layer.width), case.tensor(4, TOKENS, case.layer.context_width)
        exact, allowed = judge(case, _each, query, context, context.flip(-2))
        finer = round_off(torch.float64) / round_off(case.dtype)  # both outputs come from the float64 copy
        if (exact[1] - exact[0]).abs().amax() > 2 * finer * allowed:
            return
    raise AssertionError(f"reversing {4 * TRIES} contexts of {TOKENS} tokens changed no output by more than rounding")


@pytest.mark.ctx_claim("positional")
def test_positional(conformance: Conformance) -> None:
    conformance.wide().check(positional)


def _each(layer: ContextualLayer, query: Tensor, *contexts: Tensor) -> Tensor:
    return torch.stack([layer(query, context) for context in contexts])

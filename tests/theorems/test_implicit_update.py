"""Theorems 2.2 and B.2 are implemented once: all theorem functions, also of language models, call one function."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from ctxblocks_transformers import replay, trace, transfer_model
from lm.tiny import prompt, tiny
from theorems.helpers import block, problem
from torch import Tensor

from ctxblocks import (
    Augmented,
    ContextOperator,
    Read,
    Stack,
    dynamics,
    factorize,
    implicit_update,
    transfer,
    transfer_generation as generation,
)

QUERY, CONTEXT = problem(2)
FACTOR = 1 + 2.0**-16  # seen at once, and small enough for what checks itself


@pytest.fixture
def stretched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function, wherever it is imported, with its direction and its bias shift a little longer."""

    def changed(*reads: Any, **options: Any) -> tuple[ContextOperator, Tensor | None]:
        operator, shift = implicit_update(*reads, **options)
        longer = ContextOperator(FACTOR * operator.direction, operator.key, operator.offset)
        return longer, None if shift is None else FACTOR * shift

    for module in [module for name, module in sys.modules.items() if name.startswith("ctxblocks")]:
        for name, value in list(vars(module).items()):
            if value is implicit_update:
                monkeypatch.setattr(module, name, changed)


def _stack() -> Stack:
    return Stack([block("pre-norm", seed=1), block("sandwich", seed=2)])


def _numbers(updates: Any) -> list[Tensor]:
    """Direction and shift of one update or of several."""
    updates = [each for each in (updates if isinstance(updates, list | tuple) else [updates]) if each is not None]
    parts = [part for each in updates for part in (each.operator.direction, each.shift)]
    return [part for part in parts if part is not None]


CALLS: dict[str, Callable[[], list[Tensor]]] = {
    "block": lambda: _numbers(transfer(block("post-norm"), QUERY, CONTEXT)),
    "output projection": lambda: _numbers(transfer(block("plain"), QUERY, CONTEXT, site="out-proj")),
    "stack": lambda: _numbers(transfer(_stack(), QUERY, CONTEXT)[0]),
    "kept tokens": lambda: _numbers(transfer(_stack(), QUERY, CONTEXT, keep=[1, 3], patch_kept=True)[0]),
    "generation": lambda: _numbers(generation(block("pre-norm"), CONTEXT, CONTEXT)),
    "dynamics": lambda: _numbers(dynamics(block("pre-norm"), QUERY, CONTEXT).updates),
    "dynamics of a stack": lambda: _numbers(dynamics(_stack(), QUERY, CONTEXT)[0].updates),
    "factorization": lambda: _numbers(factorize(block("pre-norm"), QUERY, CONTEXT).updates),
    "transfer_model": lambda: _numbers(transfer_model(tiny("llama"), prompt()).updates[0]),
    "trace": lambda: [trace(tiny("llama"), prompt()).measures["norm"][0]],
    "replay": lambda: _numbers(replay(tiny("llama"), prompt(), 2).updates[0]),
}


@pytest.fixture(scope="module")
def before() -> dict[str, list[Tensor]]:
    """The results of all calls with the function as it is."""
    return {name: call() for name, call in CALLS.items()}


@pytest.mark.parametrize("name", CALLS)
def test_every_update_comes_from_the_one_function(name: str, before: dict[str, list[Tensor]], stretched: None) -> None:
    """A change of `implicit_update` is seen by every call, and by the same factor in the first block."""
    for mine, changed in zip(before[name], CALLS[name](), strict=True):
        torch.testing.assert_close(changed, FACTOR * mine, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("depends", [True, False])
def test_operator_and_shift_match_the_theorem(depends: bool) -> None:
    """`P z = z'` and `r + Δb' = r'`; the identity where `z` does not depend on the context."""
    z, full_z, r, full_r = torch.randn(4, 3, 5, dtype=torch.float64)
    operator, shift = implicit_update(Read(z, r, depends), Read(full_z, full_r, depends), Augmented())
    assert shift is not None
    torch.testing.assert_close(operator.apply(z), full_z if depends else z)
    torch.testing.assert_close(r + shift, full_r)


def test_a_plain_block_has_no_shift() -> None:
    """Without a residual stream the shift is None."""
    z, full_z = torch.randn(2, 3, 5, dtype=torch.float64)
    assert implicit_update(Read(z), Read(full_z), Augmented())[1] is None

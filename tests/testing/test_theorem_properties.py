"""Every property of the theorem group can fail: each fails with a planted fault of the package."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from testing import faulty_layers as layers

from ctxblocks import (
    Dynamics,
    Factorization,
    LeastNorm,
    LowRank,
    Stack,
    registry,
)
from ctxblocks.algebra import lengths
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.exactness import measure
from ctxblocks.numerics import dot
from ctxblocks.testing import theorem
from ctxblocks.testing.cases import Conformance
from ctxblocks.theorems import finetuning as core_finetuning, generation as core_generation, transfer as core_transfer

pytestmark = pytest.mark.usefixtures("first_failure")

Fault = tuple[
    Any, str, Callable[[Any], Any]
]  # object, name of its attribute, and the faulty value made from the right one


def blurred_key(right: Any) -> Any:
    """`z / (‖z‖² + 1e-6)`: no query is degenerate, and no update exact."""
    return lambda self, z: (z / (dot(z, z).unsqueeze(-1).to(z.dtype) + 1e-6), None, torch.zeros_like(z[..., 0]).bool())


def unpatched_tokens(right: Any) -> Any:
    """A `sequence` that ignores the updates of the tokens."""
    return lambda self, tokens, update=None: right(self, tokens, None)


FAULTS: dict[str, Fault] = {  # by the property that has to fail
    "a_missing_update_is_seen": (measure, "SPREAD", lambda right: 1e20),
    "degenerate_queries_have_an_augmented_update": (LeastNorm, "key", blurred_key),
    "dynamics_serve_every_prefix": (
        ContextualBlock,
        "contextualize_prefixes",
        lambda right: lambda self, copies, context: right(self, copies, context.flip(-2)),
    ),
    "factors_carry_the_read": (Factorization, "factor", lambda right: lambda self, i: right(self, max(i - 1, 1))),
    "factors_keep_the_output": (Factorization, "outputs", lambda right: lambda self: self.block.complete(self.reads)),
    "finetuning_is_sgd": (
        core_finetuning,
        "_steps",
        lambda right: lambda *given: {name: -columns for name, columns in right(*given).items()},
    ),
    "generation_is_reproduced_without_the_prompt": (
        core_generation,
        "_response_reads",
        lambda right: lambda block, patched, kept: right(block, patched, kept.flip(-2)),
    ),
    "keep_names_the_rows_that_stay": (
        core_transfer,
        "kept_rows",
        lambda right: lambda keep, length: right(keep, length)[1:],
    ),
    "kept_tokens_are_restored": (ContextualBlock, "sequence", unpatched_tokens),
    "marginal_norms_are_dense": (
        lengths,
        "image_norm",
        lambda right: lambda weights, x: 1.001 * right(weights, x),
    ),
    "merged_weights_answer_alone": (ContextualBlock, "add_shift", lambda right: lambda self, update: None),
    "stack_is_patched_block_by_block": (
        Stack,
        "_updates",
        lambda right: lambda self, update: list(right(self, update))[::-1],
    ),
    "steps_are_gradient_steps": (
        Dynamics,
        "gradient",
        lambda right: (
            lambda self, i, reader=None: LowRank(-right(self, i, reader).columns, right(self, i, reader).rows)
        ),
    ),
    "transfer_at_the_projection_is_exact": (
        ContextualBlock,
        "_project",
        lambda right: lambda self, query, read, update: right(self, query, read, None),
    ),
    "transfer_is_exact": (
        ContextualBlock,
        "complete",
        lambda right: lambda self, read, update=None: right(self, read),
    ),
    "updated_outputs_are_outputs": (
        Dynamics,
        "updated_outputs",
        lambda right: lambda self: self.outputs + 1e-3,
    ),
    "updates_are_not_unique": (
        LeastNorm,
        "key",
        lambda right: lambda self, z: (2 * right(self, z)[0], *right(self, z)[1:]),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_property_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each property fails with its planted fault."""
    where, what, change = FAULTS[name]
    monkeypatch.setattr(where, what, change(getattr(where, what)))
    spec = registry().layer("self-attention") if "projection" in name else layers.spec()
    conformance = Conformance(spec=spec, dtypes=(torch.float64, torch.float32), max_examples=150)
    with pytest.raises((AssertionError, pytest.fail.Exception)) as caught:
        getattr(theorem, f"test_{name}")(conformance)
    assert "Unsatisfiable" not in str(caught.value)


def test_every_property_has_a_fault() -> None:
    """No property is missing from the table."""
    assert {f"test_{name}" for name in FAULTS} == set(theorem.__all__)

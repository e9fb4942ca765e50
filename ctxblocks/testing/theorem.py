"""Group *theorem*: every numbered statement about layers and blocks, on the layer under test.

The identities hold for any deterministic function of query and context. A failure therefore means that the layer is not
such a function, that a fast method differs from its definition, or that this package has an error.
"""

from collections.abc import Callable

import attrs
import pytest

from ctxblocks.blocks.layer import ContextualLayer, ProjectedLayer
from ctxblocks.exactness.kinds import make_layer
from ctxblocks.testing import (
    theorem_dynamics as dynamics,
    theorem_factors as factors,
    theorem_stack as stack,
    theorem_transfer as transfer,
)
from ctxblocks.testing.cases import Conformance

__all__ = [
    "test_a_missing_update_is_seen",
    "test_degenerate_queries_have_an_augmented_update",
    "test_dynamics_serve_every_prefix",
    "test_factors_carry_the_read",
    "test_factors_keep_the_output",
    "test_finetuning_is_sgd",
    "test_generation_is_reproduced_without_the_prompt",
    "test_keep_names_the_rows_that_stay",
    "test_kept_tokens_are_restored",
    "test_marginal_norms_are_dense",
    "test_merged_weights_answer_alone",
    "test_stack_is_patched_block_by_block",
    "test_steps_are_gradient_steps",
    "test_transfer_at_the_projection_is_exact",
    "test_transfer_is_exact",
    "test_updated_outputs_are_outputs",
    "test_updates_are_not_unique",
]


def _on(conformance: Conformance, holds: Callable[[ContextualLayer], bool], need: str) -> Conformance:
    """A copy with the configurations whose layers satisfy `holds`; if none does, the test is skipped as "not applicable"."""
    layers = [make_layer(conformance.spec, config, 0) for config in conformance.configs]
    chosen = tuple(config for config, layer in zip(conformance.configs, layers, strict=True) if holds(layer))
    if not chosen:
        pytest.skip(f"not applicable: {conformance.spec.name} {need}")
    return attrs.evolve(conformance, configs=chosen)


def _self(conformance: Conformance) -> Conformance:
    need = "has tokens of another width than its queries"
    return _on(conformance, lambda layer: layer.context_width == layer.width, need)


def test_transfer_is_exact(conformance: Conformance) -> None:
    """Theorems 2.2 and B.2, Corollary 2.5.1, for every block, network, solver and place, and any part of the context."""
    conformance.check(transfer.transfer_is_exact)


def test_transfer_at_the_projection_is_exact(conformance: Conformance) -> None:
    """Theorem 2.2 for an update of the layer's output projection."""
    need = "is no ProjectedLayer, so it has no site 'out-proj'"
    _on(conformance, lambda layer: isinstance(layer, ProjectedLayer), need).check(transfer.projection_site)


def test_keep_names_the_rows_that_stay(conformance: Conformance) -> None:
    """`transfer` gives the same update for `keep=` and for `reduced=` with those rows."""
    conformance.check(transfer.keep_names_the_rows)


def test_merged_weights_answer_alone(conformance: Conformance) -> None:
    """Equations 1 and 13–16: updates merged into the weights."""
    conformance.check(transfer.merged_weights)


def test_updates_are_not_unique(conformance: Conformance) -> None:
    """Remark 2.4: other exact updates exist, and their norm is not smaller."""
    conformance.check(transfer.not_unique)


def test_a_missing_update_is_seen(conformance: Conformance) -> None:
    """Negative control: without the update, its operator or its shift the outputs differ."""
    conformance.wide().check(transfer.control_without_update)


def test_degenerate_queries_have_an_augmented_update(conformance: Conformance) -> None:
    """For a zero read, `LeastNorm` and `Metric` raise an error that names `Augmented`, which is exact."""
    conformance.check(transfer.degenerate_query)


def test_stack_is_patched_block_by_block(conformance: Conformance) -> None:
    """Appendix C, Equations 17–22: the query in a stack, with all or a part of the context removed."""
    _self(conformance).fewer(2).check(stack.stack_is_patched_block_by_block)


def test_kept_tokens_are_restored(conformance: Conformance) -> None:
    """Appendix C: updates for the tokens that stay restore their activations."""
    _self(conformance).fewer(2).check(stack.kept_tokens_are_restored)


def test_generation_is_reproduced_without_the_prompt(conformance: Conformance) -> None:
    """Remark 2.6 and Corollary 2.6.1, Equations 3–5: the response is predicted without the prompt, token by token."""
    _self(conformance).fewer(2).check(stack.generation_is_reproduced)


def test_updated_outputs_are_outputs(conformance: Conformance) -> None:
    """Section 3: `T_{W_0}(C_i, x) = T_{W_i}(x)` for every prefix."""
    conformance.check(dynamics.updated_outputs_are_outputs)


def test_dynamics_serve_every_prefix(conformance: Conformance) -> None:
    """Section 3: `dynamics` gives the update of every prefix, in blocks and stacks."""
    conformance.fewer(2).check(dynamics.dynamics_serve_every_prefix)


def test_steps_are_gradient_steps(conformance: Conformance) -> None:
    """Proposition 3.1, Equations 6–10: the changes of the weights are gradient steps."""
    conformance.check(dynamics.steps_are_gradient_steps)


def test_marginal_norms_are_dense(conformance: Conformance) -> None:
    """Norms of the changes of the weights (the y-axis of Figure 3) against dense matrices, in blocks and stacks."""
    conformance.check(dynamics.marginal_norms_are_dense)


def test_factors_carry_the_read(conformance: Conformance) -> None:
    """Appendix E, Equation 31: the factors map the read without context to the full read; Remark 2.4 for their product."""
    conformance.check(factors.factors_carry_the_read)


def test_factors_keep_the_output(conformance: Conformance) -> None:
    """Remark 3.2 and Equation 27: the output is constant while tokens move from the context into the weights."""
    conformance.check(factors.factors_keep_the_output)


def test_finetuning_is_sgd(conformance: Conformance) -> None:
    """Section 4.4: `finetune` equals explicit SGD."""
    _self(conformance).fewer(5).check(factors.finetuning_is_sgd)

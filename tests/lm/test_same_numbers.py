"""The core and the language models give the same lengths of tiny updates."""

import torch
from ctxblocks_transformers.prefixes.measures import measure
from theorems.helpers import Pool, problem

from ctxblocks import (
    ContextOperator,
    Dynamics,
    ImplicitUpdate,
    LeastNorm,
    MixtureOfExperts,
    PlainBlock,
    Read,
    dynamics,
    registry,
)

TINY = 1e-24


def test_tiny_updates_have_the_same_lengths_everywhere() -> None:
    """With `δ` of 1e-24 in float32, whose square is 0 there, dynamics, probe and trace agree with float64."""
    query, context = problem(n=6)
    block = PlainBlock(Pool(), MixtureOfExperts(4, 6, experts=3, active=2)).double()
    steps = dynamics(block, query, context)
    operator = ContextOperator(TINY * steps.updates.operator.direction, steps.updates.operator.key)
    wide = Dynamics(ImplicitUpdate(operator), steps.full, steps.base, block, LeastNorm())
    small = ImplicitUpdate(ContextOperator(operator.direction.float(), operator.key.float()))
    read = Read(steps.full.z.float()), Read(steps.base.z.float())
    narrow = Dynamics(small, *read, block.float(), LeastNorm())
    wanted = wide.updates.marginal_change([weight.double() for weight in narrow.weights()])
    found = {
        "dynamics": narrow.marginal_norms(),
        "probe": registry().probe("marginal-change").measure(narrow),
        "trace": measure(small, narrow.weights())["marginal-change"],
    }
    for name, values in found.items():
        assert bool((values > 0).all()), name
        torch.testing.assert_close(values.double(), wanted, rtol=1e-5, atol=0, msg=name)

"""The bundled probes against dense matrices, in float64."""

import math

import numpy as np
import pytest
import torch
from ctxblocks_probes import decay_exponent
from ctxblocks_probes.trials import singular_values
from torch import Tensor

from ctxblocks import (
    MLP,
    ArgumentError,
    GatedMLP,
    LowRank,
    PlainBlock,
    Prompts,
    ResidualBlock,
    Trial,
    create,
    dynamics,
    factorize,
    finetune,
    registry,
)

EXACT = 1e-9


def trial(block_class: type = ResidualBlock, network: type = GatedMLP) -> Trial:
    """Three tasks of linear functions in a random block."""
    torch.manual_seed(0)
    block = block_class(create("self-attention", width=4, heads=2), network(4, 7)).double()
    spec = registry().task("linear")
    prompts = spec.sample(spec.config(inputs=3, examples=5), 3, 0)
    found = dynamics(block, prompts.query, prompts.context)
    return Trial(found, prompts, (prompts.query, prompts.context))


def measured(name: str, of: Trial) -> Tensor:
    return torch.as_tensor(registry().probe(name).measure(of)).detach()


def dense(of: Trial) -> Tensor:  # (tasks, n + 1, m, d)
    """`ΔW_i` of the stack of readers."""
    weight = torch.cat(of.weights())
    return of.updates.delta_weight(weight).detach()


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize(("block", "network"), [(PlainBlock, MLP), (ResidualBlock, GatedMLP)])
def test_lengths_and_angles(block: type, network: type) -> None:
    """Norm, step, distance and angle of dense updates."""
    of = trial(block, network)
    updates = dense(of)
    flat = updates.flatten(2)
    close(measured("norm", of), flat.norm(dim=-1))
    close(measured("marginal-change", of)[:, 1:], flat.diff(dim=1).norm(dim=-1))
    close(measured("distance-to-full", of), (flat[:, -1:] - flat).norm(dim=-1))
    close(measured("alignment", of)[:, 2:], torch.cosine_similarity(flat[:, 2:], flat[:, 1:-1], dim=-1))


def test_operators() -> None:
    """Determinant and commutator of dense operators."""
    of = trial()
    operators = of.updates.operator.dense().detach()
    close(measured("determinant", of), torch.linalg.det(operators))
    late, early = operators[:, 1:], operators[:, :-1]
    found = measured("commutator", of)
    close(found[:, 1:], (late @ early - early @ late).flatten(2).norm(dim=-1))
    assert (found[:, 0] == 0).all()
    assert (found[:, 2:] > 0).all()


def test_errors_in_context() -> None:
    """The block's own output behind every prefix against the target."""
    of = trial()
    query, context, target = of.prompts
    block = of.dynamics.block
    wanted = [(block(query, context[:, :i])[:, -1] - target).square() for i in range(6)]
    close(measured("in-context-error", of), torch.stack(wanted, dim=-1).detach())


def test_gradient_descent_on_the_same_examples() -> None:
    """The cosine of dense updates and of dense steps of SGD."""
    of = trial(PlainBlock, MLP)
    found = measured("gradient-alignment", of)
    tuned = finetune(of.dynamics.block, of.prompts.query, of.prompts.context, 0.01)
    updates = dense(of)
    for i in (1, 3, 5):
        steps = torch.cat([tuned.update(i, name).dense() for name in of.dynamics.block.network.readers], dim=-2)
        close(found[:, i], torch.cosine_similarity(steps.detach().flatten(1), updates[:, i].flatten(1), dim=-1))
    assert (found[:, 0] == 0).all()


def test_the_factorised_product() -> None:
    """Singular values, their effective number and the first one's share, of the dense product."""
    of = trial()
    query, context, _ = of.prompts
    product = factorize(of.dynamics.block, query, context).product().dense().detach()
    weight = torch.cat(of.weights()).detach()
    wanted = torch.linalg.svdvals(weight @ (product - torch.eye(4, dtype=torch.float64)))
    found = measured("spectrum", of)
    shares = wanted.square() / wanted.square().sum(-1, keepdim=True)
    close(found, shares)
    close(measured("effective-rank", of), (-(shares * shares.log()).sum(-1)).exp())
    close(measured("leading-share", of), shares[:, 0])


def test_singular_values_of_nothing_and_of_rank_one() -> None:
    """An effective rank of 0 and 1."""
    assert (singular_values(LowRank(torch.zeros(3, 2), torch.zeros(2, 5))) == 0).all()
    one = LowRank(torch.tensor([[3.0], [4.0]]), torch.tensor([[0.0, 2.0]]))
    torch.testing.assert_close(singular_values(one), torch.tensor([10.0], dtype=torch.float64))


def test_no_context_measures_nothing() -> None:
    """Prompts without examples have zeros, and no probe fails on them."""
    of = trial()
    empty = Prompts(of.prompts.query, of.prompts.context[:, :0], of.prompts.target)
    none = Trial(dynamics(of.dynamics.block, empty.query, empty.context), empty, (empty.query, empty.context))
    for name in ("norm", "marginal-change", "distance-to-full", "alignment", "commutator", "shift-norm"):
        found = measured(name, none)
        assert found.shape == (3, 1)
        assert found.abs().max() <= EXACT
    for name in ("effective-rank", "leading-share", "spectrum"):
        assert measured(name, none).abs().max() == 0


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_the_exponent_of_a_power_law(exponent: float) -> None:
    """Found within its interval, and without noise exactly."""
    places = np.arange(1, 41, dtype=np.float64)
    law = np.tile(places**-exponent, (50, 1))
    exact = decay_exponent(law)
    assert abs(exact.exponent - exponent) <= 1e-12
    noise = np.exp(0.4 * np.random.default_rng(0).standard_normal(law.shape))
    found = decay_exponent(law * noise, level=0.999)
    assert found.low < exponent < found.high
    assert found.low < found.exponent < found.high
    assert 0 < found.high - found.low < 0.3


def test_an_interval_covers_as_often_as_it_says() -> None:
    """Of 200 sets of tasks; the count is binomial, and both ends are equally far, as the noise is symmetric."""
    places = np.arange(1, 21, dtype=np.float64)
    generator = np.random.default_rng(1)
    hits, above, below = 0, 0.0, 0.0
    for seed in range(200):
        noise = np.exp(0.5 * generator.standard_normal((60, 1)) + 0.5 * generator.standard_normal((60, 20)))
        found = decay_exponent(places**-0.7 * noise, level=0.9, seed=seed)
        hits += found.low <= 0.7 <= found.high
        above, below = above + found.high - found.exponent, below + found.exponent - found.low
    assert abs(above / below - 1) < 0.1
    assert hits / 200 >= 0.9 - 5 * math.sqrt(0.9 * 0.1 / 200)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        (np.ones((1, 9)), {}, r"got shape \(1, 9\) from token 2 on, needs \(tasks, n\) with at least 2 tasks"),
        (np.ones((5, 3)), {}, "and 3 tokens"),
        (np.zeros((5, 9)), {}, "got zeros or infinities, needs positive ones"),
        (np.ones((5, 9)), {"level": 1.0}, r"level: got 1\.0, needs a share between 0 and 1"),
    ],
)
def test_what_has_no_exponent(changes: np.ndarray, options: dict, message: str) -> None:
    """Said with what is needed."""
    with pytest.raises(ArgumentError, match=message):
        decay_exponent(changes, **options)

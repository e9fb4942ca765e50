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
    steps = dynamics(block, prompts.query, prompts.context)
    return Trial(steps, prompts, (prompts.query, prompts.context))


def measured(name: str, of: Trial) -> Tensor:
    return torch.as_tensor(registry().probe(name).measure(of)).detach()


def dense(of: Trial) -> Tensor:  # (tasks, n + 1, m, d)
    """`ΔW_i` of the vertical stack of input projections."""
    weight = torch.cat(of.weights())
    return of.updates.delta_weight(weight).detach()


def close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize(("block", "network"), [(PlainBlock, MLP), (ResidualBlock, GatedMLP)])
def test_norms_and_angles(block: type, network: type) -> None:
    """`norm`, `marginal-change`, `distance-to-full` and `alignment` equal those of the dense updates."""
    of = trial(block, network)
    updates = dense(of)
    flat = updates.flatten(2)
    close(measured("norm", of), flat.norm(dim=-1))
    close(measured("marginal-change", of), flat.diff(dim=1).norm(dim=-1))
    close(measured("distance-to-full", of), (flat[:, -1:] - flat).norm(dim=-1))
    angles = measured("alignment", of)  # the first is that of a token and of no token, whose update is only round-off
    assert angles.shape == (3, 5)
    close(angles[:, 1:], torch.cosine_similarity(flat[:, 2:], flat[:, 1:-1], dim=-1))


def test_operators() -> None:
    """`determinant` and `commutator` equal those of the dense operators."""
    of = trial()
    operators = of.updates.operator.dense().detach()
    close(measured("determinant", of), torch.linalg.det(operators))
    late, early = operators[:, 1:], operators[:, :-1]
    norms = measured("commutator", of)
    close(norms, (late @ early - early @ late).flatten(2).norm(dim=-1))
    assert (norms[:, 0] <= EXACT).all()
    assert (norms[:, 1:] > 0).all()


def test_errors_in_context() -> None:
    """`in-context-error` is the squared error of the block's output after every prefix."""
    of = trial()
    query, context, target = of.prompts
    block = of.dynamics.block
    wanted = [(block(query, context[:, :i])[:, -1] - target).square() for i in range(6)]
    close(measured("in-context-error", of), torch.stack(wanted, dim=-1).detach())


def test_gradient_descent_on_the_same_examples() -> None:
    """`gradient-alignment` is the cosine of the dense updates and the dense change by SGD."""
    of = trial(PlainBlock, MLP)
    cosines = measured("gradient-alignment", of)
    tuned = finetune(of.dynamics.block, of.prompts.query, of.prompts.context, 0.01)
    updates = dense(of)
    for i in (1, 3, 5):
        steps = torch.cat([tuned.update(i, name).dense() for name in of.dynamics.block.network.readers], dim=-2)
        close(cosines[:, i], torch.cosine_similarity(steps.detach().flatten(1), updates[:, i].flatten(1), dim=-1))
    assert (cosines[:, 0] == 0).all()


def test_the_factorised_product() -> None:
    """`spectrum`, `effective-rank` and `leading-share` equal those of the dense product."""
    of = trial()
    query, context, _ = of.prompts
    product = factorize(of.dynamics.block, query, context).product().dense().detach()
    weight = torch.cat(of.weights()).detach()
    wanted = torch.linalg.svdvals(weight @ (product - torch.eye(4, dtype=torch.float64)))
    shares = wanted.square() / wanted.square().sum(-1, keepdim=True)
    close(measured("spectrum", of), shares)
    close(measured("effective-rank", of), (-(shares * shares.log()).sum(-1)).exp())
    close(measured("leading-share", of), shares[:, 0])


def test_singular_values_of_zero_and_of_rank_one() -> None:
    """All singular values of a zero matrix are 0; a matrix of rank one has one, the product of two norms."""
    assert (singular_values(LowRank(torch.zeros(3, 2), torch.zeros(2, 5))) == 0).all()
    one = LowRank(torch.tensor([[3.0], [4.0]]), torch.tensor([[0.0, 2.0]]))
    torch.testing.assert_close(singular_values(one), torch.tensor([10.0], dtype=torch.float64))


def test_probes_of_an_empty_context() -> None:
    """For prompts without examples values of updates are 0, values of steps are none, and no probe fails."""
    of = trial()
    empty = Prompts(of.prompts.query, of.prompts.context[:, :0], of.prompts.target)
    none = Trial(dynamics(of.dynamics.block, empty.query, empty.context), empty, (empty.query, empty.context))
    for name in ("norm", "distance-to-full", "shift-norm"):
        values = measured(name, none)
        assert values.shape == (3, 1)
        assert values.abs().max() <= EXACT
    for name in ("marginal-change", "alignment", "commutator"):
        assert measured(name, none).shape == (3, 0)
    for name in ("effective-rank", "leading-share", "spectrum"):
        assert measured(name, none).abs().max() == 0


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_the_exponent_of_a_power_law(exponent: float) -> None:
    """`decay_exponent` is exact without noise; with noise its interval holds the true exponent."""
    tokens = np.arange(1, 41, dtype=np.float64)
    law = np.tile(tokens**-exponent, (50, 1))
    exact = decay_exponent(law)
    assert abs(exact.exponent - exponent) <= 1e-12
    noise = np.exp(0.4 * np.random.default_rng(0).standard_normal(law.shape))
    decay = decay_exponent(law * noise, level=0.999)
    assert decay.low < exponent < decay.high
    assert decay.low < decay.exponent < decay.high
    assert 0 < decay.high - decay.low < 0.3


def test_coverage_of_the_interval() -> None:
    """Of 200 intervals the stated share covers the exponent, up to binomial error; symmetric noise gives symmetric ones."""
    tokens = np.arange(1, 21, dtype=np.float64)
    generator = np.random.default_rng(1)
    hits, above, below = 0, 0.0, 0.0
    for seed in range(200):
        noise = np.exp(0.5 * generator.standard_normal((60, 1)) + 0.5 * generator.standard_normal((60, 20)))
        decay = decay_exponent(tokens**-0.7 * noise, level=0.9, seed=seed)
        hits += decay.low <= 0.7 <= decay.high
        above, below = above + decay.high - decay.exponent, below + decay.exponent - decay.low
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
def test_changes_without_an_exponent_are_refused(changes: np.ndarray, options: dict, message: str) -> None:
    """The message says what was got and what is needed."""
    with pytest.raises(ArgumentError, match=message):
        decay_exponent(changes, **options)

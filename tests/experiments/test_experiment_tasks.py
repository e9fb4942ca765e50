"""The regression tasks, their seeds and the baselines."""

import numpy as np
import torch
from hypothesis import given, settings, strategies as st
from sklearn.linear_model import LinearRegression

from ctxblocks.experiments.baselines import least_squares_losses, zero_losses
from ctxblocks.experiments.tasks import linear_prompts
from ctxblocks.runs.seeds import derive_seed


def test_tasks_have_the_moments_of_their_distribution() -> None:
    """`x` and `w` are standard normal, so `⟨w, x⟩` has mean 0 and variance `d`: within 5 standard errors of 200,000 draws."""
    prompts = linear_prompts(2000, 100, 2, seed=0)
    x, y = prompts.context[..., :-1], prompts.context[..., -1]
    assert abs(x.mean()) < 5 / np.sqrt(x.numel())
    assert abs(x.var() - 1) < 5 * np.sqrt(2 / x.numel())
    assert abs(prompts.target.mean()) < 5 * np.sqrt(2 / 2000)
    fourth_moment_error = np.sqrt(20 / 2000)  # Var(⟨w, x⟩²) = E⟨w, x⟩⁴ − d² = 3·d(d + 2) − d² = 20, tasks independent
    assert abs((y**2).mean() - 2) < 5 * fourth_moment_error
    assert abs((prompts.target**2).mean() - 2) < 5 * fourth_moment_error


@given(seed=st.integers(0, 2**32), inputs=st.integers(1, 5), extra=st.integers(0, 5), tasks=st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_a_prompt_determines_its_linear_function(seed: int, inputs: int, extra: int, tasks: int) -> None:
    """From `d` examples on, least squares answers the query; the query itself hides the answer."""
    prompts = linear_prompts(tasks, inputs + 3 + extra, inputs, seed)
    assert (prompts.query[:, -1] == 0).all()
    losses = least_squares_losses(prompts)
    assert losses.shape == (tasks, inputs + 4 + extra)
    conditioning = torch.linalg.cond(prompts.context[..., :-1]).max().item()
    assert losses[:, -1].max() < (100 * 2**-53 * conditioning) ** 2 * (
        1 + 2 * zero_losses(prompts).max() * conditioning
    )


def test_the_same_seed_gives_the_same_prompts_and_touches_no_global_state() -> None:
    """Everything comes from a generator of its own; another seed gives other prompts."""
    before = torch.random.get_rng_state()
    first, again, other = (linear_prompts(3, 5, 2, seed) for seed in (7, 7, 8))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.context, other.context)


def test_derived_seeds_differ_by_seed_purpose_and_step() -> None:
    """No two of many purposes share a seed, and each is the same every time."""
    labels = [(seed, name, step) for seed in range(5) for name in ("training", "validation") for step in range(200)]
    seeds = {derive_seed(*label) for label in labels}
    assert len(seeds) == len(labels)
    assert derive_seed(0, "training", 1) == derive_seed(0, "training", 1)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_wrong_task_context_is_that_of_another_task() -> None:
    """Queries and targets stay, and no context stays with its query."""
    prompts = linear_prompts(4, 5, 2, seed=0)
    wrong = prompts.other_contexts()
    assert torch.equal(wrong.query, prompts.query)
    assert torch.equal(wrong.target, prompts.target)
    assert torch.equal(wrong.context[1:], prompts.context[:-1])
    assert not any(torch.equal(a, b) for a, b in zip(wrong.context, prompts.context, strict=True))


def test_least_squares_is_scikit_learns() -> None:
    """On every prefix, those with fewer examples than inputs among them."""
    prompts = linear_prompts(3, 7, 4, seed=1)
    losses = least_squares_losses(prompts)
    for task in range(3):
        x, y = prompts.context[task, :, :-1].numpy(), prompts.context[task, :, -1].numpy()
        asked, target = prompts.query[task, :-1].numpy(), prompts.target[task].item()
        for i in range(1, 8):
            fit = LinearRegression(fit_intercept=False).fit(x[:i], y[:i])
            expected = fit.predict(asked[None])[0]
            assert np.isclose(losses[task, i], 0.5 * (expected - target) ** 2, rtol=1e-9, atol=1e-24)
    assert np.allclose(losses[:, 0], zero_losses(prompts))

"""The baselines: against scikit-learn, and against the published curve."""

import math

import numpy as np
import pytest
from ctxblocks_tasks import NoisyLinearConfig, RecallConfig, TaskConfig, baselines as known
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor

from ctxblocks import Prompts, registry
from ctxblocks.experiments.baselines import half_squares, least_squares_losses

SIGMAS = 5.0
"""Allowed error of a mean, in standard errors."""

PUBLISHED = {"3-nearest-neighbours": (0.690, 0.003), "averaging": (0.524, 0.0005), "zero": (1.0, 0.0)}
"""Squared error over d at 40 examples, d = 20, and the accuracy to which it was published."""


def sampled(name: str, tasks: int, **options: object) -> Prompts:
    spec = registry().task(name)
    return spec.sample(spec.config(**options), tasks, 0)


def errors(prompts: Prompts, predictions: np.ndarray) -> np.ndarray:
    """Squared errors, `(tasks, n + 1)`."""
    return (predictions - prompts.target.numpy()[:, None]) ** 2


@pytest.mark.parametrize(
    ("ours", "theirs", "first"),
    [
        (known.least_squares, lambda i: LinearRegression(fit_intercept=False), 1),
        (known.ridge(0.3), lambda i: Ridge(0.3, fit_intercept=False, solver="cholesky"), 1),
        (known.neighbours(3), lambda i: KNeighborsRegressor(min(3, i)), 1),
    ],
)
def test_batches_are_scikit_learn(ours: known.Baseline, theirs: object, first: int) -> None:
    """For every task and every number of examples, both fewer and more than inputs."""
    prompts = sampled("noisy-linear", 5, inputs=4, examples=9)
    points, values = prompts.context[..., :-1].numpy(), prompts.context[..., -1].numpy()
    predictions = ours(prompts)
    assert (predictions[:, 0] == 0).all()
    for task in range(5):
        for i in range(first, 10):
            model = theirs(i).fit(points[task, :i], values[task, :i])  # type: ignore[operator]
            wanted = model.predict(prompts.query[task : task + 1, :-1].numpy())[0]
            assert abs(predictions[task, i] - wanted) <= 1e-8 * max(1, abs(wanted))


def test_the_published_curve() -> None:
    """d = 20, squared error over d: least squares 0 from 20 examples on; at 40, 3-NN 0.690, averaging 0.524, zero 1."""
    prompts = sampled("linear", 8000, inputs=20, examples=40)
    few = Prompts(*(part[:200] for part in prompts))
    baselines = _of("linear")
    exact = errors(few, baselines.pop("least-squares")(few)) / 20
    assert exact[:, 20:].max() <= 1e-12
    assert exact[:, 19].mean() > 0.01
    measured = {name: errors(prompts, baselines[name](prompts))[:, 40] / 20 for name in PUBLISHED}
    for name, (published, within) in PUBLISHED.items():
        error = measured[name].std() / math.sqrt(len(measured[name]))
        assert error < 0.02
        assert abs(measured[name].mean() - published) <= SIGMAS * error + within


def _of(name: str, **options: object) -> dict[str, known.Baseline]:
    spec = registry().task(name)
    return dict(spec.baselines(spec.config(**options)))


def test_ridge_is_best_under_noise() -> None:
    """With `λ = σ²` the error is smaller than with another penalty or none, by paired differences."""
    prompts = sampled("noisy-linear", 4000, inputs=5, examples=12, noise=1.0)
    best = errors(prompts, _of("noisy-linear", noise=1.0)["ridge"](prompts))
    for other in (known.ridge(0.1), known.ridge(10.0), known.least_squares):
        gap = (errors(prompts, other(prompts)) - best)[:, -1]
        assert gap.mean() > SIGMAS * gap.std() / math.sqrt(len(gap))


@pytest.mark.parametrize(("name", "first"), [("sparse-linear", "lasso"), ("decision-tree", "tree")])
def test_the_first_baseline_knows_its_class(name: str, first: str) -> None:
    """With fewer examples than inputs, or many for a tree, the first baseline has the smallest error."""
    options = {"examples": 14} if name == "sparse-linear" else {"examples": 100, "inputs": 3, "depth": 2}
    prompts = sampled(name, 40, **options)
    last = {each: errors(prompts, fit(prompts))[:, -1] for each, fit in _of(name, **_known(name, options)).items()}
    assert next(iter(last)) == first
    for each, values in last.items():
        if each != first:
            assert last[first].mean() < values.mean()


def _known(name: str, options: dict[str, object]) -> dict[str, object]:
    return {"depth": options["depth"]} if name == "decision-tree" else {}


def test_a_network_fits_a_network() -> None:
    """Trained on each prefix it is better than averaging, and finite from the first example on."""
    prompts = sampled("relu-network", 6, inputs=2, examples=24)
    predictions = known.network(10)(prompts)
    assert np.isfinite(predictions).all()
    assert errors(prompts, predictions)[:, -1].mean() < errors(prompts, known.averaging(prompts))[:, -1].mean()


@pytest.mark.parametrize("interleaved", [True, False])
def test_looking_up_is_exact_once_the_value_has_come(interleaved: bool) -> None:
    """0 before the pair is complete, the target afterwards."""
    config = RecallConfig(inputs=5, examples=6, keys=9, queries=2, interleaved=interleaved)
    spec = registry().task("associative-recall")
    prompts = spec.sample(config, 20, 0)
    predictions = spec.baselines(config)["lookup"](prompts)
    target = prompts.target.numpy()[:, None]
    assert predictions.shape == (20, prompts.context.shape[1] + 1)
    assert ((predictions == 0) | (predictions == target)).all()
    assert (predictions[:, -1:] == target).all()
    assert (predictions[:, : 2 if interleaved else 1][:, :1] == 0).all()
    there = (predictions == target).argmax(-1)
    values = prompts.context[..., -1].numpy()
    assert all(values[task, there[task] - 1] == target[task, 0] for task in range(20))


def test_the_runs_own_least_squares_is_this_one() -> None:
    """The losses in the figures are half the squared errors of the same predictions."""
    prompts = sampled("linear", 7, inputs=3, examples=5)
    ours = half_squares(known.least_squares(prompts), prompts.target.numpy()[:, None])
    np.testing.assert_allclose(ours, least_squares_losses(prompts), rtol=1e-9, atol=1e-12)


def test_every_class_has_baselines_for_every_prefix() -> None:
    """`(tasks, n + 1)`, finite, and 0 without examples."""
    for spec in registry().tasks.values():
        config = spec.config(examples=4)
        prompts = spec.sample(config, 2, 0)
        for baseline in spec.baselines(config).values():
            predictions = baseline(prompts)
            assert predictions.shape == (2, prompts.context.shape[1] + 1)
            assert np.isfinite(predictions).all()
            assert (predictions[:, 0] == 0).all()


def test_three_neighbours_are_three() -> None:
    """In every class that has this baseline."""
    prompts = sampled("linear", 9, inputs=3, examples=7)
    for name, spec in registry().tasks.items():
        if name != "associative-recall":
            predictions = spec.baselines(spec.config())["3-nearest-neighbours"](prompts)
            np.testing.assert_array_equal(predictions, known.neighbours(3)(prompts))


def test_configurations_are_those_of_the_page() -> None:
    """The defaults given in docs/tasks.md."""
    assert (TaskConfig().inputs, TaskConfig().examples, NoisyLinearConfig().noise) == (5, 32, 0.5)

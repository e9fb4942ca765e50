"""The bundled task classes: the distributions of their prompts, and reproducibility by seeds."""

import math

import attrs
import pytest
import torch
from ctxblocks_tasks import (
    CorruptedConfig,
    DecisionTreeConfig,
    NoisyLinearConfig,
    RecallConfig,
    ReluNetworkConfig,
    SparseLinearConfig,
    TaskConfig,
)
from ctxblocks_tasks.draws import decision_tree, normal

from ctxblocks import ArgumentError, Prompts, TaskSpec, registry

NAMES = (
    "associative-recall",
    "corrupted",
    "decision-tree",
    "linear",
    "noisy-linear",
    "relu-network",
    "sparse-linear",
)
SIGMAS = 5.0
"""Allowed error of a mean of many draws, in standard errors."""


def drawn(name: str, tasks: int = 3000, seed: int = 0, **options: object) -> Prompts:
    spec = registry().task(name)
    return spec.sample(spec.config(**options), tasks, seed)


def test_the_bundled_classes() -> None:
    """All are registered, and the error for an unknown name lists them."""
    assert tuple(registry().tasks) == NAMES
    with pytest.raises(ArgumentError, match=r"task: got 'linaer', needs one of .*; did you mean 'linear'\?"):
        registry().task("linaer")


@pytest.mark.parametrize("name", NAMES)
def test_prompts_have_their_form_and_their_seed(name: str) -> None:
    """Float64 on the CPU, the last entry of the query 0, and different prompts for different seeds."""
    spec = registry().task(name)
    config = spec.config()
    one, again, other = (spec.sample(config, 6, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one.context, other.context)
    width = config.inputs + 1
    assert one.query.shape == (6, width)
    assert one.context.shape[::2] == (6, width)
    assert one.target.shape == (6,)
    assert {part.dtype for part in one} == {torch.float64}
    assert (one.query[:, -1] == 0).all()


@pytest.mark.parametrize(
    ("name", "options", "variance"),
    [
        ("linear", {"inputs": 4}, 4.0),
        ("noisy-linear", {"inputs": 4, "noise": 2.0}, 4.0),
        ("sparse-linear", {"inputs": 9, "nonzero": 2}, 2.0),
        ("relu-network", {"inputs": 3, "hidden": 50}, 3.0),
        ("decision-tree", {"inputs": 5, "depth": 3}, 1.0),
        ("corrupted", {"inputs": 4, "share": 0.5}, 4.0),
    ],
)
def test_targets_have_the_classes_variance(name: str, options: dict[str, object], variance: float) -> None:
    """`E f(x)²`, over tasks and points, within a few standard errors."""
    squares = drawn(name, **options).target.square()
    error = squares.std() / math.sqrt(len(squares))
    assert abs(squares.mean() - variance) <= SIGMAS * error


def test_noise_is_on_the_labels_alone() -> None:
    """Labels minus the values of the function, which least squares recovers from many examples, have variance σ²."""
    prompts = drawn("noisy-linear", tasks=200, inputs=3, examples=60, noise=0.7)
    points, labels = prompts.context[..., :-1], prompts.context[..., -1:]
    fit = torch.linalg.lstsq(points, labels).solution
    rest = (labels - points @ fit).square().sum(1) / (60 - 3)
    assert abs(rest.mean() - 0.49) <= SIGMAS * rest.std() / math.sqrt(200)
    exact = drawn("noisy-linear", tasks=50, inputs=3, examples=9, noise=0.0)
    weights = torch.linalg.lstsq(exact.context[..., :-1], exact.context[..., -1:]).solution
    assert ((exact.query[:, None, :-1] @ weights)[:, 0, 0] - exact.target).abs().max() <= 1e-9


def test_sparse_weights() -> None:
    """Exactly `nonzero` weights are not 0, and every component occurs."""
    prompts = drawn("sparse-linear", tasks=400, inputs=6, nonzero=2, examples=12)
    weights = torch.linalg.lstsq(prompts.context[..., :-1], prompts.context[..., -1:]).solution[..., 0]
    nonzero = weights.abs() > 1e-9
    assert (nonzero.sum(-1) == 2).all()
    assert (nonzero.sum(0) > 400 / 6).all()
    with pytest.raises(ArgumentError, match="nonzero=9, needs at most 6"):
        drawn("sparse-linear", inputs=6, nonzero=9)


def test_trees_look_at_signs_only() -> None:
    """Points with the same signs have the same value, and a tree has at most `2^depth` values."""
    generator = torch.Generator().manual_seed(0)
    value = decision_tree(DecisionTreeConfig(inputs=4, depth=2), 20, generator)
    points = normal(generator, 20, 300, 4)
    assert torch.equal(value(points), value(points.sign() * 7))
    assert all(1 < len(each.unique()) <= 4 for each in value(points))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_labels_is_false(share: float) -> None:
    """The expected share of labels differs from those of the uncorrupted draw with the same seed."""
    clean, corrupted = (drawn("corrupted", tasks=400, inputs=3, examples=20, share=each) for each in (0.0, share))
    assert torch.equal(clean.target, corrupted.target)
    assert torch.equal(clean.context[..., :-1], corrupted.context[..., :-1])
    fit = torch.linalg.lstsq(clean.context[..., :-1], clean.context[..., -1:]).solution
    assert ((clean.query[:, None, :-1] @ fit)[:, 0, 0] - clean.target).abs().max() <= 1e-9
    false = (clean.context[..., -1] != corrupted.context[..., -1]).double().mean()
    assert abs(false - share) <= SIGMAS * math.sqrt(share * (1 - share) / 8000)


def test_recall_asks_for_keys_of_the_prompt() -> None:
    """The query is one of the keys, the target is the value of that key, and a group shares a context."""
    config = RecallConfig(inputs=6, examples=5, keys=20, queries=3)
    for interleaved in (True, False):
        prompts = registry().task("associative-recall").sample(attrs.evolve(config, interleaved=interleaved), 9, 0)
        assert prompts.context.shape == (9, 10 if interleaved else 5, 7)
        keys = prompts.context[:, ::2, :-1] if interleaved else prompts.context[..., :-1]
        values = prompts.context[:, 1::2, -1] if interleaved else prompts.context[..., -1]
        same = (keys == prompts.query[:, None, :-1]).all(-1)
        assert (same.sum(-1) == 1).all()
        assert torch.equal(values[same], prompts.target)
        assert torch.equal(prompts.context[0], prompts.context[2])
        assert not torch.equal(prompts.context[0], prompts.context[3])
        assert torch.allclose(keys.norm(dim=-1), torch.ones(9, 5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TaskConfig(inputs=0), "TaskConfig: got inputs=0, needs at least 1"),
        (lambda: NoisyLinearConfig(noise=-1), "got noise=-1, needs at least 0"),
        (lambda: NoisyLinearConfig(noise=float("nan")), "got noise=nan, needs at least 0"),
        (lambda: CorruptedConfig(share=1.5), r"got share=1\.5, needs a share from 0 to 1"),
        (lambda: RecallConfig(keys=3, examples=5), "got 3 keys for 5 examples"),
        (lambda: ReluNetworkConfig(hidden=0), "got hidden=0"),
        (lambda: SparseLinearConfig(nonzero=0), "got nonzero=0"),
        (lambda: drawn("corrupted", task="noisy-linear"), "got task='noisy-linear', needs one of 'linear'"),
    ],
)
def test_wrong_settings(make: object, message: str) -> None:
    """Each message names the value and what is needed."""
    with pytest.raises(ArgumentError, match=message):
        make()  # type: ignore[operator]


def test_a_spec_needs_defaults() -> None:
    """A configuration without `examples`, or with a field that must be given, is refused."""

    @attrs.frozen
    class Open:
        inputs: int
        examples: int = 3

    spec = registry().task("linear")
    for config in (Open, int):
        with pytest.raises(ArgumentError, match="needs a frozen attrs class with fields 'inputs' and 'examples'"):
            TaskSpec(name="x", summary="", config=config, sample=spec.sample, baselines=spec.baselines)
    with pytest.raises(ArgumentError, match="lower case with hyphens"):
        attrs.evolve(spec, name="A b")

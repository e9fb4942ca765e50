"""Random functions, and prompts of their values at normally distributed points."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor

from ctxblocks import ArgumentError, Prompts
from ctxblocks_tasks.config import (
    CorruptedConfig,
    DecisionTreeConfig,
    NoisyLinearConfig,
    RecallConfig,
    ReluNetworkConfig,
    SparseLinearConfig,
    TaskConfig,
)

Function = Callable[[Tensor], Tensor]
"""One function for each task: points `(tasks, m, d)` to values `(tasks, m)`."""


def normal(generator: Generator, *shape: int) -> Tensor:
    """`N(0, 1)` in float64."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def linear(config: TaskConfig, tasks: int, generator: Generator) -> Function:
    """`f(x) = ⟨w, x⟩`, `w ~ N(0, I_d)`."""
    weights = normal(generator, tasks, config.inputs, 1)
    return lambda points: (points @ weights)[..., 0]


def sparse(config: SparseLinearConfig, tasks: int, generator: Generator) -> Function:
    """Linear functions with all but `nonzero` random components of `w` set to 0."""
    if config.nonzero > config.inputs:
        raise ArgumentError(
            f"SparseLinearConfig: got nonzero={config.nonzero}, needs at most {config.inputs}, the inputs"
        )
    weights = normal(generator, tasks, config.inputs)
    order = torch.rand(tasks, config.inputs, generator=generator).argsort(-1)
    weights = torch.where(order < config.nonzero, weights, 0.0).unsqueeze(-1)
    return lambda points: (points @ weights)[..., 0]


def relu_network(config: ReluNetworkConfig, tasks: int, generator: Generator) -> Function:
    """`f(x) = √(2/h) Σ_k a_k relu(⟨w_k, x⟩)` with `a_k ~ N(0, 1)`, `w_k ~ N(0, I_d)`."""
    inner = normal(generator, tasks, config.inputs, config.hidden)
    outer = normal(generator, tasks, config.hidden, 1) * math.sqrt(2 / config.hidden)
    return lambda points: ((points @ inner).relu() @ outer)[..., 0]


def decision_tree(config: DecisionTreeConfig, tasks: int, generator: Generator) -> Function:
    """A complete binary tree: each node tests the sign of a random component, each leaf has a value from `N(0, 1)`."""
    nodes = 2**config.depth - 1
    splits = torch.randint(config.inputs, (tasks, nodes), generator=generator)
    leaves = normal(generator, tasks, nodes + 1)

    def value(points: Tensor) -> Tensor:
        node = torch.zeros(points.shape[:-1], dtype=torch.int64)  # the root
        for _ in range(config.depth):
            component = splits.gather(1, node)  # (tasks, m)
            right = points.gather(-1, component.unsqueeze(-1))[..., 0] > 0
            node = 2 * node + 1 + right.long()
        return leaves.gather(1, node - nodes)

    return value


FUNCTIONS: Mapping[str, tuple[type[TaskConfig], Callable[..., Function]]] = {
    "linear": (TaskConfig, linear),
    "sparse-linear": (SparseLinearConfig, sparse),
    "relu-network": (ReluNetworkConfig, relu_network),
    "decision-tree": (DecisionTreeConfig, decision_tree),
}
"""The classes whose labels are functions of `x` without noise."""


def prompts_of(points: Tensor, values: Tensor, target: Tensor) -> Prompts:
    """Columns `(x_j, y_j)`, the query column `(x_q, 0)` and the target; the last point is the query."""
    columns = torch.cat((points, values.unsqueeze(-1)), dim=-1)
    return Prompts(torch.nn.functional.pad(points[:, -1], (0, 1)), columns[:, :-1], target)


def _labelled(
    draw: Callable[..., Function], config: TaskConfig, tasks: int, seed: int
) -> tuple[Tensor, Tensor, Generator]:  # (tasks, n + 1, d), (tasks, n + 1)
    """Points and the values of drawn functions, and the generator for further draws."""
    generator = Generator().manual_seed(seed)
    function = draw(config, tasks, generator)
    points = normal(generator, tasks, config.examples + 1, config.inputs)
    return points, function(points), generator


def of_function(draw: Callable[..., Function]) -> Callable[[TaskConfig, int, int], Prompts]:
    """The function `TaskSpec.sample` of a class of functions."""

    def sample(config: TaskConfig, tasks: int, seed: int) -> Prompts:
        points, values, _ = _labelled(draw, config, tasks, seed)
        return prompts_of(points, values, values[:, -1])

    return sample


def noisy(config: NoisyLinearConfig, tasks: int, seed: int) -> Prompts:
    """Linear functions with noise `N(0, σ²)` added to the labels in the prompt, but not to the target."""
    points, values, generator = _labelled(linear, config, tasks, seed)
    return prompts_of(points, values + config.noise * normal(generator, *values.shape), values[:, -1])


def corrupted(config: CorruptedConfig, tasks: int, seed: int) -> Prompts:
    """A class in which each label in the prompt, but not the target, comes from a different task with probability `share`."""
    if config.task not in FUNCTIONS:
        raise ArgumentError(
            f"CorruptedConfig: got task={config.task!r}, needs one of {', '.join(map(repr, FUNCTIONS))}"
        )
    config_class, draw = FUNCTIONS[config.task]
    inner = config_class(inputs=config.inputs, examples=config.examples)
    generator = Generator().manual_seed(seed)
    true, false = draw(inner, tasks, generator), draw(inner, tasks, generator)
    points = normal(generator, tasks, config.examples + 1, config.inputs)
    values = true(points)
    replaced = torch.rand(values.shape, generator=generator) < config.share
    return prompts_of(points, torch.where(replaced, false(points), values), values[:, -1])


def recall(config: RecallConfig, tasks: int, seed: int) -> Prompts:
    """Pairs of a key, one of fixed unit vectors, and a value from `N(0, 1)`; the query is a key of the prompt.

    The target is the value of that key. Groups of `queries` prompts share a context, as in multi-query associative recall.
    """
    generator = Generator().manual_seed(seed)
    vectors = torch.nn.functional.normalize(
        normal(Generator().manual_seed(config.keys), config.keys, config.inputs), dim=-1
    )
    groups = -(-tasks // config.queries)
    chosen = torch.rand(groups, config.keys, generator=generator).argsort(-1)[:, : config.examples]
    values = normal(generator, groups, config.examples)
    keys = vectors[chosen]  # (groups, pairs, d)
    key_tokens = torch.nn.functional.pad(keys, (0, 1))
    value_tokens = torch.nn.functional.pad(values.unsqueeze(-1), (config.inputs, 0))
    pairs = torch.stack((key_tokens, value_tokens), dim=2)  # (groups, pairs, 2, d + 1)
    context = pairs.flatten(1, 2) if config.interleaved else pairs.sum(2)
    queried = torch.randint(config.examples, (groups * config.queries,), generator=generator)[:tasks]
    of_group = torch.arange(tasks) // config.queries
    return Prompts(key_tokens[of_group, queried], context[of_group], values[of_group, queried])

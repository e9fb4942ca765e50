"""The bundled task classes and their baselines, the most informative baseline of each class first."""

from collections.abc import Mapping
from typing import Any

from ctxblocks import Baseline, TaskSpec
from ctxblocks_tasks import baselines as known
from ctxblocks_tasks.config import (
    CorruptedConfig,
    DecisionTreeConfig,
    NoisyLinearConfig,
    RecallConfig,
    ReluNetworkConfig,
    SparseLinearConfig,
    TaskConfig,
)
from ctxblocks_tasks.draws import corrupted, decision_tree, linear, noisy, of_function, recall, relu_network, sparse

LASSO = 0.01
"""α of the objective `1/(2n) ‖Xw − y‖² + α‖w‖₁`."""
HIDDEN = 20
"""Hidden units of the network baseline."""
GENERAL: Mapping[str, Baseline] = {
    "3-nearest-neighbours": known.neighbours(3),
    "averaging": known.averaging,
    "zero": known.zero,
}


def _of_linear(config: TaskConfig) -> Mapping[str, Baseline]:
    return {"least-squares": known.least_squares, "ridge": known.ridge(1.0), **GENERAL}


def _of_noisy(config: NoisyLinearConfig) -> Mapping[str, Baseline]:
    return {"ridge": known.ridge(max(config.noise**2, 1e-12)), "least-squares": known.least_squares, **GENERAL}


def _of_sparse(config: SparseLinearConfig) -> Mapping[str, Baseline]:
    return {"lasso": known.lasso(LASSO), "least-squares": known.least_squares, **GENERAL}


def _of_network(config: ReluNetworkConfig) -> Mapping[str, Baseline]:
    return {"network": known.network(HIDDEN), "least-squares": known.least_squares, **GENERAL}


def _of_tree(config: DecisionTreeConfig) -> Mapping[str, Baseline]:
    return {"tree": known.tree(config.depth), **GENERAL}


def _of_corrupted(config: CorruptedConfig) -> Mapping[str, Baseline]:
    return {"least-squares": known.least_squares, "ridge": known.ridge(1.0), **GENERAL}


def _of_recall(config: RecallConfig) -> Mapping[str, Baseline]:
    return {"lookup": known.lookup(config.interleaved), "zero": known.zero}


def _spec(name: str, summary: str, config: type[Any], sample: Any, baselines: Any) -> TaskSpec:
    return TaskSpec(name=name, summary=summary, config=config, sample=sample, baselines=baselines)


TASKS = (
    _spec("linear", "f(x) = ⟨w, x⟩, w ~ N(0, I).", TaskConfig, of_function(linear), _of_linear),
    _spec(
        "noisy-linear",
        "Linear functions with noise N(0, σ²) on the labels in the prompt.",
        NoisyLinearConfig,
        noisy,
        _of_noisy,
    ),
    _spec(
        "sparse-linear",
        "Linear functions with 3 weights that are not 0.",
        SparseLinearConfig,
        of_function(sparse),
        _of_sparse,
    ),
    _spec(
        "relu-network",
        "f(x) = √(2/h) Σ a_k relu(⟨w_k, x⟩), h = 100.",
        ReluNetworkConfig,
        of_function(relu_network),
        _of_network,
    ),
    _spec(
        "decision-tree",
        "Decision trees of depth 4 on signs of components, with normal leaves.",
        DecisionTreeConfig,
        of_function(decision_tree),
        _of_tree,
    ),
    _spec(
        "corrupted",
        "Another class with a share of labels from a different task.",
        CorruptedConfig,
        corrupted,
        _of_corrupted,
    ),
    _spec(
        "associative-recall",
        "Key-value pairs, of which one value is recalled by its key.",
        RecallConfig,
        recall,
        _of_recall,
    ),
)

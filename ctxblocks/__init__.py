"""ctxblocks: the effect of a context as an exact rank-one update of a network's weights, for any contextual layer.

Public names resolve on use, so that `import ctxblocks` loads neither torch nor any plugin.
"""

import importlib
from typing import Any

_HOMES = {
    "ArgumentError": "_errors",
    "Augmented": "_solvers",
    "ContextOperator": "_operator",
    "ContextualBlock": "_blocks",
    "ContextualLayer": "_layer",
    "CtxblocksError": "_errors",
    "DegenerateQueryError": "_errors",
    "DeviceError": "_errors",
    "DtypeError": "_errors",
    "Dynamics": "_dynamics",
    "Factorization": "_factorization",
    "FineTuning": "_finetuning",
    "GatedMLP": "_networks",
    "ImplicitUpdate": "_update",
    "LayerSpec": "_specs",
    "LeastNorm": "_solvers",
    "LowRank": "_lowrank",
    "MLP": "_networks",
    "Metric": "_solvers",
    "MixtureOfExperts": "_mixture",
    "Network": "_networks",
    "NonFiniteError": "_errors",
    "OperatorProduct": "_operator",
    "ParallelBlock": "_residual",
    "PlainBlock": "_blocks",
    "PluginError": "_errors",
    "ProjectedLayer": "_layer",
    "Read": "_blocks",
    "ResidualBlock": "_residual",
    "ShapeError": "_errors",
    "SingularOperatorError": "_errors",
    "Solver": "_solvers",
    "Stack": "_stack",
    "Traits": "_specs",
    "UnknownLayerError": "_errors",
    "create": "_registry",
    "dynamics": "_dynamics",
    "factorize": "_factorization",
    "finetune": "_finetuning",
    "hookimpl": "_specs",
    "inside_transform": "_checks",
    "registry": "_registry",
    "transfer": "_transfer",
    "transfer_generation": "_generation",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("ctxblocks")
    if name not in _HOMES:
        raise AttributeError(f"module 'ctxblocks' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ctxblocks.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

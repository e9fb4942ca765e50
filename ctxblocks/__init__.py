"""ctxblocks: the effect of a context as an exact rank-one update of a network's weights, for any contextual layer.

Public names resolve on use, so that `import ctxblocks` loads neither torch nor any plugin.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctxblocks._blocks import ContextualBlock as ContextualBlock
    from ctxblocks._blocks import PlainBlock as PlainBlock
    from ctxblocks._checks import inside_transform as inside_transform
    from ctxblocks._dynamics import Dynamics as Dynamics
    from ctxblocks._dynamics import dynamics as dynamics
    from ctxblocks._errors import (
        ArgumentError as ArgumentError,
    )
    from ctxblocks._errors import (
        CtxblocksError as CtxblocksError,
    )
    from ctxblocks._errors import (
        DegenerateQueryError as DegenerateQueryError,
    )
    from ctxblocks._errors import (
        DeviceError as DeviceError,
    )
    from ctxblocks._errors import (
        DtypeError as DtypeError,
    )
    from ctxblocks._errors import (
        NonFiniteError as NonFiniteError,
    )
    from ctxblocks._errors import (
        OutOfMemoryError as OutOfMemoryError,
    )
    from ctxblocks._errors import (
        PluginError as PluginError,
    )
    from ctxblocks._errors import (
        ShapeError as ShapeError,
    )
    from ctxblocks._errors import (
        SingularOperatorError as SingularOperatorError,
    )
    from ctxblocks._errors import (
        UnknownLayerError as UnknownLayerError,
    )
    from ctxblocks._factorization import Factorization as Factorization
    from ctxblocks._factorization import factorize as factorize
    from ctxblocks._families import BlockSpec as BlockSpec
    from ctxblocks._families import FamilySpec as FamilySpec
    from ctxblocks._finetuning import FineTuning as FineTuning
    from ctxblocks._finetuning import finetune as finetune
    from ctxblocks._generation import transfer_generation as transfer_generation
    from ctxblocks._layer import ContextualLayer as ContextualLayer
    from ctxblocks._layer import ProjectedLayer as ProjectedLayer
    from ctxblocks._lowrank import LowRank as LowRank
    from ctxblocks._mixture import MixtureOfExperts as MixtureOfExperts
    from ctxblocks._networks import MLP as MLP
    from ctxblocks._networks import GatedMLP as GatedMLP
    from ctxblocks._networks import Network as Network
    from ctxblocks._observers import Observer as Observer
    from ctxblocks._observers import ObserverSpec as ObserverSpec
    from ctxblocks._operator import ContextOperator as ContextOperator
    from ctxblocks._operator import OperatorProduct as OperatorProduct
    from ctxblocks._probes import Probe as Probe
    from ctxblocks._probes import Trial as Trial
    from ctxblocks._probes import Updates as Updates
    from ctxblocks._read import Read as Read
    from ctxblocks._registry import create as create
    from ctxblocks._registry import registry as registry
    from ctxblocks._residual import ParallelBlock as ParallelBlock
    from ctxblocks._residual import ResidualBlock as ResidualBlock
    from ctxblocks._solvers import Augmented as Augmented
    from ctxblocks._solvers import LeastNorm as LeastNorm
    from ctxblocks._solvers import Metric as Metric
    from ctxblocks._solvers import Solver as Solver
    from ctxblocks._specs import LayerSpec as LayerSpec
    from ctxblocks._specs import Traits as Traits
    from ctxblocks._specs import hookimpl as hookimpl
    from ctxblocks._stack import Stack as Stack
    from ctxblocks._tasks import Baseline as Baseline
    from ctxblocks._tasks import Prompts as Prompts
    from ctxblocks._tasks import TaskSpec as TaskSpec
    from ctxblocks._transfer import transfer as transfer
    from ctxblocks._update import ImplicitUpdate as ImplicitUpdate
    from ctxblocks._verify import VerifyRow as VerifyRow
    from ctxblocks._verify import verify as verify

_HOMES = {
    "ArgumentError": "_errors",
    "Augmented": "_solvers",
    "Baseline": "_tasks",
    "BlockSpec": "_families",
    "ContextOperator": "_operator",
    "ContextualBlock": "_blocks",
    "ContextualLayer": "_layer",
    "CtxblocksError": "_errors",
    "DegenerateQueryError": "_errors",
    "DeviceError": "_errors",
    "DtypeError": "_errors",
    "Dynamics": "_dynamics",
    "Factorization": "_factorization",
    "FamilySpec": "_families",
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
    "Observer": "_observers",
    "ObserverSpec": "_observers",
    "OperatorProduct": "_operator",
    "OutOfMemoryError": "_errors",
    "ParallelBlock": "_residual",
    "PlainBlock": "_blocks",
    "PluginError": "_errors",
    "Prompts": "_tasks",
    "Probe": "_probes",
    "ProjectedLayer": "_layer",
    "Read": "_read",
    "ResidualBlock": "_residual",
    "ShapeError": "_errors",
    "SingularOperatorError": "_errors",
    "Solver": "_solvers",
    "Stack": "_stack",
    "TaskSpec": "_tasks",
    "Traits": "_specs",
    "Trial": "_probes",
    "UnknownLayerError": "_errors",
    "Updates": "_probes",
    "VerifyRow": "_verify",
    "create": "_registry",
    "dynamics": "_dynamics",
    "factorize": "_factorization",
    "finetune": "_finetuning",
    "hookimpl": "_specs",
    "inside_transform": "_checks",
    "registry": "_registry",
    "transfer": "_transfer",
    "transfer_generation": "_generation",
    "verify": "_verify",
}

__version__: str
__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("ctxblocks")
    if name not in _HOMES:
        raise AttributeError(f"module 'ctxblocks' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ctxblocks.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

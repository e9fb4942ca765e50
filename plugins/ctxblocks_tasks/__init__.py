"""Task classes for in-context learning, with statistical baselines for the same examples."""

from ctxblocks import TaskSpec, hookimpl
from ctxblocks_tasks.config import (
    CorruptedConfig,
    DecisionTreeConfig,
    NoisyLinearConfig,
    RecallConfig,
    ReluNetworkConfig,
    SparseLinearConfig,
    TaskConfig,
)
from ctxblocks_tasks.specs import TASKS

__all__ = [
    "CorruptedConfig",
    "DecisionTreeConfig",
    "NoisyLinearConfig",
    "RecallConfig",
    "ReluNetworkConfig",
    "SparseLinearConfig",
    "TaskConfig",
    "ctxblocks_tasks",
]


@hookimpl
def ctxblocks_tasks() -> list[TaskSpec]:
    """The bundled task classes."""
    return list(TASKS)

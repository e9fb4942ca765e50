"""Task classes that are learned in context, with what statistics makes of the same examples."""

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
    """The task classes of this plugin."""
    return list(TASKS)

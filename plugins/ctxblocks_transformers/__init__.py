"""Language models of `transformers`: what a prompt does to the weights of every block."""

from ctxblocks import FamilySpec, hookimpl
from ctxblocks_transformers._families import FAMILIES
from ctxblocks_transformers._guess import guess
from ctxblocks_transformers._model_update import Application, Difference, InertUpdateError, ModelUpdate
from ctxblocks_transformers._prompt_dynamics import PromptDynamics
from ctxblocks_transformers._trace import trace
from ctxblocks_transformers._transfer import transfer_model

__all__ = [
    "Application",
    "Difference",
    "InertUpdateError",
    "ModelUpdate",
    "PromptDynamics",
    "ctxblocks_families",
    "guess",
    "trace",
    "transfer_model",
]


@hookimpl
def ctxblocks_families() -> list[FamilySpec]:
    """The families of this plugin."""
    return list(FAMILIES)

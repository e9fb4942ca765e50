"""Language models of `transformers`: what a prompt does to the weights of every block."""

from ctxblocks import FamilySpec, hookimpl
from ctxblocks_transformers._course import Course
from ctxblocks_transformers._difference import Difference, InertUpdateError
from ctxblocks_transformers._explain import LayerReport, ModelReport, explain
from ctxblocks_transformers._families import FAMILIES
from ctxblocks_transformers._guess import guess
from ctxblocks_transformers._load import LoadError, load_model, load_skeleton, prompt_tokens
from ctxblocks_transformers._model_update import Application, ModelUpdate
from ctxblocks_transformers._page import page
from ctxblocks_transformers._picture import picture
from ctxblocks_transformers._prompt_dynamics import PromptDynamics
from ctxblocks_transformers._replay import Replay, replay
from ctxblocks_transformers._trace import trace
from ctxblocks_transformers._transfer import transfer_model

__all__ = [
    "Application",
    "Course",
    "Difference",
    "InertUpdateError",
    "LayerReport",
    "LoadError",
    "ModelReport",
    "ModelUpdate",
    "PromptDynamics",
    "Replay",
    "ctxblocks_families",
    "explain",
    "guess",
    "load_model",
    "load_skeleton",
    "page",
    "picture",
    "prompt_tokens",
    "replay",
    "trace",
    "transfer_model",
]


@hookimpl
def ctxblocks_families() -> list[FamilySpec]:
    """The families of this plugin."""
    return list(FAMILIES)

"""Language models of `transformers`: what a prompt does to the weights of every block."""

from ctxblocks import FamilySpec, hookimpl
from ctxblocks_transformers.prefixes.page import page
from ctxblocks_transformers.prefixes.picture import picture
from ctxblocks_transformers.prefixes.prompt_dynamics import PromptDynamics
from ctxblocks_transformers.prefixes.trace import trace
from ctxblocks_transformers.updates.course import Course
from ctxblocks_transformers.updates.model_update import Application, ModelUpdate
from ctxblocks_transformers.updates.replay import Replay, replay
from ctxblocks_transformers.updates.transfer import transfer_model
from ctxblocks_transformers.wiring.difference import Difference, InertUpdateError
from ctxblocks_transformers.wiring.explain import LayerReport, ModelReport, explain
from ctxblocks_transformers.wiring.families import FAMILIES
from ctxblocks_transformers.wiring.guess import guess
from ctxblocks_transformers.wiring.load import LoadError, load_model, load_skeleton, prompt_tokens

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

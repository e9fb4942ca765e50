"""The layers `linear-attention` and `delta-rule`, whose state is one matrix for each head."""

from ctxblocks import LayerSpec, hookimpl
from ctxblocks_linear_attention.specs import DELTA_RULE, LINEAR_ATTENTION

__all__ = ["ctxblocks_layers"]


@hookimpl
def ctxblocks_layers() -> list[LayerSpec]:
    """The layers of this plugin."""
    return [LINEAR_ATTENTION, DELTA_RULE]

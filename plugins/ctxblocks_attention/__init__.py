"""Softmax attention as contextual layers: `self-attention` and `local-attention`."""

from ctxblocks import LayerSpec, hookimpl
from ctxblocks_attention.fused import Reads, causal_with_self
from ctxblocks_attention.specs import local_attention, self_attention

__all__ = ["Reads", "causal_with_self", "ctxblocks_layers"]


@hookimpl
def ctxblocks_layers() -> list[LayerSpec]:
    """The layers of this plugin."""
    return [self_attention(), local_attention()]

"""The layer `griffin`: the recurrent branch of Griffin and RecurrentGemma."""

from ctxblocks import LayerSpec, hookimpl
from ctxblocks_griffin.specs import GRIFFIN

__all__ = ["ctxblocks_layers"]


@hookimpl
def ctxblocks_layers() -> list[LayerSpec]:
    """The layer `griffin`."""
    return [GRIFFIN]

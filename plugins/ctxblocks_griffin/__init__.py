"""The layer `griffin`: the recurrent branch of Griffin and RecurrentGemma."""

from ctxblocks import LayerSpec, hookimpl
from ctxblocks_griffin.specs import GRIFFIN


@hookimpl
def ctxblocks_layers() -> list[LayerSpec]:
    """The layers of this plugin."""
    return [GRIFFIN]

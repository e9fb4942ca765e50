"""Gated mean pooling as a contextual layer: `mean-pool`."""

from ctxblocks import LayerSpec, hookimpl
from ctxblocks_meanpool.layer import MeanPool, MeanPoolConfig, traits


@hookimpl
def ctxblocks_layers() -> list[LayerSpec]:
    """The layers of this plugin."""
    spec = LayerSpec(
        name="mean-pool",
        summary="gated mean of the context and the query itself",
        config=MeanPoolConfig,
        build=MeanPool,
        examples=(MeanPoolConfig(width=4), MeanPoolConfig(width=3, gated=False), MeanPoolConfig(width=5, bias=True)),
        traits=traits,
    )
    return [spec]

"""The registered layer: its name, example configurations and traits."""

from ctxblocks import LayerSpec, Traits
from ctxblocks_griffin.config import GriffinConfig
from ctxblocks_griffin.griffin import Griffin
from ctxblocks_griffin.reference import reference


def _traits(config: GriffinConfig) -> Traits:
    """The state decays with every token, so the output depends on their order."""
    return Traits(positional=True)


GRIFFIN = LayerSpec(
    name="griffin",
    summary="Griffin's recurrent branch: short convolution and real-gated linear recurrence (RG-LRU)",
    build=Griffin,
    config=GriffinConfig,
    examples=(
        GriffinConfig(width=4),
        GriffinConfig(width=3, recurrent_width=6, heads=2),
        GriffinConfig(width=5, conv=1),
        GriffinConfig(width=8, heads=1, conv=2),
    ),
    traits=_traits,
    reference=reference,
    benchmarks=({}, {"heads": 1}),
)

"""The selective state space layer `ssm`, as in Mamba-2."""

from ctxblocks import LayerSpec, Traits, hookimpl
from ctxblocks_ssm.config import SSMConfig
from ctxblocks_ssm.reference import reference
from ctxblocks_ssm.ssm import SSM

__all__ = ["SSM", "SSMConfig", "ctxblocks_layers"]


@hookimpl
def ctxblocks_layers() -> list[LayerSpec]:
    """The state space layer."""
    return [
        LayerSpec(
            name="ssm",
            summary="selective state space with a short convolution, as in Mamba-2",
            config=SSMConfig,
            build=SSM,
            examples=(
                SSMConfig(width=4),
                SSMConfig(width=3, expand=3, conv=1, state=5),
                SSMConfig(width=6, groups=2, head_width=3, state=4, conv=2, bias=True, conv_bias=False),
                SSMConfig(width=5, step_range=(0.1, 1.0), step_limit=(0.01, 2.0)),
            ),
            traits=_traits,
            reference=reference,
        )
    ]


def _traits(config: SSMConfig) -> Traits:
    return Traits(positional=True)

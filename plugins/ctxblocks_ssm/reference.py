"""Mamba-2's mixer from transformers with a layer's weights."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ctxblocks_ssm.ssm import SSM

_NAMES = {"projection": "out_proj", "norm_weight": "norm.weight"}


def reference(layer: SSM, chunk: int = 32) -> Callable[[Tensor], Tensor]:  # (batch, n, d) -> (batch, n, d)
    """`Mamba2Mixer`, whose scan and norm are in float32; chunks of 32 tokens are the fastest on a CPU."""
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    c = layer.config
    theirs: Any = Mamba2Mixer(
        Mamba2Config(
            hidden_size=c.width, expand=c.expand, num_heads=c.heads, head_dim=c.inner // c.heads, state_size=c.state,
            n_groups=c.groups, conv_kernel=c.conv, use_bias=bool(c.bias), use_conv_bias=bool(c.conv_bias),
            layer_norm_epsilon=float(c.eps), time_step_limit=tuple(float(each) for each in c.step_limit),
            chunk_size=chunk, num_hidden_layers=1,
        ),
        layer_idx=0,
    )  # fmt: skip
    weights = layer.state_dict()
    for ours, name in _NAMES.items():
        weights = {each.replace(ours, name): weight for each, weight in weights.items()}
    theirs = theirs.to(layer.D.device, layer.D.dtype).eval()
    theirs.load_state_dict(weights)

    def sequence(tokens: Tensor) -> Tensor:
        outputs: Tensor = theirs(tokens)
        return outputs

    return sequence

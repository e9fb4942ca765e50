"""RecurrentGemma's block from transformers with a layer's weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ctxblocks_griffin.griffin import Griffin


def reference(layer: Griffin) -> Callable[[Tensor], Tensor]:  # (batch, n, d) -> (batch, n, d)
    """`RecurrentGemmaRecurrentBlock` without a cache, so that calls are independent; its states are in float32."""
    from transformers.models.recurrent_gemma.configuration_recurrent_gemma import RecurrentGemmaConfig
    from transformers.models.recurrent_gemma.modeling_recurrent_gemma import RecurrentGemmaRecurrentBlock

    config = layer.config
    theirs: Any = RecurrentGemmaRecurrentBlock(
        RecurrentGemmaConfig(
            hidden_size=config.width,
            lru_width=config.state_width,
            num_attention_heads=config.blocks,
            conv1d_width=config.conv,
            hidden_activation="gelu_pytorch_tanh",
        ),
        layer_idx=0,
    )
    weights = {
        "conv_1d.weight": layer.conv_weight.unsqueeze(1),
        "conv_1d.bias": layer.conv_bias,
        "rg_lru.recurrent_param": layer.lru.recurrence,
        "rg_lru.input_gate_weight": layer.lru.input_gate.weight,
        "rg_lru.input_gate_bias": layer.lru.input_gate.bias,
        "rg_lru.recurrent_gate_weight": layer.lru.recurrence_gate.weight,
        "rg_lru.recurrent_gate_bias": layer.lru.recurrence_gate.bias,
    }
    for name, ours in (("linear_x", layer.linear_x), ("linear_y", layer.linear_y), ("linear_out", layer.projection)):
        weights |= {f"{name}.weight": ours.weight, f"{name}.bias": ours.bias}
    # converted before the weights are copied, since a copy into float32 would round them
    theirs = theirs.to(layer.conv_weight.device, layer.conv_weight.dtype).eval()
    theirs.load_state_dict(weights)

    def sequence(tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape[:2])
        outputs: Tensor = theirs(tokens, positions, None, use_cache=False)[0]
        return outputs

    return sequence

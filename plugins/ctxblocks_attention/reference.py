"""Softmax attention of other libraries with a layer's weights: torch's, and Llama's and Mistral's from transformers."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError
from ctxblocks_attention.attention import SelfAttention
from ctxblocks_attention.local import LocalAttention


def reference(layer: SelfAttention) -> Callable[[Tensor], Tensor]:  # (batch, n, d) -> (batch, n, d)
    """`multihead_attention` where it supports the layer, else `transformers_attention`."""
    return multihead_attention(layer) if _is_multihead(layer) else transformers_attention(layer)


def multihead_attention(layer: SelfAttention) -> Callable[[Tensor], Tensor]:  # (batch, n, d) -> (batch, n, d)
    """`nn.MultiheadAttention` with a causal mask, which is created once for each length.

    Raises:
        ArgumentError: the layer has a window, positions, grouped keys, or heads that do not split its width.
    """
    if not _is_multihead(layer):
        raise ArgumentError(
            f"multihead_attention: got a {type(layer).__name__} with heads={layer.heads}, kv_heads={layer.kv_heads}, "
            f"head_width={layer.head_width}, width={layer.width}, rotary_base={layer.rotary_base}, needs a SelfAttention "
            f"without positions, kv_heads = heads and heads · head_width = width; transformers_attention supports the rest"
        )
    theirs = nn.MultiheadAttention(layer.width, layer.heads, bias=layer.has_bias, batch_first=True)
    inner = (layer.q_proj, layer.k_proj, layer.v_proj)
    weights = {f"in_proj_{name}": torch.cat([m.state_dict()[name] for m in inner]) for name in inner[0].state_dict()}
    theirs.load_state_dict(weights | {f"out_proj.{name}": x for name, x in layer.projection.state_dict().items()})
    weight, has_skip = layer.projection.weight, layer.has_skip
    theirs = theirs.to(weight.device, weight.dtype).eval()

    @functools.lru_cache(maxsize=1)
    def causal_mask(n: int) -> Tensor:  # (n, n)
        # of floats: with a boolean mask torch does not choose its causal kernel
        return nn.Transformer.generate_square_subsequent_mask(n, device=weight.device, dtype=weight.dtype)

    def sequence(tokens: Tensor) -> Tensor:
        mask = causal_mask(tokens.shape[-2])
        mixed: Tensor = theirs(tokens, tokens, tokens, attn_mask=mask, is_causal=True, need_weights=False)[0]
        return tokens + mixed if has_skip else mixed

    return sequence


def transformers_attention(layer: SelfAttention) -> Callable[[Tensor], Tensor]:  # (batch, n, d) -> (batch, n, d)
    """Llama's attention with `sdpa`, or for a window Mistral's; angles and mask are computed in each call, as their models do.

    The projections are copies of the layer's, biases included. Without positions the cosines are 1 and the sines 0.
    """
    from transformers import LlamaConfig, MistralConfig
    from transformers.masking_utils import create_sliding_window_causal_mask
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding
    from transformers.models.mistral.modeling_mistral import MistralAttention, MistralRotaryEmbedding

    windowed, has_skip = isinstance(layer, LocalAttention), layer.has_skip
    config_class: Any = MistralConfig if windowed else LlamaConfig
    config = config_class(
        hidden_size=layer.width,
        num_attention_heads=1,
        head_dim=2,
        rope_parameters={"rope_type": "default", "rope_theta": layer.rotary_base or 1.0},
        attn_implementation="sdpa",
    )
    # set here, since the constructor requires that heads divide the width and have an even width
    config.num_attention_heads, config.num_key_value_heads = layer.heads, layer.kv_heads
    config.head_dim = layer.head_width
    config.sliding_window = (
        layer.window + 1 if isinstance(layer, LocalAttention) else None
    )  # theirs includes the token itself
    theirs: Any = (MistralAttention if windowed else LlamaAttention)(config, layer_idx=0).eval()
    theirs.q_proj, theirs.k_proj = copy.deepcopy(layer.q_proj), copy.deepcopy(layer.k_proj)
    theirs.v_proj, theirs.o_proj = copy.deepcopy(layer.v_proj), copy.deepcopy(layer.projection)
    weight = theirs.o_proj.weight
    unrotated = weight.new_ones(1, 1, 1), weight.new_zeros(1, 1, 1)
    rotary: Any = (MistralRotaryEmbedding if windowed else LlamaRotaryEmbedding)(config).to(weight.device)
    has_rotary = layer.rotary_base is not None

    def sequence(tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[-2], device=tokens.device)[None]
        angles = rotary(tokens, positions) if has_rotary else unrotated
        mask = create_sliding_window_causal_mask(config, tokens, None, None) if windowed else None
        mixed: Tensor = theirs(tokens, angles, mask)[0]
        return tokens + mixed if has_skip else mixed

    return sequence


def _is_multihead(layer: SelfAttention) -> bool:
    """Whether `nn.MultiheadAttention` supports the layer."""
    plain = layer.rotary_base is None and not isinstance(layer, LocalAttention)
    return plain and layer.kv_heads == layer.heads and layer.heads * layer.head_width == layer.width

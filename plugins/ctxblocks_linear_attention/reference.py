"""Implementations from transformers with a layer's weights: MiniMax's lightning attention, Qwen3-Next's gated delta rule."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctxblocks.numerics import widen
from ctxblocks_linear_attention.delta import DeltaRule
from ctxblocks_linear_attention.linear import LinearAttention


def _elu_and_one(x: Tensor) -> Tensor:
    return F.elu(x) + 1


_FEATURES: dict[str, Callable[[Tensor], Tensor]] = {"elu": _elu_and_one, "relu": F.relu, "softplus": F.softplus}
_NO_DECAY = 1e-300  # −log γ; with exactly 0 their mask would include later tokens


class _Features(nn.Module):
    """φ of queries and keys, in place of the activation."""

    def __init__(self, features: str, heads: int) -> None:
        super().__init__()
        self.function, self.heads = _FEATURES[features], heads

    def forward(
        self,
        maps: Tensor,  # (…, heads · 3 · e)
    ) -> Tensor:  # same
        parts = maps.unflatten(-1, (self.heads, 3, -1))
        return torch.cat((self.function(parts[..., :2, :]), parts[..., 2:, :]), dim=-2).flatten(-3)


class _OverSums(nn.Module):
    """Division by the sums of weights, the last feature of each head, in place of the norm."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(
        self,
        totals: Tensor,  # (…, heads · (e + 1))
    ) -> Tensor:  # (…, heads · e), zeros where a sum is below `tiny / eps`
        values, sums = widen(totals).unflatten(-1, (self.heads, -1)).tensor_split([-1], dim=-1)
        limits = torch.finfo(sums.dtype)
        heads: Tensor = values / sums.masked_fill(sums < limits.tiny / limits.eps, math.inf)
        return heads.flatten(-2).to(totals.dtype)


class _Open(nn.Module):
    """A gate whose sigmoid is 1."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.new_full((1,), math.inf)


def lightning_attention(
    layer: LinearAttention, block: int = 128
) -> Callable[[Tensor], Tensor]:  # (batch, n, d) -> (batch, n, d)
    """MiniMax's lightning attention over blocks of tokens, with the activation, norm and gate replaced by the layer's.

    On a CPU, blocks of 128 tokens are faster than the default of 256. With `normalize` each head has one more feature, in
    which values are 1, so that it yields the sums of the weights.
    """
    from transformers.models.minimax.configuration_minimax import MiniMaxConfig
    from transformers.models.minimax.modeling_minimax import MiniMaxLightningAttention

    heads, config = layer.heads, layer.config
    head_width = layer.head_width + config.normalize
    theirs_config: Any = MiniMaxConfig(
        hidden_size=layer.width,
        num_attention_heads=heads,
        head_dim=2,
        block_size=block,
        layer_types=["linear_attention"] * 2,
        num_hidden_layers=2,
    )
    theirs_config.head_dim = head_width  # set here, since the constructor refuses odd widths, for its positions
    theirs: Any = MiniMaxLightningAttention(theirs_config, layer_idx=0)
    theirs.qkv_proj, theirs.out_proj = _fused(layer), copy.deepcopy(layer.projection)
    theirs.act_fn = nn.Identity() if config.features == "identity" else _Features(config.features, heads)
    theirs.norm = _OverSums(heads) if config.normalize else nn.Identity()
    theirs.output_gate = _Open()
    slopes = [_NO_DECAY] * heads if config.decays is None else [-math.log(each) for each in config.decays]
    theirs.slope_rate = torch.tensor(slopes, dtype=torch.float64)[:, None, None]
    theirs.query_decay, theirs.key_decay, theirs.diagonal_decay = theirs.decay_factors(theirs.slope_rate)
    theirs = theirs.to(layer.projection.weight.device, layer.projection.weight.dtype).eval()

    def sequence(tokens: Tensor) -> Tensor:
        outputs: Tensor = theirs(tokens, None, None)[0]
        return outputs

    return sequence


def gated_delta_rule(layer: DeltaRule) -> Callable[[Tensor], Tensor]:  # (batch, n, d) -> (batch, n, d)
    """Qwen3-Next's gated delta rule over chunks of tokens, in float32, between the layer's own projections."""
    from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule

    own = copy.deepcopy(layer)

    def sequence(tokens: Tensor) -> Tensor:
        q, k, v = (maps(tokens).unflatten(-1, (own.heads, -1)) for maps in (own.query, own.key, own.value))
        beta = torch.sigmoid(own.rate(tokens))  # (batch, n, heads)
        g = torch.zeros_like(beta)
        if own.gate is not None and own.log_decay is not None:
            g = -own.log_decay.exp() * F.softplus(own.gate(tokens))
        read, _ = torch_chunk_gated_delta_rule(q, k, v, g, beta, use_qk_l2norm_in_kernel=True)
        outputs: Tensor = own.projection(read.flatten(-2))
        return outputs

    return sequence


def _fused(layer: LinearAttention) -> nn.Linear:  # (…, d) -> (…, heads · 3 · e), or e + 1 with `normalize`
    """Queries, keys and values of each head in one map; with `normalize` one more feature, 0 in `φ(q)`, `φ(k)` and 1 in `v`."""
    extra, bias = int(layer.config.normalize), layer.config.bias or layer.config.normalize
    weights, biases = [], []
    for maps, last in ((layer.query, -math.inf), (layer.key, -math.inf), (layer.value, 1.0)):
        rows = maps.weight.detach().unflatten(0, (layer.heads, -1))  # (heads, e, d)
        shifts = rows.new_zeros(rows.shape[:-1]) if maps.bias is None else maps.bias.detach().view(rows.shape[:-1])
        weights.append(F.pad(rows, (0, 0, 0, extra)))
        biases.append(F.pad(shifts, (0, extra), value=last))
    weight = torch.stack(weights, dim=1).flatten(0, 2)
    fused = nn.Linear(layer.width, len(weight), bias=bias, device=weight.device, dtype=weight.dtype)
    fused.weight.data = weight
    if bias:
        fused.bias.data = torch.stack(biases, dim=1).flatten()
    return fused

"""Softmax self-attention over a context and the query itself."""

import torch
from ctxblocks_attention._config import SelfAttentionConfig
from ctxblocks_attention._rotary import rotate
from torch import Tensor, nn

from ctxblocks import ProjectedLayer


class SelfAttention(ProjectedLayer):
    """Multi-head softmax attention of the query to the context and to itself.

    `A(C, x)` is the last row of causal self-attention over `[c_1 … c_n, x]`: per head,
    `mix = Σ_j p_j W_v t_j` with `p = softmax(q·W_k t_j / sqrt(head_width))` over the tokens `t` of `[C, x]`.

    Args:
        config: the layer's shape.
    """

    def __init__(self, config: SelfAttentionConfig) -> None:
        super().__init__(config.width)
        self.heads, self.kv_heads, self.head_width = config.heads, config.kv_heads, config.head_width
        self.scale = config.head_width**-0.5
        self.rotary_base = config.rotary_base if config.positions == "rotary" else None
        self.has_skip = config.skip
        inner, kv_inner = config.heads * config.head_width, config.kv_heads * config.head_width
        self.q_proj = nn.Linear(config.width, inner, bias=config.bias)
        self.k_proj = nn.Linear(config.width, kv_inner, bias=config.bias)
        self.v_proj = nn.Linear(config.width, kv_inner, bias=config.bias)
        self.projection = nn.Linear(inner, config.width, bias=config.bias)

    def mix(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, heads · head_width)
        """The heads' averages of values, side by side; tokens are averaged before `W_v`."""
        tokens = torch.cat((context, query.unsqueeze(-2)), dim=-2)  # (…, n + 1, d)
        distances = torch.arange(-context.shape[-2], 1, device=query.device)
        weights = torch.softmax(self._scores(query, tokens, distances), dim=-1)  # (…, heads, n + 1)
        means = weights @ tokens.to(weights.dtype)  # (…, heads, d)
        return self._values_of(means.to(query.dtype)).flatten(-2)

    def finish(
        self,
        query: Tensor,  # (…, d)
        projected: Tensor,  # (…, d)
    ) -> Tensor:  # (…, d)
        """The projection, with the query added if the layer has a skip."""
        return query + projected if self.has_skip else projected

    def _scores(
        self,
        query: Tensor,  # (…, d)
        tokens: Tensor,  # (…, n, d)
        distances: Tensor,  # (n,), the tokens' positions less the query's
    ) -> Tensor:  # (…, heads, n), float32 for half types
        """`q·k_j / sqrt(head_width)` of one query: without positions `(W_kᵀ q)·t_j + q·b_k`, no key being built."""
        wide = torch.promote_types(query.dtype, torch.float32)
        queries = self._grouped(self.q_proj(query)).to(wide) * self.scale  # (…, kv_heads, group, head_width)
        if self.rotary_base is not None:
            keys = rotate(self.k_proj(tokens).unflatten(-1, (self.kv_heads, -1)), distances, self.rotary_base)
            return (queries @ keys.movedim(-3, -1).to(wide)).flatten(-3, -2)
        weight = self.k_proj.weight.unflatten(0, (self.kv_heads, -1)).to(wide)  # (kv_heads, head_width, d)
        folded = torch.einsum("...grk,gkd->...grd", queries, weight).flatten(-3, -2)  # (…, heads, d)
        scores = folded @ tokens.to(wide).mT
        if self.k_proj.bias is None:
            return scores
        bias = self.k_proj.bias.unflatten(0, (self.kv_heads, -1)).to(wide)
        return scores + torch.einsum("...grk,gk->...gr", queries, bias).flatten(-2).unsqueeze(-1)

    def _values_of(
        self,
        means: Tensor,  # (…, heads, d), each head's average of tokens
    ) -> Tensor:  # (…, heads, head_width)
        """`W_v m + b_v` of each head: the average of values is the value of the average."""
        weight = self.v_proj.weight.unflatten(0, (self.kv_heads, -1))  # (kv_heads, head_width, d)
        values = torch.einsum("...grd,gkd->...grk", means.unflatten(-2, (self.kv_heads, -1)), weight)
        if self.v_proj.bias is not None:
            values = values + self.v_proj.bias.view(self.kv_heads, 1, self.head_width)
        return values.flatten(-3, -2)

    def _grouped(
        self,
        queries: Tensor,  # (…, heads · head_width)
    ) -> Tensor:  # (…, kv_heads, group, head_width)
        """Query heads by the key head that serves them."""
        return queries.unflatten(-1, (self.kv_heads, self.heads // self.kv_heads, self.head_width))

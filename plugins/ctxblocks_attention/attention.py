"""Softmax self-attention over a context and the query itself."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctxblocks import ProjectedLayer, foldable
from ctxblocks.numerics import dot, widen
from ctxblocks_attention.config import SelfAttentionConfig
from ctxblocks_attention.fused import Reads, attend, causal_with_self
from ctxblocks_attention.rotary import rotate
from ctxblocks_attention.running import running_average, running_average_wide


class SelfAttention(ProjectedLayer):
    """Multi-head softmax attention of the query to the context and to itself.

    `A(C, x)` is the last row of causal self-attention over `[c_1 … c_n, x]`: per head,
    `mix = Σ_j p_j W_v t_j` with `p = softmax(q·W_k t_j / sqrt(head_width))` over the tokens `t` of `[C, x]`.

    Args:
        config: the layer's shape.
    """

    chunk = 64  # tokens in one chunk of running averages of narrow values
    tile = 32  # tokens in one product of running averages of wide values
    narrow = 16  # features below which values are narrow

    def __init__(self, config: SelfAttentionConfig) -> None:
        super().__init__(config.width)
        self.heads, self.head_width, self.kv_heads = config.shape()
        self.group = self.heads // self.kv_heads  # query heads that share a key-value head
        self.scale = self.head_width**-0.5
        self.rotary_base = config.rotary_base if config.positions == "rotary" else None
        self.has_skip, self.has_bias = config.skip, config.bias
        inner, kv_inner = self.heads * self.head_width, self.kv_heads * self.head_width
        self.q_proj = nn.Linear(config.width, inner, bias=config.bias)
        self.k_proj = nn.Linear(config.width, kv_inner, bias=config.bias)
        self.v_proj = nn.Linear(config.width, kv_inner, bias=config.bias)
        self.projection = nn.Linear(inner, config.width, bias=config.bias)

    def mix(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, heads · head_width)
        """The averages of the heads, concatenated, of tokens before a plain `W_v`. Without context, the query's own value."""
        if context.shape[-2] == 0:
            own: Tensor = self.v_proj(query).unflatten(-1, (self.kv_heads, -1)).repeat_interleave(self.group, dim=-2)
            return own.flatten(-2)
        tokens = torch.cat((context, query.unsqueeze(-2)), dim=-2)  # (…, n + 1, d)
        distances = torch.arange(-context.shape[-2], 1, device=query.device)
        weights = torch.softmax(self._scores(query, (tokens,), distances), dim=-1)  # (…, heads, n + 1)
        if foldable(self.v_proj):
            means = weights @ tokens.to(weights.dtype)  # (…, heads, d)
            return self._values_of(means.to(query.dtype)).flatten(-2)
        values = self.v_proj(tokens).unflatten(-1, (self.kv_heads, -1)).movedim(-2, -3)  # (…, kv_heads, n + 1, f)
        mixed: Tensor = weights.unflatten(-2, (self.kv_heads, -1)) @ values.to(weights.dtype)  # (…, kv_heads, group, f)
        return mixed.flatten(-3).to(query.dtype)

    def finish(self, query: Tensor, projected: Tensor) -> Tensor:  # (…, d) each
        """The projection, plus the query if the layer has a skip connection."""
        return query + projected if self.has_skip else projected

    def sequence(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n, d)
        """Causal self-attention by torch's fused kernel."""
        self.check_sequence(tokens)
        if tokens.shape[-2] == 0:
            return tokens.clone()
        queries, keys, values = self._projected(tokens)
        positions = torch.arange(tokens.shape[-2], device=tokens.device)
        queries, keys = self._rotated(queries, positions), self._rotated(keys, positions)
        mixed = attend(queries.transpose(-3, -2), keys.transpose(-3, -2), values.transpose(-3, -2), self.scale)
        return self._finished(tokens, mixed)

    def causal(
        self,
        queries: Tensor,  # (…, n + 1, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(C_i, q_i)` for `i = 0 … n`: one causal pass of the queries over the keys of the context and a self slot."""
        self.check_causal(queries, context)
        return self._finished(queries, self._read(self._reads(self._projected(queries), *self._keys_values(context))))

    def prefixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(C_i, x)` for `i = 0 … n` by running averages; as `causal` with rotary positions, where that of `x` changes."""
        self.check_call(query, context)
        if self._averages_prefixes():
            return self._running(query, context)
        rows = query.unsqueeze(-2)  # (…, 1, d)
        return self._finished(rows, self._read(self._reads(self._projected(rows), *self._keys_values(context))))

    def suffixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(c_{i+1} … c_n, x)` for `i = 0 … n` by running averages from the end; scores depend only on distances to `x`."""
        self.check_call(query, context)
        return self._running(query, context.flip(-2)).flip(-2)

    def state_size(self, tokens: int) -> int:
        """A key and a value for each token and each of the `kv_heads`."""
        self.check_state_size(tokens)
        return tokens * 2 * self.kv_heads * self.head_width

    def _averages_prefixes(self) -> bool:
        """Whether `prefixes` uses running averages, which need the same scores for every prefix, or one causal pass."""
        return self.rotary_base is None

    def _projected(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> tuple[Tensor, Tensor, Tensor]:  # (…, n, heads, head_width), and twice (…, n, kv_heads, head_width)
        """Queries, keys and values of the tokens, before rotation."""
        return (self.q_proj(tokens).unflatten(-1, (self.heads, -1)), *self._keys_values(tokens))

    def _keys_values(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> tuple[Tensor, Tensor]:  # twice (…, n, kv_heads, head_width)
        """Keys and values of the tokens, before rotation."""
        keys, values = self.k_proj(tokens), self.v_proj(tokens)
        return keys.unflatten(-1, (self.kv_heads, -1)), values.unflatten(-1, (self.kv_heads, -1))

    def _rotated(
        self,
        features: Tensor,  # (…, n, heads, head_width)
        positions: Tensor,  # (n,)
    ) -> Tensor:  # (…, n, heads, head_width)
        """The features, rotated where positions are rotary."""
        return features if self.rotary_base is None else rotate(features, positions, self.rotary_base)

    def _reads(
        self,
        own: tuple[Tensor, Tensor, Tensor],  # `_projected` of the n + 1 queries, or of one for all rows
        keys: Tensor,  # (…, n, kv_heads, head_width), of the context
        values: Tensor,  # (…, n, kv_heads, head_width)
    ) -> Reads:
        """Queries at positions `0 … n`, tokens at `0 … n − 1`; a query's score with itself does not depend on its position."""
        queries, own_keys, own_values = own
        rows = keys.shape[-3] + 1
        own_keys, own_values = (own.repeat_interleave(self.group, dim=-2) for own in (own_keys, own_values))
        self_scores = dot(queries, own_keys).mT  # (…, heads, n + 1 or 1)
        positions = torch.arange(rows, device=queries.device)
        queries, keys = self._rotated(queries, positions), self._rotated(keys, positions[:-1])
        return Reads(
            queries=queries.transpose(-3, -2).expand(*self_scores.shape[:-1], rows, self.head_width),
            keys=keys.transpose(-3, -2),
            values=values.transpose(-3, -2),
            self_scores=self_scores.expand(*self_scores.shape[:-1], rows),
            self_values=own_values.transpose(-3, -2),
            scale=self.scale,
        )

    def _read(self, reads: Reads) -> Tensor:  # (…, heads, n + 1, head_width)
        """Attention of query `i` to the first `i` tokens and itself."""
        return causal_with_self(reads)

    def _finished(
        self,
        queries: Tensor,  # (…, n, d), or one row for all
        mixed: Tensor,  # (…, heads, n, head_width)
    ) -> Tensor:  # (…, n, d)
        """The output: heads concatenated and projected."""
        return self.finish(queries, self.projection(mixed.transpose(-3, -2).flatten(-2)))

    def _running(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d), the last token first where positions matter
    ) -> Tensor:  # (…, n + 1, d)
        """The outputs for the query after the first `0 … n` of these tokens; narrow tokens are averaged before `W_v`."""
        own = query.unsqueeze(-2)
        distances = -torch.arange(context.shape[-2] + 1, device=query.device)
        if self.width < self.head_width and foldable(self.v_proj) and foldable(self.projection):
            tokens = torch.cat((own, context), dim=-2)
            scores = self._scores(query, (tokens,), distances)  # (…, heads, n + 1)
            means = self._average(scores, tokens.to(scores.dtype))  # (…, heads, n + 1, d)
            return self.finish(own, self._projected_values(means).to(query.dtype))
        scores = self._scores(query, (own, context), distances)
        parts = [self.v_proj(tokens).unflatten(-1, (self.kv_heads, -1)) for tokens in (own, context)]
        values = torch.cat(parts, dim=-3).transpose(-3, -2).to(scores.dtype)  # (…, kv_heads, n + 1, head_width)
        mixed = self._average(scores.unflatten(-2, (self.kv_heads, -1)), values).flatten(-4, -3)
        return self._finished(own, mixed.to(query.dtype))

    def _average(
        self,
        scores: Tensor,  # (…, r, n + 1), of the query itself and of n tokens
        values: Tensor,  # (…, n + 1, f), shared by the r rows
    ) -> Tensor:  # (…, r, n + 1, f)
        """The averages over the query itself and the first `0 … n` tokens."""
        if values.shape[-1] < self.narrow:
            return running_average(scores, values, self.chunk)
        return running_average_wide(scores, values, self.tile)

    def _scores(
        self,
        query: Tensor,  # (…, d)
        parts: tuple[Tensor, ...],  # each (…, m, d), n tokens in all
        distances: Tensor,  # (n,), positions of the tokens relative to the query
    ) -> Tensor:  # (…, heads, n), float32 for half types
        """`q·k_j / sqrt(head_width)` of one query; without positions and with a plain `W_k` as `(W_kᵀ q)·t_j + q·b_k`."""
        queries = widen(self.q_proj(query).unflatten(-1, (self.kv_heads, self.group, -1))) * self.scale
        if self.rotary_base is not None or not foldable(self.k_proj):
            keys = torch.cat([self.k_proj(tokens) for tokens in parts], dim=-2)
            keys = self._rotated(keys.unflatten(-1, (self.kv_heads, -1)), distances)
            return torch.flatten(queries @ widen(keys.movedim(-3, -1)), -3, -2)
        weight = widen(self.k_proj.weight.view(self.kv_heads, self.head_width, self.width))
        folded = torch.einsum("...grk,gkd->...grd", queries, weight).flatten(-3, -2)  # (…, heads, d)
        scores = torch.cat([folded @ widen(tokens).mT for tokens in parts], dim=-1)
        if not self.has_bias:
            return scores
        shift = torch.einsum("...grk,gk->...gr", queries, widen(self.k_proj.bias.view(self.kv_heads, -1)))
        return scores + shift.flatten(-2).unsqueeze(-1)

    def _projected_values(
        self,
        means: Tensor,  # (…, heads, n, d), each head's averages of tokens
    ) -> Tensor:  # (…, n, d)
        """`Σ_h W_o W_v m_h + W_o b_v + b_o`, with `W_o W_v` one `d × d` matrix for each head."""
        wide = means.dtype
        values = self.v_proj.weight.to(wide).unflatten(0, (self.kv_heads, self.head_width))  # (kv_heads, f, d)
        outputs = self.projection.weight.to(wide).unflatten(-1, (self.heads, -1))  # (d, heads, f)
        folded = outputs.movedim(0, 1) @ values.repeat_interleave(self.group, dim=0)  # (heads, d, d)
        columns = means.mT.flatten(-3, -2)  # (…, heads · d, n)
        projected: Tensor = (folded.movedim(0, 1).flatten(1) @ columns).mT.contiguous()  # (d, heads · d) @ columns
        if not self.has_bias:
            return projected
        shift = self.v_proj.bias.to(wide).unflatten(0, (self.kv_heads, -1)).repeat_interleave(self.group, dim=0)
        return projected + F.linear(shift.flatten(), self.projection.weight.to(wide), self.projection.bias.to(wide))

    def _values_of(
        self,
        means: Tensor,  # (…, heads, d), each head's average of tokens
    ) -> Tensor:  # (…, heads, head_width)
        """`W_v m + b_v` of each head: the average of the values is the value of the average."""
        weight = self.v_proj.weight.view(self.kv_heads, self.head_width, self.width)
        grouped = means.reshape(*means.shape[:-2], self.kv_heads, self.group, self.width)
        values = torch.einsum("...grd,gkd->...grk", grouped, weight)
        if self.has_bias:
            values = values + self.v_proj.bias.view(self.kv_heads, 1, self.head_width)
        return values.flatten(-3, -2)

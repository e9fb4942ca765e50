"""Linear attention: tokens are weighted by products of features."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctxblocks import ProjectedLayer, project
from ctxblocks.numerics import alike
from ctxblocks_linear_attention.config import LinearAttentionConfig
from ctxblocks_linear_attention.features import feature_map
from ctxblocks_linear_attention.running import join_heads, linear_scan, powers, running_sum, split_heads


class _Sums(NamedTuple):
    """Weighted sums over tokens, for each query."""

    values: Tensor  # (…, heads, r, e): Σ_j w_j v_j
    weights: Tensor | None  # (…, heads, r, 1): Σ_j w_j, where weights are normalised

    def map(self, function: Callable[..., Tensor], *others: "_Sums") -> "_Sums":
        """Apply the function to both sums."""
        weights = None if self.weights is None else function(self.weights, *(other.weights for other in others))
        return _Sums(function(self.values, *(other.values for other in others)), weights)


class LinearAttention(ProjectedLayer):
    """`A(C, x) = W_o [Σ_j γ^(n+1−j) (φ(q)·φ(k_j)) v_j + (φ(q)·φ(k_x)) v_x]`, head by head; the query is the last token.

    With `normalize` each head is divided by the sum of its weights, `Σ_j γ^(n+1−j) φ(q)·φ(k_j) + φ(q)·φ(k_x)`. Where
    that sum is zero, because no feature of the query is shared by a key, the output of the head is zero, and so is its
    gradient. Features that are so large or small that products of them may leave the range of float32 are multiplied and
    summed in float64; a sum below `tiny / eps` counts as zero, since its terms have lost their digits to underflow.

    Sources: Katharopoulos et al. 2020 (arXiv 2006.16236); decay: Sun et al. 2023, RetNet (arXiv 2307.08621).

    Args:
        config: see `LinearAttentionConfig`.
    """

    chunk: int = 128
    """Tokens in one product of `sequence` and `causal`."""
    running_chunk: int = 32
    """Tokens in one product of `prefixes` and `suffixes`."""
    block: int = 1024
    """Tokens that `prefixes` processes at a time, so that intermediate results stay in the cache."""

    def __init__(self, config: LinearAttentionConfig) -> None:
        super().__init__(config.width)
        self.config = config
        self.heads, self.head_width = config.head_shape
        inner = self.heads * self.head_width
        self.query = nn.Linear(config.width, inner, bias=config.bias)
        self.key = nn.Linear(config.width, inner, bias=config.bias)
        self.value = nn.Linear(config.width, inner, bias=config.bias)
        self.projection = nn.Linear(inner, config.width, bias=config.bias)

    def mix(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, heads·e)
        """The outputs of the heads, concatenated."""
        q, own = self._read(query.unsqueeze(-2))
        q, k, v = alike(q, *self._write(context, self.config.normalize))
        weights = self._fade_to_query(q @ k.transpose(-2, -1))  # (…, heads, 1, n)
        return self._output(self._sums(weights @ v).map(torch.add, own), query.dtype).squeeze(-2)

    def sequence(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n, d)
        """The ordinary forward pass: chunks of tokens, with one state matrix for each head between them."""
        self.check_sequence(tokens)
        q, k, v = alike(self._features(project(self.query, tokens)), *self._write(tokens, self.config.normalize))
        totals = linear_scan(q, k, v, self._log_decay(k), self.chunk)
        return self._project(self._output(self._sums(totals), tokens.dtype))

    def causal(
        self,
        queries: Tensor,  # (…, n + 1, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(C_i, q_i)`: the sums of `q_i` after token `i`, decayed by one step, plus the query's own part."""
        self.check_causal(queries, context)
        q, own = self._read(queries)
        q, k, v = alike(q, *self._write(context, self.config.normalize))
        read = linear_scan(self._fade_once(q[..., 1:, :]), k, v, self._log_decay(k), self.chunk)
        return self._project(self._output(self._sums(F.pad(read, (0, 0, 1, 0))).map(torch.add, own), queries.dtype))

    def prefixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(C_i, x)`: running sums of `(φ(q)·φ(k_j)) v_j`, block by block."""
        self.check_call(query, context)
        q, own = self._read(query.unsqueeze(-2))
        reading, log_decay = self._fade_once(q).transpose(-2, -1), self._log_decay(q)
        outputs = [self._project(self._output(own, query.dtype))]
        # with decay the query's own part is added last, since it does not decay
        total = own if log_decay is None else own.map(torch.zeros_like)
        for start in range(0, context.shape[-2], self.block):
            read = self._block(context[..., start : start + self.block, :], reading, log_decay, total)
            total = read.map(lambda part: part[..., -1:, :].clone())
            rows = read if log_decay is None else read.map(torch.add, own)
            outputs.append(self._project(self._output(rows, query.dtype)))
        return torch.cat(outputs, dim=-2)

    def suffixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(c_{i+1} … c_n, x)`: the same terms, each decayed by its distance to the query, summed from the end."""
        self.check_call(query, context)
        q, own = self._read(query.unsqueeze(-2))
        q, k, v = alike(q, *self._write(context, one=False))
        weights = self._fade_to_query(q @ k.transpose(-2, -1)).transpose(-2, -1)  # (…, heads, n, 1)
        read = self._running(weights.flip(-2), v.flip(-2), None, own)
        rows = read.map(lambda part, last: torch.cat([part.flip(-2), last], dim=-2), own)
        return self._project(self._output(rows, query.dtype))

    def state_size(self, tokens: int) -> int:
        """The sum of `φ(k_j) v_jᵀ` of each head, and of `φ(k_j)` where weights are normalised."""
        self.check_state_size(tokens)
        return self.heads * self.head_width * (self.head_width + int(self.config.normalize))

    def _block(
        self,
        tokens: Tensor,  # (…, n, d)
        reading: Tensor,  # (…, heads, e, 1)
        log_decay: Tensor | None,  # (heads, 1), float64
        start: _Sums,  # of one row
    ) -> _Sums:  # of n rows
        """The sums of one query after each token of a block."""
        reading, k, v = alike(reading, *self._write(tokens, one=False))
        return self._running(k @ reading, v, log_decay, start)

    def _running(
        self,
        weights: Tensor,  # (…, heads, n, 1)
        v: Tensor,  # (…, heads, n, e)
        log_decay: Tensor | None,  # (heads, 1), float64
        start: _Sums,  # of one row
    ) -> _Sums:  # of n rows
        """Running sums of weighted values, and of the weights."""
        # in the memory layout of v, so that the product needs no copy
        weights = weights.transpose(-2, -3).contiguous().transpose(-2, -3)
        parts = _Sums(weights * v, None if start.weights is None else weights)

        def running(part: Tensor, first: Tensor) -> Tensor:
            part, first = alike(part, first)
            return running_sum(part, first, log_decay, self.running_chunk)

        return parts.map(running, start)

    def _sums(
        self,
        read: Tensor,  # (…, heads, r, e or e + 1)
    ) -> _Sums:
        """The sums in one tensor, split; with `normalize` the last feature is the sum of the weights."""
        return _Sums(read[..., :-1], read[..., -1:]) if self.config.normalize else _Sums(read, None)

    def _project(self, mixed: Tensor) -> Tensor:  # (…, heads·e) -> (…, d)
        output: Tensor = self.projection(mixed)
        return output

    def _features(
        self,
        x: Tensor,  # (…, n, heads·e)
    ) -> Tensor:  # (…, heads, n, e)
        """`φ` of each head."""
        return split_heads(feature_map(self.config.features, x), self.heads)

    def _write(
        self,
        tokens: Tensor,  # (…, n, d)
        one: bool,
    ) -> tuple[Tensor, Tensor]:  # (…, heads, n, e), (…, heads, n, e + 1)
        """`φ(k)` and `v`, with a last entry of 1 in `v` if `one`, which yields the sums of the weights."""
        k = self._features(project(self.key, tokens))
        return k, split_heads(project(self.value, tokens).to(k.dtype), self.heads, one=one)

    def _read(
        self,
        queries: Tensor,  # (…, r, d)
    ) -> tuple[Tensor, _Sums]:  # (…, heads, r, e)
        """`φ(q)`, and each query's own part `(φ(q)·φ(k_x)) v_x`."""
        q, k, v = alike(self._features(project(self.query, queries)), *self._write(queries, one=False))
        weights = (q * k).sum(-1, keepdim=True)
        return q, _Sums(weights * v, weights if self.config.normalize else None)

    def _output(
        self,
        totals: _Sums,  # of r rows
        dtype: torch.dtype,
    ) -> Tensor:  # (…, r, heads·e)
        """The heads concatenated, divided by the sums of their weights where those are normalised."""
        values, weights = totals
        if weights is not None:
            limits = torch.finfo(values.dtype)
            values = values / torch.where(weights < limits.tiny / limits.eps, math.inf, weights)
        return join_heads(values).to(dtype)

    def _log_decay(self, like: Tensor) -> Tensor | None:  # (heads, 1)
        """`log γ` of each head in float64, on the device of `like`."""
        if self.config.decays is None:
            return None
        logs = [
            torch.full((1,), math.log(each), dtype=torch.float64, device=like.device) for each in self.config.decays
        ]
        return torch.stack(logs)

    def _fade_once(
        self,
        q: Tensor,  # (…, heads, r, e)
    ) -> Tensor:  # same
        """Queries decayed by one step, the distance of the last token."""
        log_decay = self._log_decay(q)
        return q if log_decay is None else q * torch.exp(log_decay).to(q.dtype).unsqueeze(-1)

    def _fade_to_query(
        self,
        weights: Tensor,  # (…, heads, 1, n)
    ) -> Tensor:  # same
        """The weight of token `j` of `n`, decayed by `γ^(n+1−j)`."""
        log_decay = self._log_decay(weights)
        if log_decay is None:
            return weights
        distance = torch.arange(weights.shape[-1], 0, -1, device=weights.device)
        return weights * powers(log_decay, distance, weights.dtype).unsqueeze(-2)

"""Linear attention: tokens weighed by products of features."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctxblocks import ProjectedLayer
from ctxblocks_linear_attention._config import LinearAttentionConfig
from ctxblocks_linear_attention._running import (
    join_heads,
    linear_scan,
    powers,
    running_sum,
    split_heads,
    widen,
)


def _elu(x: Tensor) -> Tensor:
    """`elu(x) + 1` as `exp(min(x, 0)) + max(x, 0)`, one of which is 1 or 0: no cancellation at negative `x`."""
    return torch.exp(x.clamp(max=0)) + torch.relu(x)


def _identity(x: Tensor) -> Tensor:
    return x


_FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": _elu,
    "relu": torch.relu,
    "softplus": F.softplus,
    "identity": _identity,
}


class LinearAttention(ProjectedLayer):
    """`A(C, x) = W_o [Σ_j γ^(n+1−j) (φ(q)·φ(k_j)) v_j + (φ(q)·φ(k_x)) v_x]`, head by head, the query being a token too.

    With `normalize` each head is divided by the sum of its weights, `Σ_j γ^(n+1−j) φ(q)·φ(k_j) + φ(q)·φ(k_x)`. Where
    that sum is zero, as when no feature of the query meets one of a key, the head's output is zero, and so is its
    gradient; a sum under `tiny / eps` of the dtype, its terms having lost their digits to underflow, counts as zero.

    Sources: Katharopoulos et al. 2020 (arXiv 2006.16236); decay: Sun et al. 2023, RetNet (arXiv 2307.08621).

    Args:
        config: see `LinearAttentionConfig`.
    """

    chunk: int = 128
    """Tokens in one product of `sequence` and `causal`."""
    running_chunk: int = 32
    """Tokens in one product of `prefixes` and `suffixes`."""
    block: int = 512
    """Tokens that `prefixes` works on at a time, so that what a pass holds stays in the cache."""

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
        """The heads' outputs, side by side."""
        q, own = self._read(query.unsqueeze(-2))
        k, v = self._write(context)
        weights = self._fade_to_query(q @ k.transpose(-2, -1))  # (…, heads, 1, n)
        return self._output(weights @ v + own, query.dtype).squeeze(-2)

    def sequence(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n, d)
        """The ordinary forward pass: chunks of tokens, and one matrix for each head carried between them."""
        self.check_sequence(tokens)
        k, v = self._write(tokens)
        totals = linear_scan(self._features(self.query(tokens)), k, v, self._log_decay(k), self.chunk)
        return self._project(self._output(totals, tokens.dtype))

    def causal(
        self,
        queries: Tensor,  # (…, n + 1, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(C_i, q_i)`: what `q_i` reads after token `i`, faded by one step, and its own part."""
        self.check_causal(queries, context)
        q, own = self._read(queries)
        k, v = self._write(context)
        read = linear_scan(self._fade_once(q[..., 1:, :]), k, v, self._log_decay(k), self.chunk)
        return self._project(self._output(F.pad(read, (0, 0, 1, 0)) + own, queries.dtype))

    def prefixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(C_i, x)`: running sums of `(φ(q)·φ(k_j)) v_j`, block by block."""
        self.check_call(query, context)
        q, own = self._read(query.unsqueeze(-2))
        reading = self._fade_once(q).transpose(-2, -1)
        total, outputs = torch.zeros_like(own), [self._project(self._output(own, query.dtype))]
        for start in range(0, context.shape[-2], self.block):
            k, v = self._write(context[..., start : start + self.block, :])
            read = running_sum((k @ reading) * v, self._log_decay(k), self.running_chunk, total)
            total = read[..., -1:, :]
            outputs.append(self._project(self._output(read + own, query.dtype)))
        return torch.cat(outputs, dim=-2)

    def suffixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(c_{i+1} … c_n, x)`: the same parts, each faded by its distance to the query, summed from the end."""
        self.check_call(query, context)
        q, own = self._read(query.unsqueeze(-2))
        k, v = self._write(context)
        parts = self._fade_to_query(q @ k.transpose(-2, -1)).transpose(-2, -1) * v
        read = running_sum(parts.flip(-2), None, self.running_chunk, own).flip(-2)
        return self._project(self._output(torch.cat([read, own], dim=-2), query.dtype))

    def _project(self, mixed: Tensor) -> Tensor:  # (…, heads·e) -> (…, d)
        output: Tensor = self.projection(mixed)
        return output

    def _features(
        self,
        x: Tensor,  # (…, n, heads·e)
    ) -> Tensor:  # (…, heads, n, e)
        return _FEATURES[self.config.features](split_heads(widen(x), self.heads))

    def _write(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> tuple[Tensor, Tensor]:  # (…, heads, n, e), (…, heads, n, e or e + 1)
        """`φ(k)` and `v`, with a last entry of 1 that sums the weights where they are normalised."""
        k = self._features(self.key(tokens))
        return k, split_heads(widen(self.value(tokens)), self.heads, one=self.config.normalize)

    def _read(
        self,
        queries: Tensor,  # (…, r, d)
    ) -> tuple[Tensor, Tensor]:  # (…, heads, r, e), (…, heads, r, e or e + 1)
        """`φ(q)`, and each query's own part `(φ(q)·φ(k_x)) v_x`."""
        q = self._features(self.query(queries))
        k, v = self._write(queries)
        return q, (q * k).sum(-1, keepdim=True) * v

    def _output(
        self,
        totals: Tensor,  # (…, heads, r, e or e + 1)
        dtype: torch.dtype,
    ) -> Tensor:  # (…, r, heads·e)
        """The heads side by side, divided by the sums of their weights."""
        if self.config.normalize:
            totals, normalizer = totals[..., :-1], totals[..., -1:]
            limits = torch.finfo(totals.dtype)
            totals = totals / torch.where(normalizer < limits.tiny / limits.eps, math.inf, normalizer)
        return join_heads(totals).to(dtype)

    def _log_decay(self, like: Tensor) -> Tensor | None:  # (heads, 1)
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
        """One step of decay, from the last token to the query."""
        log_decay = self._log_decay(q)
        return q if log_decay is None else q * torch.exp(log_decay).to(q.dtype).unsqueeze(-1)

    def _fade_to_query(
        self,
        weights: Tensor,  # (…, heads, 1, n)
    ) -> Tensor:  # same
        """Token `j` of `n` fades by `γ^(n+1−j)`."""
        log_decay = self._log_decay(weights)
        if log_decay is None:
            return weights
        distance = torch.arange(weights.shape[-1], 0, -1, device=weights.device)
        return weights * powers(log_decay, distance, weights.dtype).unsqueeze(-2)

"""The delta rule: each token corrects the state at its key."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctxblocks import ProjectedLayer, project
from ctxblocks.numerics import scaled, widen
from ctxblocks_linear_attention.config import DeltaRuleConfig
from ctxblocks_linear_attention.running import join_heads, running_sum, split_heads
from ctxblocks_linear_attention.wy import Steps, backward_weights, delta_scan, delta_scan_one

_UNIT_EPS = 1e-6  # added to the squared lengths of queries and keys, as Qwen3-Next does


def _unit(x: Tensor) -> Tensor:
    """`x / √(‖x‖² + eps)`; `x` is scaled first, so that no square overflows."""
    part, scale = scaled(x, least=1.0)
    return part * torch.rsqrt((part * part).sum(-1, keepdim=True) + _UNIT_EPS / scale.square())


class DeltaRule(ProjectedLayer):
    """`A(C, x) = W_o [S q]`, head by head, where `S` is the state after all tokens of the context and the query itself.

    A token with key `k`, value `v`, rate `β` and gate `α` changes the state from `S` to `α S (I − β k kᵀ) + β v kᵀ`.
    Queries and keys have unit length, and `q` is scaled by `1/√e`; `β = sigmoid(b·c)`; without a gate `α = 1`, else
    `α = exp(−exp(a) softplus(g·c + t))`.

    Sources: Yang et al. 2024, DeltaNet (arXiv 2406.06484) and gated DeltaNet (arXiv 2412.06464); Qwen3-Next.

    Args:
        config: see `DeltaRuleConfig`.
    """

    chunk: int = 64
    """Tokens in one triangular system."""
    running_chunk: int = 32
    """Tokens in one product of the running sums of `suffixes`."""

    def __init__(self, config: DeltaRuleConfig) -> None:
        super().__init__(config.width)
        self.config = config
        self.heads, self.head_width = config.head_shape
        inner = self.heads * self.head_width
        self.query = nn.Linear(config.width, inner, bias=config.bias)
        self.key = nn.Linear(config.width, inner, bias=config.bias)
        self.value = nn.Linear(config.width, inner, bias=config.bias)
        self.rate = nn.Linear(config.width, self.heads, bias=config.bias)
        self.gate = nn.Linear(config.width, self.heads) if config.gated else None
        if self.gate is not None:
            nn.init.constant_(self.gate.bias, -3.0)  # α starts at about 0.95
        self.log_decay = nn.Parameter(torch.zeros(self.heads)) if config.gated else None
        self.projection = nn.Linear(inner, config.width, bias=config.bias)

    def mix(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, heads·e)
        """The outputs of the heads, concatenated: the query is propagated backwards through the context."""
        q, own = self._read(query.unsqueeze(-2))
        steps = self._steps(context)
        weights = backward_weights(q, steps, self.chunk)  # (…, heads, n, 1)
        return self._output(weights.transpose(-2, -1) @ steps.v + own, query.dtype).squeeze(-2)

    def sequence(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n, d)
        """The ordinary forward pass: one triangular system for each chunk of tokens, with a state between chunks."""
        self.check_sequence(tokens)
        read = delta_scan(self._queries(tokens), self._steps(tokens), self.chunk)
        return self._project(self._output(read, tokens.dtype))

    def causal(
        self,
        queries: Tensor,  # (…, n + 1, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(C_i, q_i)`: the state after token `i` times the query as its own step changes it, plus the query's own part."""
        self.check_causal(queries, context)
        q, own = self._read(queries)
        read = delta_scan(q[..., 1:, :], self._steps(context), self.chunk)
        return self._project(self._output(F.pad(read, (0, 0, 1, 0)) + own, queries.dtype))

    def prefixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(C_i, x)`: as `causal`, with one query for all rows."""
        self.check_call(query, context)
        q, own = self._read(query.unsqueeze(-2))
        read = delta_scan_one(q, self._steps(context), self.chunk)
        return self._project(self._output(F.pad(read, (0, 0, 1, 0)) + own, query.dtype))

    def suffixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(c_{i+1} … c_n, x)`: a token's weight depends only on later tokens, so sums from the end give all rows."""
        self.check_call(query, context)
        q, own = self._read(query.unsqueeze(-2))
        steps = self._steps(context)
        parts = backward_weights(q, steps, self.chunk) * steps.v
        read = running_sum(parts.flip(-2), own, None, self.running_chunk).flip(-2)
        return self._project(self._output(torch.cat([read, own], dim=-2), query.dtype))

    def state_size(self, tokens: int) -> int:
        """The state matrix of each head."""
        self.check_state_size(tokens)
        return self.heads * self.head_width**2

    def _project(self, mixed: Tensor) -> Tensor:  # (…, heads·e) -> (…, d)
        output: Tensor = self.projection(mixed)
        return output

    def _queries(
        self,
        tokens: Tensor,  # (…, r, d)
    ) -> Tensor:  # (…, heads, r, e)
        """Queries of unit length, scaled by `1/√e`."""
        scale: float = self.head_width**-0.5
        return scale * _unit(split_heads(project(self.query, tokens), self.heads))

    def _steps(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Steps:
        """Keys, values, rates and gates of the tokens."""
        k = _unit(split_heads(project(self.key, tokens), self.heads))
        v = split_heads(project(self.value, tokens), self.heads)
        rate = torch.sigmoid(split_heads(project(self.rate, tokens), self.heads))
        if self.gate is None or self.log_decay is None:
            return Steps(k, v, rate, None)
        rates = split_heads(F.softplus(project(self.gate, tokens)), self.heads)
        return Steps(k, v, rate, -torch.exp(widen(self.log_decay))[:, None, None] * rates)

    def _read(
        self,
        queries: Tensor,  # (…, r, d)
    ) -> tuple[Tensor, Tensor]:  # (…, heads, r, e), (…, heads, r, e)
        """`α_x (q − β_x k_x (k_xᵀq))`, which multiplies the state before the query's own step, and `β_x v_x (k_xᵀq)`."""
        q = self._queries(queries)
        own = self._steps(queries)
        weight = own.rate * (own.k * q).sum(-1, keepdim=True)
        moved = q - weight * own.k
        return moved if own.log_gate is None else torch.exp(own.log_gate) * moved, weight * own.v

    def _output(
        self,
        totals: Tensor,  # (…, heads, r, e)
        dtype: torch.dtype,
    ) -> Tensor:  # (…, r, heads·e)
        return join_heads(totals).to(dtype)

"""Griffin's recurrent branch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctxblocks import ProjectedLayer
from ctxblocks_griffin._config import GriffinConfig
from ctxblocks_griffin._scan import diagonal_scan, short_convolution, widen

_SHARPNESS = 8.0  # c of RG-LRU: log a = −c · gate · softplus(Λ)
_FLATTEST = 1 / (4 * 1000.0**2)  # below it the slope of the square root is held at 1000


class BlockDiagonal(nn.Module):
    """An affine map of `heads` blocks, `weight` (heads, e / heads, e / heads) and `bias` (heads, e / heads)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        block = width // heads
        self.weight = nn.Parameter(torch.randn(heads, block, block) / math.sqrt(block))
        self.bias = nn.Parameter(torch.zeros(heads, block))

    def forward(
        self,
        x: Tensor,  # (…, e)
    ) -> Tensor:  # (…, e)
        """Each block's part of `x` times the block."""
        heads, block, _ = self.weight.shape
        if heads == 1:
            return F.linear(x, self.weight[0].T, self.bias[0])
        parts = x.reshape(-1, heads, block).transpose(0, 1)  # (heads, rows, block)
        mapped = torch.baddbmm(self.bias.unsqueeze(1), parts, self.weight)
        return mapped.transpose(0, 1).reshape(x.shape)


def _bounded_sqrt(x: Tensor) -> Tensor:
    """`√x`, its slope at most 1000, so that a gate that shuts completely keeps a finite gradient."""
    flat = x < _FLATTEST
    steep = torch.sqrt(torch.where(flat, _FLATTEST, x))
    shifted = torch.sqrt(x).detach() + (x - x.detach()) * 1000.0
    return torch.where(flat, shifted, steep)


class Griffin(ProjectedLayer):
    """`A(C, x) = W_o [gelu(W_y x) ⊙ h]`, `h` the state of an RG-LRU after the tokens `c_1 … c_n, x`.

    With `u` the short convolution of `W_x` of the tokens, gates `r = σ(B_r u)` and `i = σ(B_i u)`, and
    `log a = −8 r softplus(Λ)`: `h_t = a_t h_{t−1} + √(1 − a_t²) (i_t ⊙ u_t)`. The first token resets: `h_0 = i_0 ⊙ u_0`.

    Sources: De et al. 2024, Griffin (arXiv 2402.19427); RecurrentGemma, whose bound on the slope of the root is kept.

    Args:
        config: see `GriffinConfig`.
    """

    def __init__(self, config: GriffinConfig) -> None:
        super().__init__(config.width)
        self.config = config
        inner = config.state_width
        self.linear_x = nn.Linear(config.width, inner)
        self.linear_y = nn.Linear(config.width, inner)
        self.conv = nn.Conv1d(inner, inner, config.conv, groups=inner)
        self.input_gate = BlockDiagonal(inner, config.blocks)
        self.recurrence_gate = BlockDiagonal(inner, config.blocks)
        slowest, fastest = -math.log(0.999) / _SHARPNESS, -math.log(0.9) / _SHARPNESS
        rates = torch.empty(inner).uniform_(slowest, fastest)  # a between 0.9 and 0.999 at an open gate
        self.recurrence = nn.Parameter(torch.log(torch.expm1(rates)))  # Λ
        self.projection = nn.Linear(inner, config.width)

    def mix(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, e)
        """The gated state at the query, the last of `n + 1` tokens."""
        states = self._states(torch.cat([context, query.unsqueeze(-2)], dim=-2))
        return self._gated(query, states[..., -1, :])

    def sequence(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n, d)
        """The ordinary forward pass: one scan over the tokens."""
        self.check_sequence(tokens)
        return self._project(self._gated(tokens, self._states(tokens)))

    def _project(self, mixed: Tensor) -> Tensor:  # (…, e) -> (…, d)
        output: Tensor = self.projection(mixed)
        return output

    def _gated(
        self,
        queries: Tensor,  # (…, d)
        states: Tensor,  # (…, e)
    ) -> Tensor:  # (…, e)
        """`gelu(W_y x) ⊙ h`."""
        return F.gelu(self.linear_y(queries), approximate="tanh") * states.to(queries.dtype)

    def _states(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n, e)
        """`h_0 … h_{n−1}`."""
        u = self._convolved(self.linear_x(tokens))
        decay, drive = self._steps(u, torch.arange(u.shape[-2], device=u.device) == 0)
        return diagonal_scan(decay, drive)

    def _convolved(
        self,
        x: Tensor,  # (…, n, e)
    ) -> Tensor:  # (…, n, e)
        assert self.conv.bias is not None
        return short_convolution(x, self.conv.weight.squeeze(1), self.conv.bias)

    def _steps(
        self,
        u: Tensor,  # (…, n, e)
        first: Tensor,  # (n,), bool: which rows reset the state
    ) -> tuple[Tensor, Tensor]:  # (…, n, e), (…, n, e)
        """`a` and `√(1 − a²) (i ⊙ u)`; at a first token 0 and `i ⊙ u`."""
        rate = torch.sigmoid(widen(self.recurrence_gate(u))) * F.softplus(widen(self.recurrence))
        log_decay = -_SHARPNESS * rate
        decay = torch.exp(log_decay)
        scale = _bounded_sqrt(-torch.tanh(log_decay) * (1 + decay * decay))  # 1 − a², without its cancellation
        driven = torch.sigmoid(widen(self.input_gate(u))) * widen(u)
        first = first.unsqueeze(-1)
        return torch.where(first, 0, decay), torch.where(first, driven, scale * driven)

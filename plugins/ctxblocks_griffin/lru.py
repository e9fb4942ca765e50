"""RG-LRU, the real-gated linear recurrent unit of Griffin: the decay and the input of each step."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctxblocks.numerics import accumulator, widen

RESET = -1e4  # added to log a, makes a = 0 and √(1 − a²) = 1
_SHARPNESS = 8.0  # c in log a = −c · gate · softplus(Λ)


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
        """Each part of `x` times its block, plus the bias."""
        heads, block, _ = self.weight.shape
        if heads == 1:
            return F.linear(x, self.weight[0].T, self.bias[0])
        parts = x.reshape(-1, heads, block).transpose(0, 1)  # (heads, rows, block)
        mapped = torch.baddbmm(self.bias.unsqueeze(1), parts, self.weight)
        return mapped.transpose(0, 1).reshape(x.shape)


class RealGatedLRU(nn.Module):
    """The gates and decays of `h_t = a_t h_{t−1} + √(1 − a_t²) (i_t ⊙ u_t)`, with `log a = −8 r softplus(Λ)`.

    Args:
        width: e, of the state.
        heads: blocks of the gates' weight matrices.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.input_gate = BlockDiagonal(width, heads)
        self.recurrence_gate = BlockDiagonal(width, heads)
        slowest, fastest = -math.log(0.999) / _SHARPNESS, -math.log(0.9) / _SHARPNESS
        rates = torch.empty(width).uniform_(slowest, fastest)  # a from 0.9 to 0.999 where r = 1
        self.recurrence = nn.Parameter(torch.log(torch.expm1(rates)))  # Λ

    def forward(
        self,
        u: Tensor,  # (…, n, e)
        reset: Tensor | float | None = None,  # added to log a: (n, 1), or one number for all rows
    ) -> tuple[Tensor, Tensor, Tensor]:  # each (…, n, e)
        """`log a`, `a` and `√(1 − a²) (i ⊙ u)`; where `reset` is `RESET`, `a = 0` and the third is `i ⊙ u`."""
        rate = -_SHARPNESS * F.softplus(widen(self.recurrence))
        log_decay = torch.sigmoid(widen(self.recurrence_gate(u))) * rate
        if reset is not None:
            log_decay = log_decay + reset
        decay = torch.exp(log_decay)
        # 1 − a² = −tanh(log a) (1 + a²), without cancellation; the root of 0 is 0 and carries no gradient
        square = -torch.tanh(log_decay) * torch.addcmul(decay.new_ones(()), decay, decay)
        still = square == 0
        factor = torch.sqrt(square.masked_fill(still, 1.0)).masked_fill(still, 0.0)
        return log_decay, decay, factor * torch.sigmoid(widen(self.input_gate(u))) * widen(u)

    def reset_first(
        self,
        u: Tensor,  # (…, n, e)
    ) -> Tensor:  # (n, 1)
        """`RESET` for the first row and 0 for all others."""
        first = torch.arange(u.shape[-2], device=u.device).unsqueeze(-1) == 0
        return RESET * first.to(accumulator(u.dtype))

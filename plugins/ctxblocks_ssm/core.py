"""The parts of the selective state space layer that act on single tokens: convolution, steps, gate and norm."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctxblocks import ProjectedLayer, project
from ctxblocks.numerics import widen
from ctxblocks_ssm.config import SSMConfig
from ctxblocks_ssm.convolution import complete, earlier
from ctxblocks_ssm.scan import FORGOTTEN, decay
from ctxblocks_ssm.signals import Signals, Steps, along_tokens, gated_norm, roomy


class Carry(NamedTuple):
    """The state between two blocks of tokens."""

    inputs: Tensor  # (…, conv − 1, convolved): the last inputs of the convolution
    state: Tensor  # (…, g, s, k·p)


class SSMCore(ProjectedLayer):
    """The parameters of the layer, and the maps that act on one token and the few before it.

    Args:
        config: the layer's shape.
    """

    def __init__(self, config: SSMConfig) -> None:
        super().__init__(config.width)
        self.config = config
        self.in_proj = nn.Linear(config.width, config.inner + config.convolved + config.heads, bias=config.bias)
        channels = config.convolved
        self.conv1d = nn.Conv1d(channels, channels, config.conv, groups=channels, bias=config.conv_bias)
        low, high = (math.log(bound) for bound in config.step_range)
        size = torch.exp(low + (high - low) * torch.rand(config.heads))
        self.dt_bias = nn.Parameter(size + torch.log(-torch.expm1(-size)))  # softplus⁻¹(size)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, config.heads + 1.0)))
        self.D = nn.Parameter(torch.ones(config.heads))
        self.norm_weight = nn.Parameter(torch.ones(config.inner))
        self.projection = nn.Linear(config.inner, config.width, bias=config.bias)

    def state_size(self, tokens: int) -> int:
        """`state` numbers for each inner channel, and the last `conv − 1` inputs of the convolution."""
        self.check_state_size(tokens)
        c = self.config
        return c.state * c.inner + (c.conv - 1) * c.convolved

    def _start(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Carry:
        """The state before the first token."""
        c, lead = self.config, tokens.shape[:-2]
        state = widen(tokens.new_zeros(*lead, c.groups, c.state, c.inner // c.groups))
        return Carry(tokens.new_zeros(*lead, c.conv - 1, c.convolved), state)

    def _project(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> tuple[Tensor, Steps]:  # (…, n, convolved), and the steps
        """The inputs of the convolution, and the steps."""
        inner, convolved, heads = self.config.inner, self.config.convolved, self.config.heads
        inputs, raw = project(self.in_proj, tokens, slice(inner, None)).split([convolved, heads], dim=-1)
        size = roomy(F.softplus(raw + widen(self.dt_bias)).clamp(*self.config.step_limit))
        size = size.transpose(-1, -2).unflatten(-2, (self.config.groups, -1))
        rate = widen(self.A_log).double().exp().view(self.config.groups, -1, 1)
        return inputs, Steps(size, (-rate * size).clamp(min=FORGOTTEN))

    def _gate(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n, inner)
        """`silu(z)`."""
        return roomy(F.silu(project(self.in_proj, tokens, slice(0, self.config.inner))))

    def _window(
        self,
        inputs: Tensor,  # (…, n, convolved)
        carry: Carry,
    ) -> tuple[Tensor, Carry]:  # (…, n + 1, w)
        """What the convolution takes from the earlier tokens at each position and the next one, and what to carry on."""
        back, rows = self.config.conv - 1, inputs.shape[-2] + 1
        wide = widen(torch.cat([carry.inputs, inputs], dim=-2))
        zeros = wide.new_zeros(*wide.shape[:-2], rows, wide.shape[-1])
        window = earlier(self.conv1d, [wide[..., m : m + rows, :] for m in range(back)], zeros)
        # a copy, so that the tensors of the block can be freed
        last = wide[..., rows - 1 :, :].to(inputs.dtype, copy=True)
        return window, Carry(last, carry.state)

    def _signals(
        self,
        window: Tensor,  # (…, n, w)
        inputs: Tensor,  # (…, n, convolved), or one row for all
    ) -> Signals:
        """The activated outputs of the convolution."""
        inner, groups, state = self.config.inner, self.config.groups, self.config.state
        total = roomy(complete(self.conv1d, window, widen(inputs), self.norm_weight.dtype))
        x, B, C = F.silu(total).split([inner, groups * state, groups * state], dim=-1)
        x = x.unflatten(-1, (groups, self.config.heads // groups, -1)).transpose(-4, -3)
        return Signals(x, *(part.unflatten(-1, (groups, state)).transpose(-3, -2) for part in (B, C)))

    def _weights(
        self,
        steps: Steps,  # of c_1 … c_n and the query
    ) -> Tensor:  # (…, g, k, n + 1)
        """`Δ_j e^{a_{j+1} + … + a_q}`: the weight of each token in the query's output."""
        since = steps.log_decay[..., 1:].flip(-1).cumsum(-1).flip(-1)
        return steps.size * decay(F.pad(since, (0, 1)), steps.size.dtype)

    def _skips(self) -> Tensor:  # (g, 1, k)
        """`D`."""
        return widen(self.D).view(self.config.groups, 1, -1)

    def _own(self, signals: Signals, steps: Steps) -> Tensor:  # (…, g, n, k, p)
        """`(Δ_q C_qᵀB_q + D) x_q`: the contribution of each query to its own output."""
        score = (signals.B * signals.C).sum(-1)[..., None, None]
        return (along_tokens(steps.size) * score + self._skips().unsqueeze(-1)) * signals.x

    def _norm(
        self,
        read: Tensor,  # (…, g, n, k, p)
        gate: Tensor,  # (…, n, inner), or one row for all
    ) -> Tensor:  # (…, n, inner), in the layer's dtype
        """The input of the output projection: gated, normalised and scaled."""
        normed = gated_norm(read.transpose(-4, -3).flatten(-2), gate, self.config.eps)
        return normed.to(self.norm_weight.dtype) * self.norm_weight

    def _finished(
        self,
        read: Tensor,  # (…, g, n, k, p)
        gate: Tensor,  # (…, n, inner), or one row for all
    ) -> Tensor:  # (…, n, d)
        """The output: normalised and projected."""
        outputs: Tensor = self.projection(self._norm(read, gate))
        return outputs

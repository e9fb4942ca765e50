"""The selective state space layer, with the computations and parameters of Mamba-2.

The input projection of a token gives a gate, a step size `Δ`, and the signals `x, B, C`, which pass a short causal
convolution. Each head keeps a state, `S_i = e^{a_i} S_{i−1} + Δ_i B_i x_iᵀ` with `a_i = −Δ_i e^{A_log}`, and the query
reads it after its own step: `y = C_qᵀ S_q + D x_q`. That is gated, normalised and projected. Source: Dao and Gu,
*Transformers are SSMs* (arXiv 2405.21060).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctxblocks import ProjectedLayer
from ctxblocks_ssm._config import SSMConfig
from ctxblocks_ssm._scan import decay, floor, read_states
from ctxblocks_ssm._signals import Signals, Steps, along_tokens, gated_norm, widen


class SSM(ProjectedLayer):
    """`mix(x, C)` is the gated and normalised read-out of the query, which stands at position `n`.

    Args:
        config: sizes.
    """

    chunk: int = 128
    """Tokens that the scan takes at once; every value gives the same function."""

    def __init__(self, config: SSMConfig) -> None:
        super().__init__(config.width)
        self.config = config
        self.in_proj = nn.Linear(config.width, config.inner + config.convolved + config.heads, bias=config.bias)
        channels = config.convolved
        self.conv1d = nn.Conv1d(channels, channels, config.conv, groups=channels, bias=config.conv_bias)
        low, high = (math.log(bound) for bound in config.step_range)
        size = torch.exp(low + (high - low) * torch.rand(config.heads))
        self.dt_bias = nn.Parameter(size + torch.log(-torch.expm1(-size)))  # softplus⁻¹ of the size
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, config.heads + 1.0)))
        self.D = nn.Parameter(torch.ones(config.heads))
        self.norm_weight = nn.Parameter(torch.ones(config.inner))
        self.projection = nn.Linear(config.inner, config.width, bias=config.bias)

    def mix(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, inner)
        """The query's read-out, as one sum over tokens: no state is built."""
        tokens = torch.cat([context, query.unsqueeze(-2)], dim=-2)
        inputs, steps = self._project(tokens)
        x, B, C = self._signals(self._window(inputs[..., :-1, :]), inputs)
        weights = self._weights(steps)  # (…, g, k, n + 1)
        scores = B @ C[..., -1:, :].transpose(-1, -2)  # (…, g, n + 1, 1)
        read = ((weights * scores.transpose(-1, -2)).unsqueeze(-2) @ x.transpose(-3, -2)).transpose(-3, -2)
        skip = self._skips().unsqueeze(-1) * x[..., -1:, :, :]  # (…, g, 1, k, p)
        return self._norm(read + skip, self._gate(query.unsqueeze(-2))).squeeze(-2)

    def causal(
        self,
        queries: Tensor,  # (…, n + 1, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """One scan over the context, read by every query; see `ContextualLayer.causal`."""
        self.check_causal(queries, context)
        return self._after_context(queries, context)

    def prefixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """As `causal`, with one projection of the query; see `ContextualLayer.prefixes`."""
        self.check_call(query, context)
        return self._after_context(query.unsqueeze(-2), context)

    def suffixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """Sums over tails, each with its first tokens convolved anew; see `ContextualLayer.suffixes`."""
        self.check_call(query, context)
        n, full = context.shape[-2], self.config.conv - 1
        rows = [self._long_suffixes(query, context)] if n >= full else []
        # with fewer than `full` tokens the query's own window is cut too
        rows += [self.mix(query, context[..., i:, :]).unsqueeze(-2) for i in range(max(0, n - full + 1), n + 1)]
        found: Tensor = self.projection(torch.cat(rows, dim=-2))
        return found

    def sequence(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n, d)
        """One scan, every token in it as writer and reader; see `ContextualLayer.sequence`."""
        self.check_sequence(tokens)
        if tokens.shape[-2] == 0:
            return tokens.clone()
        inputs, steps = self._project(tokens)
        asked = self._signals(self._window(inputs[..., :-1, :]), inputs)
        told = asked.x[..., :-1, :, :], asked.B[..., :-1, :]
        before = Steps(steps.size[..., :-1], steps.log_decay[..., :-1])
        return self._read(told, before, asked, steps, self._gate(tokens))

    def _after_context(
        self,
        queries: Tensor,  # (…, n + 1 or 1, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        inputs, steps = self._project(context)
        own_inputs, own_steps = self._project(queries)
        window = self._window(inputs)
        told = self._signals(window[..., :-1, :], inputs)
        asked = self._signals(window, own_inputs)
        return self._read((told.x, told.B), steps, asked, own_steps, self._gate(queries))

    def _read(
        self,
        told: tuple[Tensor, Tensor],  # x, B of the n tokens in the states
        steps: Steps,  # theirs
        asked: Signals,  # of the n + 1 queries
        own: Steps,  # theirs, or one for all
        gate: Tensor,  # theirs, or one for all
    ) -> Tensor:  # (…, n + 1, d)
        """Query `i` read from the states after `i` tokens and its own step."""
        x, B = told
        read = read_states(x * along_tokens(steps.size), B, asked.C[..., 1:, :], steps.log_decay, self.chunk)
        read = torch.cat([torch.zeros_like(asked.x[..., :1, :, :]), read], dim=-3)
        kept = along_tokens(decay(own.log_decay, read.dtype))
        found: Tensor = self.projection(self._norm(read * kept + self._own(asked, own), gate))
        return found

    def _long_suffixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n ≥ conv − 1, d)
    ) -> Tensor:  # (…, n − conv + 2, inner)
        """What the projection reads for the suffixes of at least `conv − 1` tokens.

        Their query's window is full. Their first `conv − 1` tokens see what stands before them only from the cut on;
        from the token after these on, every suffix has the same terms, and takes their sum over the tail.
        """
        full = self.config.conv - 1
        rows = context.shape[-2] - full + 1
        inputs, steps = self._project(torch.cat([context, query.unsqueeze(-2)], dim=-2))
        window = self._window(inputs[..., :-1, :])
        asked = self._signals(window[..., -1:, :], inputs[..., -1:, :])
        weights = along_tokens(self._weights(steps))  # (…, g, n + 1, k, 1)

        def terms(seen: Tensor, part: slice) -> Tensor:  # (…, g, rows, k, p)
            x, B, _ = self._signals(seen, inputs[..., part, :])
            return weights[..., part, :, :] * (B * asked.C).sum(-1)[..., None, None] * x

        tail = slice(full, context.shape[-2])
        tails = terms(window[..., tail, :], tail).flip(-3).cumsum(-3).flip(-3)
        total = F.pad(tails, (0, 0, 0, 0, 0, 1)) + self._own(asked, Steps(*(s[..., -1:] for s in steps)))
        for m in range(full):  # the token m places after the cut sees m before it
            seen = torch.zeros_like(window[..., :rows, :])
            for back in range(1, m + 1):
                seen = torch.addcmul(seen, widen(inputs[..., m - back : m - back + rows, :]), self._tap(back))
            total = total + terms(seen, slice(m, m + rows))
        return self._norm(total, self._gate(query.unsqueeze(-2)))

    def _project(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> tuple[Tensor, Steps]:  # (…, n, convolved), and the steps
        """What enters the convolution, and the steps."""
        inner, convolved, heads = self.config.inner, self.config.convolved, self.config.heads
        bias = None if self.in_proj.bias is None else self.in_proj.bias[inner:]
        inputs, raw = F.linear(tokens, self.in_proj.weight[inner:], bias).split([convolved, heads], dim=-1)
        size = F.softplus(widen(raw) + widen(self.dt_bias)).clamp(*self.config.step_limit)
        size = size.transpose(-1, -2).unflatten(-2, (self.config.groups, -1))
        rate = widen(self.A_log).double().exp().view(self.config.groups, -1, 1)
        return inputs, Steps(size, (-rate * size).clamp(min=floor(size.dtype)))

    def _gate(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n, inner)
        """`silu(z)`."""
        inner = self.config.inner
        bias = None if self.in_proj.bias is None else self.in_proj.bias[:inner]
        return F.silu(widen(F.linear(tokens, self.in_proj.weight[:inner], bias)))

    def _tap(self, back: int) -> Tensor:  # (convolved,)
        """The convolution's weights for the token that stands `back` places before."""
        return widen(self.conv1d.weight[:, 0, -1 - back])

    def _window(
        self,
        inputs: Tensor,  # (…, n, convolved)
    ) -> Tensor:  # (…, n + 1, convolved)
        """What the convolution takes from the tokens before `c_1 … c_n` and before the query."""
        back = self.config.conv - 1
        wide = widen(inputs)
        padded = F.pad(wide, (0, 0, back, 0))
        rows = wide.shape[-2] + 1
        window = wide.new_zeros(*wide.shape[:-2], rows, wide.shape[-1])
        for m in range(back):
            window = torch.addcmul(window, padded[..., m : m + rows, :], self._tap(back - m))
        return window

    def _signals(
        self,
        window: Tensor,  # (…, n, convolved)
        inputs: Tensor,  # (…, n, convolved), or one for all
    ) -> Signals:
        """The convolution's output, activated."""
        inner, groups, state = self.config.inner, self.config.groups, self.config.state
        total = torch.addcmul(window, widen(inputs), self._tap(0))
        if self.conv1d.bias is not None:
            total = total + widen(self.conv1d.bias)
        x, B, C = F.silu(total).split([inner, groups * state, groups * state], dim=-1)
        x = x.unflatten(-1, (groups, self.config.heads // groups, -1)).transpose(-4, -3)
        return Signals(x, *(part.unflatten(-1, (groups, state)).transpose(-3, -2) for part in (B, C)))

    def _weights(
        self,
        steps: Steps,  # of c_1 … c_n and the query
    ) -> Tensor:  # (…, g, k, n + 1)
        """`Δ_j e^{a_{j+1} + … + a_q}`: how much of each token is left when the query reads."""
        since = steps.log_decay[..., 1:].flip(-1).cumsum(-1).flip(-1)
        return steps.size * decay(F.pad(since, (0, 1)), steps.size.dtype)

    def _skips(self) -> Tensor:  # (g, 1, k)
        """`D`."""
        return widen(self.D).view(self.config.groups, 1, -1)

    def _own(self, asked: Signals, own: Steps) -> Tensor:  # (…, g, n, k, p)
        """`(Δ_q C_qᵀB_q + D) x_q`: what queries read of themselves."""
        score = (asked.B * asked.C).sum(-1)[..., None, None]
        return (along_tokens(own.size) * score + self._skips().unsqueeze(-1)) * asked.x

    def _norm(
        self,
        read: Tensor,  # (…, g, n, k, p)
        gate: Tensor,  # (…, n, inner), or one for all
    ) -> Tensor:  # (…, n, inner), in the layer's dtype
        """What the projection reads."""
        normed = gated_norm(read.transpose(-4, -3).flatten(-2), gate, self.config.eps)
        return normed.to(self.norm_weight.dtype) * self.norm_weight

"""Griffin's recurrent branch."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctxblocks import ProjectedLayer, foldable
from ctxblocks.numerics import linear_recurrence, widen
from ctxblocks_griffin.config import GriffinConfig
from ctxblocks_griffin.lru import RESET, RealGatedLRU
from ctxblocks_griffin.scan import earlier_taps, tail_sums


class Carry(NamedTuple):
    """The state between two blocks of tokens."""

    inputs: Tensor  # (…, k − 1, e): the last inputs of the convolution
    state: Tensor  # (…, e)
    fresh: bool  # whether no token has been processed yet


class Griffin(ProjectedLayer):
    """`A(C, x) = W_o [gelu(W_y x) ⊙ h]`, where `h` is the state of an RG-LRU after the tokens `c_1 … c_n, x`.

    With `u` the short causal convolution of the inputs `W_x t`, gates `r = σ(B_r u)` and `i = σ(B_i u)`, and
    `log a = −8 r softplus(Λ)`: `h_t = a_t h_{t−1} + √(1 − a_t²) (i_t ⊙ u_t)`. The first token resets: `h_0 = i_0 ⊙ u_0`.

    Sources: De et al. 2024, Griffin (arXiv 2402.19427); RecurrentGemma.

    Args:
        config: see `GriffinConfig`.
    """

    block: int = 1024
    """Tokens processed at a time, so that intermediate results stay in the cache."""

    def __init__(self, config: GriffinConfig) -> None:
        super().__init__(config.width)
        self.config = config
        inner = config.state_width
        self.linear_x = nn.Linear(config.width, inner)
        self.linear_y = nn.Linear(config.width, inner)
        bound = 1 / math.sqrt(config.conv)
        self.conv_weight = nn.Parameter(torch.empty(inner, config.conv).uniform_(-bound, bound))
        self.conv_bias = nn.Parameter(torch.empty(inner).uniform_(-bound, bound))
        self.lru = RealGatedLRU(inner, config.blocks)
        self.projection = nn.Linear(inner, config.width)

    def mix(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, e)
        """The gated state at the query, which is the last of `n + 1` tokens."""
        tokens = torch.cat([context, query.unsqueeze(-2)], dim=-2)
        carry = self._start(tokens)
        for block in tokens.split(self.block, dim=-2):
            _, _, carry = self._advance(self.linear_x(block), carry)
        return self._gated(self._gate(query), carry.state)

    def sequence(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n, d)
        """The ordinary forward pass: one recurrence over the tokens, block by block."""
        self.check_sequence(tokens)
        if tokens.shape[-2] == 0:
            return tokens.clone()
        carry, outputs = self._start(tokens), []
        for block in tokens.split(self.block, dim=-2):
            _, states, carry = self._advance(self.linear_x(block), carry)
            outputs.append(self.projection(self._gated(self._gate(block), states)))
        return torch.cat(outputs, dim=-2)

    def causal(
        self,
        queries: Tensor,  # (…, n + 1, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(C_i, q_i)`: one recurrence over the context, then one step from every state, for all queries of a block at once."""
        self.check_causal(queries, context)
        first, later = queries[..., :1, :], queries[..., 1:, :]
        carry, outputs = self._start(context), [self._first(self._gate(first), self.linear_x(first))]
        for start in range(0, context.shape[-2], self.block):
            rows, block = (x[..., start : start + self.block, :] for x in (later, context))
            states, carry = self._after_each(block, carry, self.linear_x(rows))
            outputs.append(self.projection(self._gated(self._gate(rows), states)))
        return torch.cat(outputs, dim=-2)

    def prefixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(C_i, x)`: as `causal`, with the query's projections computed once."""
        self.check_call(query, context)
        row = query.unsqueeze(-2)
        x, gate = self.linear_x(row), self._gate(row)
        carry, outputs = self._start(context), [self._first(gate, x)]
        for start in range(0, context.shape[-2], self.block):
            states, carry = self._after_each(context[..., start : start + self.block, :], carry, x)
            outputs.append(self._read_out(gate, states))
        return torch.cat(outputs, dim=-2)

    def suffixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(c_{i+1} … c_n, x)`: steps whose convolution is cut short are recomputed, all later ones come from tail sums."""
        self.check_call(query, context)
        row = query.unsqueeze(-2)
        x = self.linear_x(torch.cat([context, row], dim=-2))
        gate = self._gate(row)
        n, redone = context.shape[-2], max(self.config.conv - 1, 1)  # at least the first token, which resets the state
        fade, added = self._tails(x, redone)
        padded, outputs = F.pad(x, (0, 0, 0, redone)), []
        for start in range(0, n + 1, self.block):
            stop = min(start + self.block, n + 1)
            states = self._first_states(padded[..., start : stop + redone, :], n + 1 - start, redone)
            states = torch.addcmul(added[..., start:stop, :], fade[..., start:stop, :], states)
            outputs.append(self._read_out(gate, states))
        return torch.cat(outputs, dim=-2)

    def state_size(self, tokens: int) -> int:
        """The recurrent state and the last `conv − 1` inputs of the convolution, each of size `e`."""
        self.check_state_size(tokens)
        return self.config.conv * self.config.state_width

    def _gate(
        self,
        queries: Tensor,  # (…, d)
    ) -> Tensor:  # (…, e)
        """`gelu(W_y x)`."""
        return F.gelu(self.linear_y(queries), approximate="tanh")

    def _gated(
        self,
        gate: Tensor,  # (…, e)
        states: Tensor,  # (…, e)
    ) -> Tensor:  # (…, e)
        """The input of the output projection."""
        return gate * states.to(gate.dtype)

    def _read_out(
        self,
        gate: Tensor,  # (…, 1, e)
        states: Tensor,  # (…, n, e)
    ) -> Tensor:  # (…, n, d)
        """The outputs for many states and one query; without batch dimensions the gate scales plain weights instead."""
        if gate[..., 0, :].dim() > 1 or not foldable(self.projection):
            return self.projection(self._gated(gate, states))  # type: ignore[no-any-return]
        return F.linear(states.to(gate.dtype), self.projection.weight * gate, self.projection.bias)

    def _tails(
        self,
        x: Tensor,  # (…, n + 1, e)
        skipped: int,
    ) -> tuple[Tensor, Tensor]:  # (…, n + 1, e), (…, n + 1, e)
        """For each `i`, the two `tail_sums` of the tokens from `i + skipped` on."""
        taps = self.config.conv - 1
        padded, decays, drives = F.pad(x, (0, 0, taps, 0)), [], []
        for start in range(0, x.shape[-2], self.block):
            block = x[..., start : start + self.block, :]
            inputs = padded[..., start : start + taps + block.shape[-2], :]
            earlier = earlier_taps(inputs, self.conv_weight, self.conv_bias)
            log_decay, _, drive = self.lru(torch.addcmul(earlier[..., :-1, :], block, self.conv_weight[:, -1]))
            decays.append(log_decay)
            drives.append(drive)
        fade, added = tail_sums(torch.cat(decays, dim=-2), torch.cat(drives, dim=-2))
        fade = F.pad(fade, (0, 0, 0, skipped - 1), value=1.0)[..., skipped:, :]
        return fade, F.pad(added, (0, 0, 0, skipped - 1))[..., skipped:, :]

    def _start(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Carry:
        """The state before the first token."""
        inner = self.config.state_width
        inputs = tokens.new_zeros(*tokens.shape[:-2], self.config.conv - 1, inner)
        return Carry(inputs, widen(tokens.new_zeros(*tokens.shape[:-2], inner)), fresh=True)

    def _advance(
        self,
        x: Tensor,  # (…, n, e)
        carry: Carry,
    ) -> tuple[Tensor, Tensor, Carry]:  # (…, n + 1, e), (…, n, e)
        """The convolution of the earlier tokens at each position and the next one, the states, and what to carry on."""
        inputs = torch.cat([carry.inputs.to(x.dtype), x], dim=-2)
        earlier = earlier_taps(inputs, self.conv_weight, self.conv_bias)
        u = torch.addcmul(earlier[..., :-1, :], x, self.conv_weight[:, -1])
        _, decay, drive = self.lru(u, self.lru.reset_first(u) if carry.fresh else None)
        states = linear_recurrence(decay, drive, carry.state)
        # copies, so that the tensors of the block can be freed
        carry = Carry(inputs[..., x.shape[-2] :, :].clone(), states[..., -1, :].clone(), fresh=False)
        return earlier, states, carry

    def _first(
        self,
        gate: Tensor,  # (…, 1, e)
        x: Tensor,  # (…, 1, e)
    ) -> Tensor:  # (…, 1, d)
        """The output for a query without context."""
        _, _, drive = self.lru(torch.addcmul(self.conv_bias, x, self.conv_weight[:, -1]), RESET)
        output: Tensor = self.projection(self._gated(gate, drive))
        return output

    def _after_each(
        self,
        tokens: Tensor,  # (…, n, d)
        carry: Carry,
        x: Tensor,  # (…, n or 1, e)
    ) -> tuple[Tensor, Carry]:  # (…, n, e)
        """The state of one query after each token, and what to carry on to the next block."""
        earlier, states, carry = self._advance(self.linear_x(tokens), carry)
        _, decay, drive = self.lru(earlier[..., 1:, :] + x * self.conv_weight[:, -1])
        return torch.addcmul(drive, decay, states), carry

    def _first_states(
        self,
        x: Tensor,  # (…, r + count, e)
        tokens: int,
        count: int,
    ) -> Tensor:  # (…, r, e)
        """The states after the first `count` tokens (or all, if fewer) of suffixes of lengths `tokens, tokens − 1, …`."""
        rows = x.shape[-2] - count
        left = torch.arange(tokens, tokens - rows, -1, device=x.device).unsqueeze(-1)
        state = torch.zeros_like(widen(x[..., :rows, :]))
        for age in range(count):
            u: Tensor = self.conv_bias
            for j in range(age + 1):
                u = torch.addcmul(u, x[..., age - j : age - j + rows, :], self.conv_weight[:, -1 - j])
            _, decay, drive = self.lru(u, RESET if age == 0 else None)
            state = torch.where(left > age, torch.addcmul(drive, decay, state), state)
        return state

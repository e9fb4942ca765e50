"""The selective state space layer, with the computations and parameters of Mamba-2.

The input projection of a token gives a gate, a step size `Δ`, and the signals `x, B, C`, which pass a short causal
convolution. Each head has a state, `S_i = e^{a_i} S_{i−1} + Δ_i B_i x_iᵀ` with `a_i = −Δ_i e^{A_log}`. The query is the last
token: `y = C_qᵀ S_q + D x_q` is gated, normalised and projected. Source: Dao and Gu, *Transformers are SSMs*
(arXiv 2405.21060).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ctxblocks.numerics import alike
from ctxblocks_ssm.convolution import earlier
from ctxblocks_ssm.core import Carry, SSMCore
from ctxblocks_ssm.scan import decay, read_states
from ctxblocks_ssm.signals import Signals, Steps, along_tokens


class SSM(SSMCore):
    """`mix(x, C)` is the gated and normalised output of the query, which has position `n`.

    Args:
        config: the layer's shape.
    """

    chunk: int = 128
    """Tokens in one product of the scan; the outputs do not depend on it."""
    block: int = 512
    """Tokens processed at a time, so that intermediate results stay in the cache."""

    def mix(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, inner)
        """The query's output as one weighted sum over tokens, without computing states."""
        tokens = torch.cat([context, query.unsqueeze(-2)], dim=-2)
        inputs, steps = self._project(tokens)
        x, B, C = self._signals(self._window(inputs[..., :-1, :], self._start(tokens))[0], inputs)
        weights = self._weights(steps)  # (…, g, k, n + 1)
        scores = B @ C[..., -1:, :].transpose(-1, -2)  # (…, g, n + 1, 1)
        weighted, values = alike((weights * scores.transpose(-1, -2)).unsqueeze(-2), x.transpose(-3, -2))
        read = (weighted @ values).transpose(-3, -2)
        skip = self._skips().unsqueeze(-1) * x[..., -1:, :, :]  # (…, g, 1, k, p)
        return self._norm(read + skip, self._gate(query.unsqueeze(-2))).squeeze(-2)

    def causal(
        self,
        queries: Tensor,  # (…, n + 1, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """One scan over the context, then one step for each query; see `ContextualLayer.causal`."""
        self.check_causal(queries, context)
        return self._after_context(queries, context)

    def prefixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """As `causal`, with the query projected once; see `ContextualLayer.prefixes`."""
        self.check_call(query, context)
        return self._after_context(query.unsqueeze(-2), context)

    def suffixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """Sums from the end, with the convolution of the first tokens recomputed; see `ContextualLayer.suffixes`."""
        self.check_call(query, context)
        n, full = context.shape[-2], self.config.conv - 1
        rows = [self._long_suffixes(query, context)] if n >= full else []
        # with fewer than `full` tokens the convolution at the query is shortened too
        rows += [self.mix(query, context[..., i:, :]).unsqueeze(-2) for i in range(max(0, n - full + 1), n + 1)]
        outputs: Tensor = self.projection(torch.cat(rows, dim=-2))
        return outputs

    def sequence(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n, d)
        """One scan over the tokens, block by block; see `ContextualLayer.sequence`."""
        self.check_sequence(tokens)
        carry, rows = self._start(tokens), [tokens[..., :0, :]]
        for start in range(0, tokens.shape[-2], self.block):
            block = tokens[..., start : start + self.block, :]
            inputs, steps = self._project(block)
            window, carry = self._window(inputs, carry)
            signals = self._signals(window[..., :-1, :], inputs)
            read, carry = self._scan(signals, signals.C, steps, carry)
            rows.append(self._finished(read + self._skips().unsqueeze(-1) * signals.x, self._gate(block)))
        return torch.cat(rows, dim=-2)

    def _after_context(
        self,
        queries: Tensor,  # (…, n + 1 or 1, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """The outputs for queries after the first `0 … n` tokens, block by block."""
        carry, rows = self._start(context), []
        for start in range(0, max(context.shape[-2], 1), self.block):
            block = context[..., start : start + self.block, :]
            skipped = 0 if start == 0 else 1  # row `start` belongs to the previous block
            own = queries
            if queries.shape[-2] > 1:
                own = queries[..., start + skipped : start + block.shape[-2] + 1, :]
            inputs, steps = self._project(block)
            own_inputs, own_steps = self._project(own)
            window, carry = self._window(inputs, carry)
            signals = self._signals(window[..., :-1, :], inputs)
            own_signals = self._signals(window[..., skipped:, :], own_inputs)
            readers = own_signals.C if skipped else own_signals.C[..., 1:, :]
            read, carry = self._scan(signals, readers, steps, carry)
            if not skipped:
                read = torch.cat([torch.zeros_like(own_signals.x[..., :1, :, :]), read], dim=-3)
            kept = along_tokens(decay(own_steps.log_decay, read.dtype))
            rows.append(self._finished(read * kept + self._own(own_signals, own_steps), self._gate(own)))
        return torch.cat(rows, dim=-2)

    def _scan(
        self,
        signals: Signals,
        readers: Tensor,  # (…, g, n, s): C of the queries that follow each token
        steps: Steps,
        carry: Carry,
    ) -> tuple[Tensor, Carry]:  # (…, g, n, k, p)
        """`C_iᵀ S_i` after each token, and what to carry on to the next block."""
        values = signals.x * along_tokens(steps.size)
        read, state = read_states(values, signals.B, readers, steps.log_decay, carry.state, self.chunk)
        return read, Carry(carry.inputs, state)

    def _long_suffixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n ≥ conv − 1, d)
    ) -> Tensor:  # (…, n − conv + 2, inner)
        """The inputs of the output projection for the suffixes of at least `conv − 1` tokens.

        For these, the convolution at the query is complete. The convolution of the first `conv − 1` tokens of a suffix is
        shortened by the cut; all later tokens contribute the same terms to every suffix, which are summed from the end.
        """
        full = self.config.conv - 1
        rows = context.shape[-2] - full + 1
        inputs, steps = self._project(torch.cat([context, query.unsqueeze(-2)], dim=-2))
        window, _ = self._window(inputs[..., :-1, :], self._start(context))
        own = self._signals(window[..., -1:, :], inputs[..., -1:, :])
        weights = along_tokens(self._weights(steps))  # (…, g, n + 1, k, 1)

        def terms(before: Tensor, part: slice) -> Tensor:  # (…, g, rows, k, p)
            x, B, _ = self._signals(before, inputs[..., part, :])
            return weights[..., part, :, :] * (B * own.C).sum(-1)[..., None, None] * x

        tail = slice(full, context.shape[-2])
        tails = terms(window[..., tail, :], tail).flip(-3).cumsum(-3).flip(-3)
        total = F.pad(tails, (0, 0, 0, 0, 0, 1)) + self._own(own, Steps(*(s[..., -1:] for s in steps)))
        for m in range(full):  # the token m positions after the cut has m tokens before it
            near = [inputs[..., at : at + rows, :] for at in range(m)]
            zeros = torch.zeros_like(inputs[..., :rows, :])
            total = total + terms(earlier(self.conv1d, [zeros] * (full - m) + near, zeros), slice(m, m + rows))
        return self._norm(total, self._gate(query.unsqueeze(-2)))

"""Sliding-window softmax attention."""

import torch
from torch import Tensor

from ctxblocks_attention.attention import SelfAttention
from ctxblocks_attention.config import LocalAttentionConfig
from ctxblocks_attention.fused import Reads, banded_with_self, causal_with_self
from ctxblocks_attention.windowed import windowed_average


class LocalAttention(SelfAttention):
    """Softmax attention of the query to itself and to the last `window` context tokens.

    Args:
        config: the layer's shape.
    """

    block = 32  # rows that share a block of keys; for wider windows, the length of the window

    def __init__(self, config: LocalAttentionConfig) -> None:
        super().__init__(config)
        self.window = config.window

    def mix(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, heads · head_width)
        """`SelfAttention.mix` of the last `window` tokens; earlier tokens are never read."""
        return super().mix(query, context[..., -self.window :, :])

    def sequence(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n, d)
        """Causal self-attention within the window, block by block."""
        self.check_sequence(tokens)
        if tokens.shape[-2] == 0:
            return tokens.clone()
        own = self._projected(tokens)
        keys, values = (x[..., :-1, :, :] for x in own[1:])
        return self._finished(tokens, self._read(self._reads(own, keys, values)))

    def suffixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(c_{i+1} … c_n, x)` for `i = 0 … n`: only the last `window` rows differ from the first."""
        self.check_call(query, context)
        rows = super().suffixes(query, context[..., -self.window :, :])  # all of them are in the window
        same = context.shape[-2] + 1 - rows.shape[-2]
        return torch.cat((rows[..., :1, :].expand(*rows.shape[:-2], same, -1), rows), dim=-2)

    def state_size(self, tokens: int) -> int:
        """Keys and values of the last `window` tokens, which are all that later queries can attend to."""
        self.check_state_size(tokens)
        return super().state_size(min(tokens, self.window))

    def _averages_prefixes(self) -> bool:
        """For short windows one banded pass is faster."""
        return super()._averages_prefixes() and self.window >= self.block

    def _average(
        self,
        scores: Tensor,  # (…, r, n + 1), of the query itself and of n tokens
        values: Tensor,  # (…, n + 1, f), shared by the r rows
    ) -> Tensor:  # (…, r, n + 1, f)
        """The averages over the query itself and the last `window` of the first `0 … n` tokens."""
        if self.window >= scores.shape[-1] - 1:
            return super()._average(scores, values)
        return windowed_average(scores, values, self.window)

    def _read(self, reads: Reads) -> Tensor:  # (…, heads, n + 1, head_width)
        """Attention of query `i` to the last `window` of the first `i` tokens and itself."""
        if self.window >= reads.keys.shape[-2]:
            return causal_with_self(reads)
        return banded_with_self(reads, self.window, max(self.block, self.window))

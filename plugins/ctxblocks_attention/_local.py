"""Sliding-window softmax attention."""

import torch
from torch import Tensor

from ctxblocks_attention._attention import SelfAttention
from ctxblocks_attention._config import LocalAttentionConfig
from ctxblocks_attention._fused import Reads, banded_with_self, causal_with_self


class LocalAttention(SelfAttention):
    """Softmax attention of the query to itself and to the last `window` context tokens.

    Args:
        config: the layer's shape.
    """

    block = 32  # least number of rows whose keys are read together; a wider window has blocks as long as itself

    def __init__(self, config: LocalAttentionConfig) -> None:
        super().__init__(config)
        self.window = config.window

    def mix(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, heads · head_width)
        """`SelfAttention.mix` of the last `window` tokens; what comes before them is never read."""
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

    def prefixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(C_i, x)` for `i = 0 … n`: one banded pass, the query projected once."""
        self.check_call(query, context)
        rows = query.unsqueeze(-2)  # (…, 1, d)
        return self._finished(rows, self._read(self._reads(self._projected(rows), *self._keys_values(context))))

    def suffixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(c_{i+1} … c_n, x)` for `i = 0 … n`: only the last `window` cuts differ from the first."""
        self.check_call(query, context)
        rows = super().suffixes(query, context[..., -self.window :, :])
        same = context.shape[-2] + 1 - rows.shape[-2]
        return torch.cat((rows[..., :1, :].expand(*rows.shape[:-2], same, -1), rows), dim=-2)

    def _read(self, reads: Reads) -> Tensor:  # (…, heads, n + 1, head_width)
        """What query `i` makes of the last `window` of the first `i` tokens and itself."""
        if self.window >= reads.keys.shape[-2]:
            return causal_with_self(reads)
        return banded_with_self(reads, self.window, max(self.block, self.window))

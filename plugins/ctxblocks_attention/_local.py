"""Sliding-window softmax attention."""

from ctxblocks_attention._attention import SelfAttention
from ctxblocks_attention._config import LocalAttentionConfig
from torch import Tensor


class LocalAttention(SelfAttention):
    """Softmax attention of the query to itself and to the last `window` context tokens.

    Args:
        config: the layer's shape.
    """

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

"""The paper's block in plain torch, without this package's methods for prefixes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainAttentionBlock(nn.Module):
    """`W' relu(W A(C, x) + b) + b'`, where `A` is multi-head softmax attention with keys and values of every token.

    Args:
        width: width `d` of tokens and output.
        heads: number of attention heads.
        head_width: width of a head.
        hidden: hidden width `m` of the network.
    """

    def __init__(self, width: int, heads: int, head_width: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, heads * head_width, bias=False)
        self.key = nn.Linear(width, heads * head_width, bias=False)
        self.value = nn.Linear(width, heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width, bias=False)
        self.network = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(
        self,
        query: Tensor,  # (b, d)
        context: Tensor,  # (b, n, d)
    ) -> Tensor:  # (b, d)
        """The output for the query, which attends to the context and to itself."""
        return self._attend(query.unsqueeze(1), self._prompt(query, context), causal=False).squeeze(1)

    def every_token(
        self,
        query: Tensor,  # (b, d)
        context: Tensor,  # (b, n, d)
    ) -> Tensor:  # (b, n + 1, d)
        """The output for every token of the prompt, which attends to earlier tokens and to itself."""
        prompt = self._prompt(query, context)
        return self._attend(prompt, prompt, causal=True)

    def _prompt(self, query: Tensor, context: Tensor) -> Tensor:  # (b, n + 1, d)
        return torch.cat([context, query.unsqueeze(1)], dim=1)

    def _attend(
        self,
        queries: Tensor,  # (b, r, d)
        prompt: Tensor,  # (b, n + 1, d)
        causal: bool,
    ) -> Tensor:  # (b, r, d)
        parts = (self._split(self.query(queries)), self._split(self.key(prompt)), self._split(self.value(prompt)))
        mixed = F.scaled_dot_product_attention(*parts, is_causal=causal)  # (b, heads, r, head_width)
        output: Tensor = self.network(self.out(mixed.transpose(1, 2).flatten(2)))
        return output

    def _split(
        self,
        features: Tensor,  # (b, r, heads * head_width)
    ) -> Tensor:  # (b, heads, r, head_width)
        split: Tensor = features.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return split

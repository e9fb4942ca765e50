"""The inputs of a block and of its site, as a forward pass records them."""

import dataclasses
from typing import Any

from torch import Tensor


@dataclasses.dataclass
class BlockReads:
    """The inputs of one block and of its site, one row for each token.

    Attributes:
        entered: `h (tokens, d)`, the input of the layer; of several residual streams all, concatenated.
        z: `(tokens, d)`, the input of the site's dense layers; None where they do not depend on other tokens.
        bypass: `r (tokens, d)`, the residual stream; of a parallel block the mixer's output; None without a network site.
        simple: whether the network's output is one tensor as wide as the layer's input.
    """

    entered: Tensor | None = None
    z: Tensor | None = None
    bypass: Tensor | None = None
    simple: bool = False

    def at(self, tokens: slice | Tensor) -> "BlockReads":
        """The rows of some tokens."""
        parts = (self.entered, self.z, self.bypass)
        entered, z, bypass = (
            None if x is None else x[tokens if isinstance(tokens, slice) else tokens.to(x.device)] for x in parts
        )
        return BlockReads(entered, z, bypass, self.simple)


def outputs_of(result: Any) -> Tensor:  # (tokens, …)
    """Logits, or the last hidden states of a model without a head, one row for each token."""
    logits = getattr(result, "logits", None)
    output: Tensor = result[0] if logits is None else logits
    return output.reshape(-1, output.shape[-1])

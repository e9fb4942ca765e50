"""The feature maps φ of queries and keys, by name."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def _elu(x: Tensor) -> Tensor:
    """`elu(x) + 1` as `exp(min(x, 0)) + max(x, 0)`, which has no cancellation at negative `x`."""
    return torch.exp(x.clamp(max=0)) + torch.relu(x)


def _identity(x: Tensor) -> Tensor:
    return x


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": _elu,
    "relu": torch.relu,
    "softplus": F.softplus,
    "identity": _identity,
}

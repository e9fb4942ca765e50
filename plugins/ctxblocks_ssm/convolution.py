"""The causal convolution at one position, split into the part of the earlier tokens and that of the token itself.

Of a plain `torch.nn.Conv1d` the first part is a weighted sum. Any other module (under hooks, with adapters, parametrised)
is called, with one window of `k` tokens for each position; the first part then holds the `k − 1` earlier tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ctxblocks import has_hooks
from ctxblocks.numerics import widen


def summable(module: nn.Conv1d) -> bool:
    """Whether the module computes what `torch.nn.Conv1d` does of its own parameters, and nothing else."""
    return type(module) is nn.Conv1d and "weight" in module._parameters and not has_hooks(module)


def earlier(
    module: nn.Conv1d,
    tokens: Sequence[Tensor],  # k − 1 of (…, n, c): those k − 1, …, 1 positions before
    zeros: Tensor,  # (…, n, c), zeros of its dtype
) -> Tensor:  # (…, n, c), or (…, n, (k − 1)·c) where the module is called
    """The part of the earlier tokens."""
    if not summable(module):
        return torch.cat(list(tokens), dim=-1) if tokens else zeros[..., :0]
    total = zeros
    for tap, each in enumerate(tokens):
        total = torch.addcmul(total, each, _tap(module, tap))
    return total


def complete(
    module: nn.Conv1d,
    part: Tensor,  # (…, n, c) or (…, n, (k − 1)·c): `earlier`
    own: Tensor,  # (…, n or 1, c)
    dtype: torch.dtype,
) -> Tensor:  # (…, n, c), in the accumulator's dtype
    """The output at each position; a module that is called gets windows in `dtype`."""
    if summable(module):
        total = torch.addcmul(part, own, _tap(module, -1))
        return total if module.bias is None else total + widen(module.bias)
    batch = torch.broadcast_shapes(part.shape[:-1], own.shape[:-1])
    taps, channels = part.shape[-1] // own.shape[-1], own.shape[-1]
    window = torch.cat([part.expand(*batch, -1), own.expand(*batch, -1)], dim=-1)
    rows = window.reshape(-1, taps + 1, channels).transpose(-2, -1).to(dtype)  # (rows, c, k)
    return widen(module(rows)).reshape(*batch, channels)


def _tap(module: nn.Conv1d, at: int) -> Tensor:  # (c,)
    """One column of the weights."""
    return widen(module.weight[:, 0, at])

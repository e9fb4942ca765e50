"""Calls of submodules that a layer would rather compute from their parameters."""

from torch import Tensor, nn
from torch.nn import functional as F

from ctxblocks.blocks.weights import foldable
from ctxblocks.numerics import accumulator, widen


def project(
    module: nn.Module,  # (…, d) -> (…, m)
    x: Tensor,  # (…, d)
    rows: slice = slice(None),
) -> Tensor:  # (…, rows), in the accumulator's dtype
    """The rows of `module(x)`, of which only these are computed if the module is a plain `torch.nn.Linear`.

    In half types a plain one is computed in float32, so that no product overflows. Any other module (under hooks, with
    adapters, parametrised, quantised, compiled) is called.
    """
    if not foldable(module) or not isinstance(module, nn.Linear):
        return widen(module(x)[..., rows])
    weight, bias = module.weight[rows], None if module.bias is None else module.bias[rows]
    if x.dtype == weight.dtype != accumulator(x.dtype):
        x, weight, bias = widen(x), widen(weight), None if bias is None else widen(bias)
    return widen(F.linear(x, weight, bias))

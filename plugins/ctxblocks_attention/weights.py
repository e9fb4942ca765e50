"""Weights of a softmax relative to a largest score."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def vanishing_exp(x: Tensor) -> Tensor:
    """`eˣ` for `x ≤ 0`, exactly 0 where that is below twice the smallest normal number (`e^−86` in float32).

    A weight that is constant below some floor would count: a token of 1e25 whose score is far below the others would add
    `1e25 · e^−60 ≈ 0.1` to an average. Subnormal numbers, which are slow on CPUs, are not among the results.
    """
    smallest = torch.finfo(x.dtype).smallest_normal
    return F.threshold(x.clamp(math.log(smallest), 0.0).exp(), 2 * smallest, 0.0)

"""The elementwise recurrence `m_t = f_t m_{t−1} + g_t`, with about `√n` steps in place of `n`."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def scan(
    keeps: Tensor,  # (…, n, h): f, between 0 and 1
    gains: Tensor,  # (…, n, h): g
    start: Tensor,  # (…, h): m_0
) -> Tensor:  # (…, n, h)
    """`m_1 … m_n`: all chunks at once from zero, then their ends in a row, then what each began with."""
    n = gains.shape[-2]
    if n == 0:
        return gains
    size = max(1, math.isqrt(n))
    fill = -n % size
    padded = (torch.unflatten(F.pad(part, (0, 0, 0, fill)), -2, (-1, size)) for part in (keeps, gains))
    keeps, gains = padded  # (…, c, size, h)
    locals_, products = [gains[..., 0, :]], [keeps[..., 0, :]]
    for keep, gain in zip(keeps.unbind(-2)[1:], gains.unbind(-2)[1:], strict=True):
        locals_.append(torch.addcmul(gain, keep, locals_[-1]))
        products.append(keep * products[-1])
    starts = [start]
    for end, product in zip(locals_[-1].unbind(-2)[:-1], products[-1].unbind(-2)[:-1], strict=True):
        starts.append(torch.addcmul(end, product, starts[-1]))
    begun = torch.stack(starts, dim=-2).unsqueeze(-2)  # (…, c, 1, h)
    found = torch.addcmul(torch.stack(locals_, dim=-2), torch.stack(products, dim=-2), begun)
    return found.flatten(-3, -2)[..., :n, :]

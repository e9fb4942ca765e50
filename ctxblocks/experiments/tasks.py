"""In-context linear regression: prompts of `n` columns `(x_j, ⟨w, x_j⟩)` and a query column `(x_q, 0)` [Sec. 4.1]."""

import hashlib

import torch

from ctxblocks.registration.tasks import Prompts as Prompts


def derive_seed(seed: int, *labels: str | int) -> int:
    """A seed of its own for every purpose and step, so that none depends on what was drawn before."""
    digest = hashlib.blake2b(repr((seed, *labels)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def linear_prompts(tasks: int, examples: int, inputs: int, seed: int) -> Prompts:
    """Tasks `f(x) = ⟨w, x⟩` with `w`, `x_j`, `x_q` drawn from `N(0, I_d)` [Sec. 4.1], in float64 on the CPU.

    The same seed gives the same prompts, whatever device and dtype they go to.

    Args:
        tasks: how many.
        examples: `n`, columns in a prompt.
        inputs: `d`.
        seed: of a generator of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(tasks, inputs, 1, generator=generator, dtype=torch.float64)
    points = torch.randn(tasks, examples + 1, inputs, generator=generator, dtype=torch.float64)
    values = points @ weights  # (tasks, n + 1, 1)
    columns = torch.cat([points, values], dim=-1)  # (tasks, n + 1, d + 1)
    query = torch.cat([points[:, -1], torch.zeros(tasks, 1, dtype=torch.float64)], dim=-1)
    return Prompts(query, columns[:, :-1], values[:, -1, 0])

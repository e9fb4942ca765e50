"""In-context linear regression: prompts of `n` columns `(x_j, ⟨w, x_j⟩)` and a query column `(x_q, 0)` [Sec. 4.1]."""

import torch

from ctxblocks.registration.tasks import Prompts as Prompts


def linear_prompts(tasks: int, examples: int, inputs: int, seed: int) -> Prompts:
    """Tasks `f(x) = ⟨w, x⟩` with `w`, `x_j`, `x_q` drawn from `N(0, I_d)` [Sec. 4.1], in float64 on the CPU.

    The same seed gives the same prompts on every device and in every dtype.

    Args:
        tasks: number of tasks.
        examples: `n`, columns in a prompt.
        inputs: `d`, components of `x`.
        seed: of a separate generator.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(tasks, inputs, 1, generator=generator, dtype=torch.float64)
    points = torch.randn(tasks, examples + 1, inputs, generator=generator, dtype=torch.float64)
    values = points @ weights  # (tasks, n + 1, 1)
    columns = torch.cat([points, values], dim=-1)  # (tasks, n + 1, d + 1)
    query = torch.cat([points[:, -1], torch.zeros(tasks, 1, dtype=torch.float64)], dim=-1)
    return Prompts(query, columns[:, :-1], values[:, -1, 0])

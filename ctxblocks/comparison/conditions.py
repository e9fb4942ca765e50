"""Conditions under which models are measured: the prompts that they were trained on, and the same with labels gone wrong."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ctxblocks.registration.tasks import Prompts

CONDITIONS: Mapping[str, str] = {
    "clean": "prompts like those of training",
    "noise": "normal noise added to every token's last entry",
    "corruption": "a share of the tokens' last entries taken from another prompt",
}
"""What a model that never saw such prompts makes of them is its robustness."""


def prompts_under(condition: str, prompts: Prompts, noise: float, share: float, seed: int) -> Prompts:
    """The prompts under a condition; queries and targets stay.

    Args:
        condition: a key of `CONDITIONS`.
        prompts: clean.
        noise: standard deviation of what is added, over that of the last entries.
        share: of the tokens that are corrupted, drawn one by one.
        seed: of both.
    """
    generator = torch.Generator().manual_seed(seed)
    last = prompts.context[..., -1]  # (tasks, n)
    if condition == "noise":
        drawn = torch.randn(last.shape, generator=generator, dtype=last.dtype)
        return _with_last(prompts, last + noise * last.std() * drawn)
    if condition == "corruption":
        wrong = torch.rand(last.shape, generator=generator) < share
        return _with_last(prompts, torch.where(wrong, last.roll(max(1, len(last) // 2), dims=0), last))
    return prompts


def _with_last(prompts: Prompts, last: Tensor) -> Prompts:
    context = torch.cat([prompts.context[..., :-1], last.unsqueeze(-1)], dim=-1)
    return Prompts(prompts.query, context, prompts.target)

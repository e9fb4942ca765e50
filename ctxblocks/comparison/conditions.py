"""Conditions under which models are measured: prompts like those of training, and the same with disturbed labels."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ctxblocks.registration.tasks import Prompts

CONDITIONS: Mapping[str, str] = {
    "clean": "prompts like those of training",
    "noise": "normal noise added to every token's last entry",
    "corruption": "a share of the tokens' last entries taken from another prompt",
}
"""Models are trained on clean prompts only, so that the other conditions measure their robustness."""


def prompts_under(condition: str, prompts: Prompts, noise: float, share: float, seed: int) -> Prompts:
    """The prompts under a condition; queries and targets are unchanged.

    Args:
        condition: a key of `CONDITIONS`.
        prompts: clean.
        noise: standard deviation of the noise, relative to that of the last entries.
        share: probability with which each token is corrupted.
        seed: of the noise and of the choice of tokens.
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

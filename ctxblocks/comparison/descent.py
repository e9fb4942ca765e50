"""Gradient descent on a prompt's own examples, beside the updates that the prompt amounts to."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from ctxblocks.blocks.stack import Stack
from ctxblocks.numerics import dot, norm
from ctxblocks.registration.tasks import Prompts
from ctxblocks.theorems.dynamics import Dynamics

LEARNING_RATE = 0.01
Weights = dict[str, Tensor]


def gradient_alignment(
    model: Stack, prompts: Prompts, found: Sequence[Dynamics]
) -> list[Tensor]:  # (tasks, n + 1) each
    """Of every block, the cosine of `ΔW_i` and what `i` steps of SGD do to the same weights [Sec. 4.4, for a stack].

    Step `j` descends on `½ (ŷ − y_j)²` of the model with the query `(x_j, 0)` alone, in the readers of all blocks at once,
    which is where the prompt's updates stand too. 0 where one of the two vanishes, as both do at `i = 0`.

    Args:
        model: with one reader in each block's network.
        prompts: on the model's device.
        found: the dynamics of the prompts.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    readers = [names[id(each.weights()[0])] for each in found]
    before = {name: model.get_parameter(name).detach() for name in readers}
    tasks = len(prompts.target)
    now = {name: weight.expand(tasks, *weight.shape) for name, weight in before.items()}
    step = vmap(grad(_loss(model)))
    rows: list[list[Tensor]] = [[] for _ in found]
    for i in range(prompts.context.shape[-2] + 1):
        if i:
            slopes = step(now, prompts.context[:, i - 1])
            now = {name: now[name] - LEARNING_RATE * slopes[name] for name in readers}
        for row, name, each in zip(rows, readers, found, strict=True):
            row.append(_cosine(now[name] - before[name], before[name], each, i))
    return [torch.stack(row, dim=-1) for row in rows]


def _loss(model: Stack) -> Callable[[Weights, Tensor], Tensor]:
    """Of one task's weights and one token `(d + 1,)`."""

    def loss(weights: Weights, token: Tensor) -> Tensor:
        alone = torch.cat([token[:-1], torch.zeros_like(token[-1:])])
        error: Tensor = functional_call(model, weights, (alone,))[-1] - token[-1]
        return 0.5 * error.square()

    return loss


def _cosine(
    descended: Tensor,  # (tasks, m, d)
    weight: Tensor,  # (m, d)
    found: Dynamics,
    i: int,
) -> Tensor:  # (tasks,)
    operator = found.updates.operator
    moved, key = operator.direction[..., i, :] @ weight.mT, operator.key[..., i, :]  # Wδ_i, k_i
    inner = dot(moved, (descended @ key.unsqueeze(-1)).squeeze(-1))
    scale = norm(descended.flatten(-2)) * norm(moved) * norm(key)
    return inner / torch.where(scale == 0, 1, scale)

"""Gradient descent of a whole stack on the examples of a prompt, compared with the updates by that prompt."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from ctxblocks import Dynamics, Prompts, Stack
from ctxblocks.numerics import dot, norm
from ctxblocks_probes.trials import LEARNING_RATE

Weights = dict[str, Tensor]


def gradient_alignment(
    model: Stack, prompts: Prompts, dynamics: Sequence[Dynamics]
) -> list[Tensor]:  # (tasks, n + 1) each
    """For every block the cosine of `ΔW_i` and the change of the same weights by `i` steps of SGD [Sec. 4.4, for a stack].

    Step `j` descends on `½ (ŷ − y_j)²` of the model with the query `(x_j, 0)` alone, in the input projections of all blocks
    at once, which the updates by the prompt change too. The cosine is 0 where one of the two is zero, as both are at `i = 0`.

    Args:
        model: with one input projection in the network of each block.
        prompts: on the device of the model.
        dynamics: of the prompts, for each block.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    readers = [names[id(each.weights()[0])] for each in dynamics]
    before = {name: model.get_parameter(name).detach() for name in readers}
    tasks = len(prompts.target)
    now = {name: weight.expand(tasks, *weight.shape) for name, weight in before.items()}
    step = vmap(grad(_loss(model)))
    rows: list[list[Tensor]] = [[] for _ in dynamics]
    for i in range(prompts.context.shape[-2] + 1):
        if i:
            slopes = step(now, prompts.context[:, i - 1])
            now = {name: now[name] - LEARNING_RATE * slopes[name] for name in readers}
        for row, name, each in zip(rows, readers, dynamics, strict=True):
            row.append(_cosine(now[name] - before[name], before[name], each, i))
    return [torch.stack(row, dim=-1) for row in rows]


def _loss(model: Stack) -> Callable[[Weights, Tensor], Tensor]:
    """The loss as a function of the weights of one task and one token `(d + 1,)`."""

    def loss(weights: Weights, token: Tensor) -> Tensor:
        query = torch.cat([token[:-1], torch.zeros_like(token[-1:])])
        error: Tensor = functional_call(model, weights, (query,))[-1] - token[-1]
        return 0.5 * error.square()

    return loss


def _cosine(
    descended: Tensor,  # (tasks, m, d)
    weight: Tensor,  # (m, d)
    dynamics: Dynamics,
    i: int,
) -> Tensor:  # (tasks,)
    operator = dynamics.updates.operator
    image, key = operator.direction[..., i, :] @ weight.mT, operator.key[..., i, :]  # Wδ_i, k_i
    inner = dot(image, (descended @ key.unsqueeze(-1)).squeeze(-1))
    scale = norm(descended.flatten(-2)) * norm(image) * norm(key)
    return inner / torch.where(scale == 0, 1, scale)

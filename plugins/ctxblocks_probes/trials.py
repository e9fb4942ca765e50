"""What is measured of prompts with targets: errors in context, gradient descent on the same examples, the factorised product."""

import torch
from torch import Tensor

from ctxblocks import LowRank, Trial, factorize, finetune

LEARNING_RATE = 0.01
"""Of the gradient descent that updates are compared with."""


def in_context_error(trial: Trial) -> Tensor:  # (tasks, n + 1)
    """`(ŷ − f(x_q))²`, `ŷ` the last entry of the block's output behind the first `i` tokens."""
    target = trial.prompts.target.to(trial.dynamics.outputs)
    return (trial.dynamics.outputs[..., -1] - target.unsqueeze(-1)).square()


def gradient_alignment(trial: Trial) -> Tensor:  # (tasks, n + 1)
    """The cosine of `ΔW_i` and what `i` steps of SGD on the same examples do to the same weights [Sec. 4.4]."""
    query, context = trial.inputs
    with torch.enable_grad():
        found = finetune(trial.dynamics.block, query, context, LEARNING_RATE)
    return found.alignment(trial.updates).detach()


def effective_rank(trial: Trial) -> Tensor:  # (tasks,)
    """`exp(H)` of the spectrum: how many directions count in `W(P_1 … P_n − I)`.

    From the factors alone [Eq. 31]; the total update of Theorem 2.2 would have 1. 0 where nothing changes.
    """
    shares = spectrum(trial)
    entropy = -(shares * torch.where(shares > 0, shares, 1.0).log()).sum(-1)
    return torch.where(shares.sum(-1) == 0, 0.0, entropy.exp())


def leading_share(trial: Trial) -> Tensor:  # (tasks,)
    """The largest singular value's share of `‖W(P_1 … P_n − I)‖²`: 1 where the product has rank one, 0 where nothing changes."""
    return spectrum(trial)[..., :1].sum(-1)


def spectrum(trial: Trial) -> Tensor:  # (tasks, n), falling
    """The squared singular values of the factorised product's update, over the stack of all readers, as shares of their sum."""
    query, context = trial.inputs
    product = factorize(trial.dynamics.block, query, context, solver=trial.dynamics.solver, check=False).product()
    found = [product.delta(weight.detach()) for weight in trial.weights()]
    squares = singular_values(LowRank(torch.cat([each.columns for each in found], dim=-2), found[0].rows)).square()
    total = squares.sum(-1, keepdim=True)
    return squares / torch.where(total == 0, 1, total)


def singular_values(low: LowRank) -> Tensor:  # (…, r), falling
    """Of `columns · rows`, by the triangles of their QR decompositions: no matrix of full size is built."""
    left = torch.linalg.qr(low.columns.double(), mode="r").R  # (…, r', r)
    right = torch.linalg.qr(low.rows.double().mT, mode="r").R
    found: Tensor = torch.linalg.svdvals(left @ right.mT)
    return found


def state_size(trial: Trial) -> Tensor:  # (tasks, n + 1)
    """Numbers that the layer keeps of the first `i` tokens, `ContextualLayer.state_size`; the same for every task."""
    steps = trial.updates.operator.key.shape[-2]
    sizes = [float(trial.dynamics.block.layer.state_size(i)) for i in range(steps)]
    return torch.tensor(sizes).expand(*trial.prompts.target.shape, steps)
